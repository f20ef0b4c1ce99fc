"""Runtimes: programs that execute a model on a target. One file each; its stem is its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tuner.cost.lower import Graph
from tuner.spec import Cost, Precision, Quantity, Target, Tool

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Runtime(Protocol):
    """What a file of `tuner/runtimes` offers: a module with these names.

    Attributes:
        KERNELS: the kernel libraries that a target may name under this runtime.
        RUN_WITH: runtime and kernels that give the accuracies here, for example
            ("litert", "builtin").
        OPERATORS: TFLite operators that it has.

    One whose kernels take activations of 16 bits with weights of 8 says `INT16_ACTIVATIONS = True`.
    """

    KERNELS: frozenset[str]
    RUN_WITH: tuple[str, str]
    OPERATORS: frozenset[str]

    def cost(self, graph: Graph, target: Target) -> Cost:
        """Estimate what the model costs on `target`, without TensorFlow; no limits are read."""

    def operator_latency_ms(self, graph: Graph, target: Target) -> list[float]:
        """Milliseconds of each operator; they add up to the latency of `cost`."""

    def predict(
        self, model: bytes, precision: Precision, images: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Run a TFLite model here, image by image.

        Args:
            model: the TFLite file's bytes.
            precision: `int8` models get images quantized by the input's own scale.
            images: images x height x width x channels, scaled as the net reads them.

        Returns:
            Logits, images x outputs.
        """


class Measures(Protocol):
    """What a runtime may offer beside: a tool that says what a built model really takes.

    Attributes:
        MEASURES_BY: fields of Target that its figures depend on.
    """

    MEASURES_BY: tuple[str, ...]

    def measure(self, models: Mapping[Precision, bytes], target: Target) -> dict[str, Quantity]:
        """Measure a net.

        Args:
            models: its TFLite files by precision; a tool takes the one that it needs.
            target: the device.

        Returns:
            Quantities named as the fields of Cost, or `arena_head_bytes`, `arena_tail_bytes`.

        Raises:
            ImportError: the tool is not installed.
            TuneError: the precision that it needs is missing, or it refuses the model.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledModel:
    """What a device's own compiler made of a net.

    Args:
        content: the file for the device.
        suffix: of its name.
        recipe: as `Simulates.recipe` gives it.
        measured: as `Measures.measure` gives it.
    """

    content: bytes
    suffix: str
    recipe: str
    measured: Mapping[str, Quantity]


class Simulates(Protocol):
    """What a runtime may offer beside: its own compiler, and a simulator of the device.

    What its targets compute differs from the int8 build, so their accuracy comes from here.
    """

    def recipe(self, images: int) -> str:
        """How `compile_model` quantizes by so many images: compiler, version, every setting.

        What was compiled by another recipe is compiled again.

        Raises:
            ImportError: the compiler is not installed.
        """

    def compile_model(
        self, model: bytes, calibration: NDArray[np.uint8], input_range: tuple[float, float]
    ) -> CompiledModel:
        """Compile and quantize a net.

        Args:
            model: bytes of the float32 TFLite file, as a camera feeds it: images x height x width
                x 3, one logit for two classes (`tuner.train.camera`).
            calibration: images x height x width x 3, from training data.
            input_range: what the net reads for pixels 0 and 255.

        Raises:
            ImportError: the compiler is not installed.
            MachineError: the disk is full, or the like.
            TuneError: it refuses the model.
        """

    def simulate(
        self,
        content: bytes,
        images: NDArray[np.uint8],
        seconds: float | None,
        at_least: int,
        processes: int = 1,
    ) -> NDArray[np.float32]:
        """Run a compiled model as the device would.

        Args:
            content: of `CompiledModel`.
            images: images x height x width x channels.
            seconds: after so many, the images that are left are left out; None runs them all.
            at_least: so many are run in any case.
            processes: that run at once.

        Returns:
            Logits of the first images, those that were run, images x outputs.

        Raises:
            ImportError: the simulator is not installed.
            MachineError: the disk is full, or the like.
            TuneError: it refuses the model.
        """


class Refuses(Protocol):
    """What a runtime may offer beside: nets that its compiler gets wrong without an error."""

    def refusals(self, graph: Graph) -> tuple[str, ...]:
        """Why the device would not compute what the net says, in words; empty if it would.

        Args:
            graph: the net; operators that the runtime has not at all (`OPERATORS`) are left out.
        """


class UsesTools(Protocol):
    """What a runtime or an exporter may offer beside: the tools that it uses, for `tune doctor`.

    A runtime without its tools estimates; an exporter without its tools exports nothing.
    """

    def tools(self) -> Sequence[Tool]:
        """Each tool as it is found on this machine."""
