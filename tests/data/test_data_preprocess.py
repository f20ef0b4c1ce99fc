"""Decoding, cropping, resizing, scaling."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tuner.data import preprocess
from tuner.data.preprocess import (
    crop_box,
    flatten_image,
    preprocessing_document,
    resize_image,
    scale,
)
from tuner.data.scan import facts_of
from tuner.spec import Preprocessing


def wanted(height: int, width: int, **fields: object) -> Preprocessing:
    return Preprocessing(height=height, width=width, **{"colour": "rgb", **fields})  # type: ignore[arg-type]


def reopened(image: Image.Image, kind: str, **options: object) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return Image.open(file)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_gives_the_upright_image(orientation: int, kind: str) -> None:
    upright = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    flat = flatten_image(reopened(stored, kind, exif=exif))
    assert np.array_equal(np.asarray(flat), np.asarray(upright))
    file = io.BytesIO()
    stored.save(file, kind, exif=exif)
    facts = facts_of(file.getvalue())
    assert (facts.height, facts.width, facts.turned) == (2, 3, orientation > 1)
    assert np.array_equal(np.asarray(flatten_image(flat)), np.asarray(upright))


def test_alpha_is_laid_over_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    assert np.asarray(flatten_image(image)).tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_strips_of_a_large_image_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (31, 7, 4), dtype=np.uint8)
    images = [Image.fromarray(pixels), Image.fromarray(pixels).convert("P")]
    images[1].info["transparency"] = bytes(range(256))
    images.append(images[0].convert("LA"))
    whole = [np.asarray(flatten_image(image)) for image in images]
    monkeypatch.setattr(preprocess, "STRIP_PIXELS", 20)
    for image, expected in zip(images, whole, strict=True):
        assert np.array_equal(np.asarray(flatten_image(image)), expected)


def test_transparent_palette_entries_become_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    flat = flatten_image(reopened(image, "PNG", transparency=0))
    assert np.asarray(flat).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_16_bit_grey_keeps_its_high_byte() -> None:
    image = Image.fromarray(np.array([[0, 256, 65535]], np.uint16))
    flat = flatten_image(reopened(image, "PNG"))
    assert flat.mode == "L"
    assert np.asarray(flat).tolist() == [[0, 1, 255]]


@pytest.mark.parametrize(
    ("values", "expected"), [([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 7.0, 300.0], [0, 7, 255])]
)
def test_floats_are_taken_as_0_to_1_or_0_to_255(values: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([values], np.float32))
    assert np.asarray(flatten_image(reopened(image, "TIFF"))).tolist() == [expected]


@pytest.mark.parametrize(
    ("mode", "flat_mode"),
    [("1", "L"), ("L", "L"), ("LA", "L"), ("P", "RGB"), ("CMYK", "RGB"), ("YCbCr", "RGB")],
)
def test_each_mode_becomes_8_bit_grey_or_rgb(mode: str, flat_mode: str) -> None:
    assert flatten_image(Image.new(mode, (3, 2))).mode == flat_mode


def test_cmyk_jpeg_keeps_its_colour() -> None:
    red = Image.new("RGB", (16, 16), (220, 30, 30)).convert("CMYK")
    pixel = np.asarray(flatten_image(reopened(red, "JPEG", quality=95)))[8, 8]
    assert np.allclose(pixel, (220, 30, 30), atol=12)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    animation = reopened(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.asarray(flatten_image(animation))[0, 0].tolist() == [255, 0, 0]


def test_resize_is_pillows_antialiased_bilinear() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    expected = Image.fromarray(pixels).resize((16, 12), Image.Resampling.BILINEAR)
    assert np.array_equal(resize_image(pixels, wanted(12, 16)), np.asarray(expected))


def test_the_document_describes_the_resize_that_is_done() -> None:
    """A resize written from the document's words alone agrees to within rounding."""

    def axis(size_from: int, size_to: int) -> np.ndarray:
        support = max(1.0, size_from / size_to)
        centres = (np.arange(size_to)[:, None] + 0.5) * size_from / size_to
        weights = 1 - np.abs(np.arange(size_from)[None, :] + 0.5 - centres) / support
        weights = np.maximum(weights, 0)
        return weights / weights.sum(axis=1, keepdims=True)

    pixels = np.random.default_rng(1).integers(0, 256, (40, 60), dtype=np.uint8)
    narrow = np.rint(pixels @ axis(60, 16).T)
    expected = np.rint(axis(40, 12) @ narrow)
    done = resize_image(pixels, wanted(12, 16, colour="grey"))[:, :, 0]
    assert np.abs(done - expected).max() <= 1


def test_the_documents_grey_is_the_grey_that_is_used() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    red, green, blue = (pixels[:, :, channel].astype(int) for channel in range(3))
    expected = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    done = resize_image(pixels, wanted(8, 8, colour="grey"))
    assert done.shape == (8, 8, 1)
    assert np.array_equal(done[:, :, 0], expected)


def test_center_crop_keeps_the_middle() -> None:
    pixels = np.zeros((4, 8), np.uint8)
    pixels[:, 2:6] = 200
    done = resize_image(pixels, wanted(4, 4, colour="grey", crop="center"))
    assert done.min() == 200


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 100),
    st.integers(1, 100),
    st.sampled_from(["center", "stretch"]),
)
@settings(deadline=None, max_examples=60)
def test_crop_box_lies_within_the_image(
    width: int, height: int, to_width: int, to_height: int, crop: str
) -> None:
    left, top, right, bottom = crop_box(width, height, wanted(to_height, to_width, crop=crop))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    if crop == "center":
        assert width in (right - left, right - left + 1) or height in (
            bottom - top,
            bottom - top + 1,
        )


def test_grey_images_give_three_equal_channels() -> None:
    done = resize_image(np.full((4, 4, 1), 7, np.uint8), wanted(2, 2))
    assert done.shape == (2, 2, 3)
    assert (done == 7).all()


def test_scale() -> None:
    pixels = np.array([0, 128, 255], np.uint8)
    assert scale(pixels, "unit").dtype == np.float32
    assert np.allclose(scale(pixels, "unit"), [0, 128 / 255, 1])
    assert np.allclose(scale(pixels, "signed"), [-1, 0, 127 / 128])


def test_the_document_is_plain_and_complete(tmp_path: Path) -> None:
    document = preprocessing_document(wanted(8, 6, colour="grey", scaling="unit"), ("a", "b"))
    assert json.loads(json.dumps(document)) == document
    assert document["input"]["channels"] == 1
    assert document["classes"] == ["a", "b"]
    assert document["scaling"] == {
        "name": "unit",
        "float32": "pixel / 255",
        "int8": "pixel - 128",
        "int16": "round(32767 * float32)",
    }
    assert [step["step"] for step in document["steps"]] == ["decode", "colour", "crop", "resize"]


def test_pgm_of_16_bits_keeps_its_high_byte_whatever_the_image_holds() -> None:
    def flat(*values: int) -> list[list[int]]:
        content = b"P5 3 1 65535\n" + np.array(values, ">u2").tobytes()
        return np.asarray(flatten_image(Image.open(io.BytesIO(content)))).tolist()

    assert flat(0, 200, 255) == [[0, 0, 0]]
    assert flat(0, 200, 256) == [[0, 0, 1]]
    assert flat(0, 65535, 4096) == [[0, 255, 16]]
