"""The four MLPerf Tiny models as architectures; `tuner.cost.latency_nets` holds them.

Every net ends in logits, without the softmax.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from tuner.cost.latency_nets import architecture
from tuner.spec import Architecture

MLPERF_TINY: Mapping[str, Callable[[], Architecture]] = {
    "resnet8": functools.partial(architecture, "resnet8"),
    "ds_cnn": functools.partial(architecture, "dscnn"),
    "mobilenet_v1_025": functools.partial(architecture, "mobilenet_v1 0.25 96 3 2"),
    "autoencoder": functools.partial(architecture, "autoencoder"),
}
"""Image classification, keyword spotting, visual wake words and anomaly detection: 12.5, 2.7, 7.5
and 0.26 million MACs. By the names used in tables."""

resnet8, ds_cnn, mobilenet_v1_025, autoencoder = MLPERF_TINY.values()
