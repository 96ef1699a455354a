"""Optimizers and learning-rate schedules by name. Schedules run per step; averages of weights run with the updates.

A step is one batch, an update a change of the weights: they differ where gradients of several batches are accumulated,
and where float16 overflows. All state lies in the optimizer's ``variables``.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from deeplabv3p.training.config import TrainConfig

END_FRACTION = 0.01  # cosine, exponential and polynomial decay end at this share of the first learning rate
PIECEWISE = ((0.5, 0.1), (0.75, 0.01))  # behind this share of the steps, this share of the first learning rate
LOOKAHEAD_UPDATES, LOOKAHEAD_SHARE = 5, 0.5  # k and α of Zhang et al. 2019 (arXiv:1907.08610), section 4
MOMENTUM = 0.9  # of sgd
LOSS_SCALE = 2.0**15  # the first one
LOSS_SCALE_GROWTH = 2000  # steps without overflow, then it is doubled


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of a step: warm-up, then decay over the rest, times a factor that can change while training.

    With W warm-up steps, steps s = 0, 1, … of them have rate · (s + 1) / (W + 1): the first is not wasted on 0. Step W
    has the full rate, and the decay counts from there.
    """

    def __init__(self, rate: float, decay: Any, warmup_steps: int) -> None:
        """``decay``: the learning rate as a function of the steps since the warm-up."""
        super().__init__()
        self.rate, self.decay, self.warmup_steps = rate, decay, warmup_steps
        self.factor: Any = 1.0  # a variable of the optimizer as soon as there is one

    def __call__(self, step: Any) -> Any:
        """A float32 scalar."""
        rate = ops.cast(self.decay(ops.maximum(step - self.warmup_steps, 0)), "float32")
        if self.warmup_steps:
            rising = self.rate * (ops.cast(step, "float32") + 1.0) / (self.warmup_steps + 1.0)
            rate = ops.where(step < self.warmup_steps, rising, rate)
        return rate * self.factor


def make_schedule(config: TrainConfig, steps: int, warmup_steps: int = 0) -> Schedule:
    """The learning rate as a function of the step. ``steps`` is the stage's length, warm-up included."""
    rate, schedules, length = config.learning_rate, keras.optimizers.schedules, max(1, steps - warmup_steps)
    decay: Any = lambda step: rate  # noqa: E731
    if config.decay_type == "cosine":
        decay = schedules.CosineDecay(rate, length, alpha=END_FRACTION)
    elif config.decay_type == "exponential":
        decay = schedules.ExponentialDecay(rate, length, END_FRACTION)
    elif config.decay_type == "polynomial":
        decay = schedules.PolynomialDecay(rate, length, rate * END_FRACTION, power=0.9)
    elif config.decay_type == "piecewise_constant":
        boundaries = [max(1, int(share * length)) for share, _ in PIECEWISE]
        decay = schedules.PiecewiseConstantDecay(boundaries, [rate, *(rate * factor for _, factor in PIECEWISE)])
    return Schedule(rate, decay, warmup_steps)


class _Replicated(keras.optimizers.Optimizer):
    """A mixin that sums the gradients of all devices before anything looks at them, where TensorFlow mirrors the
    model. Keras does it last: each device would clip by the norm, and skip for the overflow, of its own part."""

    def apply_gradients(self, grads_and_vars: Any) -> Any:
        grads, variables = zip(*grads_and_vars, strict=True)
        return super().apply_gradients(zip(_summed(grads), variables, strict=True))

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars


class _LossScaling(_Replicated, keras.optimizers.LossScaleOptimizer):
    """Dynamic loss scaling (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2)."""


class _Averaging(keras.optimizers.Optimizer):
    """A mixin that keeps an average of each trained weight in the optimizer, so that it is part of the compiled step.

    Keras' own ``use_ema`` is not used: at the end of every ``fit`` it overwrites the weights with the average, it
    counts batches where gradients are accumulated, and it starts as slowly as it ends.
    """

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self.averages = self.add_optimizer_variables(variables, "average")
        for average, variable in zip(self.averages, variables, strict=True):
            average.assign(ops.copy(variable))  # JAX gives the buffer of a variable away; two must not share one

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        super().apply(grads, trainable_variables)
        weights = [ops.convert_to_tensor(variable) for variable in self._trainable_variables]
        averages = [ops.convert_to_tensor(average) for average in self.averages]
        due = self._iterations % (self.gradient_accumulation_steps or 1) == 0  # this batch made an update
        self._average(due, weights, averages)

    def _average(self, due: Any, weights: list[Any], averages: list[Any]) -> None:
        raise NotImplementedError

    def _assign(self, variables: list[keras.Variable], values: list[Any]) -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


class _MovingAverage(_Averaging):
    """a ← d·a + (1 − d)·w after each update, with d = min(decay, (1 + n) / (10 + n)) where n updates came before: a
    short run's average is not made of the first weights."""

    average_decay: float

    def _average(self, due: Any, weights: list[Any], averages: list[Any]) -> None:
        before = ops.cast(self.iterations - 1, "float32")
        keep = ops.minimum(self.average_decay, (1.0 + before) / (10.0 + before))
        self._assign(
            self.averages,
            ops.cond(
                due,
                lambda: [keep * a + (1.0 - keep) * w for a, w in zip(averages, weights, strict=True)],
                lambda: averages,
            ),
        )


class _Lookahead(_Averaging):
    """After every k updates, slow ← slow + α (fast − slow) and fast ← slow (arXiv:1907.08610, algorithm 1). The inner
    optimizer's moments stay as they are."""

    def _average(self, due: Any, weights: list[Any], averages: list[Any]) -> None:
        due = ops.logical_and(due, self.iterations % LOOKAHEAD_UPDATES == 0)

        def meet() -> tuple[list[Any], list[Any]]:
            slow = [s + LOOKAHEAD_SHARE * (w - s) for s, w in zip(averages, weights, strict=True)]
            return slow, slow

        slow, fast = ops.cond(due, meet, lambda: (averages, weights))
        self._assign(self.averages, slow)
        self._assign(self._trainable_variables, fast)


def _summed(grads: Any) -> Any:
    """The sum of the gradients of all devices of a TensorFlow strategy, on each; elsewhere as they are."""
    if keras.backend.backend() != "tensorflow":
        return grads
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return grads
    return context.all_reduce(tf.distribute.ReduceOp.SUM, list(grads))


_KINDS: dict[str, Any] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}
_AVERAGING: dict[str, type[_Averaging]] = {"ema": _MovingAverage, "lookahead": _Lookahead}


def make_optimizer(
    config: TrainConfig, schedule: Schedule, variables: list[keras.Variable]
) -> keras.optimizers.Optimizer:
    """The optimizer of ``config`` for ``variables``, built: its ``variables`` hold all of its state, those of the
    average, the accumulated gradients, the loss scale and the schedule's factor included.

    Weight decay is decoupled, w ← w − rate · decay · w (Loshchilov and Hutter, arXiv:1711.05101), for every optimizer,
    on kernels alone: whatever has one axis (biases, scales and offsets of norms) is spared.
    """
    kind = _KINDS[config.optimizer]
    mixins = [_AVERAGING[config.average_type]] if config.average_type in _AVERAGING else []
    optimizer = type(kind.__name__, (*mixins, _Replicated, kind), {"average_decay": config.average_decay})(
        schedule,
        weight_decay=config.weight_decay,
        global_clipnorm=config.clip_norm or None,
        gradient_accumulation_steps=config.accumulate_steps if config.accumulate_steps > 1 else None,
        **({"momentum": MOMENTUM, "nesterov": config.nesterov} if config.optimizer == "sgd" else {}),
    )
    schedule.factor = optimizer.add_variable(
        (), initializer="ones", dtype="float32", aggregation="only_first_replica", name="rate_factor"
    )
    optimizer.rate_factor = schedule.factor
    optimizer.exclude_from_weight_decay([variable for variable in variables if len(variable.shape) <= 1])
    if config.mixed_precision == "float16":
        optimizer = _LossScaling(optimizer, initial_scale=LOSS_SCALE, dynamic_growth_steps=LOSS_SCALE_GROWTH)
    optimizer.build(variables)
    return optimizer


def inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer inside a loss-scaling one, or itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)
