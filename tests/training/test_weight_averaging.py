"""Which weights are scored and saved: the last ones, the optimizer's average, or the mean of the ends of epochs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from deeplabv3p.models import batchnorm
from deeplabv3p.training.averaging import make_averager
from deeplabv3p.training.config import TrainConfig
from deeplabv3p.training.optimizers import make_optimizer, make_schedule

PICTURES = [np.random.default_rng(i).normal(size=(2, 8, 8, 3)).astype(np.float32) for i in range(3)]


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = layers.Dropout(0.5, name="aspp_dropout")(layers.Conv2D(4, 3, name="conv")(image))
    return keras.Model(image, layers.Conv2D(2, 1, name="logits")(layers.BatchNormalization(name="bn")(x)))


def learning(config: TrainConfig, frozen: str = "") -> tuple[keras.Model, keras.Model]:
    """(stock network, its twin with an optimizer)."""
    stock = network()
    model = batchnorm.for_training(stock)
    for layer in model.layers:
        layer.trainable = layer.name != frozen
    model.compile(make_optimizer(config, make_schedule(config, 10), model.trainable_variables), "mse")
    return stock, model


def step(model: keras.Model, seed: int) -> None:
    rng = np.random.default_rng(seed)
    variables = model.trainable_variables
    gradients = [keras.ops.convert_to_tensor(rng.normal(size=v.shape).astype(np.float32)) for v in variables]
    model.optimizer.apply(gradients, variables)


def nothing() -> list[np.ndarray]:
    raise AssertionError("no batch norm needs to be measured again")


def test_without_averaging_the_last_weights_are_written():
    stock, model = learning(TrainConfig(optimizer="sgd", learning_rate=0.1))
    averager = make_averager(TrainConfig(), model)
    step(model, 0)
    averager.write(stock, nothing)
    for ours, theirs in zip(stock.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert averager.variables == []


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_average_in_the_optimizer_is_written_and_the_model_goes_on_from_its_own(precision):
    config = TrainConfig(optimizer="sgd", average_type="ema", average_decay=0.9, mixed_precision=precision)
    stock, model = learning(config, frozen="conv")
    averager = make_averager(config, model)
    model.get_layer("bn").moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    first = model.get_weights()
    averager.write(stock, nothing)  # before any step the average is the first weights
    for ours, theirs in zip(stock.get_weights(), first, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    step(model, 0)
    after = model.get_weights()
    averager.write(stock, nothing)
    for weight, old, new, ours in zip(model.weights, first, after, stock.get_weights(), strict=True):
        # The first update keeps a tenth; statistics and frozen weights are as they are. Float32 rounding.
        expected = 0.1 * old + 0.9 * new if weight.trainable and weight.path.split("/")[0] != "conv" else new
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-7, err_msg=weight.path)
    for ours, theirs in zip(model.get_weights(), after, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_swa_is_the_mean_of_the_last_quarter_with_statistics_of_its_own():
    config = TrainConfig(optimizer="sgd", learning_rate=0.1, average_type="swa", total_epoch=8)
    stock, model = learning(config)
    averager, ends = make_averager(config, model), []
    for epoch in range(1, 9):
        step(model, epoch)
        averager.after_step(epoch)
        averager.end_epoch(epoch)
        if epoch == 6:
            averager.write(stock, nothing)
            np.testing.assert_array_equal(stock.get_weights()[0], model.get_weights()[0])
        ends.append(model.get_weights())
    averager.write(stock, lambda: PICTURES)
    for weight, *values, ours in zip(model.weights, *ends[6:], stock.get_weights(), strict=True):
        if "moving" not in weight.path:
            np.testing.assert_allclose(ours, np.mean(values, 0), rtol=1e-5, atol=1e-6, err_msg=weight.path)
    # The statistics, in NumPy: of what the averaged convolution puts out, without dropout.
    features = keras.Model(stock.inputs, stock.get_layer("conv").output)
    outputs = [np.asarray(features(batch), np.float64) for batch in PICTURES]
    norm = stock.get_layer("bn")
    np.testing.assert_allclose(norm.moving_mean, np.mean([o.mean((0, 1, 2)) for o in outputs], 0), atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, np.mean([o.var((0, 1, 2)) for o in outputs], 0), rtol=1e-4)


def test_the_state_of_swa_is_in_its_variables():
    config = TrainConfig(optimizer="sgd", learning_rate=0.1, average_type="swa", total_epoch=4)
    (stock, model), (other, twin) = learning(config), learning(config)
    averager, resumed = make_averager(config, model), make_averager(config, twin)
    step(model, 1)
    averager.end_epoch(4)
    for ours, theirs in zip(resumed.variables, averager.variables, strict=True):
        ours.assign(np.array(theirs))
    for ours, theirs in zip(twin.weights, model.weights, strict=True):
        ours.assign(np.array(theirs))
    averager.write(stock, lambda: PICTURES)
    resumed.write(other, lambda: PICTURES)
    for ours, theirs in zip(other.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
