"""A search by our engine with parts left out: what `tune` does, without its command line."""

from __future__ import annotations

import sys
from time import monotonic

from benchmarks.side_by_side.protocol import CORES, RUN, SPACE, TARGET, Data
from benchmarks.side_by_side.tools import VARIANTS, arguments
from tuner.engine.plan import Plan
from tuner.engine.search import SearchRequest, make_proposer, prepare_run, run_search
from tuner.engine.supervisor import Progress
from tuner.propose.proposer import Proposer
from tuner.spec import RunSpec


class Quiet:
    """Shows notes alone."""

    def update(self, progress: Progress) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """One line."""
        print(text, file=sys.stderr)


def main() -> None:
    """Search."""
    started = monotonic()  # as of `tune`: opening the data counts
    given = arguments()
    variant = VARIANTS[given.tool]
    folder = prepare_run(
        SearchRequest(
            targets=(str(TARGET),),
            data=str(Data(given.data).whole),
            spaces=(SPACE,),
            budget_seconds=given.seconds,
            workers=CORES,
            seed=given.seed,
            name=RUN,
        )
    )

    def proposer_of(spec: RunSpec, plan: Plan) -> Proposer:
        return make_proposer(
            spec,
            plan,
            starting_points=variant.starting_points,
            sampler=variant.sampler,
            largest_of=variant.largest_of,
        )

    def plan_of(spec: RunSpec) -> Plan:
        return Plan(spec, rungs=variant.rungs)

    run_search(folder, Quiet(), proposer_of, plan_of, started)


if __name__ == "__main__":
    main()
