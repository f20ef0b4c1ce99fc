"""Trained weights of a search: found once before it starts, kept with its run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.engine.costs import costs_on
from tuner.engine.slots import Died, Raised
from tuner.engine.workplace import GivenUp, Workplace
from tuner.errors import InputError, NothingFitsError, TuneError
from tuner.spec import (
    IMAGENET_SIDES,
    MOBILENETS,
    Backbone,
    Context,
    DatasetSpec,
    MobileNet,
    Preprocessing,
    RunSpec,
    Target,
    Template,
    with_head,
)
from tuner.store.files import cache_folder, write_atomic
from tuner.store.models import find_model, learned_elsewhere
from tuner.store.runs import RunFolder
from tuner.train import backbones

IMAGENET = "imagenet"


def absolute(source: str) -> str:
    """What `--weights` said, so that it means the same in another folder."""
    if source == IMAGENET or _is_model(source):
        return source
    return str(Path(source).expanduser().resolve())


def _is_model(source: str) -> bool:
    return "@" in source and "/" not in source and not Path(source).exists()


def learned_before(source: str, dataset: DatasetSpec) -> str:
    """A note where a version to begin with may have learned from a search's validation images.

    Args:
        source: what `--weights` said; empty for none.
        dataset: of the search.
    """
    if not _is_model(source):
        return ""
    try:
        return learned_elsewhere(find_model(source), dataset)
    except TuneError:  # gone since; the run has its weights
        return ""


def find_backbones(
    source: str, targets: Mapping[str, Target], contexts: Mapping[str, Context]
) -> tuple[Backbone, ...]:
    """Layers and weights to begin with; the weights are kept in this home.

    Args:
        source: `imagenet`, `MODEL@N`, or a file; see `tuner.train.backbones.read_file`.
        targets: of the search; of ImageNet's, only what fits one of them is downloaded.
        contexts: what spaces may know, by target.

    Raises:
        InputError: there is no such model or file, or it holds something else.
        NothingFitsError: no net that there are ImageNet weights for fits a target.
        TuneError: ImageNet weights cannot be downloaded.
    """
    if source == IMAGENET:
        return _imagenet(targets, contexts)
    if not _is_model(source):
        return (backbones.read_file(Path(source).expanduser()),)
    folder = find_model(source)
    template = folder.read().template
    found = backbones.read_model(
        folder.path / "model.keras",
        folder.reference,
        template.architecture,
        template.preprocessing.scaling,
    )
    return (found,)


def _imagenet(
    targets: Mapping[str, Target], contexts: Mapping[str, Context]
) -> tuple[Backbone, ...]:
    wanted = {net: tuple(_sides_that_fit(net, targets, contexts)) for net in MOBILENETS}
    wanted = {net: sides for net, sides in wanted.items() if sides}
    if not wanted:
        raise NothingFitsError(
            "No net that Keras has ImageNet weights for fits, at any of their input sizes. "
            "Leave --weights out, or give those of a smaller net: a file, or MODEL@N."
        )
    logs = cache_folder() / "weights" / "logs"
    work = Workplace(1, 1, logs)
    try:
        return tuple(
            _finish(work, backbones.fetch_imagenet, net.kind, net.alpha, sides)
            for net, sides in wanted.items()
        )
    finally:
        work.close()


def _sides_that_fit(
    net: MobileNet, targets: Mapping[str, Target], contexts: Mapping[str, Context]
) -> Iterator[int]:
    for side in IMAGENET_SIDES.get((net.kind, net.alpha), ()):
        layers = net.architecture(Preprocessing(height=side, width=side, colour="rgb"))
        for name, context in contexts.items():
            whole = with_head(layers, "mean", 0.0, context.outputs)
            if costs_on(whole, (targets[name],))[name].fits:
                yield side
                break


def _finish(work: Workplace, job: Callable[..., Any], *arguments: Any) -> Any:
    """What a job gives, in a process of its own: this one loads no TensorFlow."""
    slot = work.slots[0]
    work.start(slot, 0, job, *arguments, progress=slot.log.with_suffix(".progress"))
    while not (ended := work.poll()):
        pass
    outcome = ended[0][1]
    if isinstance(outcome, Died | Raised | GivenUp):
        raise TuneError(outcome.reason)
    return outcome


def run_weights(folder: RunFolder, weights: str) -> Path:
    """Where a run keeps weights that its trainings begin with."""
    return folder.path / "weights" / f"{weights}.npz"


def keep_with_run(folder: RunFolder, spec: RunSpec) -> None:
    """Copy the weights of a new run into its folder."""
    for weights in _fingerprints(spec):
        path = run_weights(folder, weights)
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(backbones.weights_path(weights), path)


def restore(folder: RunFolder, spec: RunSpec) -> None:
    """Put the weights of a run where trainings look for them.

    Raises:
        InputError: one of them is missing, or was changed.
    """
    for weights in _fingerprints(spec):
        install(run_weights(folder, weights), weights)


def install(path: Path, weights: str) -> None:
    """Put a weights file where trainings look for it.

    Args:
        path: of a run, or wherever a template says.
        weights: the fingerprint that it has to have.

    Raises:
        InputError: it is missing, is no such file, or holds other weights.
    """
    backbones.check_kept(path, weights)
    kept = backbones.weights_path(weights)
    if path.resolve() != kept.resolve():
        write_atomic(kept, path.read_bytes())  # other trainings may be reading it


def begun_with(template: Template) -> Path:
    """The weights that the training of a template begins with, checked.

    They lie where it says, or, with one from another home, in this home's cache: fetching a version
    of that model puts them there.

    Raises:
        InputError: they are in neither place, or were changed.
    """
    weights = template.training.weights
    path, kept = Path(template.weights), backbones.weights_path(weights)
    found = path if path.is_file() else kept
    if not found.is_file():
        raise InputError(
            f"Expected a weights file at {template.weights}; there is none. '{template.name}' is "
            "trained from it. Put it back, name it in the template where it is now, fetch a "
            "published version of the model ('tune models get' brings it), or train a version on "
            "(--continue), which does without."
        )
    backbones.check_kept(found, weights)
    return found


def check_again(source: str, wanted: Sequence[Backbone], found: Sequence[Backbone]) -> None:
    """Check that a source of weights holds what it did.

    Args:
        source: of the weights.
        wanted: what a run began with; none for anything.
        found: what is there now.

    Raises:
        InputError: it is something else.
    """
    before, after = (
        {item.weights for backbone in several for item in backbone.files}
        for several in (wanted, found)
    )
    if before and before != after:
        raise InputError(
            f"The weights of {source} are not what the run was made with: expected the "
            f"fingerprint {', '.join(sorted(before))}. Received: {', '.join(sorted(after))}. Put "
            f"them back, or give --weights {source} to search with what is there now."
        )


def _fingerprints(spec: RunSpec) -> Iterator[str]:
    for backbone in spec.backbones:
        for item in backbone.files:
            yield item.weights
