"""sample:digits - 1,797 handwritten digits, 8x8, grey.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998 (test
part), as carried by scikit-learn (`load_digits`). Values 0 to 16 are scaled to 0 to 255.
Small enough that a search over it takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1
CLASSES = tuple(str(digit) for digit in range(10))


def make() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All images, uint8, 1797 x 8 x 8 x 1, and their labels, int64, 1797."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, :, :, None]
    return images, digits.target.astype(np.int64)
