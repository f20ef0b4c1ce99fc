"""sample:parts - machined parts on a bench, each in a good and a defective kind.

Generated, so that a first search needs no download: 2,400 colour images of 96x96 in six
classes: gears (good, chipped), nuts (good, cracked) and plates (good, scratched), under
changing light, on changing ground, at any angle. A defect is 1.5 to 3 pixels wide: at 24x24 the
good and the defective kind all but blur together, at 96x96 they do not, so that resolution is
worth its memory and the search has something to weigh.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from tuner.data.samples._drawing import (
    NEUTRAL,
    OVERSAMPLING,
    SIDE,
    Canvas,
    Pose,
    between,
    draw_gear,
    draw_nut,
    draw_plate,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1
CLASSES = (
    "gear_chipped",
    "gear_good",
    "nut_cracked",
    "nut_good",
    "plate_good",
    "plate_scratched",
)
IMAGES = 2400
SEED = 20240

_DRAWINGS = {
    "gear": (draw_gear, (31.0, 37.0)),
    "nut": (draw_nut, (30.0, 36.0)),
    "plate": (draw_plate, (32.0, 38.0)),
}
_METALS = (
    (0.80, 0.82, 0.84),  # steel
    (0.62, 0.64, 0.68),  # dark steel
    (0.88, 0.74, 0.46),  # brass
    (0.82, 0.60, 0.48),  # copper
    (0.90, 0.91, 0.90),  # aluminium
)
_GROUNDS = (
    ((0.22, 0.24, 0.27), (144, 144), 0.10),  # rubber belt
    ((0.55, 0.40, 0.26), (144, 8), 0.20),  # wood
    ((0.20, 0.38, 0.33), (72, 72), 0.10),  # cutting mat
    ((0.46, 0.47, 0.47), (48, 48), 0.22),  # concrete
    ((0.66, 0.55, 0.41), (96, 36), 0.12),  # cardboard
    ((0.24, 0.32, 0.46), (30, 144), 0.14),  # cloth
)


def make() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All images, uint8, 2400 x 96 x 96 x 3, and their labels, int64, 2400."""
    images = np.empty((IMAGES, SIDE, SIDE, 3), np.uint8)
    for index in range(IMAGES):
        images[index] = draw(index)
    return images, np.arange(IMAGES, dtype=np.int64) % len(CLASSES)


def draw(index: int) -> NDArray[np.uint8]:
    """Image number `index`, uint8, 96 x 96 x 3; its label is `index` modulo six."""
    random = np.random.default_rng([SEED, index])
    part, kind = CLASSES[index % len(CLASSES)].split("_")
    draw_part, (smallest, largest) = _DRAWINGS[part]
    pose = Pose(
        x=between(random, 43.0, 53.0),
        y=between(random, 43.0, 53.0),
        radius=between(random, smallest, largest),
        angle=between(random, 0.0, 2 * math.pi),
    )
    canvas = Canvas()
    draw_part(canvas, pose, random, kind != "good")
    light = between(random, 0.0, 2 * math.pi)
    direction = (math.cos(light), math.sin(light))
    cover, surface = _light_part(canvas, pose, direction, random)
    scene = _ground(random)
    scene *= 1.0 - between(random, 0.35, 0.6) * _shadow(cover, direction)[:, :, None]
    metal = np.array(_METALS[int(random.integers(len(_METALS)))], np.float32)
    scene += cover[:, :, None] * (surface[:, :, None] * metal - scene)
    return _photograph(scene, direction, random)


def _light_part(
    canvas: Canvas, pose: Pose, direction: tuple[float, float], random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coverage and brightness of the part, float32, 96 x 96, from 0 to about 1."""
    height = _floats(canvas.height.filter(ImageFilter.BoxBlur(0.55 * OVERSAMPLING)))
    bright = _floats(canvas.marks)
    bright *= np.float32(1.25)
    bright += np.float32(0.72 - 1.25 * NEUTRAL / 255)
    across, down = (np.float32(0.65 * part) for part in direction)
    bright[:, 1:-1] += across * (height[:, 2:] - height[:, :-2])
    bright[1:-1, :] += down * (height[2:, :] - height[:-2, :])
    surface = _floats(_image(bright).reduce(OVERSAMPLING))
    brushed = _noise(random, (120, 6), -math.degrees(pose.angle))
    strength = np.float32(between(random, 0.03, 0.09))
    surface += strength * (_floats(brushed) - np.float32(0.5))
    return _floats(canvas.cover.reduce(OVERSAMPLING)), surface


def _ground(random: np.random.Generator) -> NDArray[np.float32]:
    """The bench, float32, 96 x 96 x 3."""
    colour, cells, strength = _GROUNDS[int(random.integers(len(_GROUNDS)))]
    fine = _noise(random, cells, between(random, 0.0, 360.0))
    texture = strength * (_floats(fine) - np.float32(0.5))
    texture += np.float32(0.16) * (_floats(_noise(random, (5, 5), 0.0)) - np.float32(0.5))
    tone = np.array([channel * between(random, 0.85, 1.15) for channel in colour], np.float32)
    return tone * (np.float32(1.0) + np.float32(1.6) * texture[:, :, None])


def _shadow(cover: NDArray[np.float32], direction: tuple[float, float]) -> NDArray[np.float32]:
    """A soft shadow of the part, thrown away from the light, float32, 96 x 96."""
    soft = _image(cover).filter(ImageFilter.BoxBlur(1.5))
    shift = (round(3.0 * direction[0]), round(3.0 * direction[1]))
    return np.roll(_floats(soft), (shift[1], shift[0]), axis=(0, 1))


def _photograph(
    scene: NDArray[np.float32], direction: tuple[float, float], random: np.random.Generator
) -> NDArray[np.uint8]:
    """Fall-off of the light, exposure, colour temperature, a little blur, sensor noise."""
    across = (np.arange(SIDE, dtype=np.float32) - np.float32(SIDE / 2)) / np.float32(SIDE)
    fall = np.float32(between(random, 0.1, 0.4))
    light = 1.0 - fall * (
        np.float32(direction[0]) * across[None, :] + np.float32(direction[1]) * across[:, None]
    )
    exposure, warmth = between(random, 0.75, 1.15), between(random, -0.09, 0.09)
    gain = np.array([exposure * (1 + warmth), exposure, exposure * (1 - warmth)], np.float32)
    picture = _image(scene * light[:, :, None] * gain)
    blurred = picture.filter(ImageFilter.BoxBlur(between(random, 0.0, 0.35)))
    # The sum of three even numbers is close to the normal noise of a sensor, in integers only.
    noise = random.integers(-100, 101, (3, SIDE, SIDE, 3), dtype=np.int16).sum(axis=0)
    level = int(random.integers(8, 36))
    noisy = np.asarray(blurred, np.int32) + (noise.astype(np.int32) * level) // 1000
    picture_bytes: NDArray[np.uint8] = np.clip(noisy, 0, 255).astype(np.uint8)
    return picture_bytes


def _noise(random: np.random.Generator, cells: tuple[int, int], degrees: float) -> Image.Image:
    """Smooth turned noise, grey, 96 x 96, of a field with so many cells down and across."""
    field = SIDE * 3 // 2  # its diagonal, so that no corner is empty once it is turned
    small = Image.fromarray(random.integers(0, 256, cells, dtype=np.uint8))
    turned = small.resize((field, field), Image.Resampling.BICUBIC).rotate(
        degrees, Image.Resampling.BILINEAR
    )
    edge = (field - SIDE) // 2
    return turned.crop((edge, edge, edge + SIDE, edge + SIDE))


def _floats(image: Image.Image) -> NDArray[np.float32]:
    values = np.array(image, np.float32)
    values *= np.float32(1 / 255)
    return values


def _image(values: NDArray[np.float32]) -> Image.Image:
    levels = values * np.float32(255)
    levels += np.float32(0.5)
    np.clip(levels, 0, 255, out=levels)
    return Image.fromarray(levels.astype(np.uint8))
