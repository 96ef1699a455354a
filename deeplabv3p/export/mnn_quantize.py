"""What MNN's quantizer is given, and what it made of a model."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deeplabv3p.errors import DataError
from deeplabv3p.export.formats import Calibration
from deeplabv3p.files import write_bytes
from deeplabv3p.spec import ModelSpec

# The quantizer holds the activations of all pictures at once, about 350 bytes a pixel for MobileNetV2: 2 GB of these.
_MOST_PIXELS = 6_000_000
_FEWEST_PICTURES = 4

# Operations of a dumped MNN file that compute nothing.
_MOVES = {"Input", "Const", "ConvertTensor", "Reshape", "Int8ToFloat", "FloatToInt8"}


def write_pictures(calibration: Calibration, spec: ModelSpec, folder: Path) -> dict[str, Any]:
    """Write the calibration tensors as PNG files, for the quantizer reads pictures, and describe them to it.

    The quantizer's own arithmetic, (pixel − mean) · normal, then gives the tensors again: they were made of whole
    pixels, and are at the input's size already, so that it does not resize. Only padding with half a level, such as
    127.5, is rounded.

    Its range of an activation is the moving average over batches. All pictures are one batch, so that it is the range
    of all of them. More batches must not be asked for: from the second one on MNN 3.6.1 copies pictures behind the end
    of the input, and calibrates with what happens to be in memory. So that the batch fits into memory, only as many
    pictures are taken as have six million pixels together, evenly drawn. EMA is its only method that works here: KL
    crashes, ADMM takes minutes a picture.

    Args:
        calibration: float32 tensors [1, H, W, 3].
        spec: that of the float model.
        folder: where the pictures go, a new folder.

    Returns:
        The quantizer's configuration; ``used_image_num`` says how many pictures were taken.

    Raises:
        DataError: there are no pictures, or the folder cannot be written.
    """
    mean, std = (np.asarray(values, np.float32) for values in (spec.input.mean, spec.input.std))
    total = sum(1 for _ in calibration())
    height, width = next((tensor.shape[1:3] for tensor in calibration()), (1, 1))
    most = max(_FEWEST_PICTURES, _MOST_PIXELS // (height * width))
    chosen = set(np.linspace(0, total - 1, min(total, most)).round().astype(int).tolist()) if total else set()
    count = 0
    for number, tensor in enumerate(calibration()):
        if number not in chosen:
            continue
        pixels = np.clip(np.rint(tensor[0] * std + mean), 0, 255).astype(np.uint8)
        # OpenCV writes BGR; the quantizer reads RGB and turns it to the order of ``format``.
        in_bgr = pixels if spec.input.color == "BGR" else pixels[..., ::-1]
        _, encoded = cv2.imencode(".png", np.ascontiguousarray(in_bgr), [cv2.IMWRITE_PNG_COMPRESSION, 1])
        write_bytes(folder / f"{count:06d}.png", encoded.tobytes())
        count += 1
    if not count:
        raise DataError("there is no picture to calibrate with.")
    return {
        "format": spec.input.color,
        "mean": [float(value) for value in spec.input.mean],
        "normal": [1.0 / value for value in spec.input.std],
        "width": width,
        "height": height,
        "path": str(folder),
        "used_image_num": count,
        "batch_size": count,
        "feature_quantize_method": "EMA",
        "weight_quantize_method": "MAX_ABS",
        "input_type": "image",
        "quant_bits": 8,
    }


def float_operations(dump: str, target: Path) -> str:
    """Which operations of an int8 model still compute in float, and how many of each: ``2 Interp, 1 Reduction``, or
    ``nothing``.

    Args:
        dump: the model as MNN's converter writes it in JSON.
        target: the file, for the message.

    Raises:
        DataError: the quantizer gave an activation no range, or left every convolution as it was.
    """
    if re.search(r":\s*-?(nan|inf)\b", dump, re.IGNORECASE):
        raise DataError(f"{target} cannot be written as MNN: its quantizer found no range for an activation.")
    model = json.loads(dump)
    quantized = {item["index"] for item in model["extraTensorDescribe"] if "quantInfo" in item}
    if not quantized:
        raise DataError(f"{target} cannot be written as MNN: its quantizer left the model in float.")
    kept = Counter(
        operation["type"]
        for operation in model["oplists"]
        if operation["type"] not in _MOVES and not quantized.issuperset(operation["outputIndexes"])
    )
    return ", ".join(f"{number} {kind}" for kind, number in sorted(kept.items())) or "nothing"
