"""Batch normalization for training: unbiased statistics, TensorFlow's fused kernel, several devices, re-estimation.

Saved models hold stock ``keras.layers.BatchNormalization`` only. The layers here are swapped in for training with
:func:`for_training`, and weights are copied back by layer name when a checkpoint is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from deeplabv3p.models import graph
from deeplabv3p.models.fused import replacement

RAMP = 9  # until momentum is reached, the statistics are those of about the last tenth of a norm's updates
_SETTLED = 2.0**24  # where float32 stops counting; long before, momentum alone decides


class RampedBatchNormalization(layers.BatchNormalization):
    """The same function as stock batch normalization, with moving statistics that are unbiased from the first step on.

    The stock layer's begin at mean 0 and variance 1 and forget that only as fast as ``momentum`` says: after 300 steps
    at 0.99 a twentieth of it is left, which is a hundred times a variance of 5e-4. Here the update after n others
    keeps min(momentum, n / (n + 10)) of the old statistics: the first takes the batch's whole, and while weights move
    fast, statistics of weights that are long gone are forgotten fast.

    ``updates`` (float32 scalar) counts the updates. It is state, as that of a random generator: one of ``variables``,
    not of ``weights``. A frozen norm does not count.
    """

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.updates = self.add_weight(
            shape=(), initializer="zeros", dtype="float32", trainable=False, autocast=False, name="updates"
        )

    @property
    def weights(self) -> list[Any]:
        """Those of the stock layer."""
        return [weight for weight in super().weights if weight is not getattr(self, "updates", None)]

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not (training and self.trainable) or mask is not None:  # no network here has masks
            return super().call(inputs, training=training, mask=mask)
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))  # half precision would overflow
        axes = [axis for axis in range(len(x.shape)) if axis != self.axis % len(x.shape)]
        mean, variance = ops.moments(x, axes, synchronized=self.synchronized)
        self._move(mean, variance)
        outputs = ops.batch_normalization(
            x, mean, variance, axis=self.axis, offset=self.beta, scale=self.gamma, epsilon=self.epsilon
        )
        return ops.cast(outputs, self.compute_dtype)

    def _move(self, mean: Any, variance: Any) -> None:
        """Bring a batch's statistics (population variance), float32 [C], into the moving ones."""
        keep = ops.minimum(self.momentum, self.updates / (self.updates + (RAMP + 1.0)))
        self.moving_mean.assign(self.moving_mean * keep + mean * (1.0 - keep))
        self.moving_variance.assign(self.moving_variance * keep + variance * (1.0 - keep))
        self.updates.assign(self.updates + 1.0)


class FusedBatchNormalization(RampedBatchNormalization):
    """The same over [B, H, W, C], computed by TensorFlow's ``FusedBatchNormV3``: with the statistics of the batch in
    training, with the moving ones where it is frozen or not training. Composed of many small operations, as it is where
    it is synchronized or the backend is another, a training step of a depthwise network on a CPU is about 1.5 times
    slower (``benchmarks/train_step.py``).
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        fusable = not self.synchronized and mask is None and len(inputs.shape) == 4 and self.axis in (-1, 3)
        if not fusable or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        channels = inputs.shape[-1]
        scale = self.gamma.value if self.scale else tf.ones([channels])
        offset = self.beta.value if self.center else tf.zeros([channels])
        learning = bool(training and self.trainable)  # frozen or in use: the moving statistics normalize
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=scale,
            offset=offset,
            mean=tf.zeros([0]) if learning else self.moving_mean.value,
            variance=tf.zeros([0]) if learning else self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=learning,
        )
        if learning:
            # The kernel reports the sample variance (divided by n − 1); Keras averages that of the population.
            count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), variance.dtype)
            self._move(mean, variance * ((count - 1.0) / count))
        return outputs


def settle(model: keras.Model) -> None:
    """Let the batch norms of a network of :func:`for_training` count as long trained: momentum alone decides."""
    for layer in model.layers:
        if isinstance(layer, RampedBatchNormalization):
            layer.updates.assign(_SETTLED)


def set_momentum(model: keras.Model, momentum: float) -> None:
    """Let all batch norms keep ``momentum`` of the old statistics at each step (0.9: the last 10 steps count), those of
    :func:`for_training` less at first."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = momentum


def for_training(
    model: keras.Model, *, fused: bool = True, synchronized: bool = False, precision: str = "float32"
) -> keras.Model:
    """A clone for training: fused layers (see also :mod:`deeplabv3p.models.fused`), or batch norm whose statistics span
    all devices (then nothing is fused).

    ``precision``: "float16" or "bfloat16" is what all layers but the classifier compute in; weights, and the statistics
    of norms, stay float32.
    """
    synchronized = synchronized and keras.backend.backend() == "tensorflow"  # on JAX a batch is one, wherever it lies
    fused = fused and not synchronized

    def edit(layer: layers.Layer) -> layers.Layer | None:
        kind, config = type(layer), layer.get_config()
        if isinstance(layer, layers.BatchNormalization):
            kind = FusedBatchNormalization if fused else RampedBatchNormalization
            config["synchronized"] = synchronized
        elif fused:
            kind = replacement(layer) or kind
        if precision != "float32" and _may_be_half(layer):
            config["dtype"] = f"mixed_{precision}"
        return kind.from_config(config)

    return graph.clone(model, edit)


def _may_be_half(layer: layers.Layer) -> bool:
    """Whether a layer has a precision of its own that may be less than float32. Bare operations follow their input."""
    numeric = isinstance(layer, layers.Layer) and not isinstance(layer, layers.InputLayer)
    return numeric and not layer.name.startswith("logits")


def reestimate(model: keras.Model, batches: Iterable[np.ndarray]) -> None:
    """Replace the moving statistics by the plain average over ``batches`` (float32 [B, H, W, 3], normalised).

    Dropout is off meanwhile: the statistics are for inference, which has none. Useful after a short training, after
    averaging weights, and to make a randomly initialised network non-degenerate.
    """
    settle(model)
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    dropouts = [layer for layer in model.layers if isinstance(layer, layers.Dropout)]
    momenta, rates = [layer.momentum for layer in norms], [layer.rate for layer in dropouts]
    try:
        for layer in dropouts:
            layer.rate = 0.0
        for index, batch in enumerate(batches):
            for layer in norms:
                layer.momentum = index / (index + 1)  # the running mean of the first index + 1 batches
            model(batch, training=True)
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
        for layer, rate in zip(dropouts, rates, strict=True):
            layer.rate = rate
