"""Classify one picture on a CanMV K230, firmware 1.2.2 or newer.

Copy the folder `mp_deployment_source` to /sdcard first. The result is printed, shown in the IDE
and saved beside the picture.
"""

import gc
import math

import image
import nncase_runtime as nn
import ujson
import ulab.numpy as np

ROOT = "/sdcard/mp_deployment_source/"
PICTURE = ROOT + "test.jpg"
RESULT = ROOT + "cls_result.jpg"


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
    picture = image.Image(PICTURE).to_rgb888()
    pixels = picture.to_numpy_ref()
    height, width, channels = pixels.shape
    planar = pixels.reshape((height * width, channels)).transpose().copy()
    planar = planar.reshape((channels, height, width))

    kpu = None
    ai2d = builder = given = resized = None
    try:
        kpu = nn.kpu()
        kpu.load_kmodel(ROOT + config["kmodel_path"])
        ai2d = nn.ai2d()
        ai2d.set_dtype(nn.ai2d_format.NCHW_FMT, nn.ai2d_format.NCHW_FMT, np.uint8, np.uint8)
        left, top, kept_width, kept_height = crop_box(width, height, config)
        if (kept_width, kept_height) != (width, height):
            ai2d.set_crop_param(True, left, top, kept_width, kept_height)
        ai2d.set_resize_param(True, nn.interp_method.tf_bilinear, nn.interp_mode.half_pixel)
        builder = ai2d.build([1, 3, height, width], [1, 3, model_height, model_width])
        given = nn.from_numpy(planar)
        resized = nn.from_numpy(np.ones((1, 3, model_height, model_width), dtype=np.uint8))
        builder.run(given, resized)
        kpu.set_input_tensor(0, resized)
        kpu.run()
        output = kpu.get_output_tensor(0).to_numpy().flatten()
        logits = [float(value) for value in output]
        label, score = decode(logits, config["categories"], config["confidence_threshold"])
        print("class:", label or "none above the threshold", " score:", round(score, 3))
        if label:
            text = label + " " + str(round(score, 3))
            picture.draw_string_advanced(5, 5, 32, text, color=(0, 255, 0))
        picture.compress_for_ide()
        picture.save(RESULT)
    finally:
        del kpu, ai2d, builder, given, resized
        nn.shrink_memory_pool()
        gc.collect()


if __name__ == "__main__":
    main()
