"""Trained weights in files: of MobileNets, of models of one's own, and from Keras' server.

Whatever they come from, a search keeps them as one `.npz` for each set of weights, named by their
fingerprint: arrays named as in `tuner.spec.weight_shapes`, and the layers they belong to.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.errors import InputError, TuneError
from tuner.spec import (
    MOBILENETS,
    Architecture,
    Backbone,
    Conv2D,
    DepthwiseConv2D,
    MobileNet,
    Preprocessing,
    WeightsFile,
    from_plain,
    split_at_head,
    to_plain,
    weight_shapes,
)
from tuner.store.files import cache_folder, write_atomic
from tuner.train.quiet import import_tensorflow

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[np.float32]"]
"""Weights by the names of `tuner.spec.weight_shapes`."""

SUFFIXES = (".keras", ".h5", ".npz")
SMALLEST_SIDE = 32
"""Of the inputs that keras.applications takes, pixels."""

STATISTICS_IMAGES, STATISTICS_BATCH = 1000, 50
"""Images that normalization statistics are taken over, and those taken at a time."""

DAMAGED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged file raises."""

_ARCHITECTURE = "backbone"
_CLASSES = {Conv2D: "conv2d", DepthwiseConv2D: "depthwise_conv2d"}
_NORMALIZATION = "batch_normalization"
_KERAS_CLASSES = {
    "Conv2D": "conv2d",
    "DepthwiseConv2D": "depthwise_conv2d",
    "BatchNormalization": _NORMALIZATION,
}
"""Keras classes of the layers with weights -> the names that `.weights.h5` files number them by."""


def weights_path(weights: str) -> Path:
    """Where this home keeps the weights of a fingerprint for its trainings."""
    return cache_folder() / "weights" / f"{weights}.npz"


def fingerprint(arrays: Mapping[str, NDArray[np.float32]]) -> str:
    """Of weights: begins with w; the same for the same numbers, however they were stored."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name], np.float32).tobytes())
    return "w" + digest.hexdigest()[:11]


def keep(backbone: Backbone, arrays: Arrays, where: str) -> Backbone:
    """Keep the weights of a backbone in this home, and return it.

    Args:
        backbone: has their fingerprint.
        arrays: the weights.
        where: names their source in errors.

    Raises:
        InputError: they are not those of its layers, or not all numbers.
    """
    _check_shapes(backbone.architecture, arrays, where)
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise InputError(f"Expected numbers in {where}. Received: weights that are not finite.")
    content = io.BytesIO()
    text = np.array(json.dumps(to_plain(backbone)))
    np.savez(content, **{_ARCHITECTURE: text}, **arrays)  # type: ignore[arg-type]
    write_atomic(weights_path(backbone.files[0].weights), content.getvalue())
    return backbone


def _open_arrays(path: Path) -> np.lib.npyio.NpzFile:
    stored = np.load(path)
    if not isinstance(stored, np.lib.npyio.NpzFile):
        raise ValueError("it holds one array, not arrays by name")
    return stored


def read_kept(path: Path) -> tuple[Backbone, Arrays]:
    """Read what `keep` wrote.

    Raises:
        InputError: it is not there, damaged, or something else.
    """
    try:
        with _open_arrays(path) as stored:
            plain = json.loads(str(stored[_ARCHITECTURE]))
            arrays = {name: stored[name] for name in stored.files if name != _ARCHITECTURE}
    except FileNotFoundError:
        raise InputError(f"Expected a weights file at {path}; there is none.") from None
    except DAMAGED as error:
        raise InputError(f"{path} cannot be read as a weights file: {error}.") from None
    return from_plain(Backbone, plain, str(path)), arrays


def check_kept(path: Path, weights: str) -> None:
    """Check that a file holds the weights of a fingerprint.

    Raises:
        InputError: it does not.
    """
    found = fingerprint(read_kept(path)[1])
    if found != weights:
        raise InputError(
            f"The weights in {path} are others than those that were searched with: expected the "
            f"fingerprint {weights}. Received: {found}. Put the file back, or search again with it."
        )


def read_file(path: Path) -> Backbone:
    """Read weights from a file and keep them.

    Args:
        path: `.npz` that a search kept; or `.keras`, `.h5`, `.weights.h5` or `.npz` (arrays in
            Keras' order) of a MobileNet, with or without its top.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    if path.suffix not in SUFFIXES or not path.is_file():
        what = "a folder" if path.is_dir() else "this" if path.exists() else "no file there"
        raise InputError(
            f"Expected imagenet, MODEL@N or a file that ends in .keras, .h5, .weights.h5 or .npz "
            f"for --weights. Received: {path}, {what}."
        )
    try:
        if path.suffix == ".npz":
            with _open_arrays(path) as stored:
                if _ARCHITECTURE in stored.files:
                    backbone, arrays = read_kept(path)
                    side = backbone.files[0].side
                    own = WeightsFile(weights=fingerprint(arrays), side=side)
                    return keep(replace(backbone, files=(own,)), arrays, str(path))
                order = sorted(stored.files, key=lambda name: (len(name), name))
                found = match([stored[name] for name in order])
        else:
            found = _match_h5(path)
    except DAMAGED as error:
        raise InputError(f"{path} cannot be read as weights: {error}.") from None
    if found is None:
        names = ", ".join(dict.fromkeys(net.kind for net in MOBILENETS))
        raise InputError(
            f"Expected the weights of a MobileNet of keras.applications in {path}: {names}, with "
            "or without its top. Received: weights of other shapes. For a model of your own give "
            "MODEL@N."
        )
    net, channels, arrays = found
    return _kept_mobilenet(net, channels, arrays, str(path))


def _kept_mobilenet(
    net: MobileNet, channels: int, arrays: Arrays, where: str, side: int | None = None
) -> Backbone:
    backbone = Backbone(
        name=net.name,
        architecture=net.architecture(_pixels(channels, side or SMALLEST_SIDE)),
        files=(WeightsFile(weights=fingerprint(arrays), side=side),),
    )
    return keep(backbone, arrays, where)


def _pixels(channels: int, side: int) -> Preprocessing:
    return Preprocessing(height=side, width=side, colour="grey" if channels == 1 else "rgb")


def _shapes_of(net: MobileNet, channels: int) -> dict[str, tuple[int, ...]]:
    return weight_shapes(net.architecture(_pixels(channels, SMALLEST_SIDE)))


def match(arrays: Sequence[NDArray[Any]]) -> tuple[MobileNet, int, Arrays] | None:
    """The MobileNet that weights in Keras' order begin with, and its channels of input.

    Args:
        arrays: `model.get_weights()`; those of a top follow the others.
    """
    for net in MOBILENETS:
        for channels in (3, 1):
            shapes = _shapes_of(net, channels)
            if [array.shape for array in arrays[: len(shapes)]] == list(shapes.values()):
                named = zip(shapes, arrays, strict=False)
                return net, channels, {name: np.asarray(a, np.float32) for name, a in named}
    return None


def _match_h5(path: Path) -> tuple[MobileNet, int, Arrays] | None:
    with _open_h5(path) as stored:
        whole = stored.get("model_weights", stored)
        if "layer_names" in whole.attrs:
            return match(list(_ordered_arrays(whole)))
        for group in _groups(stored):
            for net in MOBILENETS:
                for channels in (3, 1):
                    arrays = _by_class(group, net, channels)
                    if arrays is not None:
                        return net, channels, arrays
    return None


def _open_h5(path: Path) -> Any:
    """The HDF5 file that a `.keras` file contains, or that a file is."""
    import h5py

    if path.suffix != ".keras":
        return h5py.File(path, "r")
    with zipfile.ZipFile(path) as whole:
        return h5py.File(io.BytesIO(whole.read("model.weights.h5")), "r")


def _ordered_arrays(whole: Any) -> Iterator[NDArray[Any]]:
    """Arrays of a file of Keras 2 or TensorFlow, which names layers and weights in order."""
    for layer in whole.attrs["layer_names"]:
        group = whole[_text(layer)]
        for name in group.attrs["weight_names"]:
            yield np.asarray(group[_text(name)])


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _groups(stored: Any) -> Iterator[Any]:
    """Groups of a file of Keras 3 that hold layers; a model in a model has one of its own."""
    if "conv2d" in stored:
        yield stored
    for name in stored:
        if hasattr(stored[name], "keys"):
            yield from _groups(stored[name])


def _by_class(group: Any, net: MobileNet, channels: int) -> Arrays | None:
    """Arrays of a MobileNet in a file of Keras 3, which numbers the layers of each class."""
    architecture = net.architecture(_pixels(channels, SMALLEST_SIDE))
    seen: Counter[str] = Counter()
    places = {}
    for index, node in enumerate(architecture.nodes):
        word = _CLASSES.get(type(node.op))
        if word is not None:
            places[f"n{index}"] = _numbered(word, seen)
            places[f"n{index}b"] = _numbered(_NORMALIZATION, seen)
    return _arrays_at(group, places, weight_shapes(architecture))


def _numbered(word: str, seen: Counter[str]) -> str:
    seen[word] += 1
    return word if seen[word] == 1 else f"{word}_{seen[word] - 1}"


def _arrays_at(
    group: Any, places: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> Arrays | None:
    """Arrays of layers at some places of a group; None if one is not there or has another shape."""
    arrays = {}
    for name, shape in shapes.items():
        layer, part = name.split("/")
        place = f"{places.get(layer)}/vars/{part}"
        if place not in group or group[place].shape != shape:
            return None
        arrays[name] = np.asarray(group[place], np.float32)
    return arrays


def read_model(path: Path, name: str, architecture: Architecture, scaling: Any) -> Backbone:
    """Read the weights of a `model.keras` that `retrain` wrote and keep those before its head.

    Args:
        path: the file.
        name: NAME@VERSION.
        architecture: of the model.
        scaling: of its preprocessing.

    Raises:
        InputError: the file cannot be read, or the net has no head to replace.
    """
    try:
        nodes, head = split_at_head(architecture)
    except InputError as error:
        raise InputError(f"The layers of {name} cannot be taken over: {error}") from None
    layers = Architecture(nodes=nodes, outputs=(nodes[-1].name,))
    try:
        with zipfile.ZipFile(path) as whole:
            config = json.loads(whole.read("config.json"))
        seen: Counter[str] = Counter()
        places = {
            layer["config"]["name"]: _numbered(_KERAS_CLASSES[layer["class_name"]], seen)
            for layer in config["config"]["layers"]
            if layer["class_name"] in _KERAS_CLASSES
        }
        with _open_h5(path) as stored:
            arrays = _arrays_at(stored["layers"], places, weight_shapes(layers))
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as a Keras model: {error}.") from None
    if arrays is None:
        raise InputError(
            f"Expected the layers of {name} in {path}. Received others; the file was changed."
        )
    backbone = Backbone(
        name=name,
        architecture=layers,
        files=(WeightsFile(weights=fingerprint(arrays)),),
        head=head,
        scaling=scaling,
        trained_side=architecture.input.height,
    )
    return keep(backbone, arrays, name)


def _check_shapes(layers: Architecture, arrays: Arrays, where: str) -> None:
    wanted = weight_shapes(layers)
    found = {name: array.shape for name, array in arrays.items()}
    if wanted == found:
        return
    name = next(name for name in (*wanted, *found) if wanted.get(name) != found.get(name))
    raise InputError(
        f"The weights in {where} are not those of the net's layers: expected "
        f"{wanted.get(name, 'nothing')} at {name}. Received: {found.get(name, 'nothing')}."
    )


def begin_from(model: keras.Model, architecture: Architecture, weights: str) -> None:
    """Give the layers of a net up to its head the weights of a fingerprint.

    Args:
        model: from `build_keras(architecture)`.
        architecture: of the net.
        weights: their fingerprint; the file is in this home.

    Raises:
        InputError: the file is missing, or its weights are not those of the net's layers.
    """
    path = weights_path(weights)
    _, arrays = read_kept(path)
    nodes, _ = split_at_head(architecture)
    _check_shapes(Architecture(nodes=nodes, outputs=(nodes[-1].name,)), arrays, str(path))
    by_layer: dict[str, list[NDArray[np.float32]]] = {}
    for name in sorted(arrays):  # parts of a layer have one digit
        by_layer.setdefault(name.split("/")[0], []).append(arrays[name])
    for layer, values in by_layer.items():
        model.get_layer(layer).set_weights(values)


def reestimate_statistics(model: keras.Model, images: NDArray[np.uint8], scaling: str) -> None:
    """Take the means and variances of all batch normalizations anew, from other images.

    As the layers stay frozen at first, the head learns from what they then give, and what comes
    of a convolution keeps the range that its weights were trained for, which int8 needs. Mean
    over batches of the mean, and of the variance with the mean's own (Li et al., arXiv
    1603.04779; Wu and Johnson, arXiv 2105.07576, section 3.1).

    Args:
        model: from `build_keras`, changed in place.
        images: of the training split, uint8, n x height x width x channels.
        scaling: see Preprocessing.
    """
    import tensorflow as tf

    from tuner.data.preprocess import evenly_spaced, scale
    from tuner.train.forward import forward

    rows = evenly_spaced(len(images), STATISTICS_IMAGES)
    batch = min(STATISTICS_BATCH, len(rows))
    variables: list[Any] = []

    def of_batch(pixels: Any) -> list[Any]:
        _, averages = forward(model, pixels, lambda variable: variable.value, training=True)
        variables[:] = [average.variable for average in averages]
        return [average.value for average in averages]

    shape = (batch, *model.input_shape[1:])
    run = tf.function(of_batch, autograph=False, input_signature=[tf.TensorSpec(shape, tf.float32)])
    batches = [
        [np.asarray(value, np.float64) for value in run(scale(images[rows[start:end]], scaling))]
        for start in range(0, len(rows) - batch + 1, batch)
        for end in [start + batch]
    ]
    for index in range(0, len(variables), 2):  # a mean, then its variance
        means = np.stack([values[index] for values in batches])
        variances = np.stack([values[index + 1] for values in batches])
        mean = means.mean(axis=0)
        variables[index].assign(mean.astype(np.float32))
        spread = (variances + means**2).mean(axis=0) - mean**2
        variables[index + 1].assign(spread.astype(np.float32))


def fetch_imagenet(kind: str, alpha: float, sides: Sequence[int]) -> Backbone:
    """Have Keras download ImageNet weights of a MobileNet, and keep them.

    Downloads lie in this home's cache, so that a second search needs none.

    Args:
        kind: see MobileNet.
        alpha: see MobileNet.
        sides: of the input, pixels, that there are weights for.

    Raises:
        TuneError: they cannot be downloaded.
    """
    downloads = cache_folder() / "weights" / "keras"
    downloads.mkdir(parents=True, exist_ok=True)  # else Keras takes a folder for all users
    os.environ.setdefault("KERAS_HOME", str(downloads))
    import_tensorflow()
    import keras

    net = next(net for net in MOBILENETS if (net.kind, net.alpha) == (kind, alpha))
    made: list[Backbone] = []
    for side in sides:
        options: dict[str, Any] = {"alpha": alpha, "include_top": False, "weights": "imagenet"}
        options["input_shape"] = (side, side, 3)
        keras.backend.clear_session()
        try:
            if kind == "MobileNet":
                model = keras.applications.MobileNet(**options)
            elif kind == "MobileNetV2":
                model = keras.applications.MobileNetV2(**options)
            else:
                model = keras.applications.MobileNetV3Small(
                    minimalistic=True, include_preprocessing=False, **options
                )
        except Exception as error:  # Keras raises this very type where a download fails
            raise TuneError(
                f"Expected to download the ImageNet weights of {net.name} at {side}x{side}. That "
                f"failed: {' '.join(str(error).split())}. Connect to the internet once, or give a "
                "file of such a net with --weights FILE."
            ) from None
        found = match(model.get_weights())
        if found is None or found[0] != net:
            raise TuneError(f"Keras' {net.name} has other layers than expected; see tune doctor.")
        made.append(_kept_mobilenet(net, 3, found[2], "imagenet", side))
    return replace(made[0], files=tuple(item.files[0] for item in made))
