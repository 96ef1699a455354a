"""A model of a few layers with statistics of its own, and its spec."""

from __future__ import annotations

import numpy as np
from example_spec import SPEC

from deeplabv3p.runtime import keras_engine
from deeplabv3p.spec import ClassInfo, ModelInfo

keras = keras_engine.import_keras()

CLASSES = 5
SUFFIXES = (".keras", ".h5")


def make_spec(size_hw=None, stride=4, classes=CLASSES, kind="logits"):
    return SPEC.replace(
        model=ModelInfo("tiny", 4),
        input={"size_hw": size_hw},
        output={"kind": kind, "stride": stride},
        classes=tuple(ClassInfo(f"class {i}", (i, 0, 0)) for i in range(classes)),
    )


def make_model(size_hw=(None, None), extra=None, seed=0):
    """Convolution of stride 4, batch norm with statistics of its own, and a 1x1 convolution to the classes."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((*size_hw, 3), name="image")
    x = keras.layers.Conv2D(8, 4, strides=4, padding="same", activation="relu", name="stem")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    if extra is not None:
        x = extra(x)
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    model = keras.Model(inputs, keras.layers.Conv2D(CLASSES, 1, name="logits")(x), name="tiny")
    rng = np.random.default_rng(seed)
    for weight in model.get_layer("norm").weights:
        weight.assign(rng.uniform(0.5, 2, weight.shape).astype(np.float32))
    return model


def make_batch(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=(*shape, 3)).astype(np.float32)
