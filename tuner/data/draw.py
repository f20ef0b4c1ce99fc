"""Pictures of images with what a model said of them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 240
CAPTION = 22
THUMBNAIL_QUALITY = 75


def to_jpeg(image: NDArray[np.uint8]) -> bytes:
    """An RGB image of uint8, height x width x 3 or 1, as a JPEG file of high quality."""
    return _encoded(_picture(image), "JPEG", quality=95)


def thumbnail(image: NDArray[np.uint8], side: int) -> bytes:
    """A small JPEG file of an image, with its proportions.

    Args:
        image: uint8, height x width x 3 or 1.
        side: of the longer side, pixels; a smaller image stays as it is.
    """
    picture = _picture(image)
    picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    return _encoded(picture, "JPEG", quality=THUMBNAIL_QUALITY)


def captioned(image: NDArray[np.uint8], text: str, *, good: bool) -> bytes:
    """A PNG file of an image, enlarged, with a line of text below it.

    Args:
        image: uint8, height x width x 3 or 1.
        text: what to write; what does not fit is cut off.
        good: blue on white if so, else orange: told apart by the colour-blind too.
    """
    picture = _picture(image)
    factor = max(1, SIDE // max(picture.size))
    size = (picture.width * factor, picture.height * factor)
    page = Image.new("RGB", (max(SIDE, size[0]), size[1] + CAPTION), "white")
    page.paste(picture.resize(size, Image.Resampling.NEAREST), ((page.width - size[0]) // 2, 0))
    draw = ImageDraw.Draw(page)
    colour = (0, 114, 178) if good else (213, 94, 0)  # of Okabe and Ito's palette
    draw.rectangle((0, size[1], page.width, page.height), outline=colour, width=2)
    font = ImageFont.load_default(13)
    draw.text((6, size[1] + 3), text, fill=colour, font=font)
    return _encoded(page, "PNG")


def _picture(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)).copy())


def _encoded(picture: Image.Image, form: str, **options: int) -> bytes:
    content = io.BytesIO()
    picture.save(content, form, **options)
    return content.getvalue()
