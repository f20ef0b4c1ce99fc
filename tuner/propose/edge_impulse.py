"""Edge Impulse's search-space JSON as a search space, as far as it can be mapped.

The file is a list of impulses, each with `inputBlocks`, `dspBlocks` and `learnBlocks`; an array in
a block is a choice, and `{"bounds": [low, high], "log_scale": true}` a range (sources:
docs.edgeimpulse.com, studio/projects/eon-tuner/search-space; names of models: KerasVisualLayerType
of the Edge Impulse API). What is mapped:

| there | here |
|---|---|
| image input: `dimension` | resolution, squares that are not larger than the images |
| `resizeMode`: squash, fit-short | crop: stretch, center |
| image processing: `channels` | colour |
| `keras-transfer-image`: MobileNetV1, V2 | spaces `wide_mobile`, `inverted_residual` |
| `keras` with `dimension` conv2d | the space `plain_convolutions` |
| `dropout` | dropout |
| `augmentationPolicyImage`: none, all | none, or augmentation 2 with mirroring |
| of `keras`: `learningRate`, `batchSize`, `trainingCycles` | AdamW's rate, batch size, epochs |

Everything else is named in the notes. Nets learn from scratch. What the file does not say of a
MobileNet is as in the starting point of its space.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tuner import catalog
from tuner.errors import SpecError
from tuner.propose.choices import TableChoices
from tuner.spec import Candidate, Choices, Context, SearchSpace, StartingPoint
from tuner.spec.space import Option

MODELS: Mapping[str, tuple[int, float]] = {
    "transfer_mobilenetv1_a25_d100": (1, 0.25),
    "transfer_mobilenetv1_a2_d100": (1, 0.2),
    "transfer_mobilenetv1_a1_d100": (1, 0.1),
    "transfer_mobilenetv2_a35": (2, 0.35),
    "transfer_mobilenetv2_a1": (2, 0.1),
    "transfer_mobilenetv2_a05": (2, 0.05),
    "transfer_mobilenetv2_160_a1": (2, 1.0),
    "transfer_mobilenetv2_160_a75": (2, 0.75),
    "transfer_mobilenetv2_160_a5": (2, 0.5),
    "transfer_mobilenetv2_160_a35": (2, 0.35),
}
"""Version of MobileNet and width multiplier of each model name."""

_MOBILENETS = {1: ("wide_mobile", "MobileNetV1"), 2: ("inverted_residual", "MobileNetV2")}
"""Space and starting point of each version."""

_CROPS = {"squash": "stretch", "fit-short": "center"}
_COLOURS = {"RGB": "rgb", "Grayscale": "grey"}
_AUGMENTED = {"none": (0, False), "all": (2, True)}
"""Strength of augmentation and mirroring of each policy."""

_POLICY = "augmentation_policy"
_EPOCHS = "epochs"

_IMAGE = {"resolution", "colour", "crop"}
"""Choices that no starting point fixes."""

# Names and places of blocks, which decide nothing.
_LABELS = {"id", "type", "name", "title", "dsp", "input", "axes", "implementationVersion"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Numbers from low to high, evenly in their logarithm if `log`."""

    low: float
    high: float
    log: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One space of the catalog with some of its choices narrowed.

    Args:
        space: its name.
        point: a starting point that fixes what is not narrowed; empty leaves that free.
        narrowed: values that a choice may take instead of what the space offers.
    """

    space: str
    point: str = ""
    narrowed: Mapping[str, tuple[Any, ...] | Range] = field(default_factory=dict)


def read_file(path: str) -> Any:
    """The content of a JSON file.

    Raises:
        SpecError: it cannot be read or is not JSON; names the place.
    """
    try:
        return json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise SpecError(
            f"{path}, line {error.lineno}: expected JSON, as the EON Tuner's search space shows "
            f"it. {error.msg}."
        ) from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: expected UTF-8 text. Byte {error.start} is not.") from None
    except RecursionError:
        raise SpecError(f"{path}: the JSON is nested too deeply.") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}.") from None


def read_parts(content: Any, where: str) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """Map the content of a search-space file.

    Args:
        content: as parsed from JSON.
        where: names the file in errors.

    Returns:
        What can be searched; and notes on what cannot, each a sentence.

    Raises:
        SpecError: it is no such file, or nothing in it can be searched.
    """
    reader = _Reader(where)
    for number, impulse in enumerate(reader.objects(content, "a list of impulses"), start=1):
        reader.impulse(impulse, f"impulse {number}")
    notes = tuple(dict.fromkeys(reader.notes))
    if not reader.parts:
        raise SpecError(f"{where}: nothing in it can be searched here. {' '.join(notes)}".strip())
    return tuple(reader.parts), notes


def make_space(content: Any, where: str) -> EdgeImpulseSpace:
    """The content of a search-space file as a space; raises what `read_parts` raises."""
    parts, _ = read_parts(content, where)
    return EdgeImpulseSpace([(part, catalog.load_space(part.space)) for part in parts])


class EdgeImpulseSpace:
    """Draws from one of several narrowed spaces.

    Args:
        parts: each with its space.
    """

    def __init__(self, parts: Sequence[tuple[Part, SearchSpace]]) -> None:
        self._parts = parts

    def draw(self, choices: Choices, context: Context) -> Candidate:
        """Make one candidate; a choice bears the number of its part."""
        number = choices.categorical("part", range(len(self._parts)))
        part, space = self._parts[number]
        narrowed = _Narrowed(choices, f"{number}/", part, _fixed(part, space, context), context)
        candidate = space.draw(narrowed, context)
        epochs = narrowed.pick(_EPOCHS, lambda: candidate.training.epochs)
        return replace(candidate, training=replace(candidate.training, epochs=epochs))

    def starting_points(self, context: Context) -> Sequence[StartingPoint]:
        """Those of the spaces; sizes that are not offered become the next smaller ones."""
        return [
            StartingPoint(
                name=f"{point.name} ({self._origin(number)})",
                sizes=tuple(
                    {"part": number, f"{number}/{_POLICY}": "all"}
                    | {f"{number}/{name}": value for name, value in table.items()}
                    for table in point.sizes
                ),
            )
            for number, (part, space) in enumerate(self._parts)
            for point in space.starting_points(context)
            if part.point in ("", point.name)
        ]

    def _origin(self, number: int) -> str:
        """Points of two parts of one kind have different names, or one would replace the other."""
        kinds = [(part.space, part.point) for part, _ in self._parts]
        alike = kinds.count(kinds[number]) > 1
        return f"Edge Impulse, part {number + 1}" if alike else "Edge Impulse"


def _fixed(part: Part, space: SearchSpace, context: Context) -> TableChoices | None:
    for point in space.starting_points(context):
        if point.name == part.point:
            return TableChoices(point.sizes[0])
    return None


class _Narrowed:
    """Answers a space's questions: narrowed ones from fewer values, others as fixed or freely."""

    def __init__(
        self,
        source: Choices,
        prefix: str,
        part: Part,
        fixed: TableChoices | None,
        context: Context,
    ) -> None:
        self._source, self._prefix, self._narrowed = source, prefix, dict(part.narrowed)
        self._fixed = fixed
        sides = self._narrowed.get("resolution")
        if isinstance(sides, tuple):
            longest = min(context.image_height, context.image_width)
            allowed = tuple(side for side in sides if side <= longest)
            self._narrowed["resolution"] = allowed or (longest,)
        if _POLICY in self._narrowed:
            strength, mirrored = _AUGMENTED[self.pick(_POLICY, str)]
            self._narrowed |= {"augmentation": (strength,), "mirror": (mirrored,)}

    def ordered(self, name: str, options: Sequence[Option]) -> Option:
        source, full = self._source_of(name)
        chosen: Option = self.pick(name, lambda: source.ordered(full, options))
        return chosen

    def categorical(self, name: str, options: Sequence[Option]) -> Option:
        source, full = self._source_of(name)
        chosen: Option = self.pick(name, lambda: source.categorical(full, options))
        return chosen

    def floating(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        source, full = self._source_of(name)
        chosen: float = self.pick(name, lambda: source.floating(full, low, high, log=log))
        return chosen

    def _source_of(self, name: str) -> tuple[Choices, str]:
        """Where a choice that is not narrowed comes from, and its name there."""
        if self._fixed is not None and name not in _IMAGE:
            return self._fixed, name
        return self._source, self._prefix + name

    def pick(self, name: str, otherwise: Callable[[], Any]) -> Any:
        """One of the narrowed values of a choice; `otherwise` where it is not narrowed."""
        values = self._narrowed.get(name)
        if values is None:
            return otherwise()
        if isinstance(values, Range):
            full = self._prefix + name
            return self._source.floating(full, values.low, values.high, log=values.log)
        if len(values) == 1:
            return values[0]
        if isinstance(values[0], str):
            return self._source.categorical(self._prefix + name, values)
        return self._source.ordered(self._prefix + name, values)


class _Reader:
    """Maps impulses to parts and notes what it leaves out."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.parts: list[Part] = []
        self.notes: list[str] = []

    def objects(self, value: Any, expected: str) -> list[Mapping[str, Any]]:
        """An object, or a list of objects and of lists of them, as one list."""
        found = [inner for item in _listed(value) for inner in _listed(item)]
        for item in found:
            if not isinstance(item, Mapping):
                raise SpecError(f"{self.where}: expected {expected}. Received: {_short(item)}.")
        return found

    def impulse(self, impulse: Mapping[str, Any], place: str) -> None:
        blocks: dict[str, list[Mapping[str, Any]]] = {}
        for kind in ("inputBlocks", "dspBlocks", "learnBlocks"):
            if kind not in impulse:
                raise SpecError(
                    f"{self.where}: expected {place} with inputBlocks, dspBlocks and learnBlocks, "
                    f"as the EON Tuner's search space shows it. Received: {_short(impulse)}."
                )
            blocks[kind] = self.objects(impulse[kind], f"{kind} of {place} as a list of blocks")
        self._leave_out(set(impulse) - set(blocks), place)
        shared: dict[str, tuple[Any, ...] | Range] = {}
        images = self._images(blocks["inputBlocks"], f"inputBlocks of {place}")
        if not images:
            return
        for block in images:
            self._add(shared, "resolution", self._sides(block, place))
            crops = self._mapped(block, "resizeMode", _CROPS, place)
            self._add(shared, "crop", crops)
            self._leave_out(set(block) - _LABELS - {"dimension", "resizeMode"}, "image input")
        for block in self._images(blocks["dspBlocks"], f"dspBlocks of {place}"):
            self._add(shared, "colour", self._mapped(block, "channels", _COLOURS, place))
            self._leave_out(set(block) - _LABELS - {"channels"}, "image processing")
        for block in blocks["learnBlocks"]:
            self._learn(block, shared, place)

    def _images(self, blocks: Iterable[Mapping[str, Any]], place: str) -> list[Mapping[str, Any]]:
        found = []
        for block in blocks:
            if block.get("type") == "image":
                found.append(block)
            else:
                self.notes.append(f"{place}: {_short(block.get('type'))} is not for images.")
        return found

    def _learn(
        self, block: Mapping[str, Any], shared: Mapping[str, tuple[Any, ...] | Range], place: str
    ) -> None:
        kind = block.get("type")
        if kind not in ("keras", "keras-transfer-image"):
            self.notes.append(f"learnBlocks of {place}: {_short(kind)} is no image classifier.")
            return
        narrowed = dict(shared)
        self._add(narrowed, "dropout", self._numbers(block, "dropout", 0.0, 0.9))
        policies = {name: name for name in _AUGMENTED}
        self._add(narrowed, _POLICY, self._mapped(block, "augmentationPolicyImage", policies, kind))
        known = _LABELS | {"dropout", "augmentationPolicyImage"}
        if kind == "keras-transfer-image":
            self._transfer(block, narrowed)
            known |= {"model", "learningRate", "trainingCycles"}
        else:
            self._keras(block, narrowed)
            known |= {"dimension", "learningRate", "trainingCycles", "batchSize"}
        self._leave_out(set(block) - known, str(kind))

    def _transfer(
        self, block: Mapping[str, Any], narrowed: Mapping[str, tuple[Any, ...] | Range]
    ) -> None:
        widths: dict[int, list[float]] = {}
        for model in _listed(block.get("model")):
            if isinstance(model, str) and model in MODELS:
                version, multiplier = MODELS[model]
                widths.setdefault(version, []).append(multiplier)
            else:
                self.notes.append(
                    f"model {_short(model)}: not known here. Known: {', '.join(MODELS)}."
                )
        for version, multipliers in sorted(widths.items()):
            space, point = _MOBILENETS[version]
            scale = {"multiplier": tuple(sorted(set(multipliers)))}
            self.parts.append(Part(space=space, point=point, narrowed={**narrowed, **scale}))
        if widths:
            self.notes.append(
                "keras-transfer-image: nets learn from scratch, without pretrained weights; "
                "learningRate and trainingCycles, which are meant for those, are left out."
            )
            if any(width < 0.25 for width in widths.get(1, [])):
                self.notes.append("MobileNetV1 0.1 and 0.2: filters are multiples of 16.")

    def _keras(
        self, block: Mapping[str, Any], narrowed: dict[str, tuple[Any, ...] | Range]
    ) -> None:
        dimensions = _listed(block.get("dimension"))
        for dimension in dimensions:
            if dimension != "conv2d":
                self.notes.append(f"keras: {_short(dimension)} layers are not searched for images.")
        if "conv2d" not in dimensions:
            return
        rates = self._numbers(block, "learningRate", 1e-6, 1.0)
        if rates:
            narrowed |= {"learning_rate": rates, "optimizer": ("adamw",)}
        self._add(narrowed, "batch_size", self._whole(block, "batchSize"))
        self._add(narrowed, _EPOCHS, self._whole(block, "trainingCycles"))
        self.parts.append(Part(space="plain_convolutions", narrowed=narrowed))

    def _sides(self, block: Mapping[str, Any], place: str) -> tuple[int, ...]:
        sides = set()
        for size in _listed(block.get("dimension")):
            if not (
                isinstance(size, list)
                and len(size) == 2
                and all(isinstance(side, int) and 1 < side <= 4096 for side in size)
            ):
                raise SpecError(
                    f"{self.where}: expected dimension of {place} as pairs of width and height, "
                    f"such as [[96, 96]]. Received: {_short(size)}."
                )
            if size[0] == size[1]:
                sides.add(size[0])
            else:
                self.notes.append(f"dimension {size}: inputs are square here.")
        return tuple(sorted(sides))

    def _mapped(
        self, block: Mapping[str, Any], name: str, names: Mapping[str, str], place: Any
    ) -> tuple[str, ...]:
        found = []
        for value in _listed(block.get(name)):
            if isinstance(value, str) and value in names:
                found.append(names[value])
            else:
                self.notes.append(
                    f"{name} {_short(value)} of {place}: not known here. Known: {', '.join(names)}."
                )
        return tuple(dict.fromkeys(found))

    def _numbers(
        self, block: Mapping[str, Any], name: str, low: float, high: float
    ) -> tuple[float, ...] | Range:
        value = block.get(name)
        if isinstance(value, Mapping):
            bounds = value.get("bounds")
            ends = bounds if isinstance(bounds, list) and len(bounds) == 2 else [None, None]
            first, last = (self._number(end, name, low, high) for end in ends)
            if first >= last or (value.get("log_scale") is True and first <= 0):
                raise SpecError(
                    f"{self.where}: expected bounds of {name} from low to high, above 0 for a "
                    f"log_scale. Received: {_short(value)}."
                )
            return Range(low=first, high=last, log=value.get("log_scale") is True)
        found = {self._number(item, name, low, high) for item in _listed(value)}
        return tuple(sorted(found))

    def _whole(self, block: Mapping[str, Any], name: str) -> tuple[int, ...]:
        found = self._numbers(block, name, 1, 100_000)
        if isinstance(found, Range) or any(value != int(value) for value in found):
            raise SpecError(
                f"{self.where}: expected {name} as whole numbers. "
                f"Received: {_short(block.get(name))}."
            )
        return tuple(int(value) for value in found)

    def _number(self, value: Any, name: str, low: float, high: float) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise SpecError(
                f"{self.where}: expected {name} as numbers from {low:g} to {high:g}. "
                f"Received: {_short(value)}."
            )
        return float(value)

    def _add(
        self,
        narrowed: dict[str, tuple[Any, ...] | Range],
        name: str,
        values: tuple[Any, ...] | Range,
    ) -> None:
        before = narrowed.get(name, ())
        if isinstance(values, Range):
            narrowed[name] = values
        elif values and not isinstance(before, Range):
            merged = dict.fromkeys((*before, *values))
            words = isinstance(values[0], str)
            narrowed[name] = tuple(merged) if words else tuple(sorted(merged))

    def _leave_out(self, fields: Iterable[str], place: str) -> None:
        for name in sorted(fields):
            self.notes.append(f"{name} of {place} is left out.")


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _short(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else f"'{value}'"
    return text if len(text) <= 80 else f"{text[:77]}..."
