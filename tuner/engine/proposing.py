"""What a search proposes next: known nets that were asked for, then what its proposer draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tuner import catalog
from tuner.cost.fit import reasons
from tuner.engine.baselines import KNOWN_NETS, draw_known_net
from tuner.engine.costs import costs_on
from tuner.engine.plan import Plan
from tuner.engine.record import Record
from tuner.errors import NothingFitsError
from tuner.propose.proposer import Proposal, Proposer
from tuner.propose.sampler import Told
from tuner.spec import to_plain
from tuner.store.runs import fold_results


class Proposing:
    """Notes proposals in a run's record.

    Args:
        record: of the run.
        plan: of its time.
        proposer: of what is no known net.
        finish: called with the index and the status of a candidate that ends untrained.
    """

    def __init__(
        self,
        record: Record,
        plan: Plan,
        proposer: Proposer,
        finish: Callable[[int, Mapping[str, Any]], None],
    ) -> None:
        self._record, self._plan, self._proposer, self._finish = record, plan, proposer, finish
        self._nothing_left = False
        self._proposed = {
            event["index"]: event for event in record.events if event["event"] == "proposed"
        }

    @property
    def exhausted(self) -> bool:
        """Whether nothing more can be proposed."""
        limit = self._record.spec.max_candidates
        return self._nothing_left or (limit is not None and len(self._record.results) >= limit)

    def propose(self, known: int) -> bool:
        """Propose a candidate from what the first `known` steps gave; False if there is none.

        Known nets come first, where they are asked for.

        Raises:
            NothingFitsError: there is none, and there was none before.
        """
        if len(self._record.results) < len(self._record.spec.baselines):
            return self._propose_known_net(self._record.spec.baselines[len(self._record.results)])
        scores: dict[int, tuple[int, float]] = {}
        for step in self._record.steps.seen(known):
            # A failure is a result too, the sampler should go elsewhere; but not what was better.
            if step.known and (step.score is not None or step.index not in scores):
                scores[step.index] = (step.rung, step.score or 0.0)
        history = [
            self._told(index, scores.get(index)) for index in range(len(self._record.results))
        ]
        ids = frozenset(result.candidate.id for result in self._record.results.values())
        proposal = self._proposer.propose(history, ids)
        if proposal is None:
            self._nothing_left = True
            if not self._record.results:
                unfit = self._proposer.unfit().values()
                raise NothingFitsError(" ".join(unfit) or "No draw of the spaces fits.")
            return False
        self._note(len(self._record.results), known, proposal)
        return True

    def _propose_known_net(self, name: str) -> bool:
        """Note a known net as a candidate; False if no target has room for it, and it ends so."""
        dataset = self._record.spec.dataset
        outputs = catalog.load_module("tasks", self._record.spec.task).outputs(dataset)
        candidate, choices = draw_known_net(name, dataset, outputs)
        costs = self._plan.with_training(
            candidate, costs_on(candidate.architecture, self._record.spec.targets)
        )
        focus = next((target for target, cost in costs.items() if cost.fits), next(iter(costs)))
        index = len(self._record.results)
        proposal = Proposal(
            candidate=candidate,
            costs=costs,
            space=KNOWN_NETS[name].space,
            choices=choices,
            focus=focus,
            origin="baseline",
        )
        self._note(index, 0, proposal, baseline=name)
        if not costs[focus].fits:
            reason = reasons(costs[focus])
            self._finish(index, {"status": "over_limit", "reason": f"{name}: {reason}"})
        return costs[focus].fits

    def _note(self, index: int, known: int, proposal: Proposal, baseline: str = "") -> None:
        event = self._record.note(
            "proposed",
            index=index,
            id=proposal.candidate.id,
            origin=proposal.origin,
            baseline=baseline,
            focus=proposal.focus,
            space=proposal.space,
            choices=to_plain(proposal.choices),
            candidate=to_plain(proposal.candidate),
            costs=to_plain(proposal.costs),
            over_limit=to_plain(proposal.over_limit),
            nearest_miss=to_plain(proposal.nearest_miss) if proposal.nearest_miss else None,
            known=known,
            others=self._record.steps.others(0, known, self._record.steps.group_of(proposal.focus)),
        )
        self._proposed[index] = event
        self._record.results[index] = fold_results([event])[0]

    def _told(self, index: int, known: tuple[int, float] | None) -> Told:
        event, result = self._proposed[index], self._record.results[index]
        fits = frozenset(name for name, cost in result.costs.items() if cost.fits)
        if result.baseline:
            fits = frozenset()  # its choices need not be among those of the run's spaces
        rung, score = known or (0, None)
        return Told(
            space=event["space"], choices=event["choices"], fits=fits, rung=rung, score=score
        )
