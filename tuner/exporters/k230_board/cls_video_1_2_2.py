"""Classify what the camera sees on a CanMV K230, firmware 1.2.2 or newer.

Copy the folder `mp_deployment_source` to /sdcard first. Stop it with the IDE's stop button.
"""

import gc
import math
import os
import time

import image
import nncase_runtime as nn
import ujson
import ulab.numpy as np
from media.display import *
from media.media import *
from media.sensor import *

ROOT = "/sdcard/mp_deployment_source/"

DISPLAY = "lcd"  # or "hdmi"
SIZES = {"lcd": (800, 480), "hdmi": (1920, 1080)}

FRAME_WIDTH = 640  # what the model's picture is cut from; a multiple of 16
FRAME_HEIGHT = 360


def read_config():
    with open(ROOT + "deploy_config.json") as file:
        return ujson.load(file)


def crop_box(width, height, config):
    """Left, top, width and height of the part of a picture that the model was trained on."""
    model_width, model_height = config["img_size"]
    if config["crop"] != "center":
        return 0, 0, width, height
    kept_width = max(1, min(width, height * model_width // model_height))
    kept_height = max(1, min(height, width * model_height // model_width))
    return (width - kept_width) // 2, (height - kept_height) // 2, kept_width, kept_height


def decode(logits, labels, threshold):
    """The label and its score; no label if no class reaches the threshold.

    Two classes have one logit, of the second class; more have one logit each.
    """
    if len(labels) == 2:
        score = 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logits[0]))))
        return (labels[1], score) if score > threshold else (labels[0], 1.0 - score)
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    best = powers.index(max(powers))
    score = powers[best] / sum(powers)
    return (labels[best], score) if score > threshold else ("", score)


def main():
    config = read_config()
    model_width, model_height = config["img_size"]
    width, height = SIZES[DISPLAY]
    sensor = None
    shown = started = False
    kpu = ai2d = builder = given = resized = None
    try:
        kpu = nn.kpu()
        kpu.load_kmodel(ROOT + config["kmodel_path"])
        ai2d = nn.ai2d()
        ai2d.set_dtype(nn.ai2d_format.NCHW_FMT, nn.ai2d_format.NCHW_FMT, np.uint8, np.uint8)
        left, top, kept_width, kept_height = crop_box(FRAME_WIDTH, FRAME_HEIGHT, config)
        if (kept_width, kept_height) != (FRAME_WIDTH, FRAME_HEIGHT):
            ai2d.set_crop_param(True, left, top, kept_width, kept_height)
        ai2d.set_resize_param(True, nn.interp_method.tf_bilinear, nn.interp_mode.half_pixel)
        builder = ai2d.build([1, 3, FRAME_HEIGHT, FRAME_WIDTH], [1, 3, model_height, model_width])
        resized = nn.from_numpy(np.ones((1, 3, model_height, model_width), dtype=np.uint8))

        sensor = Sensor()
        sensor.reset()
        # Channel 0 goes to the display, channel 2 to the model.
        sensor.set_framesize(width=width, height=height)
        sensor.set_pixformat(PIXEL_FORMAT_YUV_SEMIPLANAR_420)
        sensor.set_framesize(width=FRAME_WIDTH, height=FRAME_HEIGHT, chn=CAM_CHN_ID_2)
        sensor.set_pixformat(PIXEL_FORMAT_RGB_888_PLANAR, chn=CAM_CHN_ID_2)
        bound = sensor.bind_info(x=0, y=0, chn=CAM_CHN_ID_0)
        Display.bind_layer(**bound, layer=Display.LAYER_VIDEO1)
        panel = Display.ST7701 if DISPLAY == "lcd" else Display.LT9611
        Display.init(panel, to_ide=True)
        shown = True
        overlay = image.Image(width, height, image.ARGB8888)
        MediaManager.init()
        started = True
        sensor.run()
        while True:
            os.exitpoint()
            frame = sensor.snapshot(chn=CAM_CHN_ID_2)
            if frame == -1 or frame.format() != image.RGBP888:
                continue
            given = nn.from_numpy(frame.to_numpy_ref())
            builder.run(given, resized)
            kpu.set_input_tensor(0, resized)
            kpu.run()
            output = kpu.get_output_tensor(0).to_numpy().flatten()
            logits = [float(value) for value in output]
            label, score = decode(logits, config["categories"], config["confidence_threshold"])
            overlay.clear()
            if label:
                text = label + " " + str(round(score, 3))
                overlay.draw_string_advanced(5, 5, 32, text, color=(0, 255, 0))
            Display.show_image(overlay, 0, 0, Display.LAYER_OSD3)
            del given
            given = None
            gc.collect()
    finally:
        os.exitpoint(os.EXITPOINT_ENABLE_SLEEP)
        if sensor is not None:
            sensor.stop()
        if shown:
            Display.deinit()
        time.sleep_ms(50)
        if started:
            MediaManager.deinit()
        del kpu, ai2d, builder, given, resized
        nn.shrink_memory_pool()
        gc.collect()


if __name__ == "__main__":
    main()
