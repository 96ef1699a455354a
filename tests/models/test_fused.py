"""Layers for training: each equals the stock layer that it stands for, in outputs, gradients and statistics."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from deeplabv3p.models import batchnorm, factory, fused, graph

ROOT = Path(__file__).parents[2]


def network(layer: layers.Layer, size_hw: tuple[int, int] = (11, 14), channels: int = 6) -> keras.Model:
    image = keras.Input((*size_hw, channels))
    return keras.Model(image, layer(image))


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32) * 2


def step(model: keras.Model, *, compiled: bool, training: bool = True) -> list[np.ndarray]:
    """The output, and the gradients of a random projection of it for the input and each trainable weight."""
    import tensorflow as tf

    x = tf.constant(numbers(3, *model.input.shape[1:]))
    direction = tf.constant(numbers(3, *model.output.shape[1:], seed=1))
    weights = [variable.value for variable in model.trainable_variables]

    def run(x: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=training)
            projection = tf.reduce_sum(y * direction)
        return [y, *tape.gradient(projection, [x, *weights])]

    return [np.asarray(value) for value in (tf.function(run) if compiled else run)(x)]


def randomize(model: keras.Model) -> keras.Model:
    """Weights other than those of initialisation, where a missing scale or bias would not show."""
    model.set_weights([np.abs(numbers(*w.shape, seed=i)) + 0.1 for i, w in enumerate(model.get_weights())])
    return model


STOCK: dict[str, Callable[[], layers.Layer]] = {
    "gelu": lambda: layers.Activation("gelu"),
    "silu": lambda: layers.Activation("silu"),
    "hard_silu": lambda: layers.Activation("hard_silu"),
    "layer norm": lambda: layers.LayerNormalization(epsilon=1e-6),
    "depthwise 5x5": lambda: layers.DepthwiseConv2D(5, padding="same", use_bias=False),
    "depthwise 7x7 with bias": lambda: layers.DepthwiseConv2D(7, padding="same"),
    "depthwise 5x5, stride 2": lambda: layers.DepthwiseConv2D(5, strides=2, padding="same"),
    "depthwise 5x5, stride 2, valid": lambda: layers.DepthwiseConv2D(5, strides=2, activation="relu"),
    "depthwise 5x5, rate 2": lambda: layers.DepthwiseConv2D(5, dilation_rate=2, padding="same"),
    "depthwise 7x7, two outputs a channel": lambda: layers.DepthwiseConv2D(7, padding="same", depth_multiplier=2),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kind", STOCK)
def test_the_training_form_equals_the_stock_layer(kind, compiled):
    stock = randomize(network(STOCK[kind]()))
    training = batchnorm.for_training(stock)
    assert type(training.layers[-1]).__module__ == fused.__name__
    assert training.layers[-1].name == stock.layers[-1].name
    for ours, theirs in zip(step(training, compiled=compiled), step(stock, compiled=compiled), strict=True):
        # Sums over up to 462 pixels in another order: float32 rounds each term to 6e-8 of it.
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}], ids=str)
def test_fused_batch_norm_equals_the_stock_layer(training, trainable, options):
    """Learning, in use, and frozen: outputs, gradients and the moving statistics that are left behind."""
    results = []
    for kind in ("stock", "fused"):
        model = randomize(network(layers.BatchNormalization(momentum=0.8, **options)))
        if kind == "fused":
            model = batchnorm.for_training(model)
            batchnorm.settle(model)
        norm = model.layers[-1]
        assert isinstance(norm, batchnorm.FusedBatchNormalization) == (kind == "fused")
        norm.trainable = trainable
        results.append([*step(model, compiled=True, training=training), *norm.get_weights()])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())  # as above


def test_only_layers_without_a_kernel_of_their_own_are_replaced():
    class Mine(layers.LayerNormalization):
        pass

    for layer in (layers.Activation("relu"), layers.ReLU(6.0), layers.DepthwiseConv2D(3), layers.Conv2D(4, 7), Mine()):
        assert fused.replacement(layer) is None


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.LayerNormalization(axis=1),
        lambda: layers.LayerNormalization(center=False),
        lambda: layers.LayerNormalization(axis=[1, 2, 3]),
        lambda: layers.DepthwiseConv2D(5, strides=2, dilation_rate=2, padding="same"),
    ],
)
def test_what_the_fused_layer_does_not_know_goes_the_stock_way(layer):
    stock = randomize(network(layer()))
    training = batchnorm.for_training(stock)
    assert type(training.layers[-1]).__module__ == fused.__name__
    for ours, theirs in zip(step(training, compiled=True), step(stock, compiled=True), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_other_precisions_go_the_stock_way(policy):
    stock = network(layers.Activation("gelu", dtype=policy))
    training = batchnorm.for_training(stock)
    x = numbers(3, *stock.input.shape[1:])
    assert training(x).dtype == stock(x).dtype
    np.testing.assert_array_equal(np.asarray(training(x), np.float64), np.asarray(stock(x), np.float64))


def test_layers_share_one_compilation_for_a_function():
    shape = (None, 5, 5, 2)
    assert fused._elementwise(keras.activations.gelu, shape) is fused._elementwise(keras.activations.gelu, shape)
    assert fused._layer_normalization(1e-6, shape) is not fused._layer_normalization(1e-3, shape)


@pytest.mark.parametrize("name", ["mobilenetv3small", "convnext_tiny"])
def test_a_network_for_training_equals_the_stock_network(name):
    """All of it at once, in use: the same logits."""
    stock = factory.build_model(f"{name}:alpha=0.25,width=16", num_classes=3, size_hw=(65, 97))
    training = batchnorm.for_training(stock)
    replaced = [layer for layer in training.layers if type(layer).__module__ == fused.__name__]
    assert len(replaced) > 10
    x = numbers(2, 65, 97, 3)
    batchnorm.reestimate(stock, [x])
    graph.copy_weights(stock, training)
    ours, theirs = np.asarray(training(x, training=False)), np.asarray(stock(x, training=False))
    assert np.abs(theirs[0] - theirs[1]).max() > 1e-3, "different pictures must differ, or nothing is tested"
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())  # rounding, through some hundred layers


def test_the_stock_layer_is_used_on_the_jax_backend(tmp_path):
    pytest.importorskip("jax")
    code = (
        "import numpy as np, keras; from keras import layers; from deeplabv3p.models import batchnorm, fused\n"
        "image = keras.Input((9, 8, 4)); x = layers.DepthwiseConv2D(5, padding='same')(image)\n"
        "x = layers.Activation('gelu')(layers.LayerNormalization()(x)); x = layers.BatchNormalization()(x)\n"
        "stock = keras.Model(image, x); training = batchnorm.for_training(stock)\n"
        "assert sum(type(layer).__module__ == fused.__name__ for layer in training.layers) == 3\n"
        "a = np.random.default_rng(0).random((2, 9, 8, 4), np.float32)\n"
        "np.testing.assert_array_equal(training(a, training=True), stock(a, training=True))\n"
        "print(keras.backend.backend())"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "jax", done.stderr


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("trainable", [True, False])
def test_fused_batch_norm_in_half_precision_keeps_float32_statistics(precision, trainable):
    """As the stock layer under the same policy, which computes in float32 and rounds its output."""
    results = []
    for fuse in (True, False):
        stock = randomize(network(layers.BatchNormalization(momentum=0.5)))
        model = batchnorm.for_training(stock, fused=fuse, precision=precision)
        norm = model.layers[-1]
        norm.trainable = trainable
        # 100 times the mean: statistics in half precision would lose the variance.
        y = model(numbers(3, *model.input.shape[1:]) + 100, training=True)
        assert keras.backend.standardize_dtype(y.dtype) == precision
        results.append([np.asarray(y, np.float32), *norm.get_weights()])
    step = {"float16": 2**-10, "bfloat16": 2**-7}[precision]
    for ours, theirs, rounding in zip(*results, (step, 1e-6, 1e-6, 1e-5, 1e-4), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2 * rounding, atol=2 * rounding * np.abs(theirs).max())
