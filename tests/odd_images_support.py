"""Image files of every kind, good, broken and damaged, made from the samples' images."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pillow_heif import register_heif_opener

from tuner.data.samples import digits, parts

register_heif_opener()

Expected = Literal["good", "bad", "either"]
Odd = tuple[str, bytes, Expected]
"""Ending of the name, content, and whether it must be used."""

NAMES = (
    *(
        "plain",
        "with space",
        "käse 写真 é",
        "emoji 🐈",
        "a'quote\"",
        "semi;colon & more",
        "#1 100%",
    ),
    *("UPPER", "dots.in.name", "-dash", "$HOME `id`", "x" * 120, "new\nline", "tab\tbed", "[b]old"),
)


def bases() -> list[Image.Image]:
    """Some images of both samples, 96 x 96 colour and 8 x 8 grey."""
    grey = digits.make()[0][:6, :, :, 0]
    return [
        *(Image.fromarray(parts.draw(index)) for index in range(6)),
        *map(Image.fromarray, grey),
    ]


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as a file of a kind."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def _deep(image: Image.Image, kind: str) -> bytes:
    return saved(Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257), kind)


def _turned(image: Image.Image, random: np.random.Generator) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = int(random.integers(1, 12))
    return saved(image.convert("RGB"), "JPEG", exif=exif)


def _frames(image: Image.Image, kind: str) -> bytes:
    first = image.convert("RGB")
    others = [first.rotate(90), first.rotate(180)]
    return saved(first, kind, save_all=True, append_images=others)


def _see_through(image: Image.Image) -> Image.Image:
    alpha = image.convert("RGBA")
    alpha.putalpha(image.convert("L"))
    return alpha


Maker = Callable[[Image.Image, np.random.Generator], bytes]
GOOD: dict[str, tuple[str, Maker]] = {
    "grey": (".png", lambda i, r: saved(i.convert("L"), "PNG")),
    "rgb": (".JPG", lambda i, r: saved(i.convert("RGB"), "JPEG", quality=80)),
    "progressive": (".jpeg", lambda i, r: saved(i.convert("RGB"), "JPEG", progressive=True)),
    "rgba": (".png", lambda i, r: saved(_see_through(i), "PNG")),
    "grey and alpha": (".png", lambda i, r: saved(_see_through(i).convert("LA"), "PNG")),
    "palette": (".gif", lambda i, r: saved(i.convert("P"), "GIF")),
    "palette png": (".PNG", lambda i, r: saved(i.convert("P"), "PNG")),
    "see-through palette": (
        ".png",
        lambda i, r: saved(i.convert("P"), "PNG", transparency=bytes(range(256))),
    ),
    "see-through colour": (
        ".png",
        lambda i, r: saved(i.convert("RGB"), "PNG", transparency=(0, 0, 0)),
    ),
    "bits": (".png", lambda i, r: saved(i.convert("1"), "PNG")),
    "16 bits": (".png", lambda i, r: _deep(i, "PNG")),
    "16 bits tiff": (".tif", lambda i, r: _deep(i, "TIFF")),
    "32 bits": (".tiff", lambda i, r: saved(i.convert("I"), "TIFF")),
    "floats": (".tiff", lambda i, r: saved(i.convert("F"), "TIFF")),
    "cmyk": (".jpg", lambda i, r: saved(i.convert("CMYK"), "JPEG")),
    "animated": (".gif", lambda i, r: _frames(i, "GIF")),
    "animated png": (".png", lambda i, r: _frames(i, "PNG")),
    "animated webp": (".webp", lambda i, r: _frames(i, "WEBP")),
    "pages": (".tif", lambda i, r: _frames(i, "TIFF")),
    "turned": (".jpg", _turned),
    "one pixel": (".png", lambda i, r: saved(i.resize((1, 1)), "PNG")),
    "one row": (".bmp", lambda i, r: saved(i.convert("RGB").resize((300, 1)), "BMP")),
    "one column": (".webp", lambda i, r: saved(i.convert("RGB").resize((1, 200)), "WEBP")),
    "long": (".png", lambda i, r: saved(i.convert("1").resize((20000, 3)), "PNG")),
    "heic": (".heic", lambda i, r: saved(i.convert("RGB"), "HEIF")),
    "tga": (".tga", lambda i, r: saved(i.convert("RGB"), "TGA")),
    "ppm": (".ppm", lambda i, r: saved(i.convert("RGB"), "PPM")),
    "other ending": (".jpg", lambda i, r: saved(i, "PNG")),
    "more behind": (".jpg", lambda i, r: saved(i.convert("RGB"), "JPEG") + r.bytes(99)),
}
BAD: dict[str, tuple[str, Maker]] = {
    "empty": (".jpg", lambda i, r: b""),
    "text": (".png", lambda i, r: b"this is no image"),
    "page": (".jpg", lambda i, r: b"<!DOCTYPE html><html><body>404 Not Found</body></html>"),
    "noise": (".webp", lambda i, r: r.bytes(500)),
    "zeros": (".tif", lambda i, r: bytes(2000)),
    "zip": (".png", lambda i, r: b"PK\x03\x04" + r.bytes(200)),
    "cut jpeg": (
        ".jpg",
        lambda i, r: (lambda c: c[: len(c) * int(r.integers(10, 70)) // 100])(
            saved(i.convert("RGB").resize((96, 96)), "JPEG")
        ),
    ),
    "cut png": (
        ".png",
        lambda i, r: (lambda c: c[: len(c) * int(r.integers(10, 70)) // 100])(
            saved(i.convert("RGB").resize((96, 96)), "PNG")
        ),
    ),
    "bomb": (".png", lambda i, r: png_header(60_000, 60_000)),
    "large bomb": (".png", lambda i, r: png_header(2**31 - 1, 2**31 - 1)),
    "postscript": (".jpg", lambda i, r: saved(i.convert("RGB"), "EPS")),
}


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Content with bytes changed, lost, repeated or put in; never the same."""
    data = bytearray(content)
    for _ in range(int(random.integers(1, 6))):
        place = int(random.integers(0, max(1, len(data))))
        length = int(random.integers(1, 40))
        match int(random.integers(0, 5)):
            case 0:
                data[place : place + 1] = random.bytes(1)
            case 1:
                del data[place : place + length]
            case 2:
                data[place:place] = random.bytes(length)
            case 3:
                data[place : place + length] = bytes(length)
            case _:
                del data[max(place, len(data) // 3) :]
    return bytes(data) if bytes(data) != content else content + b"\0"


def odd_files(count: int, seed: int) -> list[Odd]:
    """So many files: each good and bad kind in turn, and damaged ones between."""
    random = np.random.default_rng(seed)
    images = bases()
    kinds: list[tuple[str, Maker, Expected]] = [
        *((ending, make, "good") for ending, make in GOOD.values()),
        *((ending, make, "bad") for ending, make in BAD.values()),
    ]
    files: list[Odd] = []
    for number in range(count):
        image = images[int(random.integers(len(images)))]
        if number % 3 == 2:
            ending, make, _ = kinds[int(random.integers(len(GOOD)))]
            files.append((ending, damaged(make(image, random), random), "either"))
        else:
            ending, make, expected = kinds[(number - number // 3) % len(kinds)]
            files.append((ending, make(image, random), expected))
    return files


def digests(root: Path) -> Mapping[str, str]:
    """A hash of each file below a folder."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
