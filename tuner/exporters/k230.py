"""The K230's bundle: a kmodel, its configuration and MicroPython scripts for the CanMV board.

The layout and the configuration's keys are those that Kendryte's own training platform hands over
for classification, so scripts written for its bundles read this one: `mp_deployment_source/` with
the kmodel and `deploy_config.json`, four scripts for two generations of firmware, `cls_results/`
and a guide. The kmodel takes RGB images as uint8 with the normalization inside, and gives logits,
or for two classes one logit. (kendryte/k230_canmv_docs, CloudPlat_Deploy; `libs/PlatTasks.py` of
the firmware.)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import InputError
from tuner.exporters import Artifact, Check, Shown
from tuner.runtimes.tool import package_tool, require
from tuner.spec import FilePrecision, ModelVersion, Target, Tool
from tuner.store.files import cache_folder, write_atomic, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = "k230"
SOURCE = "mp_deployment_source"
BOARD_SCRIPTS = Path(__file__).parent / "k230_board"

CALIBRATION_IMAGES = 100
"""Training images that the compiler quantizes by, evenly spaced."""

CONFIDENCE_THRESHOLD = 0.5
EXAMPLES = 12

FORM: Mapping[str, tuple[float, float]] = {
    "unit": (0.0, 1.0),
    "signed": (128.0 / 255.0, 128.0 / 255.0),
}
"""Mean and standard deviation of pixels as shares of 255, by scaling."""


def tools() -> tuple[Tool, ...]:
    """The compiler with its .NET, and what writes the guide as PDF."""
    from tuner.runtimes import kmodel

    return (
        *kmodel.tools(),
        package_tool(
            "fpdf2",
            ["fpdf", "markdown_it"],
            "The guide's PDF needs fpdf2 and markdown-it-py: pip install 'edge-tuner[k230]'.",
        ),
    )


def export(model: Path, version: ModelVersion, folder: Path) -> Sequence[Artifact]:
    """Compile the kmodel and write the bundle; see `Exporter`.

    Raises:
        InputError: a tool is not installed; says how to.
        TuneError: the compiler refuses the model.
    """
    try:
        require(tools())
    except ImportError as error:
        raise InputError(f"{error} Then export again.") from None
    from tuner.data import open_again
    from tuner.data.preprocess import evenly_spaced
    from tuner.runtimes.kmodel import nncase_version
    from tuner.runtimes.nncase import compile_model
    from tuner.train.build import load_keras
    from tuner.train.camera import camera_model
    from tuner.train.convert import INPUT_RANGES, convert_tflite

    pixels = version.template.preprocessing
    dataset = open_again(version.dataset)
    training, _ = dataset.arrays(pixels, "training", cache_folder())
    content = convert_tflite(camera_model(load_keras(model / "model.keras")), "float32")
    images = _in_colour(training[evenly_spaced(len(training), CALIBRATION_IMAGES)])
    compiled = compile_model(content, images, INPUT_RANGES[pixels.scaling])
    source = folder / FOLDER / SOURCE
    name = f"{version.name}_{version.version}.kmodel"
    write_atomic(source / name, compiled.content)
    mean, deviation = FORM[pixels.scaling]
    write_json(
        source / "deploy_config.json",
        {
            "chip_type": "k230",
            "inference_width": pixels.width,
            "inference_height": pixels.height,
            "confidence_threshold": CONFIDENCE_THRESHOLD,
            "nncase_version": nncase_version(),
            "model_type": version.name,
            "img_size": [pixels.width, pixels.height],
            "mean": [mean] * 3,
            "std": [deviation] * 3,
            "categories": list(version.dataset.classes),
            "kmodel_path": name,
            "num_classes": len(version.dataset.classes),
            "crop": pixels.crop,
            "estimated_kpu_ms": round(compiled.measured["latency_ms"].value, 4),
        },
    )
    for script in sorted(BOARD_SCRIPTS.glob("*.py")):
        shutil.copyfile(script, folder / FOLDER / script.name)
    return [Artifact(path=FOLDER, precision="int8", quantized_anew=True)]


def _in_colour(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy with three channels; the net's own conversion gives grey images back as they were."""
    import numpy as np

    return np.broadcast_to(images, (*images.shape[:3], 3)).copy()


def run(
    artifact: Path, precision: FilePrecision, images: NDArray[np.float32], target: Target
) -> NDArray[np.float32]:
    """Run the kmodel in the simulator of the KPU; see `Exporter`."""
    import numpy as np

    from tuner.runtimes.kmodel import simulate_kmodel

    config = _config(artifact)
    pixels = np.rint(255.0 * (images * config["std"][0] + config["mean"][0])).astype(np.uint8)
    kmodel = (artifact / SOURCE / config["kmodel_path"]).read_bytes()
    logits = simulate_kmodel(kmodel, _in_colour(pixels))
    return np.hstack([np.zeros_like(logits), logits]) if logits.shape[1] == 1 else logits


def _config(bundle: Path) -> dict[str, Any]:
    """`deploy_config.json` of a bundle."""
    config: dict[str, Any] = json.loads((bundle / SOURCE / "deploy_config.json").read_text("utf-8"))
    return config


def document(folder: Path, version: ModelVersion, check: Check, shown: Shown) -> None:
    """Draw examples, and write the guide as Markdown and PDF; see `Documents`."""
    from tuner.data.draw import captioned, to_jpeg

    bundle = folder / FOLDER
    config, classes = _config(bundle), version.dataset.classes
    predicted = shown.logits.argmax(axis=-1)
    step = max(1, len(shown.labels) // EXAMPLES)
    for number, row in enumerate(range(0, len(shown.labels), step)[:EXAMPLES]):
        said, true = classes[predicted[row]], classes[shown.labels[row]]
        text = said if said == true else f"{said}, is {true}"
        picture = captioned(shown.images[row], text, good=said == true)
        write_atomic(bundle / "cls_results" / f"{number:02d}.png", picture)
    right = (predicted == shown.labels).nonzero()[0]
    row = int(right[0]) if len(right) else 0
    write_atomic(bundle / SOURCE / "test.jpg", to_jpeg(shown.images[row]))
    guide = _guide(config, version, check, classes[predicted[row]])
    write_atomic(bundle / "README.md", guide)
    write_atomic(bundle / "README.pdf", _pdf(guide))


def _guide(config: Mapping[str, Any], version: ModelVersion, check: Check, expected: str) -> str:
    """How to run the bundle, and what to expect of it."""
    width, height = config["img_size"]
    crop = (
        "the centred part of a frame with the model's proportions is cut out, then resized"
        if config["crop"] == "center"
        else "the whole frame is resized, its proportions change"
    )
    size = config["kmodel_path"]
    return f"""# {version.name}, version {version.version}, for the CanMV K230

## Run it

1. Copy the folder `mp_deployment_source` to the SD card, as `/sdcard/mp_deployment_source`. The
   scripts look for it there.
2. Open a script in the CanMV IDE and run it:
   - firmware 1.3 or newer: `cls_image_1_3.py` for a picture, `cls_video_1_3.py` for the camera;
   - firmware 1.2.2 or newer: `cls_image_1_2_2.py` and `cls_video_1_2_2.py`.
3. The video scripts show on the LCD (ST7701, 800x480). For HDMI (1920x1080) set `DISPLAY = "hdmi"`
   at their top.

The picture scripts read `mp_deployment_source/test.jpg`: it should be told as "{expected}".

## What to expect

| | |
|---|---|
| Accuracy of the kmodel | {100 * check.correct / check.images:.1f} % of {check.images} {check.split} images |
| Accuracy of the float32 model | {100 * check.expected_correct / check.images:.1f} % of the same |
| Same class as the float32 model | {100 * check.agreement:.1f} % |
| Input | {width}x{height} RGB, 8 bits; normalization is in the kmodel |
| Frames | {crop} |
| Classes | {len(config["categories"])} |
| Time on the KPU | at least {config["estimated_kpu_ms"]:.3f} ms: the compiler's own estimate, a lower bound, lowest for small nets. A camera loop was seen to reach 57 frames a second at most |

The accuracy was computed by the KPU's simulator, not on a board. The board's resizing of camera
frames is bilinear without antialiasing; training images were resized with it.

The kmodel was compiled by nncase {config["nncase_version"]}. The firmware's nncase runtime must be
of the same version: a board that refuses `{size}` or gives nonsense has another one.

Below the confidence threshold ({config["confidence_threshold"]}, in `deploy_config.json`) no class
is shown. `cls_results` has test images with what the kmodel says of them.
"""  # noqa: E501


def _pdf(guide: str) -> bytes:
    """The guide as a PDF file; letters that its fonts lack become question marks."""
    from fpdf import FPDF
    from markdown_it import MarkdownIt

    text = guide.encode("latin-1", "replace").decode("latin-1")
    html = MarkdownIt("commonmark").enable("table").render(text)
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=11)
    pdf.write_html(html)
    return bytes(pdf.output())
