"""One batch as all losses see it: computed once, however many terms a sum has."""

from __future__ import annotations

import functools
from typing import Any

from keras import ops

from deeplabv3p.backend import mean_over_devices
from deeplabv3p.losses.upsample import upsample
from deeplabv3p.pixels import IGNORE


class Batch:
    """Labels and logits of B pictures, H x W label pixels, h x w logit pixels, K classes.

    ``y_true``: [B, H, W], labels 0 to K − 1 or ``IGNORE``, of any dtype. ``y_pred``: logits [B, h, w, K], any float
    dtype. Everything here is float32, labels are int32.
    """

    def __init__(self, y_true: Any, y_pred: Any, align_corners: bool = False) -> None:
        """``align_corners``: how the logits lie on the picture, as in the model's spec."""
        self.y_true, self.y_pred, self.align_corners = y_true, y_pred, align_corners
        self.size_hw: tuple[int, int] = tuple(y_true.shape[1:3])
        self.num_classes: int = y_pred.shape[-1]

    @functools.cached_property
    def logits(self) -> Any:
        """[B, H, W, K]: at the label's pixels."""
        return upsample(self.y_pred, self.size_hw, align_corners=self.align_corners)

    @functools.cached_property
    def valid(self) -> Any:
        """[B, H, W]: 1, and 0 where the label is ignored."""
        return ops.cast(ops.not_equal(self.y_true, IGNORE), "float32")

    @functools.cached_property
    def labels(self) -> Any:
        """[B, H, W]: 0 to K − 1; 0 where the label is ignored."""
        return ops.cast(ops.where(ops.not_equal(self.y_true, IGNORE), self.y_true, 0), "int32")

    def sums_by_class(self, values: Any) -> Any:
        """Sums of ``values`` [B, H, W], which are 0 where ignored, over the pixels of each class: [B, K]."""
        # A pass over the labels for each class takes less time than one over B x H x W x K numbers.
        chosen = (ops.where(ops.equal(self.labels, label), values, 0.0) for label in range(self.num_classes))
        return ops.stack([ops.sum(of_class, (1, 2)) for of_class in chosen], -1)

    def thinned(self, step: int) -> Batch:
        """Every ``step``-th row and column of the label's pixels, with logits that are sampled at them alone."""
        if step == 1:
            return self
        start = step // 2
        thin = Batch(self.y_true[:, start::step, start::step], self.y_pred, self.align_corners)
        thin.logits = upsample(self.y_pred, self.size_hw, align_corners=self.align_corners, step=step)
        return thin


def weighted_mean(values: Any, weights: Any) -> Any:
    """Σ weights · values / Σ weights; 0 where all weights are 0. Weights are 0 or more. On several devices Σ weights is
    the mean of theirs, so that the mean of their results is that of the whole batch."""
    total = mean_over_devices(ops.sum(weights))
    return ops.sum(values * weights) / ops.where(total > 0, total, ops.ones_like(total))
