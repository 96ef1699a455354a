"""Batch normalization for training: TensorFlow's fused kernel, statistics across devices, momentum, re-estimation.

Saved models hold stock ``keras.layers.BatchNormalization`` only. The layers here are swapped in for training with
:func:`for_training`, and weights are copied back by layer name when a checkpoint is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import layers

from deeplabv3p.models import graph
from deeplabv3p.models.fused import replacement


class FusedBatchNormalization(layers.BatchNormalization):
    """The same function and the same moving statistics as stock batch normalization, computed over [B, H, W, C] by
    TensorFlow's ``FusedBatchNormV3``: with the statistics of the batch in training, with the moving ones where it is
    frozen or not training. Keras 3 composes it from many small operations instead, which makes a training step of a
    depthwise network on a CPU about 1.5 times slower (``benchmarks/train_step.py``).
    Synchronized, or on another backend, it is the stock layer.
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
            variance = variance * ((count - 1.0) / count)
            self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1.0 - self.momentum))
            self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1.0 - self.momentum))
        return outputs


def set_momentum(model: keras.Model, momentum: float) -> None:
    """Let all batch norms keep ``momentum`` of the old statistics at each step (0.9: the last 10 steps count)."""
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
            kind = FusedBatchNormalization if fused else layers.BatchNormalization
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
