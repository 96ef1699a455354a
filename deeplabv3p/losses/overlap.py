"""Losses that measure regions instead of pixels: dice and Lovász-softmax, over the classes that a batch holds.

Both average over the classes present among the valid labels of the batch, so a class that is absent neither counts nor
divides by 0. They balance classes by themselves and take no class weights.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from keras import ops

from deeplabv3p.backend import mean_over_devices, on_tensorflow_cpu
from deeplabv3p.losses.batch import Batch

LOVASZ_PIXELS = 128 * 128
"""More label pixels than this in a picture are thinned out before Lovász-softmax sorts them."""


def dice(batch: Batch) -> Any:
    """1 − mean over present classes of 2 Σ p y / (Σ p + Σ y), sums over the valid pixels of the batch, p = softmax
    (Milletari et al. 2016, arXiv:1606.04797, section 3, without the squares)."""
    logits = batch.logits
    row_sums = _compiled_row_sums(tuple(logits.shape)) if on_tensorflow_cpu(logits) else _row_sums
    rows = row_sums(batch.labels, batch.valid, logits)
    # First rows, then pictures, then the batch: added up in turn, 2 million float32 make an error of 0.3 %.
    common, predicted, sizes = (mean_over_devices(ops.sum(ops.sum(values, 1), 0)) for values in rows)
    scores = 2 * common / ops.maximum(predicted + sizes, 1.0)
    return _mean_of_present(1 - scores, sizes)


def _row_sums(labels: Any, valid: Any, logits: Any) -> tuple[Any, Any, Any]:
    """Σ p y, Σ p and Σ y over the valid pixels of each row, each [B, H, K]."""
    classes = logits.shape[-1]
    powers = ops.exp(logits - ops.stop_gradient(ops.max(logits, -1, keepdims=True)))
    # A sum as a product with ones: XLA runs it over all lanes on a CPU, unlike a sum along a row.
    probabilities = valid[..., None] * powers / ops.matmul(powers, ops.ones((classes, 1)))
    truth = valid[..., None] * ops.one_hot(labels, classes, dtype="float32")
    return ops.sum(probabilities * truth, 2), ops.sum(probabilities, 2), ops.sum(truth, 2)


@functools.cache  # one compilation a shape
def _compiled_row_sums(shape: tuple[int | None, ...]) -> Any:
    """:func:`_row_sums` for logits of ``shape`` as one XLA kernel forward and one backward. On a CPU they take half the
    time of the single operations and keep none of their B x H x W x K results."""
    del shape
    import tensorflow as tf

    def derivative(labels: Any, valid: Any, logits: Any, *upstream: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            sums = _row_sums(labels, valid, logits)
        return tape.gradient(sums, logits, upstream)

    forward = tf.function(_row_sums, jit_compile=True, autograph=False)
    backward = tf.function(derivative, jit_compile=True, autograph=False)

    def compiled(labels: Any, valid: Any, logits: Any) -> Any:
        return forward(labels, valid, logits), lambda *up: (None, None, backward(labels, valid, logits, *up))

    return tf.custom_gradient(compiled)


def lovasz(batch: Batch) -> Any:
    """Lovász-softmax: the Jaccard loss of each present class, extended to errors |y − p| between 0 and 1, averaged
    (Berman et al. 2018, arXiv:1705.08790, equations 8 to 11, classes "present", over the batch).

    It sorts the errors of all pixels for each class. At 8 pictures of 512x512 and 11 classes that alone takes 4 s of
    CPU, twice the rest of a training step. So of pictures with more than ``LOVASZ_PIXELS`` pixels only every n-th row
    and column counts, n the smallest that suffices (here 4: 0.15 s), and the logits are sampled at them alone.
    """
    height, width = batch.size_hw
    step = max(1, math.ceil(math.sqrt(height * width / LOVASZ_PIXELS)))
    batch = batch.thinned(step)
    classes = batch.num_classes
    valid = ops.reshape(batch.valid, (1, -1))
    probabilities = ops.transpose(ops.reshape(ops.softmax(batch.logits), (-1, classes)))
    truth = ops.cast(ops.equal(ops.reshape(batch.labels, (1, -1)), ops.arange(classes)[:, None]), "float32") * valid
    errors = valid * ops.abs(truth - probabilities)  # [K, pixels]
    order = ops.argsort(ops.stop_gradient(ops.where(valid > 0, -errors, 1.0)), axis=-1)  # ignored pixels last
    truth, errors = (ops.take_along_axis(values, order, axis=-1) for values in (truth, errors))
    sizes = ops.sum(truth, -1)
    missed = sizes[:, None] - ops.cumsum(truth, -1)  # of the class, not yet among the wrong pixels
    union = sizes[:, None] + ops.cumsum(1 - truth, -1)
    # How much each pixel, added to the wrong ones before it, makes the Jaccard loss 1 - missed / union grow. As a
    # difference of two losses it would lose most of its digits: among a million pixels it is about 1e-6.
    growth = ops.where(truth > 0, 1.0, missed / ops.maximum(union - 1, 1.0)) / ops.maximum(union, 1.0)
    return _mean_of_present(ops.sum(errors * ops.stop_gradient(growth), -1), sizes)


def _mean_of_present(losses: Any, sizes: Any) -> Any:
    """Mean of the classes' losses [K] where their sizes [K] are above 0; 0 where no class is present."""
    present = ops.cast(sizes > 0, "float32")
    return ops.sum(losses * present) / ops.maximum(ops.sum(present), 1.0)
