"""Runtimes: programs that execute a model on a target. One file each; its stem is its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tuner.spec import Architecture, Cost, Precision, Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Runtime(Protocol):
    """What a file of `tuner/runtimes` offers: a module with these names.

    Attributes:
        KERNELS: the kernel libraries that a target may name under this runtime.
        RUN_WITH: runtime and kernels that give the accuracies here, for example
            ("litert", "builtin").
    """

    KERNELS: frozenset[str]
    RUN_WITH: tuple[str, str]

    def cost(self, architecture: Architecture, target: Target) -> Cost:
        """Estimate what the int8 model costs on `target`, without TensorFlow; no limits read."""

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
