"""Moving statistics of a training: unbiased from the first step on, whatever they were before, in every form."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from deeplabv3p.models import batchnorm, graph
from deeplabv3p.models.recompute import Recomputing

KINDS = {"fused": {}, "plain": {"fused": False}, "synchronized": {"synchronized": True}}
BATCHES = [np.random.default_rng(i).normal(0.2, 0.01, (2, 6, 5, 4)).astype(np.float32) for i in range(30)]


def network(momentum: float = 0.99) -> keras.Model:
    image = keras.Input((6, 5, 4))
    return keras.Model(image, layers.BatchNormalization(momentum=momentum, name="bn")(image))


def averages(momentum: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance after ``count`` updates, in float64."""
    mean, variance = np.zeros(4), np.ones(4)
    for n, batch in enumerate(BATCHES[:count]):
        keep = min(momentum, n / (n + batchnorm.RAMP + 1))
        mean = keep * mean + (1 - keep) * batch.mean((0, 1, 2), dtype=np.float64)
        variance = keep * variance + (1 - keep) * batch.astype(np.float64).var((0, 1, 2))
    return mean, variance


def assert_statistics(norm: layers.Layer, mean: np.ndarray, variance: np.ndarray) -> None:
    np.testing.assert_allclose(norm.moving_mean, mean, rtol=1e-5)
    # A form may take it as a difference of mean squares near 0.04, which float32 keeps to 4e-9: sums of 60 such were
    # up to 3e-8 off, of a variance of 1e-4.
    np.testing.assert_allclose(norm.moving_variance, variance, rtol=1e-3)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9999])
@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_those_of_the_batches_from_the_first_step_on(kind, momentum):
    """The pictures' variance is 1e-4, the one that a layer begins with 1."""
    model = batchnorm.for_training(network(momentum), **KINDS[kind])
    norm = model.get_layer("bn")
    for count, batch in enumerate(BATCHES, 1):
        model(batch, training=True)
        if count in (1, 2, 7, 30):
            assert_statistics(norm, *averages(momentum, count))
            np.testing.assert_allclose(norm.moving_variance, 1e-4, rtol=0.5)
    assert float(norm.updates) == len(BATCHES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_norm_and_one_in_use_do_not_count(kind):
    model = batchnorm.for_training(network(), **KINDS[kind])
    norm = model.get_layer("bn")
    model(BATCHES[0], training=False)
    norm.trainable = False
    model(BATCHES[0], training=True)
    assert float(norm.updates) == 0
    assert [w.tolist() for w in norm.get_weights()[2:]] == [[0.0] * 4, [1.0] * 4]
    norm.trainable = True  # the second stage
    model(BATCHES[0], training=True)
    assert_statistics(norm, *averages(0.99, 1))


def test_the_count_is_state_and_no_weight():
    """So weights go from and to stock networks by layer, and a saved file has none of it."""
    stock = network()
    model = batchnorm.for_training(stock)
    for batch in BATCHES[:3]:
        model(batch, training=True)
    norm = model.get_layer("bn")
    assert [v.name for v in model.weights] == [v.name for v in stock.weights]
    assert any(v is norm.updates for v in model.non_trainable_variables)
    graph.copy_weights(model, stock)
    assert_statistics(stock.get_layer("bn"), *averages(0.99, 3))
    assert type(stock.get_layer("bn")) is layers.BatchNormalization


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["fused", "plain"])
def test_half_precision_keeps_statistics_in_float32(kind, precision):
    model = batchnorm.for_training(network(), precision=precision, **KINDS[kind])
    for batch in BATCHES[:5]:
        model(batch, training=True)
    norm = model.get_layer("bn")
    assert {v.dtype for v in norm.variables} == {"float32"}
    # Pictures near 0.2 in steps of 1e-4 (float16) or 1e-3 (bfloat16), a tenth of their deviation.
    np.testing.assert_allclose(norm.moving_variance, averages(0.99, 5)[1], rtol=3e-2)


def test_a_segment_that_is_computed_twice_counts_once():
    image = keras.Input((6, 5, 4))
    x = image
    for name in "abcd":
        x = layers.Conv2D(4, 1, name=name)(layers.BatchNormalization(name=f"{name}_bn")(x))
    model = batchnorm.for_training(keras.Model(image, layers.Conv2D(2, 1, name="logits")(x)))
    model = Recomputing(model.inputs, model.outputs[0], model.name)
    assert len(model._segments) > 1
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    for batch in BATCHES[:3]:
        model.train_on_batch(batch, np.zeros((2, 6, 5, 2), np.float32))
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
    assert [float(model.get_layer(f"{name}_bn").updates) for name in "abcd"] == [3.0] * 4
    assert_statistics(model.get_layer("a_bn"), *averages(0.99, 3))


def test_reestimated_statistics_of_a_learning_network_are_the_plain_mean():
    model = batchnorm.for_training(network())
    batchnorm.reestimate(model, BATCHES[:4])
    mean = np.mean([batch.mean((0, 1, 2), dtype=np.float64) for batch in BATCHES[:4]], 0)
    variance = np.mean([batch.astype(np.float64).var((0, 1, 2)) for batch in BATCHES[:4]], 0)
    assert_statistics(model.get_layer("bn"), mean, variance)
