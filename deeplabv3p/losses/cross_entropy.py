"""The cross entropy of every pixel, on which most losses rest."""

from __future__ import annotations

import functools
from typing import Any

from keras import ops

from deeplabv3p.backend import on_tensorflow_cpu


def cross_entropy(labels: Any, logits: Any, smoothing: float = 0.0) -> Any:
    """−Σ target · log softmax(logits) of every pixel: int32 [B, H, W] below K, float32 [B, H, W, K] → float32
    [B, H, W]. The target is 1 − ``smoothing`` at the label, plus ``smoothing`` / K at every class (Szegedy et al. 2016,
    arXiv:1512.00567, section 7).

    Keras' own operation passes over the full-size logits many times. On a CPU the same formula as one kernel forward
    and one backward takes about half the time (B=4, 512x512, K=21, with resize and gradient: 195 → 114 ms of CPU).
    """
    if on_tensorflow_cpu(logits):
        return _fused_cross_entropy(tuple(logits.shape), smoothing)(labels, logits)
    loss = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    if not smoothing:
        return loss
    return (1 - smoothing) * loss - smoothing * ops.mean(ops.log_softmax(logits), -1)


@functools.cache  # one compilation a shape
def _fused_cross_entropy(shape: tuple[int | None, ...], smoothing: float) -> Any:
    """:func:`cross_entropy` for logits of ``shape``, compiled by XLA with its derivative (softmax − target)."""
    import tensorflow as tf

    classes = shape[-1]
    rest = smoothing / (classes or 1)

    def parts(labels: Any, logits: Any) -> tuple[Any, Any, Any, Any]:
        rows = tf.reshape(logits, (-1, classes))
        shifted = rows - tf.reduce_max(rows, -1, keepdims=True)
        powers = tf.exp(shifted)
        # Sums as products with ones: XLA runs them over all lanes, unlike a sum along a row.
        total = tf.matmul(powers, tf.ones((classes, 1)))
        target = tf.one_hot(tf.reshape(labels, (-1,)), classes, on_value=1 - smoothing + rest, off_value=rest)
        return shifted, powers, total, target

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def forward(labels: Any, logits: Any) -> Any:
        shifted, _, total, target = parts(labels, logits)
        loss = tf.math.log(total) - tf.matmul(shifted * target, tf.ones((classes, 1)))
        return tf.reshape(loss, tf.shape(labels))

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def backward(labels: Any, logits: Any, upstream: Any) -> Any:
        _, powers, total, target = parts(labels, logits)
        gradient = (powers / total - target) * tf.reshape(upstream, (-1, 1))
        return tf.reshape(gradient, tf.shape(logits))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def fused(labels: Any, logits: Any) -> Any:
        return forward(labels, logits), lambda upstream: (None, backward(labels, logits, upstream))

    return fused
