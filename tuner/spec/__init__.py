"""The nouns, as frozen data that round-trips through JSON; standard library only."""

from tuner.spec.architecture import Architecture, Node, Shape
from tuner.spec.backbone import (
    Backbone,
    WeightsFile,
    at_side,
    split_at_head,
    weight_shapes,
    with_head,
)
from tuner.spec.candidate import (
    Augmentation,
    Candidate,
    Colour,
    Preprocessing,
    TrainingSettings,
    seed_of,
)
from tuner.spec.codec import from_plain, to_plain
from tuner.spec.cost import Cost, Excess, Quantity
from tuner.spec.dataset import SPLITS, DatasetSpec, Split
from tuner.spec.drawing import (
    SIDES,
    TRAINED_WELL,
    Layers,
    draw_loss,
    draw_preprocessing,
    draw_training,
    largest_first,
    multiple_of,
    resolutions,
    widths,
)
from tuner.spec.mobilenets import ALPHAS, IMAGENET_SIDES, MOBILENETS, MobileNet, MobileNetKind
from tuner.spec.model import ModelVersion, Retraining
from tuner.spec.operators import (
    OPERATORS,
    Add,
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Operator,
)
from tuner.spec.result import Accuracy, Build, Paired, Precision, Result, Status, builds_key
from tuner.spec.run import Extension, RankBy, RunSpec, Throughput
from tuner.spec.settings import Settings
from tuner.spec.space import Choices, Context, SearchSpace, StartingPoint, suits
from tuner.spec.target import Limits, RamRegion, Target
from tuner.spec.template import Template
from tuner.spec.tool import Tool

__all__ = [
    "ALPHAS",
    "IMAGENET_SIDES",
    "MOBILENETS",
    "OPERATORS",
    "SIDES",
    "SPLITS",
    "TRAINED_WELL",
    "Accuracy",
    "Add",
    "Architecture",
    "Augmentation",
    "AveragePool2D",
    "Backbone",
    "Build",
    "Candidate",
    "Choices",
    "Colour",
    "Context",
    "Conv2D",
    "Cost",
    "DatasetSpec",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Excess",
    "Extension",
    "Flatten",
    "GlobalAveragePool2D",
    "Input",
    "Layers",
    "Limits",
    "MaxPool2D",
    "MobileNet",
    "MobileNetKind",
    "ModelVersion",
    "Node",
    "Operator",
    "Paired",
    "Precision",
    "Preprocessing",
    "Quantity",
    "RamRegion",
    "RankBy",
    "Result",
    "Retraining",
    "RunSpec",
    "SearchSpace",
    "Settings",
    "Shape",
    "Split",
    "StartingPoint",
    "Status",
    "Target",
    "Template",
    "Throughput",
    "Tool",
    "TrainingSettings",
    "WeightsFile",
    "at_side",
    "builds_key",
    "draw_loss",
    "draw_preprocessing",
    "draw_training",
    "from_plain",
    "largest_first",
    "multiple_of",
    "resolutions",
    "seed_of",
    "split_at_head",
    "suits",
    "to_plain",
    "weight_shapes",
    "widths",
    "with_head",
]
