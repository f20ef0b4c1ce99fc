"""A net for the K230, and a CanMV board stood in for, so that its bundle's scripts run here."""

from __future__ import annotations

import json
import math
import os
import runpy
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from tuner.exporters.k230 import BOARD_SCRIPTS
from tuner.spec import (
    Architecture,
    Candidate,
    Conv2D,
    Dense,
    GlobalAveragePool2D,
    Input,
    Node,
    Preprocessing,
    TrainingSettings,
)

SCRIPTS = sorted(path.name for path in BOARD_SCRIPTS.glob("*.py"))


def two_convolutions(outputs: int, side: int, colour: Literal["rgb", "grey"]) -> Candidate:
    """A net that learns digits in a few epochs."""
    channels = 3 if colour == "rgb" else 1
    nodes = (
        Node(name="image", op=Input(height=side, width=side, channels=channels)),
        Node(name="stem", op=Conv2D(filters=16, stride=2), inputs=("image",)),
        Node(name="conv", op=Conv2D(filters=24), inputs=("stem",)),
        Node(name="pool", op=GlobalAveragePool2D(), inputs=("conv",)),
        Node(name="logits", op=Dense(units=outputs), inputs=("pool",)),
    )
    return Candidate(
        preprocessing=Preprocessing(height=side, width=side, colour=colour),
        architecture=Architecture(nodes=nodes, outputs=("logits",)),
        training=TrainingSettings(epochs=6, learning_rate=0.01),
    )


class StopError(Exception):
    """The stop button of the IDE."""


class Board:
    """What a script did, and the modules that it finds on a board.

    Args:
        folder: in place of the one on the SD card.
        kpu: what the KPU answers to an image of the model's size, channels x rows x columns.
        camera: whether one is plugged in.
    """

    def __init__(
        self, folder: Path, kpu: Callable[[Any], Sequence[float]], *, camera: bool = True
    ) -> None:
        self.folder, self.kpu = folder, kpu
        self.camera = camera
        self.drawn: list[str] = []
        self.crop: tuple[int, ...] | None = None
        self.built: tuple[list[int], list[int]] | None = None
        self.kmodel = ""
        self.display = ""
        self.closed: list[str] = []
        self.frames = 0

    def preprocessed(self, planar: Any) -> Any:
        """What Ai2d makes of an image: cropped, then resized bilinearly without antialiasing."""
        assert self.built is not None
        if self.crop:
            left, top, width, height = self.crop
            planar = planar[:, top : top + height, left : left + width]
        for axis, size in enumerate(self.built[1][2:], start=1):
            last = planar.shape[axis] - 1
            places = np.clip((np.arange(size) + 0.5) * (last + 1) / size - 0.5, 0, last)
            low = places.astype(int)
            share = (places - low).reshape((1, size, 1) if axis == 1 else (1, 1, size))
            first, second = (planar.take(at, axis) for at in (low, np.minimum(low + 1, last)))
            planar = first * (1 - share) + second * share
        return np.rint(planar).astype(np.uint8)

    def exitpoint(self, *mode: Any) -> None:
        self.frames += 1
        if self.frames > 3 and not mode:
            raise StopError

    def modules(self) -> dict[str, Any]:
        board = self

        class Tensor:
            def __init__(self, array: Any) -> None:
                self.array = array

            def to_numpy(self) -> Any:
                return self.array

        class Builder:
            def run(self, given: Tensor, resized: Tensor) -> None:
                assert board.built is not None
                assert list(given.array.shape)[-3:] == board.built[0][1:]
                assert list(resized.array.shape) == board.built[1]
                resized.array[0] = board.preprocessed(given.array)

        class Ai2d:
            def __init__(self, *_: Any) -> None:
                self.resized = False

            def set_dtype(self, *kinds: Any) -> None:
                assert kinds[2:] == (np.uint8, np.uint8)

            def set_crop_param(self, on: bool, *box: int) -> None:
                assert on
                board.crop = box

            def set_resize_param(self, on: bool, *_: Any) -> None:
                self.resized = on

            def build(self, read: list[int], written: list[int]) -> Builder:
                assert self.resized
                board.built = (read, written)
                return Builder()

            # Of libs.AI2D:
            def crop(self, *box: int) -> None:
                board.crop = box

            def resize(self, *_: Any) -> None:
                self.resized = True

        class Kpu:
            def load_kmodel(self, path: str) -> None:
                board.kmodel = path

            def set_input_tensor(self, number: int, tensor: Tensor) -> None:
                assert number == 0
                self.image = tensor.array[0]

            def run(self) -> None:
                assert board.kmodel
                self.logits = board.kpu(self.image)

            def get_output_tensor(self, number: int) -> Tensor:
                return Tensor(np.array([self.logits], np.float32))

        class Picture:
            def __init__(self, *given: Any) -> None:
                self.pixels = np.zeros((20, 40, 3), np.uint8)
                if isinstance(given[0], str):
                    self.pixels = np.asarray(Image.open(given[0]).convert("RGB"))

            def to_rgb888(self) -> Picture:
                return self

            def to_numpy_ref(self) -> Any:
                return self.pixels

            def draw_string_advanced(
                self, x: int, y: int, size: int, text: str, color: Any
            ) -> None:
                board.drawn.append(text)

            def compress_for_ide(self) -> None:
                pass

            def clear(self) -> None:
                pass

            def save(self, path: str) -> None:
                assert path.startswith(str(board.folder))

        class Frame:
            def format(self) -> str:
                return "planar"

            def to_numpy_ref(self) -> Any:
                return np.zeros((3, 360, 640), np.uint8)

        class Sensor:
            def __init__(self) -> None:
                if not board.camera:
                    raise RuntimeError("Can not found sensor on 2")

            def __getattr__(self, name: str) -> Any:
                def call(*_: Any, **__: Any) -> Any:
                    return {"bind_info": {"src": 0}, "snapshot": Frame()}.get(name)

                return call

            def stop(self) -> None:
                board.closed.append("sensor")

        class Display:
            ST7701, LT9611 = "lcd", "hdmi"
            LAYER_VIDEO1 = LAYER_OSD3 = 1

            @staticmethod
            def bind_layer(**_: Any) -> None:
                pass

            @staticmethod
            def init(kind: str, to_ide: bool) -> None:
                board.display = kind

            @staticmethod
            def show_image(*_: Any) -> None:
                pass

            @staticmethod
            def deinit() -> None:
                board.closed.append("display")

        class MediaManager:
            @staticmethod
            def init() -> None:
                pass

            @staticmethod
            def deinit() -> None:
                board.closed.append("media")

        class ClassificationApp:
            """The firmware's: stretch, then softmax or sigmoid.

            As resources/libs/PlatTasks.py of kendryte/canmv_k230 has them (95579ebe).
            """

            def __init__(self, mode: str, kmodel: str, labels: list[str], model_input_size: Any,
                         confidence_threshold: float, rgb888p_size: Any, display_size: Any,
                         debug_mode: int) -> None:  # fmt: skip
                self.labels, self.threshold = labels, confidence_threshold
                self.model_input_size, self.rgb888p_size = model_input_size, rgb888p_size
                self.ai2d = Ai2d()
                board.kmodel = kmodel

            def config_preprocess(self, input_image_size: Any = None) -> None:
                (width, height), (columns, rows) = self.rgb888p_size, self.model_input_size
                self.ai2d.resize()
                self.ai2d.build([1, 3, height, width], [1, 3, rows, columns])

            def run(self, planar: Any) -> dict[str, Any]:
                logits = board.kpu(board.preprocessed(planar))
                if len(self.labels) > 2:
                    shares = np.exp(logits) / np.exp(logits).sum()
                    best = int(shares.argmax())
                    found = shares[best] > self.threshold
                    return {"label": self.labels[best] if found else "",
                            "score": float(shares[best]) if found else 0.0}  # fmt: skip
                share = 1.0 / (1.0 + math.exp(-logits[0]))
                found = share > self.threshold
                return {"label": self.labels[int(found)], "score": share if found else 1 - share}

            def draw_result(self, picture: Any, result: dict[str, Any]) -> None:
                if result["label"]:
                    board.drawn.append(f"{result['label']} {result['score']:.3f}")

            def deinit(self) -> None:
                board.closed.append("app")

        class PipeLine:
            osd_img = sensor = None

            def __init__(self, rgb888p_size: Any, display_mode: str) -> None:
                board.display = display_mode

            def create(self) -> None:
                self.sensor = Sensor()

            def get_display_size(self) -> list[int]:
                return [800, 480]

            def get_frame(self) -> Any:
                return np.zeros((3, 720, 1280), np.uint8)

            def show_image(self) -> None:
                pass

            def destroy(self) -> None:
                self.sensor.stop()
                board.closed.append("pipeline")

        def read_image(path: str) -> tuple[Any, Picture]:
            picture = Picture(path)
            return picture.pixels.transpose(2, 0, 1), picture

        def module(name: str, **members: Any) -> types.ModuleType:
            made = types.ModuleType(name)
            made.__dict__.update(members)
            return made

        anything = types.SimpleNamespace
        return {
            # This process's own collection takes longer than a script.
            "gc": module("gc", collect=lambda: None),
            "image": module("image", Image=Picture, ARGB8888="argb", RGBP888="planar"),
            "ujson": json,
            "ulab": module("ulab", numpy=np),
            "ulab.numpy": np,
            "nncase_runtime": module(
                "nncase_runtime", kpu=Kpu, ai2d=Ai2d, from_numpy=Tensor,
                ai2d_format=anything(NCHW_FMT=0), interp_method=anything(tf_bilinear=0),
                interp_mode=anything(half_pixel=0),
                shrink_memory_pool=lambda: board.closed.append("pool"),
            ),
            "media": module("media"),
            "media.sensor": module(
                "media.sensor", Sensor=Sensor, CAM_CHN_ID_0=0, CAM_CHN_ID_2=2,
                PIXEL_FORMAT_YUV_SEMIPLANAR_420=0, PIXEL_FORMAT_RGB_888_PLANAR=1,
            ),
            "media.display": module("media.display", Display=Display),
            "media.media": module("media.media", MediaManager=MediaManager),
            "libs": module("libs"),
            "libs.PlatTasks": module("libs.PlatTasks", ClassificationApp=ClassificationApp),
            "libs.PipeLine": module("libs.PipeLine", PipeLine=PipeLine),
            "libs.Utils": module(
                "libs.Utils", read_image=read_image,
                read_json=lambda path: json.loads(Path(path).read_text()),
            ),
        }  # fmt: skip


def run_script(
    script: str,
    folder: Path,
    kpu: Callable[[Any], Sequence[float]],
    monkeypatch: pytest.MonkeyPatch,
    *,
    camera: bool = True,
) -> Board:
    """Run a script on a board whose SD card has `folder` in place of the bundle's.

    Args:
        script: its file name.
        folder: with `deploy_config.json` and `test.jpg`; a copy of the script is written there.
        kpu: what the KPU answers; see `Board`.
        monkeypatch: that takes the board's modules away again.
        camera: whether one is plugged in; without it a script for the camera raises.

    Returns:
        The board, with what the script did.
    """
    text = (BOARD_SCRIPTS / script).read_text(encoding="utf-8")
    assert "/sdcard/mp_deployment_source/" in text
    copy = folder / script
    copy.write_text(text.replace("/sdcard/mp_deployment_source/", f"{folder}/"))
    board = Board(folder, kpu, camera=camera)
    for name, module in board.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(os, "exitpoint", board.exitpoint, raising=False)
    monkeypatch.setattr(os, "EXITPOINT_ENABLE_SLEEP", 2, raising=False)
    monkeypatch.setattr(time, "sleep_ms", lambda _: None, raising=False)
    if "video" in script and camera:
        with pytest.raises(StopError):
            runpy.run_path(str(copy), run_name="__main__")
    else:
        runpy.run_path(str(copy), run_name="__main__")
    return board
