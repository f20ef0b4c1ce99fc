"""Classify what the camera sees on a CanMV K230, firmware 1.3 or newer.

Copy the folder `mp_deployment_source` to /sdcard first. Stop it with the IDE's stop button.
"""

import gc
import os

import nncase_runtime as nn
from libs.PipeLine import PipeLine
from libs.PlatTasks import ClassificationApp
from libs.Utils import read_json

ROOT = "/sdcard/mp_deployment_source/"

DISPLAY = "lcd"  # or "hdmi"
FRAME_SIZE = [1280, 720]  # what the model's picture is cut from


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
    pipeline = app = None
    try:
        pipeline = PipeLine(rgb888p_size=FRAME_SIZE, display_mode=DISPLAY)
        pipeline.create()
        kind = CenteredApp if config["crop"] == "center" else ClassificationApp
        app = kind(
            "video",
            ROOT + config["kmodel_path"],
            config["categories"],
            config["img_size"],
            config["confidence_threshold"],
            FRAME_SIZE,
            pipeline.get_display_size(),
            debug_mode=0,
        )
        app.config_preprocess()
        while True:
            os.exitpoint()
            result = app.run(pipeline.get_frame())
            app.draw_result(pipeline.osd_img, result)
            pipeline.show_image()
            gc.collect()
    finally:
        try:
            if app is not None:
                app.deinit()
        finally:
            # Without a sensor nothing was started, and destroy() would hide the reason.
            if pipeline is not None and pipeline.sensor is not None:
                pipeline.destroy()
            gc.collect()


if __name__ == "__main__":
    main()
