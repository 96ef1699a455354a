"""Folding keeps the function: every network, and the graphs in which a batch norm must stay."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest

from deeplabv3p.runtime import keras_engine

keras = keras_engine.import_keras()

from keras import layers  # noqa: E402

from deeplabv3p.export.fold import fold_batch_norms, norms_behind_convolutions  # noqa: E402
from deeplabv3p.models import batchnorm, factory  # noqa: E402
from deeplabv3p.models.registry import MODELS  # noqa: E402

SIZE_HW = (65, 97)
# One of each kind of graph; the slow suite has all.
QUICK = {"mobilenetv2", "deeplabv3_mobilenetv2", "mobilenetv3small_lite", "fast_scnn"}
NAMES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MODELS]


@pytest.fixture(scope="module")
def pictures(photographs) -> np.ndarray:
    return np.stack([cv2.resize(p, SIZE_HW[::-1], interpolation=cv2.INTER_AREA) for p in photographs]) / 127.5 - 1


@pytest.fixture
def float64():
    """Layers are made with float64 weights and compute with them."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def norms(model) -> int:
    return sum(isinstance(layer, layers.BatchNormalization) for layer in model.layers)


def stir(model, seed: int = 0) -> None:
    """Give every batch norm numbers of its own."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            for weight in layer.weights:
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))


def assert_same(model, folded, batch: np.ndarray, tolerance: float) -> None:
    want, got = (np.asarray(m(batch, training=False)) for m in (model, folded))
    assert np.abs(got - want).max() <= tolerance * np.abs(want).max()
    assert np.abs(want[0] - want[1]).max() > 0.01 * np.abs(want).max()  # different pictures differ


@pytest.mark.parametrize("name", NAMES)
def test_every_network_keeps_its_function_without_batch_norms(name, pictures, float64):
    options = ":width=16" if MODELS[name].head != "none" else ""
    keras.utils.set_random_seed(0)
    model = factory.build_model(f"{name}{options}", num_classes=5, size_hw=SIZE_HW)
    batchnorm.reestimate(model, [pictures])
    weights = [np.asarray(weight) for weight in model.weights]
    folded = fold_batch_norms(model)
    assert norms(model) > 0
    assert norms(folded) == 0  # no network of the registry has one that does not follow a convolution
    assert norms_behind_convolutions(folded) == []
    # In float64, so that the rounding of a hundred layers (1e-16 each, magnified by variances near epsilon) stays far
    # below anything that a wrong formula could hide in.
    assert_same(model, folded, pictures, 1e-9)
    for before, after in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(before, np.asarray(after))


def test_in_float32_the_difference_is_rounding(network):
    folded = fold_batch_norms(network.model)
    # 50 layers of float32 (6e-8 each), magnified by the normalisations of a random network: 6e-5 was measured.
    assert_same(network.model, folded, network.pictures, 5e-4)


def test_a_saved_model_is_folded_like_the_one_that_was_saved(network, tmp_path):
    """Also its bare operations, the resizes."""
    keras_engine.save_model(network.model, network.spec, tmp_path / "model.keras")
    folded = fold_batch_norms(keras_engine.load_model(tmp_path / "model.keras"))
    assert norms(folded) == 0
    assert Counter(type(o).__name__ for o in folded.operations)["Resize"] == 1
    assert_same(network.model, folded, network.pictures, 5e-4)
    assert (folded.name, folded.inputs[0].shape) == (network.model.name, network.model.inputs[0].shape)
    # And what comes out is a model that is saved and opened like any other.
    keras_engine.save_model(folded, network.spec, tmp_path / "folded.keras")
    assert_same(folded, keras_engine.load_model(tmp_path / "folded.keras"), network.pictures, 0)


KINDS = {
    "convolution": lambda: layers.Conv2D(8, 3, strides=2, padding="same"),
    "convolution without bias": lambda: layers.Conv2D(8, 3, dilation_rate=2, use_bias=False),
    "grouped": lambda: layers.Conv2D(8, 3, groups=4),
    "depthwise": lambda: layers.DepthwiseConv2D(3, use_bias=False),
    "depthwise with multiplier": lambda: layers.DepthwiseConv2D(3, depth_multiplier=3),
    "separable": lambda: layers.SeparableConv2D(8, 3, depth_multiplier=2, use_bias=False),
    "transposed": lambda: layers.Conv2DTranspose(8, 3, strides=2),
}


def small(body) -> keras.Model:
    image = keras.Input((9, 11, 4))
    model = keras.Model(image, body(image))
    stir(model)
    return model


def noise(channels: int = 4) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, 9, 11, channels)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}], ids=str)
def test_every_kind_of_convolution_takes_in_its_norm(kind, options):
    keras.utils.set_random_seed(0)
    model = small(lambda x: layers.BatchNormalization(**options)(KINDS[kind]()(x)))
    folded = fold_batch_norms(model)
    assert norms(folded) == 0
    assert len(folded.layers) == 2
    assert_same(model, folded, noise(), 1e-5)  # float32 through one layer


def _twice(x):
    y = layers.Conv2D(4, 3, padding="same")(x)
    return layers.Add()([layers.BatchNormalization()(y), y])


def _activated(x):
    return layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(x))


def _padded(x):
    return layers.BatchNormalization()(layers.ZeroPadding2D(1)(layers.Conv2D(4, 3)(x)))


def _before(x):
    return layers.Conv2D(4, 3)(layers.ReLU()(layers.BatchNormalization()(x)))


def _other_axis(x):
    return layers.BatchNormalization(axis=1)(layers.Conv2D(4, 3)(x))


@pytest.mark.parametrize("body", [_twice, _activated, _padded, _before, _other_axis])
def test_a_norm_that_is_not_all_that_follows_a_convolution_stays(body):
    model = small(body)
    folded = fold_batch_norms(model)
    assert norms(folded) == 1
    assert_same(model, folded, noise(), 1e-5)


def test_what_a_model_puts_out_is_not_folded_away():
    image = keras.Input((9, 11, 4))
    features = layers.Conv2D(4, 3)(image)
    model = keras.Model(image, [features, layers.BatchNormalization()(features)])
    stir(model)
    folded = fold_batch_norms(model)
    for want, got in zip(model(noise()), folded(noise()), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_a_layer_called_twice_is_folded_call_by_call():
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    model = small(lambda x: layers.BatchNormalization()(shared(layers.BatchNormalization()(shared(x)))))
    folded = fold_batch_norms(model)
    assert norms(folded) == 0
    assert [layer.name for layer in folded.layers[1:]] == ["shared", "shared_2"]
    assert_same(model, folded, noise(), 1e-5)


def test_nested_models_are_laid_flat_and_shared_ones_stay_shared():
    block = keras.Sequential([layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()])
    inner = keras.Input((9, 11, 4))
    nested = keras.Model(inner, block(inner))
    model = small(lambda x: nested(block(nested(x))))
    folded = fold_batch_norms(model)
    assert norms(folded) == 0
    assert len([layer for layer in folded.layers if isinstance(layer, layers.Conv2D)]) == 1
    assert_same(model, folded, noise(), 1e-5)


def test_equal_names_in_nested_models_do_not_collide():
    def block():
        return keras.Sequential([layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm")])

    model = small(lambda x: block()(block()(x)))
    folded = fold_batch_norms(model)
    assert [layer.name for layer in folded.layers[1:]] == ["conv", "conv_2"]
    assert_same(model, folded, noise(), 1e-5)


def test_a_subclass_of_a_convolution_is_left_alone():
    class Halved(layers.Conv2D):
        def call(self, inputs):
            return super().call(inputs) / 2 + 1

    model = small(lambda x: layers.BatchNormalization()(Halved(4, 3)(x)))
    folded = fold_batch_norms(model)
    assert norms(folded) == 1
    assert_same(model, folded, noise(), 1e-5)
