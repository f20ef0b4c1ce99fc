"""The Python door: search, select, retrain and export, as the commands of the same names.

Every error is a TuneError (`tuner.errors`), with the text that the command line shows.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, get_args

from tuner.errors import InputError, SpecError, TuneError
from tuner.spec import ModelVersion, Precision, RankBy, RunSpec, Target
from tuner.store.models import ModelFolder, find_model
from tuner.store.runs import RunFolder, RunState, find_run

if TYPE_CHECKING:
    from tuner.dashboard.figures import CostName
    from tuner.engine.board import Board
    from tuner.engine.supervisor import Observer, Progress

OnEvent = Callable[[Mapping[str, Any]], None]

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("tuner")


def _names_options(function: Callable[P, T]) -> Callable[P, T]:
    """Answer an option that the function does not have with the nearest that it has."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> T:
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise InputError(
                    f"tuner.{function.__name__}: unknown option '{name}'."
                    + (f" Did you mean '{near[0]}'?" if near else "")
                    + f" Known: {', '.join(known)}."
                )
        return function(*args, **options)

    return call


class Run:
    """One search, while it goes on or afterwards; reads its folder anew each time it is asked.

    Args:
        run: name of a run, `latest` for the newest, or the path of a run's folder.

    Raises:
        UnknownNameError: there is no such run.
        SpecError: the folder is not that of a run.

    Example:
        run = tuner.Run("latest")
        run.best["accuracy"]["validation"]["int8"]
    """

    def __init__(self, run: str | Path = "latest") -> None:
        if isinstance(run, Path) or "/" in run:
            self._files = RunFolder(Path(run).expanduser().resolve())
            if not (self._files.path / "run.json").exists():
                raise SpecError(f"Expected the folder of a run, with run.json, at {run}.")
        else:
            self._files = find_run(run)

    def __repr__(self) -> str:
        return f"<Run {self.name!r}, {self.state}>"

    @property
    def name(self) -> str:
        """The run's name."""
        return self._files.name

    @property
    def folder(self) -> Path:
        """The run's folder; the paths of its candidates' artifacts are relative to it."""
        return self._files.path

    @property
    def spec(self) -> RunSpec:
        """What was searched: data, targets, limits, seed, versions."""
        return self._files.spec()

    @property
    def state(self) -> RunState:
        """`running`, `interrupted` (`tuner.resume` goes on with it) or `ended`."""
        return self._files.state()

    @property
    def events(self) -> list[dict[str, Any]]:
        """All that happened so far, in order: the lines of `events.jsonl`."""
        return self._files.events()

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """The rows of `tune report --format json`, in rank order."""
        return self.report()

    @property
    def best(self) -> dict[str, Any] | None:
        """The first of `candidates`; None as long as none that fits has been trained."""
        from tuner.dashboard.rows import report_rows

        board = self._board(None, None)
        if not board.rows or not board.rows[0].fits or not board.rows[0].result.builds:
            return None
        return report_rows(replace(board, rows=board.rows[:1]))[0]

    def report(
        self, target: str | None = None, rank_by: RankBy | None = None
    ) -> list[dict[str, Any]]:
        """The rows of `tune report --format json`, in rank order.

        Accuracies are shares, 0 to 1; units stand in the names.

        Args:
            target: one of the run's, or any other name or TOML file; None for the run's first.
            rank_by: `target`, `int8` or `float32`; None for what the run was started with.

        Raises:
            UnknownNameError: no such target.
            InputError: rank_by is something else.
        """
        from tuner.dashboard.rows import report_rows

        return report_rows(self._board(target, rank_by))

    def to_dataframe(self, target: str | None = None, rank_by: RankBy | None = None) -> Any:
        """The rows of `tune report --format csv` as a pandas DataFrame.

        Args:
            target: see `report`.
            rank_by: see `report`.

        Raises:
            TuneError: pandas is not installed.
        """
        from tuner.dashboard.rows import csv_rows

        try:
            import pandas
        except ImportError:
            raise TuneError(
                "to_dataframe() needs pandas, which is not installed. Install it with "
                "'pip install pandas', or use run.candidates."
            ) from None
        return pandas.DataFrame(csv_rows(self._board(target, rank_by)))

    @property
    def figures(self) -> Figures:
        """The figures of the report page, as plotly objects."""
        return Figures(self)

    def _board(self, target: str | None, rank_by: RankBy | None) -> Board:
        from tuner.engine.board import board

        if rank_by not in (None, *get_args(RankBy)):
            known = ", ".join(get_args(RankBy))
            raise InputError(f"Expected rank_by to be one of {known}. Received: {rank_by!r}.")
        return board(self._files, rank_by, target)


class Figures:
    """Figures of a run as `plotly.graph_objects.Figure`, made anew each time they are asked for.

    Args:
        run: the run.

    Example:
        run.figures.cost("latency_ms").show()
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def cost(
        self,
        cost: CostName = "ram_bytes",
        *,
        split: Literal["validation", "test"] = "validation",
        precision: RankBy = "int8",
        target: str | None = None,
    ) -> Any:
        """Accuracy against what candidates cost, with the limit and the Pareto front.

        Args:
            cost: `ram_bytes`, `flash_bytes` or `latency_ms`.
            split: the images that the accuracy is of.
            precision: of the builds; `target` is what ran in the target's simulator.
            target: see `Run.report`.

        Raises:
            InputError: one of them is something else.
        """
        from tuner.dashboard.figures import COST_NAMES, cost_figure

        for option, value, known in (
            ("cost", cost, COST_NAMES),
            ("split", split, ("validation", "test")),
            ("precision", precision, get_args(RankBy)),
        ):
            if value not in known:
                raise InputError(
                    f"Expected {option} to be one of {', '.join(known)}. Received: {value!r}."
                )
        return cost_figure(self._run._board(target, None), cost, split=split, precision=precision)

    def history(self, *, precision: Precision = "int8", target: str | None = None) -> Any:
        """Validation accuracies as they became known, and the best so far."""
        from tuner.dashboard.figures import history_figure
        from tuner.dashboard.history import best_so_far

        board = self._run._board(target, None)
        return history_figure(best_so_far(board, self._run.events, precision))

    def importance(self, *, precision: Precision = "int8") -> Any:
        """How much each choice of the search decides; empty with too few candidates."""
        from tuner.dashboard.figures import importance_figure
        from tuner.dashboard.history import choice_importances

        return importance_figure(choice_importances(self._run.events, precision))

    def curve(self, candidate: int | str) -> Any:
        """Validation accuracy (float32) of a candidate after each epoch.

        Args:
            candidate: rank, id, or the beginning of an id.

        Raises:
            UnknownNameError: no such candidate.
        """
        from tuner.dashboard.figures import curve_figure
        from tuner.engine.board import find_candidate

        row = find_candidate(self._run._board(None, None), str(candidate))
        return curve_figure(row.result.curve)


class Model:
    """One version of a retrained model.

    Args:
        model: `NAME` for the newest version, `NAME@VERSION`, or `latest`.

    Raises:
        UnknownNameError: there is no such model or version.
    """

    def __init__(self, model: str = "latest") -> None:
        self._files = find_model(model)

    def __repr__(self) -> str:
        return f"<Model {self.reference!r}>"

    @property
    def reference(self) -> str:
        """`NAME@VERSION`, as commands take it."""
        return self._files.reference

    @property
    def folder(self) -> Path:
        """The version's folder, with `model.keras` and the `.tflite` files."""
        return self._files.path

    @property
    def version(self) -> ModelVersion:
        """What is known of it: template, data, costs, builds with accuracies, epochs."""
        return self._files.read()

    @property
    def accuracy(self) -> dict[str, dict[str, float]]:
        """Shares of correct images, by split (`validation`, `test`) and precision."""
        from tuner.dashboard.listing import model_row

        accuracy: dict[str, dict[str, float]] = model_row(self.version)["accuracy"]
        return accuracy


@_names_options
def search(
    target: str | Path | Target | Sequence[str | Path | Target] | None = None,
    data: str | Path | None = None,
    time: str | None = None,
    *,
    group_by: str | None = None,
    max_candidates: int | None = None,
    workers: int | None = None,
    space: str | Sequence[str] | None = None,
    seed: int | None = None,
    name: str | None = None,
    rank_by: RankBy | None = None,
    repeats: int | None = None,
    baselines: bool | None = None,
    weights: str | Path | None = None,
    ram_kb: float | None = None,
    flash_kb: float | None = None,
    latency_ms: float | None = None,
    train_minutes: float | None = None,
    config: str | Path | None = None,
    on_event: OnEvent | None = None,
    progress: bool = True,
) -> Run:
    """Search for nets that fit a device, as `tune --target ... --data ...` does.

    The options are those of the command line; what is left out, or None, is as there. Call it
    from the main thread.

    Args:
        target: names of devices, TOML files or Targets, or `all`; one or several.
        data: folder or zip with a folder per class, `.npz` file, or `sample:parts|digits`; None
            for `sample:parts`, generated images to try things, which the logger `tuner` says.
        time: wall-clock time such as `90s`, `20m`, `1h30m`; 20 minutes unless max_candidates is
            given.
        group_by: regular expression whose first group, in a file's name, names the images that
            stay in one split.
        max_candidates: stop after so many candidates.
        workers: candidates trained at once; one a core by default.
        space: names of search spaces.
        seed: decides splits, proposals, training.
        name: of the run.
        rank_by: accuracy that orders the board.
        repeats: train the best so often, each time from another seed, and rank by the mean. Of
            the time, the search keeps what these trainings do not need.
        baselines: train known nets too, as published, for comparison: ResNet-8 and MobileNetV1
            0.25. They are the first of the candidates, and are trained to their end.
        weights: trained weights to begin with: `imagenet` (downloaded by Keras), a file of a
            MobileNet of keras.applications, or MODEL@N. Layers up to the head are taken over and
            trained on, the head alone at first; space names what is searched beside.
        ram_kb: RAM that the model may use, KB of 1024 bytes.
        flash_kb: flash for model and runtime, KB of 1024 bytes.
        latency_ms: time of one inference.
        train_minutes: full retraining on this machine.
        config: `run.json` of a run to repeat, or a TOML file of options; options given here win.
        on_event: called in this process with each event of the run's `events.jsonl`, once it is
            on disk; the search waits for it. What it raises is shown once, and the run goes on.
            To stop a run, raise KeyboardInterrupt in it: the run can be resumed then.
        progress: show progress on stderr; otherwise only what needs attention is logged, by the
            logger `tuner`.

    Returns:
        The run.

    Raises:
        InputError: something that was asked for cannot be used.
        NothingFitsError: no candidate can keep the limits, or none does by what was measured.
        InterruptedRunError: it was stopped, and can be resumed.
        TuneError: it failed, or nothing was trained to its end; `tuner.Run("latest")` has what was.
    """
    from tuner.engine.options import read_request
    from tuner.engine.search import prepare_run

    started = monotonic()
    asked = [target] if isinstance(target, str | Path | Target) else list(target or ())
    named = [str(item) for item in asked if not isinstance(item, Target)]
    request, notes = read_request(
        {
            "target": named or None,
            "data": None if data is None else str(data),
            "group_by": group_by,
            "time": time,
            "max_candidates": max_candidates,
            "workers": workers,
            "space": space,
            "seed": seed,
            "name": name,
            "rank_by": rank_by,
            "repeats": repeats,
            "baselines": baselines,
            "weights": None if weights is None else str(weights),
            "ram_kb": ram_kb,
            "flash_kb": flash_kb,
            "latency_ms": latency_ms,
            "train_minutes": train_minutes,
        },
        where="tuner.search",
        config=None if config is None else Path(config),
        targets=tuple(item for item in asked if isinstance(item, Target)),
    )
    for note in notes:
        _log.warning(note)
    return _go_on(prepare_run(request), on_event, progress, started)


@_names_options
def resume(
    run: Run | str | Path = "latest", *, on_event: OnEvent | None = None, progress: bool = True
) -> Run:
    """Go on with a search that was stopped, as `tune resume`; see `search`."""
    return _go_on(_run(run)._files, on_event, progress)


@_names_options
def extend(
    run: Run | str | Path = "latest",
    time: str | None = None,
    *,
    max_candidates: int | None = None,
    on_event: OnEvent | None = None,
    progress: bool = True,
) -> Run:
    """Go on with a run that has ended or was stopped, with more, as `tune extend`.

    Args:
        run: the run, its name or its folder.
        time: to add to what the run had, such as `10m`.
        max_candidates: to add to what the run had.
        on_event: see `search`.
        progress: see `search`.

    Raises:
        InputError: neither time nor candidates were given, or another process works on the run.
    """
    from tuner.engine.options import read_extension
    from tuner.engine.search import extend_run

    files = _run(run)._files
    seconds, candidates = read_extension(time, max_candidates)
    extend_run(files, seconds, candidates)
    return _go_on(files, on_event, progress)


@_names_options
def select(
    run: Run | str | Path,
    candidate: int | str,
    *,
    output: str | Path | None = None,
    target: str | None = None,
) -> Path:
    """Write a candidate as a template, a TOML file to edit and retrain, as `tune select`.

    Args:
        run: the run, its name or its folder.
        candidate: rank, id, or the beginning of an id.
        output: the template to write; None for `RUN-ID.toml` in the current folder.
        target: device to make the template for, and to rank for; None for the run's first.

    Returns:
        The template's path.

    Raises:
        InputError: no such candidate, it does not fit the target, or the file exists.
    """
    from tuner.models.select import select as write_selected

    path = None if output is None else Path(output)
    return write_selected(_run(run)._files, str(candidate), path, target)


@_names_options
def retrain(
    template: str | Path | None = None,
    *,
    data: str | Path | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    max_train_minutes: float | None = None,
    patience_percent: float | None = None,
    steady_epochs: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    schedule: Literal["linear", "cosine", "constant"] | None = None,
    quantization_percent: float | None = None,
    keep: Literal["best", "last"] = "best",
    metric: Literal["accuracy", "loss"] = "accuracy",
    continued: Model | str | None = None,
    name: str | None = None,
    threads: int | None = None,
    on_epoch: Callable[[Mapping[str, Any]], None] | None = None,
) -> Model:
    """Train a template in full into a new version of a model, as `tune retrain`.

    Args:
        template: file of `select`, perhaps edited; None for that of `continued`.
        data: other data than the template's.
        epochs: other epochs than the template's.
        minutes: of training, with as many epochs as they allow, in place of `epochs`.
        max_train_minutes: limit on the training's time, in place of the template's; what is
            predicted to take longer is refused.
        patience_percent: end when this share of the training brought nothing better by `metric`.
        steady_epochs: end when the loss changed by less than .05 over so many epochs, 30 to 50 as
            a rule.
        learning_rate: other than the template's.
        batch_size: other than the template's.
        schedule: of the learning rate, other than the template's.
        quantization_percent: of the training, at its end, in which the net rounds as its int8
            file does: quantization-aware training. 0 for none, 100 for all; None for 30.
        keep: the weights of the best epoch, or of the last.
        metric: by which an epoch is the best, as int8 on the validation images.
        continued: the version whose weights are trained on.
        name: of the model; None for the template's.
        threads: TensorFlow threads; None for all cores, 1 repeats exactly.
        on_epoch: called with the newest epoch: `number`, `planned`, `loss`,
            `validation_accuracy`, `validation_loss`, `best_validation_accuracy`, `seconds`. What
            it raises ends the training.

    Raises:
        InputError: the template does not fit its target, the data cannot be used, or options that
            exclude each other.
        InterruptedRunError: it was stopped; the same call goes on from its last checkpoint.
        TuneError: the training failed.
    """
    from tuner.models.int8_loss import int8_warning
    from tuner.models.retrain import retrain as train_in_full
    from tuner.spec.times import LEAST_TRAIN_MINUTES
    from tuner.store.templates import read_template

    for option, value, least in (
        ("epochs", epochs, 1),
        ("threads", threads, 1),
        ("minutes", minutes, LEAST_TRAIN_MINUTES),
        ("patience-percent", patience_percent, 1),
        ("steady-epochs", steady_epochs, 2),
        ("batch-size", batch_size, 1),
    ):
        if value is not None and value < least:
            raise InputError(
                f"Expected a number of {least} or more for --{option}. Received: {value}."
            )
    shown = 0

    def tell(epoch: Mapping[str, Any]) -> None:
        nonlocal shown
        if on_epoch is not None and epoch["number"] != shown:
            shown = epoch["number"]
            on_epoch(epoch)

    with _signals_kept():
        made = train_in_full(
            None if template is None else read_template(Path(template)),
            data=None if data is None else str(data),
            epochs=epochs,
            minutes=minutes,
            max_train_minutes=max_train_minutes,
            patience_percent=patience_percent,
            steady_epochs=steady_epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            schedule=schedule,
            quantization_percent=quantization_percent,
            keep=keep,
            metric=metric,
            continued=continued.reference if isinstance(continued, Model) else continued,
            threads=threads,
            name=name,
            on_progress=tell,
            on_note=_log.warning,
        )
    if warning := int8_warning(made.read()):
        _log.warning(warning)
    return Model(f"{made.path.parent.name}@{made.path.name}")


@_names_options
def export(
    model: Model | str,
    to: str | Sequence[str],
    *,
    output: str | Path | None = None,
    data: str | Path | None = None,
) -> Path:
    """Write files for the device, each run against the model first, as `tune export`.

    Args:
        model: the model, or `NAME`, `NAME@VERSION`, `latest`.
        to: formats, such as `tflite`.
        output: folder to write, new or empty; None for `exports/NAME-VERSION` in the current one.
        data: where the data of the model lies now; None for where it was trained on.

    Returns:
        The folder, with `export_report.json`.

    Raises:
        InputError: a format is unknown, or the folder holds something.
        TuneError: a file does not do what the model does; the folder says which.
    """
    from tuner.models.export import check_passed
    from tuner.models.export import export as export_model
    from tuner.models.int8_loss import export_warnings, int8_warning
    from tuner.train.quiet import import_tensorflow

    found: ModelFolder = (Model(model) if isinstance(model, str) else model)._files
    import_tensorflow()
    formats = [to] if isinstance(to, str) else list(to)
    folder = export_model(
        found,
        formats,
        None if output is None else Path(output),
        None if data is None else str(data),
    )
    version = found.read()
    for warning in (int8_warning(version), *export_warnings(version, folder)):
        if warning:
            _log.warning(warning)
    check_passed(folder)
    return folder


def _run(run: Run | str | Path) -> Run:
    return run if isinstance(run, Run) else Run(run)


def _go_on(
    files: RunFolder, on_event: OnEvent | None, progress: bool, started: float | None = None
) -> Run:
    from tuner.engine.board import board
    from tuner.engine.notices import notices
    from tuner.engine.outcome import best_board
    from tuner.engine.search import run_search

    for line in notices(files.spec()):
        _log.warning(line)
    with _signals_kept(), _observer(files, progress) as observer:
        run_search(files, observer, started=started, on_event=on_event)
    targets = files.spec().targets
    best_board(files, [board(files, target_name=target.name) for target in targets])
    return Run(files.path)


@contextmanager
def _observer(files: RunFolder, progress: bool) -> Iterator[Observer]:
    if not progress:
        yield _Notes()
        return
    from tuner.dashboard.terminal import live_progress

    with live_progress(files.spec()) as shown:
        yield shown


class _Notes:
    """Logs what needs attention, and shows no progress."""

    def update(self, progress: Progress) -> None:
        """Nothing to show."""

    def note(self, text: str) -> None:
        """One line worth keeping."""
        _log.warning(text)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Let `tune stop` end the work as Ctrl-C does; afterwards the caller's handlers are back."""
    from tuner.engine.signals import interrupt_on_signals

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    interrupt_on_signals()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # one that was not set from Python cannot be put back
                signal.signal(number, handler)
