"""Models that the tests of this folder share: a narrow DeepLab with the statistics of photographs, and the toy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
import toy_model


@dataclass(frozen=True)
class Network:
    """A Keras model with its spec, prepared pictures [3, H, W, 3], and its logits of them."""

    model: Any
    spec: Any
    pictures: np.ndarray
    logits: np.ndarray

    def calibration(self):
        """The pictures one by one, as a writer gets them."""
        return iter(self.pictures[:, None])


@pytest.fixture(scope="session")
def network(photographs) -> Network:
    """MobileNetV2, narrow, 65x97. Its batch norms have the statistics of the pictures and a slope and offset of their
    own: a raw random network gives every picture the same logits."""
    from deeplabv3p.runtime.keras_engine import import_keras

    keras = import_keras()
    from deeplabv3p.models import batchnorm, factory
    from deeplabv3p.spec import ClassInfo

    name, size_hw = "mobilenetv2:alpha=0.35,width=32", (65, 97)
    keras.utils.set_random_seed(0)
    model = factory.build_model(name, num_classes=5, size_hw=size_hw)
    pictures = np.stack([cv2.resize(picture, size_hw[::-1], interpolation=cv2.INTER_AREA) for picture in photographs])
    pictures = pictures.astype(np.float32) / 127.5 - 1
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(rng.normal(0, 0.3, layer.beta.shape))
    model.get_layer("logits").bias.assign(rng.normal(0, 0.3, 5))
    batchnorm.reestimate(model, [pictures])
    classes = tuple(ClassInfo(f"class {index}", (index, 0, 0)) for index in range(5))
    spec = factory.model_spec(name, size_hw=size_hw, output_stride=16, classes=classes)
    logits = np.asarray(model(pictures, training=False))
    assert np.abs(logits[0] - logits[1]).max() > 0.3 * np.abs(logits).max()  # it does see the picture
    return Network(model, spec, pictures, logits)


@pytest.fixture(scope="session")
def frozen(network):
    """The network frozen with the default options."""
    from deeplabv3p.export.formats import ExportOptions
    from deeplabv3p.export.freeze import freeze

    return freeze(network.model, network.spec, ExportOptions())


@pytest.fixture(scope="session")
def shallow(photographs) -> Network:
    """A few layers of every kind that a DeepLab has. Coarse numbers show as what they are here: the random network of
    fifty layers makes a thousand times more of every rounding."""
    from deeplabv3p.runtime.keras_engine import import_keras

    keras = import_keras()
    from keras import layers, ops

    from deeplabv3p.models import batchnorm, blocks, factory
    from deeplabv3p.spec import ClassInfo

    size_hw = (65, 97)
    keras.utils.set_random_seed(0)
    image = keras.Input((*size_hw, 3), name="image")
    fine = blocks.conv(image, 32, "stem", kernel=3, stride=2)
    x = blocks.conv(blocks.depthwise(fine, "depthwise", stride=2), 32, "pointwise", relu=False)
    x = layers.Add(name="add")(
        [x, blocks.conv(blocks.depthwise(x, "dilated", rate=2), 32, "project", kernel=3, relu=False)]
    )
    pooled = blocks.conv(layers.GlobalAveragePooling2D(keepdims=True, name="mean")(x), 32, "pool")
    x = layers.Concatenate(name="concat")([layers.UpSampling2D(tuple(x.shape[1:3]), name="broadcast")(pooled), x])
    x = ops.image.resize(x, fine.shape[1:3], interpolation="bilinear")
    logits = layers.Conv2D(5, 1, name="logits", bias_initializer="random_normal")
    model = keras.Model(image, logits(layers.Concatenate(name="join")([x, fine])), name="shallow")
    pictures = np.stack([cv2.resize(picture, size_hw[::-1], interpolation=cv2.INTER_AREA) for picture in photographs])
    pictures = pictures.astype(np.float32) / 127.5 - 1
    batchnorm.reestimate(model, [pictures])
    classes = tuple(ClassInfo(f"class {index}", (index, 0, 0)) for index in range(5))
    spec = factory.model_spec("mobilenetv2", size_hw=size_hw, output_stride=16, classes=classes)
    spec = spec.replace(model={"name": "shallow", "output_stride": None}, output={"stride": 2})
    return Network(model, spec, pictures, np.asarray(model(pictures, training=False)))


@pytest.fixture(scope="session")
def frozen_shallow(shallow):
    """The shallow network frozen with the default options."""
    from deeplabv3p.export.formats import ExportOptions
    from deeplabv3p.export.freeze import freeze

    return freeze(shallow.model, shallow.spec, ExportOptions())


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """(model, spec) of the model that tells red, blue and dark apart."""
    from deeplabv3p.runtime.artifact import load_spec
    from deeplabv3p.runtime.keras_engine import load_model

    path = toy_model.save(tmp_path_factory.mktemp("toy") / "toy.keras")
    return load_model(path), load_spec(path)


@pytest.fixture(scope="session")
def frozen_toy(toy):
    """The toy frozen with the default options."""
    from deeplabv3p.export.formats import ExportOptions
    from deeplabv3p.export.freeze import freeze

    return freeze(*toy, ExportOptions())
