"""Optimizers, schedules, clipping, accumulation, loss scaling, averages: each against what it claims, in NumPy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from deeplabv3p.training.config import TrainConfig
from deeplabv3p.training.optimizers import (
    END_FRACTION,
    LOOKAHEAD_UPDATES,
    LOSS_SCALE,
    MOMENTUM,
    inner,
    make_optimizer,
    make_schedule,
)

ROOT = Path(__file__).parents[2]
SGD = TrainConfig(optimizer="sgd", learning_rate=0.1)
START = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)


class Toy:
    """One matrix and an optimizer for it, on either backend."""

    def __init__(self, config: TrainConfig, steps: int = 100, warmup_steps: int = 0, start: Any = START) -> None:
        self.weight = keras.Variable(start, name="kernel")
        self.optimizer = make_optimizer(config, make_schedule(config, steps, warmup_steps), [self.weight])

    def step(self, gradient: Any) -> np.ndarray:
        """Apply a gradient of the (scaled) loss; returns the weight."""
        gradient = keras.ops.convert_to_tensor(np.broadcast_to(np.float32(gradient), START.shape))
        if keras.backend.backend() == "jax":  # as Keras' fit does it
            variables = [self.weight, *self.optimizer.variables]
            values = [variable.value for variable in variables]
            (weight,), state = self.optimizer.stateless_apply(values[1:], [gradient], values[:1])
            for variable, value in zip(variables, [weight, *state], strict=True):
                variable.assign(value)
        else:
            self.optimizer.apply([gradient], [self.weight])
        return np.array(self.weight)

    @property
    def average(self) -> np.ndarray:
        return np.array(inner(self.optimizer).averages[0])


def gradients(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *START.shape)).astype(np.float32)


def sgd(grads: np.ndarray, rates: Any, nesterov: bool = False) -> list[np.ndarray]:
    """The weights after each update (Sutskever et al. 2013, section 2, as Keras arranges it)."""
    weight, velocity, result = START.astype(np.float64), np.zeros_like(START, np.float64), []
    for gradient, rate in zip(grads, np.broadcast_to(rates, len(grads)), strict=True):
        velocity = MOMENTUM * velocity - rate * gradient
        weight = weight + (MOMENTUM * velocity - rate * gradient if nesterov else velocity)
        result.append(weight)
    return result


@pytest.mark.parametrize("decay", ["None", "cosine", "exponential", "polynomial", "piecewise_constant"])
def test_schedules_start_and_end_where_they_say(decay):
    schedule = make_schedule(TrainConfig(decay_type=decay, learning_rate=0.1), 100)
    rates = [float(schedule(step)) for step in (0, 50, 100)]
    assert rates[0] == pytest.approx(0.1)
    if decay == "None":
        assert rates == [rates[0]] * 3
    else:
        assert rates[0] >= rates[1] >= rates[2]
        assert rates[2] == pytest.approx(0.1 * END_FRACTION, rel=1e-3)


@pytest.mark.parametrize("decay", ["None", "cosine", "piecewise_constant"])
def test_the_warm_up_rises_to_the_full_rate_and_the_decay_counts_from_there(decay):
    config = TrainConfig(decay_type=decay, learning_rate=0.1)
    schedule, later = make_schedule(config, 50, 10), make_schedule(config, 40)
    rates = [float(schedule(step)) for step in range(51)]
    np.testing.assert_allclose(rates[:10], [0.1 * (step + 1) / 11 for step in range(10)], rtol=1e-6)
    assert rates[10] == pytest.approx(0.1), "at the border the rate is whole"
    np.testing.assert_allclose(rates[10:], [float(later(step)) for step in range(41)], rtol=1e-6)


def test_a_stage_that_is_shorter_than_the_warm_up_only_rises():
    schedule = make_schedule(TrainConfig(decay_type="cosine", learning_rate=0.1), 5, 10)
    assert [float(schedule(step)) for step in (0, 4)] == pytest.approx([0.1 / 11, 0.1 * 5 / 11])


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_follows_the_schedule_step_by_step(nesterov):
    toy = Toy(replace(SGD, decay_type="cosine", nesterov=nesterov), steps=6, warmup_steps=2)
    rates = [float(make_schedule(replace(SGD, decay_type="cosine"), 6, 2)(step)) for step in range(6)]
    for gradient, expected in zip(gradients(6), sgd(gradients(6), rates, nesterov), strict=True):
        np.testing.assert_allclose(toy.step(gradient), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_weight_decay_spares_biases_and_norms_and_nothing_else(name):
    """Every layer that has weights in a network of ours, depthwise kernels included; names do not matter."""
    image = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 1, name="beta_gamma_bias")(image)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Conv2DTranspose(4, 2, strides=2, name="transposed")(layers.BatchNormalization(name="norm")(x))
    x = layers.LayerNormalization(name="layer_norm")(layers.Dense(4, name="dense")(x))
    model = keras.Model(image, x)
    for variable in model.trainable_variables:
        variable.assign(variable * 0 + 1)
    config = TrainConfig(optimizer=name, weight_decay=0.1, learning_rate=0.5)
    optimizer = make_optimizer(config, make_schedule(config, 10), model.trainable_variables)
    optimizer.apply([np.zeros(v.shape, np.float32) for v in model.trainable_variables], model.trainable_variables)
    for variable in model.trainable_variables:
        expected = 1 - 0.5 * 0.1 if variable.path.endswith("kernel") else 1.0
        np.testing.assert_allclose(np.asarray(variable), expected, rtol=1e-6, err_msg=variable.path)
    assert {v.name for v in model.trainable_variables} == {"kernel", "bias", "gamma", "beta"}


def test_gradients_are_clipped_by_their_norm_together():
    weights = [keras.Variable(np.zeros(2, np.float32)), keras.Variable(np.zeros((1, 1), np.float32))]
    config = replace(SGD, clip_norm=1.0, learning_rate=1.0)
    optimizer = make_optimizer(config, make_schedule(config, 10), weights)
    optimizer.apply([np.float32([3, 0]), np.float32([[4]])], weights)
    np.testing.assert_allclose(np.asarray(weights[0]), [-0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(weights[1]), [[-0.8]], rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_accumulated_batches_are_one_update_with_their_mean(name):
    """Nothing moves in between, decay and clipping are of the mean, and Adam counts updates. The schedule counts
    batches: an update has the rate of its last batch."""
    config = replace(SGD, optimizer=name, clip_norm=0.5, weight_decay=0.1, decay_type="polynomial")
    parts = gradients(6)
    toy, whole = Toy(replace(config, accumulate_steps=3), steps=6), Toy(replace(config, decay_type="None"))
    schedule = make_schedule(config, 6)
    for update in range(2):
        for part in parts[3 * update : 3 * update + 3]:
            before, after = np.array(toy.weight), toy.step(part)
            assert np.array_equal(before, after) != np.array_equal(part, parts[3 * update + 2])
        whole.optimizer.rate_factor.assign(float(schedule(3 * update + 2)) / config.learning_rate)
        expected = whole.step(parts[3 * update : 3 * update + 3].mean(0))
        np.testing.assert_allclose(after, expected, rtol=1e-5)


def test_a_smaller_learning_rate_stays_smaller_and_is_part_of_the_state():
    config = replace(SGD, decay_type="cosine", mixed_precision="float16")
    toy = Toy(config, steps=10)
    before = float(toy.optimizer.learning_rate)
    factor = inner(toy.optimizer).rate_factor
    factor.assign(factor * 0.25)
    assert float(toy.optimizer.learning_rate) == pytest.approx(before / 4)
    toy.step(0.0)
    assert float(toy.optimizer.learning_rate) == pytest.approx(float(make_schedule(config, 10)(1)) / 4)
    assert any(v is factor for v in toy.optimizer.variables)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_moving_average_is_that_of_numpy(accumulate):
    """After each update, not each batch; the first updates count more."""
    toy = Toy(replace(SGD, average_type="ema", average_decay=0.4, accumulate_steps=accumulate))
    np.testing.assert_array_equal(toy.average, START)
    expected = START.astype(np.float64)
    for batch, gradient in enumerate(gradients(8)):
        weight = toy.step(gradient)
        updates, rest = divmod(batch + 1, accumulate)
        if rest == 0:
            keep = min(0.4, updates / (9 + updates))
            expected = keep * expected + (1 - keep) * weight
        np.testing.assert_allclose(toy.average, expected, rtol=1e-5)
    assert np.abs(toy.average - weight).max() > 0.01


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lookahead_is_that_of_numpy(accumulate):
    """Algorithm 1 of arXiv:1907.08610 with k = 5, α = 0.5 around SGD with momentum, over 11 updates."""
    toy = Toy(replace(SGD, average_type="lookahead", accumulate_steps=accumulate))
    slow = fast = START.astype(np.float64)
    velocity = np.zeros_like(slow)
    for update, gradient in enumerate(gradients(11), start=1):
        for _ in range(accumulate):
            weight = toy.step(gradient)
        velocity = MOMENTUM * velocity - 0.1 * gradient
        fast = fast + velocity
        if update % LOOKAHEAD_UPDATES == 0:
            slow = slow + 0.5 * (fast - slow)
            fast = slow
        np.testing.assert_allclose(weight, fast, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(toy.average, slow, rtol=1e-4, atol=1e-6)


def test_the_loss_scale_halves_on_overflow_skips_the_step_and_recovers(monkeypatch):
    monkeypatch.setattr("deeplabv3p.training.optimizers.LOSS_SCALE_GROWTH", 3)
    toy = Toy(replace(SGD, mixed_precision="float16", average_type="ema"))
    scale = toy.optimizer.dynamic_scale
    assert float(toy.optimizer.scale_loss(np.float32(1))) == LOSS_SCALE
    state = [np.array(v) for v in inner(toy.optimizer).variables]
    for bad in (np.inf, np.nan):
        np.testing.assert_array_equal(toy.step(bad), START)
    assert float(scale) == LOSS_SCALE / 4
    for before, after in zip(state, inner(toy.optimizer).variables, strict=True):
        np.testing.assert_array_equal(before, np.asarray(after), "a skipped step leaves schedule and averages alone")
    expected = sgd(np.ones((3, *START.shape)), 0.1)
    for weight in expected:
        np.testing.assert_allclose(toy.step(float(scale)), weight, rtol=1e-6)
    assert float(scale) == LOSS_SCALE / 2


EVERYTHING = {
    "optimizer": "adamw", "weight_decay": 0.1, "clip_norm": 1.0, "accumulate_steps": 3, "decay_type": "cosine",
    "mixed_precision": "float16",
}  # fmt: skip


@pytest.mark.parametrize("average", ["None", "ema", "lookahead"])
def test_variables_hold_all_of_the_state(average):
    """Copied into a new optimizer in the middle of an accumulation, they give bit-identical steps."""
    config = TrainConfig(average_type=average, **EVERYTHING)
    grads = gradients(20) * LOSS_SCALE
    grads[3] = np.inf
    first = Toy(config, steps=20, warmup_steps=4)
    inner(first.optimizer).rate_factor.assign(0.5)
    for gradient in grads[:11]:
        first.step(gradient)
    second = Toy(config, steps=20, warmup_steps=4, start=np.array(first.weight))
    for ours, theirs in zip(second.optimizer.variables, first.optimizer.variables, strict=True):
        ours.assign(np.array(theirs))
    for gradient in grads[11:]:
        np.testing.assert_array_equal(first.step(gradient), second.step(gradient))
    for ours, theirs in zip(second.optimizer.variables, first.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="runs the others")
def test_what_keras_does_its_own_way_on_jax_holds_there():
    pytest.importorskip("jax")
    chosen = "accumulated or average_is or lookahead_is or halves or clipped"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", chosen, __file__]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert re.search(r"\b8 passed", done.stdout), done.stdout[-3000:]
    assert "failed" not in done.stdout, done.stdout[-3000:]
