"""Edge Impulse's search-space JSON: what is mapped, what is said to be left out, and bad files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner import catalog
from tuner.cost.latency_nets import architecture
from tuner.cost.lower import lower
from tuner.errors import SpecError
from tuner.propose.choices import RandomChoices, TableChoices
from tuner.propose.edge_impulse import MODELS, make_space, read_file, read_parts
from tuner.spec import Context, Limits, suits


def context(side: int = 128, colour: str = "rgb") -> Context:
    return Context(
        limits=Limits(ram_bytes=1 << 26, flash_bytes=1 << 26),
        kernels="reference",
        accelerated=True,
        image_height=side,
        image_width=side + 8,
        colour=colour,
        outputs=10,
    )


def vision(*learn: dict[str, Any], **impulse: Any) -> list[dict[str, Any]]:
    """One impulse for images, in the form that the EON Tuner shows."""
    return [
        {
            "inputBlocks": [
                {"type": "image", "dimension": [[32, 32], [96, 96], [160, 160]],
                 "resizeMode": ["squash", "fit-short"]}
            ],
            "dspBlocks": [
                {"type": "image", "id": 1, "implementationVersion": 1,
                 "channels": ["RGB", "Grayscale"]}
            ],
            "learnBlocks": [list(learn)],
            **impulse,
        }
    ]  # fmt: skip


TRANSFER = {
    "id": 1,
    "type": "keras-transfer-image",
    "dsp": [[1]],
    "model": ["transfer_mobilenetv2_a35", "transfer_mobilenetv2_a05",
              "transfer_mobilenetv1_a25_d100", "fomo_mobilenet_v2_a01"],
    "denseNeurons": [16, 64],
    "dropout": [0.1, 0.5],
    "augmentationPolicyImage": ["all", "none"],
    "learningRate": [0.0005],
    "trainingCycles": [20],
}  # fmt: skip

KERAS = {
    "type": "keras",
    "dimension": ["conv2d", "dense"],
    "dropout": {"value_type": "float", "bounds": [0.1, 0.5], "log_scale": True},
    "learningRate": [0.005, 0.001],
    "trainingCycles": [30, 60],
    "batchSize": 32,
}


def test_every_draw_keeps_to_the_file() -> None:
    space = make_space(vision(TRANSFER, KERAS), "mine.json")
    seen: dict[str, set[object]] = {}
    for seed in range(200):
        choices = RandomChoices(seed)
        candidate = space.draw(choices, context())
        assert space.draw(TableChoices(choices.taken), context()) == candidate
        pixels, training = candidate.preprocessing, candidate.training
        strength = (training.augmentation.flip_horizontal, training.augmentation.zoom_fraction > 0)
        for name, value in {
            "side": pixels.height,
            "crop": pixels.crop,
            "colour": pixels.colour,
            f"augmentation{choices.taken['part']}": strength,
            f"epochs{choices.taken['part']}": training.epochs,
            f"batch{choices.taken['part']}": training.batch_size,
            f"optimizer{choices.taken['part']}": training.optimizer,
        }.items():
            seen.setdefault(name, set()).add(value)
        rates = {node.op.rate for node in candidate.architecture.nodes if node.op.kind == "dropout"}
        if choices.taken["part"] == 2:
            assert training.learning_rate in (0.001, 0.005)
            assert 0.1 <= rates.pop() <= 0.5
        else:
            assert rates <= {0.1, 0.5}
    assert seen["side"] == {32, 96}, "160 is larger than the images"
    assert seen["crop"] == {"stretch", "center"}
    assert seen["colour"] == {"rgb", "grey"}
    assert seen["augmentation0"] == {(False, False), (True, True)}
    assert seen["epochs0"] == seen["epochs1"] == {100}
    assert seen["epochs2"] == {30, 60}
    assert seen["batch2"] == {32}
    assert seen["optimizer2"] == {"adamw"}
    assert seen["optimizer0"] == {"sgd"}


@pytest.mark.parametrize("model", sorted(MODELS))
def test_models_are_the_nets_of_their_names(model: str) -> None:
    learn = {"type": "keras-transfer-image", "model": model, "dropout": 0.1}
    space = make_space(vision(learn), "mine.json")
    version, multiplier = MODELS[model]
    table = {"0/resolution": 96, "0/colour": "rgb"}
    net = space.draw(TableChoices(table), context()).architecture
    if multiplier == 0.25 or (version == 2 and multiplier >= 0.35):
        published = architecture(f"mobilenet_v{version} {multiplier} 96 3 10")
        assert lower(net).macs == lower(published).macs
    else:
        assert lower(net).macs < 10_000_000


def test_what_is_not_mapped_is_said() -> None:
    content = vision(TRANSFER, KERAS, {"type": "anomaly"}, parameters={"x": [1]})
    content[0]["inputBlocks"] += [{"type": "time-series", "window": []}]
    content[0]["inputBlocks"][0] |= {"dimension": [[96, 96], [320, 240]], "cropAnchor": "top"}
    content[0]["dspBlocks"][0]["channels"] = ["RGB", "YUV"]
    parts, notes = read_parts(content, "mine.json")
    assert [part.space for part in parts] == [
        "wide_mobile", "inverted_residual", "plain_convolutions",
    ]  # fmt: skip
    text = "\n".join(notes)
    for words in (
        "parameters of impulse 1 is left out.",
        "inputBlocks of impulse 1: 'time-series' is not for images.",
        "dimension [320, 240]: inputs are square here.",
        "cropAnchor of image input is left out.",
        "channels 'YUV' of impulse 1: not known here. Known: RGB, Grayscale.",
        "model 'fomo_mobilenet_v2_a01': not known here. Known: transfer_mobilenetv1_a25_d100",
        "denseNeurons of keras-transfer-image is left out.",
        "nets learn from scratch, without pretrained weights; learningRate and trainingCycles",
        "keras: 'dense' layers are not searched for images.",
        "learnBlocks of impulse 1: 'anomaly' is no image classifier.",
    ):
        assert words in text, words
    assert len(notes) == len(set(notes)) == 10


def test_starting_points_are_those_of_the_spaces_within_the_file() -> None:
    space = make_space(vision(TRANSFER, KERAS), "mine.json")
    points = space.starting_points(context())
    assert [point.name for point in points][:2] == [
        "MobileNetV1 (Edge Impulse)", "MobileNetV2 (Edge Impulse)",
    ]  # fmt: skip
    assert len(points) == 2 + len(
        catalog.load_space("plain_convolutions").starting_points(context())
    )
    for point in points:
        largest, smallest = (
            space.draw(TableChoices(point.sizes[index]), context()) for index in (0, -1)
        )
        assert largest.preprocessing.height == 96
        assert largest.preprocessing.colour == "rgb"
        assert largest.training.augmentation.flip_horizontal
        assert lower(smallest.architecture).macs <= lower(largest.architecture).macs
    assert suits(space, context())


def test_two_parts_of_a_kind_have_starting_points_of_their_own() -> None:
    space = make_space(vision(KERAS, KERAS), "mine.json")
    names = [point.name for point in space.starting_points(context())]
    assert len(set(names)) == len(names)
    assert names[0].endswith("(Edge Impulse, part 1)")


def test_images_smaller_than_all_dimensions_keep_their_size() -> None:
    space = make_space(vision(TRANSFER), "mine.json")
    candidate = space.draw(RandomChoices(0), context(20, "grey"))
    assert candidate.preprocessing.height == 20
    assert candidate.preprocessing.colour == "grey"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (3, "expected a list of impulses. Received: 3."),
        ([], "mine.json: nothing in it can be searched here."),
        ([["x"]], "expected a list of impulses. Received: 'x'."),
        ([{"inputBlocks": []}], "expected impulse 1 with inputBlocks, dspBlocks and learnBlocks"),
        (vision({"type": "keras", "dimension": "dense"}), "nothing in it can be searched here. "
         "keras: 'dense' layers are not searched for images."),
        (vision(TRANSFER, inputBlocks=[{"type": "image", "dimension": [96, 96]}]),
         "expected dimension of impulse 1 as pairs of width and height, such as [[96, 96]]. "
         "Received: 96."),
        (vision(TRANSFER | {"dropout": ["much"]}),
         "expected dropout as numbers from 0 to 0.9. Received: 'much'."),
        (vision(TRANSFER | {"dropout": {"bounds": [0.5, 0.1]}}),
         "expected bounds of dropout from low to high"),
        (vision(KERAS | {"trainingCycles": 2.5}),
         "expected trainingCycles as whole numbers. Received: 2.5."),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named_with_what_is_wrong(content: Any, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        make_space(content, "mine.json")
    assert words in str(caught.value)
    assert str(caught.value).startswith("mine.json")


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    with pytest.raises(SpecError, match=r"mine\.json: cannot be read: No such file"):
        read_file(str(path))
    path.write_text('[\n{"inputBlocks": [}]')
    with pytest.raises(SpecError, match=r"mine\.json, line 2: expected JSON"):
        read_file(str(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match=r"expected UTF-8 text\. Byte 0 is not\."):
        read_file(str(path))
    path.write_text("[" * 100_000)
    with pytest.raises(SpecError, match=r"nested too deeply|expected JSON"):
        read_file(str(path))
    path.write_text(json.dumps(vision(KERAS)))
    assert read_file(str(path)) == vision(KERAS)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["image", "keras", "conv2d", "RGB", "all", *sorted(MODELS)]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "dimension", "model", "bounds", "channels", "dropout"]), inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip

FIELDS = ("inputBlocks", "dspBlocks", "learnBlocks")


@given(field=st.sampled_from(FIELDS), name=st.sampled_from(sorted({
    *TRANSFER, *KERAS, "resizeMode", "channels"})), value=anything)  # fmt: skip
def test_any_value_of_a_field_is_used_or_refused_in_words(
    field: str, name: str, value: Any
) -> None:
    content = json.loads(json.dumps(vision(TRANSFER, KERAS)))
    block = content[0][field][0]
    (block[0] if isinstance(block, list) else block)[name] = value
    message = ""
    try:
        make_space(content, "mine.json").draw(RandomChoices(1), context())
    except SpecError as error:
        message = str(error)
    assert not message or "Received: " in message or "nothing in it can be searched" in message
    assert not message or message.startswith("mine.json: ")


@given(anything)
def test_any_json_is_used_or_refused_in_words(content: Any) -> None:
    for changed in (content, [content], [dict.fromkeys(FIELDS, content)]):
        with pytest.raises(SpecError):
            make_space(changed, "mine.json")
