"""When finalists are measured: the best first, never twice, in the time that is left."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

from runs_support import make_spec
from tests_support import make_result, quantity
from tuner import catalog
from tuner.dashboard.event_lines import event_line
from tuner.engine import finalists, measuring
from tuner.engine.deciding import Deciding
from tuner.engine.measuring import Measuring
from tuner.engine.plan import Plan
from tuner.engine.record import FINALISTS, Record
from tuner.engine.slots import Died
from tuner.engine.supervisor import Supervisor
from tuner.spec import Build, Paired, Result, Target, to_plain
from tuner.store.runs import RunFolder


class Work:
    """Notes what is started in place of doing it."""

    def __init__(self, training: int = 0) -> None:
        self.running = [SimpleNamespace(key=100 + index) for index in range(training)]
        self.started: list[tuple[int, list[str]]] = []
        self.images: list[int | None] = []
        self.seconds: list[float | None] = []
        self.processes: list[int] = []
        self.slots = ["first slot", "second slot"]

    def start(self, slot: object, key: int, job: object, *arguments: object, **_: object) -> None:
        assert job is finalists.measure_builds
        self.started.append((key, arguments[4]))
        self.images.append(arguments[5])
        self.seconds.append(arguments[6])
        self.processes.append(arguments[7])
        self.running.append(SimpleNamespace(key=key))


def supervisor(
    home: Path,
    correct: list[int],
    training: int = 0,
    candidates: int = 32,
    rungs: bool = True,
    budget_seconds: float | None = None,
) -> Supervisor:
    """One whose candidates have ended with so many correct images, while others still train."""
    folder = RunFolder(home / "runs" / "r")
    target: Target = catalog.load_target("k230")
    limits = {"max_candidates": candidates, "budget_seconds": budget_seconds}
    folder.write_spec(make_spec("r", targets=(target,), **limits))
    notes: list[str] = []
    made = Supervisor(folder, None, SimpleNamespace(note=notes.append, notes=notes))
    made._record = record = Record(folder, Log(folder), 0.0, lambda event: None)
    made._plan = Plan(record.spec, rungs=rungs)
    last = len(made._plan.quotas) - 1 if budget_seconds is None else 0
    if not record.events:
        for index, count in enumerate(correct):
            note_ended(record, index, count)
    ended_steps = [step(index, rung) for index in range(len(correct)) for rung in range(last + 1)]
    record.steps._steps = ended_steps
    for index in range(100, 100 + training):
        record.results[index] = dataclasses.replace(ended(index, 0), status=None, builds={})
    made._work = Work(training)
    made._measuring = Measuring(record, made._work, made._observer.note)
    made._deciding = Deciding(record, made._plan, None)
    return made


class Log:
    """The run's own, closed after each event."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def append(self, event: str, **fields: object) -> dict:
        with self._folder.open_log() as log:
            return log.append(event, **fields)


def note_ended(record: Record, index: int, correct: int) -> None:
    result = ended(index, correct)
    record.note("proposed", index=index, origin="test", candidate=to_plain(result.candidate),
                costs=to_plain(result.costs), id=result.candidate.id)  # fmt: skip
    record.note("finished", index=index, status="ok", builds=to_plain(result.builds))
    record.refold(index)


def ended(index: int, correct: int) -> Result:
    result = make_result(index, correct=correct)
    return dataclasses.replace(result, costs={"k230": result.costs["board"]})


def step(index: int, rung: int):
    from tuner.propose.rungs import Step

    return Step(index=index, rung=rung, known=True, score=0.5)


NOTHING = {"measured": {}, "builds": {}, "unmeasured": {}, "prevented": []}


def all_started(made: Supervisor) -> list[int]:
    while made._start_measuring_finalist(None):
        pass
    return [key for key, _ in made._work.started]


def test_the_best_are_measured_best_first_and_once(home: Path) -> None:
    made = supervisor(home, [3, 9, 5, 7, 1, 8, 2, 6])
    assert all_started(made) == [1, 5, 3, 7, 2]
    assert len(made._work.started) == FINALISTS
    assert set(made._work.images) == set(made._work.seconds) == {None}, "all images, no clock"
    assert not made._start_measuring_finalist(None)


def test_while_others_train_only_who_will_be_a_finalist_in_any_case_is_measured(
    home: Path,
) -> None:
    # Two may still be trained to their end (quotas 32, 8, 2), and be better than all others.
    made = supervisor(home, [3], training=1)
    assert made._plan.quotas == (32, 8, 2)
    assert all_started(made) == [0]
    # Without rungs seven more may.
    many = supervisor(home, [3], training=1, candidates=8, rungs=False)
    assert all_started(many) == []
    many._work.running = []
    assert all_started(many) == [0]


def test_a_worker_that_dies_is_asked_once_more(home: Path) -> None:
    made = supervisor(home, [3])
    assert all_started(made) == [0]
    job = SimpleNamespace(key=0, attempt=1, slot=None)
    made._measuring.collect(job, Died("its worker process died"))
    assert made._work.started == [(0, ["k230"]), (0, ["k230"])]
    job.attempt = 2
    made._measuring.collect(job, Died("its worker process died"))
    assert len(made._work.started) == 2
    assert made._observer.notes == [
        f"{made._record.results[0].candidate.id}: measuring: its worker process died"
    ]
    assert made._record.results[0].unmeasured == {"k230": "Not measured: its worker process died"}


REFUSED = "Not measured for nncase: nncase cannot compile the model: Unsupported operator."


def test_what_the_compiler_refuses_is_noted_ranks_last_and_makes_way(home: Path) -> None:
    made = supervisor(home, [3, 9, 5, 7, 1, 8, 2, 6])
    assert all_started(made) == [1, 5, 3, 7, 2]
    refused = {**NOTHING, "unmeasured": {"k230": REFUSED}}
    for key in (1, 5):
        made._measuring.collect(SimpleNamespace(key=key, attempt=1, slot=None), refused)
    assert made._observer.notes == [REFUSED], "the same reason is said once"
    best = [result.index for result in made._record.finalists(made._record.spec.targets[0], 8)]
    assert best == [3, 7, 2, 0, 6, 4, 1, 5]
    made._work.running = []
    assert all_started(made)[5:] == [0, 6], "two others are among the best now"

    # Whoever resumes the run reads the reasons, and asks for none of them again.
    later = supervisor(home, [3, 9, 5, 7, 1, 8, 2, 6])
    assert all_started(later) == [3, 7, 2, 0, 6]
    line = event_line(later._record.events[-1])
    assert line.endswith(f"  {REFUSED}")


def test_what_keeps_a_tool_from_it_is_said_once(home: Path) -> None:
    made = supervisor(home, [3, 4])
    assert all_started(made) == [1, 0]
    for key in (0, 1):
        outcome = {**NOTHING, "prevented": ["Not measured for nncase: no .NET."]}
        made._measuring.collect(SimpleNamespace(key=key, attempt=1, slot=None), outcome)
    assert made._observer.notes == ["Not measured for nncase: no .NET."]
    assert not made._record.results[0].unmeasured, "it is measured once the tool is there"
    assert all_started(supervisor(home, [3, 4])) == [1, 0], "so who resumes the run asks again"


def with_build(outcome: dict, images: int) -> dict:
    """What a simulation on so many of 20 images gives."""
    own = Build(
        runtime="nncase", kernels="kpu", precision="int8", recipe="uint8", artifact="nncase.kmodel",
        size_bytes=9, accuracy={}, paired={"validation": Paired(images=images, gained=0, lost=0)},
    )  # fmt: skip
    measured = {"k230": {"latency_ms": to_plain(quantity(1.5))}}
    return {**outcome, "measured": measured, "builds": {"int8 nncase kpu": to_plain(own)}}


def test_with_a_clock_all_are_run_on_a_part_first_then_the_best_on_the_whole(home: Path) -> None:
    made = supervisor(home, [3, 9, 5], budget_seconds=1000.0)
    made._measuring._seconds_left = lambda: 100.0
    assert all_started(made) == [1, 2, 0]
    assert made._work.images == [measuring.FIRST_IMAGES] * 3
    assert made._work.seconds == [None] * 3
    made._work.running = []
    for key in (0, 1, 2):
        part = with_build(NOTHING, 20 if key == 2 else 10)
        made._measuring.collect(SimpleNamespace(key=key, attempt=1, slot=None), part)
    assert all_started(made)[3:] == [1, 0], "the part was all that there is of the other"
    assert made._work.images[3:] == [None, None]
    assert made._work.seconds[3:] == [100.0, 100.0]
    # A simulator that fails now takes nothing back.
    made._measuring.collect(SimpleNamespace(key=1, attempt=2, slot=None), Died("it died"))
    assert not made._record.results[1].unmeasured


def test_while_another_trains_the_best_are_run_on_the_whole_until_the_search_ends(
    home: Path,
) -> None:
    made = supervisor(home, [3, 9, 5, 7], training=1, budget_seconds=1000.0)
    made._measuring._seconds_left = lambda: 300.0
    slot, room = None, FINALISTS - 1

    def asked(search_seconds: float) -> list[tuple[int, int | None, float | None]]:
        before = len(made._work.started)
        while made._measuring.start(slot, room, search_seconds):
            pass
        keys = [key for key, _ in made._work.started]
        return list(zip(keys, made._work.images, made._work.seconds, strict=True))[before:]

    part = measuring.FIRST_IMAGES
    assert asked(200.0) == [(1, part, None), (3, part, None), (2, part, None), (0, part, None)]
    made._work.running = made._work.running[:1]
    for key in (1, 3, 2, 0):
        job = SimpleNamespace(key=key, attempt=1, slot=slot)
        made._measuring.collect(job, with_build(NOTHING, 5))
    assert asked(measuring.SHORT_SECONDS / 2) == [], "it would hardly have begun"
    made._record.note("started", index=100, rung=2)
    assert asked(200.0) == [(1, None, 200.0), (3, None, 200.0)], "one of three best still trains"
    made._work.running = []
    for key, images in ((1, 20), (3, 12)):
        job = SimpleNamespace(key=key, attempt=1, slot=slot)
        made._measuring.collect(job, with_build(NOTHING, images))
    room = FINALISTS
    assert asked(-1.0) == [(3, None, 300.0), (2, None, 300.0), (0, None, 300.0)]


def test_one_that_is_measured_alone_has_the_simulators_of_all_slots(home: Path) -> None:
    alone = supervisor(home, [3])
    assert all_started(alone) == [0]
    assert alone._work.processes == [2]
    beside = supervisor(home, [3], training=1)
    assert all_started(beside) == [0]
    assert beside._work.processes == [1]
    for key, correct in ((1, 9), (2, 5)):
        note_ended(beside._record, key, correct)
    several = supervisor(home, [])
    assert all_started(several) == [1, 2, 0]
    assert several._work.processes == [1, 1, 1]


def test_without_time_the_best_alone_is_measured(home: Path) -> None:
    made = supervisor(home, [3, 9, 5], budget_seconds=1000.0)
    made._measuring._seconds_left = lambda: -1.0
    assert all_started(made) == [1]
    made._work.running = []
    made._measuring.collect(SimpleNamespace(key=1, attempt=1, slot=None), with_build(NOTHING, 10))
    assert all_started(made) == [1]
