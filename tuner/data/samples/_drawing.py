"""Drawing of machined parts for `sample:parts`: outlines, surfaces, defects.

Everything is drawn `OVERSAMPLING` times larger than the final image. Lengths are in pixels of
the final image. Only integers reach Pillow, and sines come from `math`, so that the same
numbers give the same picture on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

if TYPE_CHECKING:
    import numpy as np

SIDE = 96
OVERSAMPLING = 3
NEUTRAL = 128

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Where a part lies: centre and radius in pixels, angle in radians."""

    x: float
    y: float
    radius: float
    angle: float

    def place(self, along: float, across: float) -> tuple[int, int]:
        """A point of the part, in pixels from its centre -> a pixel of the canvas."""
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        x = self.x + along * cosine - across * sine
        y = self.y + along * sine + across * cosine
        return round(x * OVERSAMPLING), round(y * OVERSAMPLING)

    def polar(self, radius: float, angle: float) -> tuple[int, int]:
        """A point at a radius in pixels and an angle from the part's own direction."""
        return self.place(radius * math.cos(angle), radius * math.sin(angle))


class Canvas:
    """Three grey layers: what the part covers, how high it is, what darkens or brightens it."""

    def __init__(self) -> None:
        size = (SIDE * OVERSAMPLING, SIDE * OVERSAMPLING)
        self.cover = Image.new("L", size, 0)
        self.height = Image.new("L", size, 0)
        self.marks = Image.new("L", size, NEUTRAL)
        self._cover = ImageDraw.Draw(self.cover)
        self._height = ImageDraw.Draw(self.height)
        self._marks = ImageDraw.Draw(self.marks)

    def solid(self, points: list[tuple[int, int]], height: int) -> None:
        """Cover a polygon with metal of a height, 0 to 255."""
        self._cover.polygon(points, fill=255)
        self._height.polygon(points, fill=height)

    def disc(self, pose: Pose, centre: Point, radius: float, height: int) -> None:
        """Set the height of a disc; its centre is given along and across the part."""
        self._height.ellipse(self._box(pose, centre, radius), fill=height)

    def hole(self, pose: Pose, centre: Point, radius: float) -> None:
        """Cut a round hole."""
        box = self._box(pose, centre, radius)
        self._cover.ellipse(box, fill=0)
        self._height.ellipse(box, fill=0)

    def bite(self, points: list[tuple[int, int]]) -> None:
        """Break a polygon out of the part."""
        self._cover.polygon(points, fill=0)
        self._height.polygon(points, fill=0)

    def ring(self, pose: Pose, radius: float, width: float, value: int) -> None:
        """Mark a ring around the centre; 128 is neutral, less is darker."""
        box = self._box(pose, (0.0, 0.0), radius)
        self._marks.ellipse(box, outline=value, width=max(1, round(width * OVERSAMPLING)))

    def stroke(self, points: list[tuple[int, int]], width: float, value: int) -> None:
        """Mark a line with round joints; 128 is neutral, less is darker."""
        width_drawn = max(1, round(width * OVERSAMPLING))
        self._marks.line(points, fill=value, width=width_drawn, joint="curve")

    @staticmethod
    def _box(pose: Pose, centre: Point, radius: float) -> tuple[int, int, int, int]:
        x, y = pose.place(*centre)
        reach = round(radius * OVERSAMPLING)
        return x - reach, y - reach, x + reach, y + reach


def between(random: np.random.Generator, low: float, high: float) -> float:
    """A number drawn evenly from low to high."""
    return low + (high - low) * float(random.random())


def draw_gear(canvas: Canvas, pose: Pose, random: np.random.Generator, defective: bool) -> None:
    """A spur gear; the defective one has lost a part of one or two teeth."""
    teeth = int(random.integers(11, 16))
    root, tip = 0.80 * pose.radius, pose.radius
    pitch = 2 * math.pi / teeth
    outline = []
    for tooth in range(teeth):
        middle = tooth * pitch
        for radius, share in ((root, -0.31), (tip, -0.17), (tip, 0.17), (root, 0.31)):
            outline.append(pose.polar(radius, middle + share * pitch))
    canvas.solid(outline, 150)
    canvas.disc(pose, (0.0, 0.0), 0.66 * pose.radius, 105)
    canvas.disc(pose, (0.0, 0.0), 0.36 * pose.radius, 175)
    webs = int(random.integers(0, 3)) + 3
    if random.random() < 0.5:
        for web in range(webs):
            angle = 2 * math.pi * (web + 0.5) / webs
            reach = 0.51 * pose.radius
            centre = (reach * math.cos(angle), reach * math.sin(angle))
            canvas.hole(pose, centre, 0.085 * pose.radius)
    canvas.hole(pose, (0.0, 0.0), 0.19 * pose.radius)
    if defective:
        first = int(random.integers(teeth))
        for tooth in {first, (first + int(random.integers(1, 3))) % teeth}:
            _chip(canvas, pose, random, tooth * pitch, pitch)


def _chip(
    canvas: Canvas, pose: Pose, random: np.random.Generator, angle: float, pitch: float
) -> None:
    depth = between(random, 0.6, 0.95) * 0.20 * pose.radius
    lean = between(random, -0.3, 0.3) * depth
    edge = pose.radius - depth
    left, right, out = angle - 0.34 * pitch, angle + 0.34 * pitch, pose.radius + 2.0
    middle = angle + between(random, -0.1, 0.1) * pitch
    broken = [(edge - lean, left), (edge - 0.8, middle), (edge + lean, right)]
    # The fracture: a bright face behind a dark, jagged lip.
    canvas.stroke([pose.polar(radius - 2.4, turn) for radius, turn in broken], 1.6, 215)
    canvas.stroke([pose.polar(radius - 0.9, turn) for radius, turn in broken], 1.9, 10)
    inner = [pose.polar(radius, turn) for radius, turn in broken]
    canvas.bite([*inner, pose.polar(out, right), pose.polar(out, left)])


def draw_nut(canvas: Canvas, pose: Pose, random: np.random.Generator, defective: bool) -> None:
    """A hexagonal nut with a chamfer and a thread; the defective one is cracked."""
    corners = [pose.polar(pose.radius, corner * math.pi / 3) for corner in range(6)]
    hole = between(random, 0.42, 0.48) * pose.radius
    canvas.solid(corners, 120)
    canvas.disc(pose, (0.0, 0.0), 0.85 * pose.radius, 165)
    canvas.disc(pose, (0.0, 0.0), hole + 0.07 * pose.radius, 110)
    canvas.hole(pose, (0.0, 0.0), hole)
    for turn in range(3):
        canvas.ring(pose, hole + 0.6 + 1.3 * turn, 0.5, 112)
    if defective:
        angle = between(random, 0.0, 2 * math.pi)
        facet = (angle % (math.pi / 3)) - math.pi / 6
        rim = 0.866 * pose.radius / math.cos(facet) + 0.5
        points = []
        steps = 6
        for step in range(steps + 1):
            radius = hole + (rim - hole) * step / steps
            points.append(pose.polar(radius, angle))
            angle += between(random, -1.5, 1.5) / radius
        canvas.stroke(points, between(random, 3.0, 3.6), 165)
        canvas.stroke(points, between(random, 1.6, 2.3), 8)


def draw_plate(canvas: Canvas, pose: Pose, random: np.random.Generator, defective: bool) -> None:
    """A mounting plate with holes; the defective one carries a scratch."""
    length = pose.radius
    width = between(random, 0.62, 0.74) * length
    cut = 0.14 * length
    outline = []
    for along, across, turn in ((1, 1, 0), (-1, 1, 1), (-1, -1, 2), (1, -1, 3)):
        for step in range(5):
            angle = (turn + step / 4) * math.pi / 2
            outline.append(
                pose.place(
                    along * (length - cut) + cut * math.cos(angle),
                    across * (width - cut) + cut * math.sin(angle),
                )
            )
    canvas.solid(outline, 140)
    inset = 0.24 * length
    corners = [(1, 1), (-1, -1), (-1, 1), (1, -1)][: int(random.choice((2, 4)))]
    for along, across in corners:
        centre = (along * (length - inset), across * (width - inset))
        canvas.disc(pose, centre, 0.145 * length, 115)
        canvas.hole(pose, centre, 0.10 * length)
    if random.random() < 0.5:
        canvas.disc(pose, (0.0, 0.0), 0.24 * length, 115)
        canvas.hole(pose, (0.0, 0.0), 0.18 * length)
    if defective:
        _scratch(canvas, pose, random, length, width)


def _scratch(
    canvas: Canvas, pose: Pose, random: np.random.Generator, length: float, width: float
) -> None:
    reach = between(random, 0.32, 0.52) * length
    direction = between(random, 0.0, math.pi)
    along = between(random, -0.3, 0.3) * length
    side = 1 if random.random() < 0.5 else -1
    across = side * between(random, 0.32, 0.55) * width
    if abs(math.sin(direction)) > 0.5:
        along, across = side * between(random, 0.35, 0.55) * length, 0.1 * across
        reach = min(reach, 0.75 * width)
    bend = between(random, -0.12, 0.12) * reach
    points, shadow = [], []
    for step in range(7):
        share = step / 3 - 1
        offset = bend * (1 - share * share)
        x = along + share * reach * math.cos(direction) - offset * math.sin(direction)
        y = across + share * reach * math.sin(direction) + offset * math.cos(direction)
        points.append(pose.place(x, y))
        shadow.append(pose.place(x + 0.9, y + 0.9))
    thickness = between(random, 1.6, 2.2)
    canvas.stroke(shadow, 1.4, 215)
    canvas.stroke(points, thickness, 8)
