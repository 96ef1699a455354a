"""Losses over logits and label maps, ignore-aware, in ``keras.ops`` (any backend).

Shapes: B pictures, H x W label pixels, h x w logit pixels, K classes. Networks put out logits at their own stride; the
loss samples them bilinearly at the label's pixels, the same rule by which labels are made and scored.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from deeplabv3p.backend import on_tensorflow_cpu
from deeplabv3p.pixels import IGNORE


@keras.saving.register_keras_serializable(package="deeplabv3p")
class CrossEntropy(keras.losses.Loss):
    """Mean over the valid pixels of −log softmax(logits)[label]; 0 for a batch without any.

    ``y_true``: [B, H, W], labels 0 to K − 1 or ``IGNORE``. ``y_pred``: logits [B, h, w, K]. Returns a float32 scalar.
    A batch's pixels are averaged together, so a picture that is mostly ignored weighs less, not the same.
    """

    def __init__(self, align_corners: bool = False, name: str = "crossentropy") -> None:
        """``align_corners``: how the logits lie on the picture, as in the model's spec."""
        super().__init__(name=name, reduction=None, dtype="float32")
        self.align_corners = align_corners

    def call(self, y_true: Any, y_pred: Any) -> Any:
        logits = upsample(y_pred, y_true.shape[1:3], align_corners=self.align_corners)
        valid = ops.not_equal(y_true, IGNORE)
        labels = ops.cast(ops.where(valid, y_true, 0), "int32")
        weights = ops.cast(valid, "float32")
        per_pixel = cross_entropy(labels, logits)
        return ops.sum(per_pixel * weights) / ops.maximum(ops.sum(weights), 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "align_corners": self.align_corners}


def cross_entropy(labels: Any, logits: Any) -> Any:
    """−log softmax(logits)[label] of every pixel: int32 [B, H, W] below K, float32 [B, H, W, K] → float32 [B, H, W].

    Keras' own operation passes over the full-size logits many times. On a CPU the same formula as one kernel forward
    and one backward takes about half the time (B=4, 512x512, K=21, with resize and gradient: 195 → 114 ms of CPU).
    """
    if not on_tensorflow_cpu(logits):
        return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    return _fused_cross_entropy(tuple(logits.shape))(labels, logits)


@functools.cache  # one compilation a shape
def _fused_cross_entropy(shape: tuple[int | None, ...]) -> Any:
    """:func:`cross_entropy` for logits of ``shape``, compiled by XLA with its derivative (softmax − one-hot)."""
    import tensorflow as tf

    classes = shape[-1]

    def parts(labels: Any, logits: Any) -> tuple[Any, Any, Any, Any]:
        rows = tf.reshape(logits, (-1, classes))
        shifted = rows - tf.reduce_max(rows, -1, keepdims=True)
        powers = tf.exp(shifted)
        # Sums as products with ones: XLA runs them over all lanes, unlike a sum along a row.
        total = tf.matmul(powers, tf.ones((classes, 1)))
        return shifted, powers, total, tf.one_hot(tf.reshape(labels, (-1,)), classes)

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def forward(labels: Any, logits: Any) -> Any:
        shifted, _, total, chosen = parts(labels, logits)
        loss = tf.math.log(total) - tf.matmul(shifted * chosen, tf.ones((classes, 1)))
        return tf.reshape(loss, tf.shape(labels))

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def backward(labels: Any, logits: Any, upstream: Any) -> Any:
        _, powers, total, chosen = parts(labels, logits)
        gradient = (powers / total - chosen) * tf.reshape(upstream, (-1, 1))
        return tf.reshape(gradient, tf.shape(logits))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def fused(labels: Any, logits: Any) -> Any:
        return forward(labels, logits), lambda upstream: (None, backward(labels, logits, upstream))

    return fused


def upsample(logits: Any, size_hw: tuple[int, int], *, align_corners: bool = False) -> Any:
    """Logits [B, h, w, K] → float32 [B, H, W, K], bilinear, edge-clamped, with half-pixel centres or, with
    ``align_corners``, so that the corner pixels of both coincide."""
    logits = ops.cast(logits, "float32")
    if not align_corners:
        return ops.image.resize(logits, size_hw, interpolation="bilinear")
    rows, columns = (_corner_weights(n, grid) for n, grid in zip(size_hw, logits.shape[1:3], strict=True))
    return ops.einsum("Xw,bYwk->bYXk", columns, ops.einsum("Yh,bhwk->bYwk", rows, logits))


def _corner_weights(pixels: int, grid: int) -> npt.NDArray[np.float32]:
    """float32 [pixels, grid]: the share of each grid point in each pixel, both ends of the two axes coinciding."""
    where = np.linspace(0, grid - 1, pixels) if pixels > 1 else np.zeros(1)
    return np.asarray(np.maximum(0, 1 - np.abs(where[:, None] - np.arange(grid))), np.float32)
