"""Classify one picture on a CanMV K230, firmware 1.3 or newer.

Copy the folder `mp_deployment_source` to /sdcard first. The result is printed and shown in the IDE.
"""

import gc

import nncase_runtime as nn
from libs.PlatTasks import ClassificationApp
from libs.Utils import read_image, read_json

ROOT = "/sdcard/mp_deployment_source/"
PICTURE = ROOT + "test.jpg"


class CenteredApp(ClassificationApp):
    """Cuts out the centred part of a picture, as the model was trained, before resizing."""

    def config_preprocess(self, input_image_size=None):
        width, height = input_image_size or self.rgb888p_size
        model_width, model_height = self.model_input_size
        kept_width = max(1, min(width, height * model_width // model_height))
        kept_height = max(1, min(height, width * model_height // model_width))
        left, top = (width - kept_width) // 2, (height - kept_height) // 2
        self.ai2d.crop(left, top, kept_width, kept_height)
        self.ai2d.resize(nn.interp_method.tf_bilinear, nn.interp_mode.half_pixel)
        self.ai2d.build([1, 3, height, width], [1, 3, model_height, model_width])


def main():
    config = read_json(ROOT + "deploy_config.json")
    planar, picture = read_image(PICTURE)
    size = [planar.shape[2], planar.shape[1]]
    kind = CenteredApp if config["crop"] == "center" else ClassificationApp
    app = kind(
        "image",
        ROOT + config["kmodel_path"],
        config["categories"],
        config["img_size"],
        config["confidence_threshold"],
        size,
        size,
        debug_mode=0,
    )
    try:
        app.config_preprocess()
        result = app.run(planar)
        print("class:", result["label"] or "none above the threshold", " score:", result["score"])
        app.draw_result(picture, result)
        picture.compress_for_ide()
    finally:
        app.deinit()
        gc.collect()


if __name__ == "__main__":
    main()
