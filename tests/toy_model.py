"""A model of three stock layers that tells red, blue and dark apart, and a picture of red and blue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deeplabv3p.models.factory import model_spec
from deeplabv3p.runtime import keras_engine
from deeplabv3p.spec import ClassInfo

CLASSES = (ClassInfo("dark", (0, 0, 0)), ClassInfo("red", (200, 0, 0)), ClassInfo("blue", (0, 0, 200)))
SIZE_HW = (32, 48)


def save(path: Path, *, compiled: bool = False, any_size: bool = False) -> Path:
    """Write the model with its spec; ``compiled`` as a training checkpoint is, ``any_size`` without a fixed size."""
    keras = keras_engine.import_keras()
    image = keras.Input((None, None, 3) if any_size else (*SIZE_HW, 3), name="image")
    logits = keras.layers.Conv2D(3, 1, name="logits")
    model = keras.Model(image, logits(keras.layers.AveragePooling2D(4, name="pool")(image)), name="colors")
    # (x − 127.5) / 127.5: red is (1, −1, −1), blue (−1, −1, 1), dark (−1, −1, −1).
    logits.set_weights([np.array([[[[0, 3, -3], [0, 0, 0], [0, -3, 3]]]], np.float32), np.array([1, 0, 0], np.float32)])
    if compiled:
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
        model.train_on_batch(np.zeros((1, *SIZE_HW, 3)), np.zeros((1, SIZE_HW[0] // 4, SIZE_HW[1] // 4)))
    spec = model_spec("mobilenetv2", size_hw=SIZE_HW, output_stride=16, classes=CLASSES)
    spec = spec.replace(model={"name": "colors", "output_stride": None}, output={"stride": 4})
    if any_size:
        spec = spec.replace(input={"size_hw": None})
    keras_engine.save_model(model, spec, path)
    return path


def halves(height: int = 64, width: int = 96) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture, uint8 [height, width, 3] RGB: the left half red, the right half blue."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 255
    image[:, width // 2 :, 2] = 255
    return image
