"""Losses that are a weighted mean of the pixels' cross entropies, and what the weights are.

All maps are float32 [B, H, W], one value a label pixel; K is the number of classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from deeplabv3p.losses.batch import Batch, weighted_mean

_TINY = 1e-7  # smaller 1 − p are taken as this: a power below 1 has no derivative at 0


def class_weight_map(batch: Batch, class_weights: npt.NDArray[np.float32]) -> Any:
    """The weight [K] of each pixel's class; 0 where ignored."""
    return ops.take(ops.convert_to_tensor(class_weights, "float32"), batch.labels) * batch.valid


def adaptive_weight_map(batch: Batch) -> Any:
    """The classes of each picture balanced within it: n / (C · n_c) for its n valid pixels, n_c of the pixel's class,
    C classes present. All pixels of a picture together weigh n, as without weights; 0 where ignored."""
    counts = batch.sums_by_class(batch.valid)
    total = ops.sum(counts, -1, keepdims=True)
    present = ops.sum(ops.cast(counts > 0, "float32"), -1, keepdims=True)
    weights = total / ops.maximum(present * counts, 1.0)  # [B, K]
    pictures = ops.arange(ops.shape(batch.labels)[0], dtype="int32")[:, None, None]
    return ops.take(ops.reshape(weights, (-1,)), batch.labels + batch.num_classes * pictures) * batch.valid


def focal(cross_entropies: Any, weights: Any, alpha: float, gamma: float) -> Any:
    """Mean of α (1 − p)^γ (−log p), p the probability of the label (Lin et al. 2017, arXiv:1708.02002, equation 5).

    ``cross_entropies`` are −log p. With γ = 0 and α = 1 it is the cross entropy.
    """
    miss = ops.maximum(-ops.expm1(-cross_entropies), _TINY)  # 1 − p without cancellation
    return weighted_mean(alpha * ops.power(miss, gamma) * cross_entropies, weights)


def hardest(cross_entropies: Any, weights: Any, fraction: float) -> Any:
    """Weighted mean over the k valid pixels of the batch with the largest loss, k = ⌈fraction · valid⌉: online hard
    example mining (Shrivastava et al. 2016, arXiv:1604.03540) with pixels as examples. Pixels are valid where their
    weight is above 0; the weights do not decide which are hard. Pixels that tie at the border share what is left of k.
    """
    valid = weights > 0
    losses = ops.where(valid, ops.stop_gradient(cross_entropies), -1.0)
    k = ops.cast(ops.ceil(fraction * ops.sum(ops.cast(valid, "float32"))), "int32")
    border = _kth_largest(losses, k)
    above, equal = losses > border, ops.equal(losses, border)
    left, sharing = (ops.cast(count, "float32") for count in (k - _count(above), _count(equal)))
    share = left / ops.maximum(sharing, 1.0)
    chosen = ops.cast(above, "float32") + share * ops.cast(equal, "float32")
    return weighted_mean(cross_entropies, weights * chosen)


def _count(mask: Any) -> Any:
    """How many are true, int32: float32 stops counting at 16 million."""
    return ops.sum(ops.cast(mask, "int32"))


def _kth_largest(values: Any, k: Any) -> Any:
    """The k-th largest (k of 1 or more) of ``values`` of 0 and more; those below 0 do not take part. -1 for k = 0.

    Floats from 0 on are ordered as their bits are, so bisection over 31 bits finds it exactly. Each pass only counts:
    a quarter of the time of sorting two million values on a CPU, and on several devices no value has to move.
    """
    bits = ops.where(values < 0, -1, ops.view(ops.maximum(values, 0.0), dtype="int32"))
    border = ops.zeros((), "int32")
    for bit in reversed(range(31)):
        candidate = border + (1 << bit)
        border = ops.where(_count(bits >= candidate) >= k, candidate, border)
    return ops.where(k > 0, ops.view(border, dtype="float32"), -1.0)


def boundary_factor(batch: Batch, factor: float, width: int) -> Any:
    """``factor`` for pixels with a valid pixel of another class within ``width`` rows and columns, 1 for the others.

    A plain variant of the border weights of U-Net (Ronneberger et al. 2015, arXiv:1505.04597, equation 2).
    """
    labels = ops.cast(batch.labels, "float32")
    valid = batch.valid > 0
    largest = _window_maximum(ops.where(valid, labels, -1.0), width)
    smallest = -_window_maximum(ops.where(valid, -labels, -float(batch.num_classes)), width)
    return ops.where(largest > smallest, factor, 1.0)


def _window_maximum(values: Any, width: int) -> Any:
    """The maximum of [B, H, W] over windows of 2 · width + 1 rows and columns, clipped at the border."""
    for axis in (1, 2):
        size = values.shape[axis]
        reach = min(width, size - 1)
        padding = [(reach, reach) if i == axis else (0, 0) for i in range(3)]
        padded = ops.pad(values, padding, constant_values=-np.inf)
        shifted = [_cut(padded, axis, start, size) for start in range(2 * reach + 1)]
        values = shifted[0]
        for other in shifted[1:]:
            values = ops.maximum(values, other)
    return values


def _cut(values: Any, axis: int, start: int, size: int) -> Any:
    return values[:, start : start + size] if axis == 1 else values[:, :, start : start + size]
