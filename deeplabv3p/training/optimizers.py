"""Optimizers and learning-rate schedules by name; schedules run per step."""

from __future__ import annotations

from typing import Any

import keras

from deeplabv3p.training.config import TrainConfig

END_FRACTION = 0.01  # cosine, exponential and polynomial decay end at this share of the first learning rate
PIECEWISE = ((0.5, 0.1), (0.75, 0.01))  # behind this share of the steps, this share of the first learning rate
NO_DECAY = ("bias", "gamma", "beta")  # weight decay spares biases and norms


def make_schedule(config: TrainConfig, steps: int) -> Any:
    """The learning rate as a function of the step, or a float where it is constant. ``steps`` is the stage's length."""
    rate, schedules = config.learning_rate, keras.optimizers.schedules
    if config.decay_type == "cosine":
        return schedules.CosineDecay(rate, steps, alpha=END_FRACTION)
    if config.decay_type == "exponential":
        return schedules.ExponentialDecay(rate, steps, END_FRACTION)
    if config.decay_type == "polynomial":
        return schedules.PolynomialDecay(rate, steps, rate * END_FRACTION, power=0.9)
    if config.decay_type == "piecewise_constant":
        boundaries = [max(1, int(share * steps)) for share, _ in PIECEWISE]
        return schedules.PiecewiseConstantDecay(boundaries, [rate, *(rate * factor for _, factor in PIECEWISE)])
    return rate


def make_optimizer(config: TrainConfig, learning_rate: Any) -> keras.optimizers.Optimizer:
    """The optimizer of ``config`` with decoupled weight decay on kernels (0: none)."""
    decay = config.weight_decay or None
    optimizer: keras.optimizers.Optimizer
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(learning_rate, weight_decay=decay)
    elif config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=config.weight_decay)
    elif config.optimizer == "rmsprop":
        optimizer = keras.optimizers.RMSprop(learning_rate, weight_decay=decay)
    else:
        optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9, weight_decay=decay)
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=list(NO_DECAY))
    return optimizer
