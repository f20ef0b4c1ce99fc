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
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import InputError
from tuner.exporters import Artifact, Check, Shown
from tuner.runtimes import kmodel
from tuner.runtimes.tool import package_tool, require
from tuner.spec import FilePrecision, ModelVersion, Target, Tool
from tuner.store.files import cache_folder, write_atomic, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SOURCE = "mp_deployment_source"
BOARD_SCRIPTS = Path(__file__).parent / "k230_board"

CONFIDENCE_THRESHOLD = 0.5
EXAMPLES = 12

TEST_PICTURE_WIDTH = 320
"""At least so many pixels: the scripts draw the class on it in letters of 32."""

FIRMWARE: Mapping[str, str] = {
    "2.11": "CanMV firmware 1.7 or newer (1.4 has nncase 2.9.0)",
}
"""Firmware with the runtime of a compiler, by its first two numbers. (Release notes of
kendryte/canmv_k230 v1.7, "Update nncase runtime to 2.11.0"; 01studio-lab/CanMV-K230's images of
1.4, nncase 2.9.0, and 1.8, 2.11.0.)"""

FORM: Mapping[str, tuple[float, float]] = {
    "unit": (0.0, 1.0),
    "signed": (128.0 / 255.0, 128.0 / 255.0),
}
"""Mean and standard deviation of pixels as shares of 255, by scaling."""


def tools() -> tuple[Tool, ...]:
    """The compiler with its .NET, and what writes the guide as PDF."""
    return (
        *kmodel.tools(),
        package_tool(
            "fpdf2",
            ["fpdf", "markdown_it"],
            "The guide's PDF needs fpdf2 and markdown-it-py: pip install 'edge-tuner[k230]'.",
        ),
    )


def export(model: Path, version: ModelVersion, folder: Path) -> Sequence[Artifact]:
    """Compile the kmodel with uint8 activations and write the bundle; see `Exporter`.

    Raises:
        InputError: a tool is not installed; says how to.
        TuneError: the compiler refuses the model.
    """
    return [write_bundle(model, version, folder / "k230", "uint8")]


def write_bundle(
    model: Path, version: ModelVersion, bundle: Path, activations: kmodel.Activations
) -> Artifact:
    """Compile the kmodel and write what does not depend on how it does; see `document`.

    Args:
        model: folder of the version.
        version: what `model.json` says.
        bundle: the folder to write.
        activations: their type in the kmodel.

    Raises:
        InputError: a tool is not installed; says how to.
        TuneError: the compiler refuses the model.
    """
    try:
        require(tools())
    except ImportError as error:
        raise InputError(f"{error} Then export again.") from None
    from tuner.data import open_again
    from tuner.engine.compiling import compile_nearest
    from tuner.runtimes import nncase
    from tuner.train.build import load_keras
    from tuner.train.camera import camera_model
    from tuner.train.convert import convert_tflite

    pixels = version.template.preprocessing
    dataset = open_again(version.dataset)
    training, _ = dataset.arrays(pixels, "training", cache_folder())
    content = convert_tflite(camera_model(load_keras(model / "model.keras")), "float32")
    compilation = compile_nearest(nncase, content, training, pixels.scaling, activations)
    compiled = compilation.compiled
    source = bundle / SOURCE
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
            "nncase_version": kmodel.nncase_version(),
            "calibrate_method": kmodel.CALIBRATE_METHOD,
            "ptq_option": kmodel.ptq_option(activations),
            "recipe": compiled.recipe,
            "recipe_reason": compilation.reason,
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
    for script in sorted(BOARD_SCRIPTS.glob("cls_*.py")):
        shutil.copyfile(script, bundle / script.name)
    return Artifact(
        path=bundle.name,
        precision="int8" if activations == "uint8" else "int16x8",
        quantized_anew=True,
    )


def run(
    artifact: Path, precision: FilePrecision, images: NDArray[np.float32], target: Target
) -> NDArray[np.float32]:
    """Run the kmodel in the simulator of the KPU; see `Exporter`."""
    import numpy as np

    from tuner.train.camera import both_logits, in_colour

    config = _config(artifact)
    pixels = np.rint(255.0 * (images * config["std"][0] + config["mean"][0])).astype(np.uint8)
    content = (artifact / SOURCE / config["kmodel_path"]).read_bytes()
    logits = kmodel.simulate_kmodel(content, in_colour(pixels))
    return both_logits(logits)


def _config(bundle: Path) -> dict[str, Any]:
    """`deploy_config.json` of a bundle."""
    config: dict[str, Any] = json.loads((bundle / SOURCE / "deploy_config.json").read_text("utf-8"))
    return config


def document(folder: Path, version: ModelVersion, check: Check, shown: Shown) -> None:
    """Draw examples, and write the guide as Markdown and PDF; see `Documents`."""
    from tuner.data.draw import captioned, to_jpeg

    bundle = folder / check.file
    config, classes = _config(bundle), version.dataset.classes
    predicted = shown.logits.argmax(axis=-1)
    scores = _scores(shown.logits)
    step = max(1, len(shown.labels) // EXAMPLES)
    for number, row in enumerate(range(0, len(shown.labels), step)[:EXAMPLES]):
        said, true = classes[predicted[row]], classes[shown.labels[row]]
        text = f"{said} {scores[row]:.3f}" + ("" if said == true else f", is {true}")
        picture = captioned(shown.images[row], text, good=said == true)
        write_atomic(bundle / "cls_results" / f"{number:02d}.png", picture)
    # The surest of those that are right: JPEG does not turn it to another class.
    row = int((scores * (predicted == shown.labels)).argmax())
    factor = math.ceil(TEST_PICTURE_WIDTH / config["img_size"][0])
    # The board's bilinear resizing of whole pixels of equal squares gives the image back.
    picture = shown.images[row].repeat(factor, axis=0).repeat(factor, axis=1)
    write_atomic(bundle / SOURCE / "test.jpg", to_jpeg(picture))
    size_bytes = (bundle / SOURCE / config["kmodel_path"]).stat().st_size
    expected = _expected(classes, predicted[row], scores[row])
    guide = _guide(config, version, check, size_bytes, expected)
    write_atomic(bundle / "README.md", guide)
    write_atomic(bundle / "README.pdf", _pdf(guide))


def _expected(classes: Sequence[str], predicted: int, score: float) -> str:
    """What the scripts show of the picture."""
    told = f'"{classes[predicted]}", with a score near {score:.2f}'
    if len(classes) > 2 and score <= CONFIDENCE_THRESHOLD:
        return f"no class: the surest, {told}, is not above the threshold"
    return told


def _scores(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The share of the class that each image is told as, as the scripts compute it."""
    import numpy as np

    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float64] = powers.max(axis=-1) / powers.sum(axis=-1)
    return shares


def _guide(
    config: Mapping[str, Any], version: ModelVersion, check: Check, size_bytes: int, expected: str
) -> str:
    """How to run the bundle, and what to expect of it."""
    width, height = config["img_size"]
    compiler = config["nncase_version"]
    firmware = FIRMWARE.get(
        ".".join(compiler.split(".")[:2]), "one whose release notes name that version"
    )
    activations = config["ptq_option"].rpartition(":")[2]
    unsure = "the first class is shown" if len(config["categories"]) == 2 else "no class is shown"
    crop = (
        "the centred part of a frame with the model's proportions is cut out, then resized"
        if config["crop"] == "center"
        else "the whole frame is resized, its proportions change"
    )
    return f"""# {version.name}, version {version.version}, for the CanMV K230

## Run it

1. The kmodel was compiled by nncase {compiler}, and the firmware's nncase runtime must be of the
   same version: {firmware}. A board that refuses
   `{config["kmodel_path"]}` or gives nonsense has another one.
2. Copy the folder `mp_deployment_source` to the SD card, as `/sdcard/mp_deployment_source`. The
   scripts look for it there.
3. Open a script in the CanMV IDE and run it: `cls_image_1_3.py` for a picture, `cls_video_1_3.py`
   for the camera. They use classes that come with the firmware since 1.3;
   `cls_image_1_2_2.py` and `cls_video_1_2_2.py` do without them.
4. The video scripts show on the LCD (ST7701, 800x480). For HDMI (1920x1080) set `DISPLAY = "hdmi"`
   at their top.

The picture scripts read `mp_deployment_source/test.jpg`: it should be told as
{expected}.

## What to expect

| | |
|---|---|
| Accuracy of the kmodel | {100 * check.correct / check.images:.1f} % of {check.images} {check.split} images |
| Accuracy of the float32 model | {100 * check.expected_correct / check.images:.1f} % of the same |
| Same class as the float32 model | {100 * check.agreement:.1f} % |
| Compiled by | nncase {compiler}, {activations} activations, uint8 weights, {config["calibrate_method"]} over training images |
| Compiled from | {config["recipe_reason"]} |
| Size | {size_bytes / 1000:.1f} KB |
| Input | {width}x{height} RGB, 8 bits; normalization is in the kmodel |
| Frames | {crop} |
| Classes | {len(config["categories"])} |
| Time on the KPU | at least {config["estimated_kpu_ms"]:.3f} ms: the compiler's own estimate, a lower bound, lowest for small nets. A camera loop was seen to reach 57 frames a second at most |

The accuracy was computed by the KPU's simulator; no board has run this bundle. The board resizes
frames without antialiasing, training images were resized with antialiasing: the model sees large
frames a little coarser than those it was trained on.

Below the confidence threshold ({config["confidence_threshold"]}, in `deploy_config.json`) {unsure}.
`cls_results` has test images with what the kmodel says of them, and its score.
"""  # noqa: E501


def _pdf(guide: str) -> bytes:
    """The guide as a PDF file; letters that its fonts lack become question marks."""
    from fpdf import FPDF
    from markdown_it import MarkdownIt

    text = guide.encode("latin-1", "replace").decode("latin-1")
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=11)
    pdf.write_html(html)
    return bytes(pdf.output())
