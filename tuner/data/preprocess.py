"""How an image becomes the input of a net: the one place that says so, here and on a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tuner.data.mapped import give_back
from tuner.spec import Preprocessing

CHUNK_BYTES = 8 * 2**20
STRIP_PIXELS = 2**22

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, where there is none that can be read."""
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # Pillow's EXIF parser fails in many ways; the pixels may still be good
        return 1
    return orientation if orientation in _UPRIGHT else 1


def flatten_image(image: Image.Image) -> Image.Image:
    """Decode to 8 bits, upright, without alpha: mode `L` for grey images, else `RGB`.

    EXIF rotation is applied. Alpha and transparent palette entries are laid over white. 16-bit
    grey keeps its high byte; floats are taken as 0 to 1 if none is above 1, else as 0 to 255.
    Of an animation the first frame is used. Colour profiles are ignored.

    Raises:
        Exception: whatever Pillow raises for a file that it cannot decode.
    """
    image.load()
    orientation = orientation_of(image)  # Pillow turns a TIFF when it loads it
    mode = image.mode
    if mode.startswith("I"):
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        if is_deep(image) or (values.size and values.max() > 255):
            values = values >> 8
        flat = Image.fromarray(values.astype(np.uint8))
    elif mode == "F":
        floats = np.nan_to_num(np.asarray(image, np.float32))
        if floats.size and floats.max() <= 1.0:
            floats = floats * np.float32(255)
        flat = Image.fromarray(np.clip(np.rint(floats), 0, 255).astype(np.uint8))
    elif mode in ("1", "L") and "transparency" not in image.info:
        flat = image.convert("L")
    elif mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
        flat = _over_white(image, "L" if mode in ("LA", "La") else "RGB")
    else:
        flat = image.convert("RGB")
    if orientation != 1:
        flat = flat.transpose(_UPRIGHT[orientation])
    flat.info = {}  # what was applied must not be applied again by who is handed the result
    return flat


def is_deep(image: Image.Image) -> bool:
    """Whether values of 16 bits were read, whichever they are; Pillow reads those of PGM as `I`."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def _over_white(image: Image.Image, mode: str) -> Image.Image:
    """Lay an image with alpha over white, in strips, so that a large one is not there 4 times."""
    flat = Image.new(mode, image.size)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        part = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", part.size, (255, 255, 255, 255))
        white.alpha_composite(part)
        flat.paste(white.convert(mode), box)
    return flat


def resize_image(
    image: Image.Image | NDArray[np.uint8], preprocessing: Preprocessing
) -> NDArray[np.uint8]:
    """Colour, crop and resize one image, in this order.

    Args:
        image: a Pillow image, or uint8 pixels, height x width or height x width x 1, 3 or 4.
        preprocessing: the wanted size, colour and crop; its scaling is left to `scale`.

    Returns:
        uint8, height x width x channels.
    """
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image[:, :, 0] if image.shape[2:] == (1,) else image)
    return resize_flat(flatten_image(image), preprocessing)


def resize_flat(flat: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """`resize_image` of what `flatten_image` gave."""
    mode = "RGB" if preprocessing.colour == "rgb" else "L"
    if flat.mode != mode:
        flat = flat.convert(mode)
    size = (preprocessing.width, preprocessing.height)
    box = crop_box(flat.width, flat.height, preprocessing)
    if box != (0, 0, *size) or flat.size != size:
        flat = flat.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=None)
    pixels = np.asarray(flat, np.uint8)
    return pixels.reshape(preprocessing.height, preprocessing.width, preprocessing.channels)


def crop_box(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """The part of an image that is resized: left, top, right, bottom, in whole pixels."""
    if preprocessing.crop == "stretch":
        return 0, 0, width, height
    # The largest part with the wanted proportions, rounded down, at least one pixel.
    kept_width = max(1, min(width, height * preprocessing.width // preprocessing.height))
    kept_height = max(1, min(height, width * preprocessing.height // preprocessing.width))
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return left, top, left + kept_width, top + kept_height


def evenly_spaced(total: int, count: int) -> NDArray[np.int64]:
    """So many rows of `total`, the first and the last among them; all if there are no more."""
    return np.linspace(0, total - 1, min(count, total)).astype(np.int64)


def scale(images: NDArray[np.uint8], scaling: str) -> NDArray[np.float32]:
    """Pixels, uint8 of any shape -> what a float32 net takes.

    `unit` maps a pixel p to p / 255, `signed` to (p - 128) / 128.
    """
    pixels = images.astype(np.float32)
    if scaling == "unit":
        pixels /= np.float32(255)
    else:
        pixels -= np.float32(128)
        pixels /= np.float32(128)
    return pixels


def scaled_chunks(images: NDArray[np.uint8], scaling: str) -> Iterator[NDArray[np.float32]]:
    """Scaled images in chunks that keep memory small, in order.

    Args:
        images: n x height x width x channels.
        scaling: see `scale`.
    """
    count = max(1, CHUNK_BYTES // (4 * int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), count):
        part = scale(images[start : start + count], scaling)
        give_back(images)
        yield part


def preprocessing_document(preprocessing: Preprocessing, classes: Sequence[str]) -> dict[str, Any]:
    """What a device must do to an image before the net sees it, as plain data for JSON.

    Args:
        preprocessing: of the candidate that is exported.
        classes: names in the order of the net's outputs.
    """
    unit = preprocessing.scaling == "unit"
    return {
        "input": {
            "height": preprocessing.height,
            "width": preprocessing.width,
            "channels": preprocessing.channels,
            "layout": "height, width, channels",
            "channel_order": "red, green, blue" if preprocessing.colour == "rgb" else "grey",
        },
        "steps": [
            {
                "step": "decode",
                "does": "8 bits a channel, upright (EXIF orientation applied), alpha over white",
            },
            {
                "step": "colour",
                "colour": preprocessing.colour,
                "does": (
                    "sRGB values as they are; a grey image gives three equal channels"
                    if preprocessing.colour == "rgb"
                    else "grey = (19595 red + 38470 green + 7471 blue + 32768) >> 16 "
                    "(ITU-R 601-2 luma)"
                ),
            },
            {
                "step": "crop",
                "crop": preprocessing.crop,
                "does": (
                    "none: the whole image is resized, its proportions change"
                    if preprocessing.crop == "stretch"
                    else "the centred part min(w, h * width // height) wide and "
                    "min(h, w * height // width) high of an image w wide and h high, "
                    "from ((w - part) // 2, (h - part) // 2)"
                ),
            },
            {
                "step": "resize",
                "filter": "bilinear, antialiased",
                "does": (
                    "each axis by itself, width first, rounded to 8 bits after each: weights "
                    "max(0, 1 - |distance| / support) around the centre (i + 0.5) * from / to, "
                    "support max(1, from / to), divided by their sum"
                ),
                "same_as": "Pillow Image.resize(BILINEAR, reducing_gap=None)",
            },
        ],
        "scaling": {
            "name": preprocessing.scaling,
            "float32": "pixel / 255" if unit else "(pixel - 128) / 128",
            "int8": "pixel - 128",
            "int16": "round(32767 * float32)",
        },
        "classes": list(classes),
    }
