"""The TFLite interpreter, for every runtime that runs `.tflite` files here. Owns ai-edge-litert.

Seen with ai-edge-litert 2.3.0 beside `tf.lite.Interpreter` of TensorFlow 2.21, 200 random inputs
on each of three nets: int8 nets give the same bytes with XNNPACK, with the built-in kernels
without delegate and with the reference kernels; float32 nets too, but for the built-in kernels,
whose sums are ordered differently (the last bits differ). A batch resized to 200 gives the same
int8 bytes as one image at a time and is not faster, so images run one by one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tuner.errors import TuneError
from tuner.runtimes.tool import package_tool
from tuner.spec import FilePrecision, Tool

Kernels = Literal["xnnpack", "builtin", "reference"]
TYPES: Mapping[FilePrecision, type] = {"int8": np.int8, "int16x8": np.int16, "float32": np.float32}
"""Of a model's input and output."""

_RESOLVERS: dict[Kernels, str] = {
    "xnnpack": "AUTO",
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}


def tools() -> tuple[Tool, ...]:
    """The interpreter; the package requires it."""
    return (
        package_tool(
            "ai-edge-litert",
            ["ai_edge_litert"],
            "ai-edge-litert is not installed: install edge-tuner again, which requires it.",
        ),
    )


def run_tflite(
    model: bytes, precision: FilePrecision, images: NDArray[np.float32], kernels: Kernels
) -> NDArray[np.float32]:
    """Run a model image by image, on one thread.

    Args:
        model: the TFLite file's bytes; one image input of batch 1, one output.
        precision: what the model's input must be; of int16x8, int16.
        images: images x height x width x channels, scaled as the net reads them.
        kernels: `xnnpack` is LiteRT's default, `builtin` its own kernels without a delegate,
            `reference` the plain ones.

    Returns:
        Logits, images x outputs; those of int8 models by the output's scale and zero point.

    Raises:
        TuneError: the model does not read such images, or has not one input and one output.
    """
    interpreter = _interpreter(model, kernels)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1 or len(outputs) != 1:
        raise TuneError(
            "expected a model with one input and one output. "
            f"Received: {len(inputs)} input(s), {len(outputs)} output(s)."
        )
    source, sink = inputs[0], outputs[0]
    shape, wanted = (1, *images.shape[1:]), tuple(int(side) for side in source["shape"])
    if shape != wanted or source["dtype"] != TYPES[precision]:
        raise TuneError(
            f"expected a model that reads {precision} images of {shape}. "
            f"Received: one that reads {np.dtype(source['dtype']).name} of {wanted}."
        )
    tensors: NDArray[Any] = np.ascontiguousarray(images)
    if precision != "float32":
        tensors = quantize(images, *source["quantization"], to=TYPES[precision])
    read, written = source["index"], sink["index"]
    logits = np.empty((len(images), int(sink["shape"][-1])), dtype=sink["dtype"])
    for index in range(len(images)):
        interpreter.set_tensor(read, tensors[index : index + 1])
        interpreter.invoke()
        logits[index] = interpreter.get_tensor(written)[0]
    return _real(logits, sink["quantization"])


def quantize(
    values: NDArray[np.float32], scale: float, zero_point: int, *, to: type = np.int8
) -> NDArray[Any]:
    """Round to integers: value / scale + zero point, cut to what their type holds.

    Images scaled by `Preprocessing.scaling` become exactly pixel minus 128 where the model was
    calibrated with that scaling's range.

    Raises:
        TuneError: a scale of 0, which means that the tensor is not quantized.
    """
    if scale <= 0:
        raise TuneError(f"expected a quantized tensor. Received: scale={scale}.")
    quotient = np.rint(values / np.float32(scale)) + np.float32(zero_point)
    limits = np.iinfo(to)
    rounded: NDArray[Any] = np.clip(quotient, limits.min, limits.max).astype(to)
    return rounded


def run_tensors(
    model: bytes, images: Iterable[NDArray[np.float32]], tensors: Sequence[int]
) -> Iterator[dict[int, NDArray[np.float32]]]:
    """Run a model image by image with the built-in kernels, and look at what it computes.

    Args:
        model: the bytes of an int8 or float32 TFLite file; one image input of batch 1.
        images: each height x width x channels, scaled as the net reads them.
        tensors: their numbers in the file.

    Yields:
        For each image, what the tensors hold, with the batch of 1; int8 values by their scale and
        zero point.
    """
    interpreter = _interpreter(model, "builtin", preserve=True)
    source = interpreter.get_input_details()[0]
    details = {item["index"]: item for item in interpreter.get_tensor_details()}
    whole = source["dtype"] == np.int8
    for image in images:
        value = quantize(image[None], *source["quantization"]) if whole else image[None]
        interpreter.set_tensor(source["index"], value)
        interpreter.invoke()
        yield {
            number: _real(interpreter.get_tensor(number), details[number]["quantization"])
            for number in tensors
        }


def _real(values: NDArray[Any], quantization: tuple[float, int]) -> NDArray[np.float32]:
    """What the values of a tensor stand for; a scale of 0 says that it is not quantized."""
    scale, zero_point = quantization
    if not scale:
        return values.astype(np.float32, copy=False)
    return (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def _interpreter(model: bytes, kernels: Kernels, *, preserve: bool = False) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        with _quiet():
            interpreter = Interpreter(
                model_content=model,
                num_threads=1,
                experimental_op_resolver_type=OpResolverType[_RESOLVERS[kernels]],
                experimental_preserve_all_tensors=preserve,
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise TuneError(f"LiteRT cannot load the model: {error}") from error
    return interpreter


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep LiteRT's note that it made a delegate out of the user's terminal."""
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)
