from __future__ import annotations

import dataclasses
import json

import pytest

from tuner.errors import SpecError
from tuner.spec import (
    Architecture,
    Augmentation,
    Candidate,
    Conv2D,
    Dense,
    GlobalAveragePool2D,
    Input,
    Node,
    Preprocessing,
    TrainingSettings,
    from_plain,
    seed_of,
    to_plain,
)


def small_candidate(filters: int = 8) -> Candidate:
    return Candidate(
        preprocessing=Preprocessing(height=16, width=16, colour="rgb"),
        architecture=Architecture(
            nodes=(
                Node(name="image", op=Input(height=16, width=16, channels=3)),
                Node(name="stem", op=Conv2D(filters=filters, stride=2), inputs=("image",)),
                Node(name="pool", op=GlobalAveragePool2D(), inputs=("stem",)),
                Node(name="logits", op=Dense(units=4), inputs=("pool",)),
            ),
            outputs=("logits",),
        ),
        training=TrainingSettings(augmentation=Augmentation(flip_horizontal=True)),
    )


def test_candidate_round_trips_through_json():
    candidate = small_candidate()
    assert from_plain(Candidate, json.loads(json.dumps(to_plain(candidate))), "x") == candidate


def test_id_hashes_the_candidate_and_begins_with_a_letter():
    assert small_candidate().id == small_candidate().id
    assert small_candidate().id != small_candidate(filters=12).id
    assert small_candidate().id[0] == "c"


def test_seed_depends_on_run_candidate_and_repeat():
    seeds = {seed_of(0, "c1"), seed_of(1, "c1"), seed_of(0, "c2"), seed_of(0, "c1", 1)}
    assert len(seeds) == 4


def edited(**changes: object) -> dict[str, object]:
    plain = to_plain(small_candidate())
    plain["architecture"]["nodes"][1].update(changes)
    return plain


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (edited(op="conv3d"), "Unknown op 'conv3d'. Did you mean 'conv2d'"),
        (edited(filters=0), "expected filters of 1 or more. Received: filters=0"),
        (edited(filters="eight"), "filters: expected a whole number. Received: 'eight'"),
        (edited(filter=3), "unknown field 'filter'. Did you mean 'filters'?"),
        (edited(activation="gelu"), "expected one of 'linear', 'relu', 'relu6'"),
        (edited(inputs=["stm"]), "node 'stem' reads 'stm', which is not a node before it"),
        (edited(inputs=[]), "node 'stem' (conv2d) reads 1 node(s). Received: inputs=[]"),
        (edited(name="image"), "node names must differ. Received 'image' twice"),
        (edited(op="dense", units=3), "unknown field 'filters'"),
        ({"preprocessing": {}}, "the field 'height' is missing"),
        ([], "expected a table of fields. Received: []"),
    ],
)
def test_wrong_field_is_named(plain: object, message: str):
    with pytest.raises(SpecError) as caught:
        from_plain(Candidate, plain, "my.toml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("my.toml")


def test_dense_over_an_image_names_what_is_missing():
    with pytest.raises(SpecError, match="put a global_average_pool2d or flatten before it"):
        Architecture(
            nodes=(
                Node(name="image", op=Input(height=8, width=8, channels=1)),
                Node(name="logits", op=Dense(units=2), inputs=("image",)),
            ),
            outputs=("logits",),
        )


def test_input_must_match_the_preprocessing():
    with pytest.raises(SpecError, match="the input node must have the height, width"):
        Candidate(
            preprocessing=Preprocessing(height=8, width=8, colour="rgb"),
            architecture=small_candidate().architecture,
            training=TrainingSettings(),
        )


@pytest.mark.parametrize(
    ("later", "value"),
    [("optimizer", "sgd"), ("label_smoothing", 0.1), ("class_weights", "balanced")],
)
def test_a_later_field_renames_no_candidate_of_an_earlier_run(later: str, value: object):
    before = to_plain(small_candidate())
    for name in ("optimizer", "label_smoothing", "class_weights"):
        del before["training"][name]
    read = from_plain(Candidate, before, "candidate.json")
    assert read.id == small_candidate().id == "c2877e7d9717"
    training = dataclasses.replace(read.training, **{later: value})
    assert dataclasses.replace(read, training=training).id != read.id


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_label_keeps_a_share(share: float):
    with pytest.raises(SpecError, match=r"expected label_smoothing from 0 to below 1. Received"):
        TrainingSettings(label_smoothing=share)
