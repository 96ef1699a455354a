"""From the options of a run to the loss it trains with."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from deeplabv3p.errors import UsageError
from deeplabv3p.losses import overlap, weighting
from deeplabv3p.losses.batch import Batch, weighted_mean
from deeplabv3p.losses.cross_entropy import cross_entropy
from deeplabv3p.losses.options import LossOptions, parse_loss


def make_loss(
    options: LossOptions,
    *,
    num_classes: int,
    align_corners: bool,
    class_weights: npt.NDArray[np.floating[Any]] | None = None,
) -> keras.losses.Loss:
    """The loss that ``options`` name.

    It takes labels [B, H, W], 0 to K − 1 or ``pixels.IGNORE``, and logits [B, h, w, K] of any float dtype, and gives a
    float32 scalar, computed in float32; 0 for a batch without valid pixels. On several devices of one process, ohem,
    dice and lovasz are those of each device's part of the batch, averaged; the others are those of the whole batch.

    Args:
        options: which loss.
        num_classes: K.
        align_corners: how the logits lie on the picture, as in the model's spec.
        class_weights: [K], 0 or more, for ``weighted_type`` "balanced" (``data.balance.balanced_weights``).

    Raises:
        UsageError: there are no class weights for "balanced", or not one a class.
    """
    weights = None
    if options.weighted_type == "balanced":
        if class_weights is None or np.shape(class_weights) != (num_classes,):
            shape = None if class_weights is None else list(np.shape(class_weights))
            raise UsageError(f"balanced class weights must be {num_classes} numbers, one a class, not {shape}.")
        weights = [float(weight) for weight in class_weights]
    return LossSum(options, align_corners, weights)


@keras.saving.register_keras_serializable(package="deeplabv3p")
class LossSum(keras.losses.Loss):
    """Σ factor · loss of the terms that ``options.loss`` names. What terms have in common is computed once: the logits
    at the label's pixels, the cross entropy of each pixel, the class weights.

    Class weights are weights of pixels, and losses over pixels are weighted means: Σ w l / Σ w, as in torch.
    """

    def __init__(
        self,
        options: LossOptions | dict[str, Any] | None = None,
        align_corners: bool = False,
        class_weights: list[float] | None = None,
        name: str = "loss",
    ) -> None:
        """``options``: None for the plain cross entropy; a dictionary in a saved configuration. The others as in
        :func:`make_loss`."""
        super().__init__(name=name, reduction=None, dtype="float32")
        self.options = LossOptions(**options) if isinstance(options, dict) else options or LossOptions()
        self.align_corners, self.class_weights = align_corners, class_weights
        self.terms = parse_loss(self.options.loss)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        view = _View(Batch(y_true, y_pred, self.align_corners), self.options, self.class_weights)
        parts = [term.factor * getattr(view, term.name)() for term in self.terms]
        return functools.reduce(ops.add, parts)

    def get_config(self) -> dict[str, Any]:
        return {
            "options": dataclasses.asdict(self.options),
            "align_corners": self.align_corners,
            "class_weights": self.class_weights,
            "name": self.name,
        }


class _View:
    """A batch with the maps that several terms need. A method for each name of ``options.LOSS_NAMES``."""

    def __init__(self, batch: Batch, options: LossOptions, class_weights: list[float] | None) -> None:
        self.batch, self.options, self.class_weights = batch, options, class_weights

    @functools.cached_property
    def weights(self) -> Any:
        if self.options.weighted_type == "adaptive":
            return weighting.adaptive_weight_map(self.batch)
        if self.class_weights is not None:
            return weighting.class_weight_map(self.batch, np.asarray(self.class_weights, np.float32))
        return self.batch.valid

    @functools.cached_property
    def plain(self) -> Any:
        return cross_entropy(self.batch.labels, self.batch.logits)

    @functools.cached_property
    def smoothed(self) -> Any:
        smoothing = self.options.label_smoothing
        return cross_entropy(self.batch.labels, self.batch.logits, smoothing) if smoothing else self.plain

    def crossentropy(self) -> Any:
        return weighted_mean(self.smoothed, self.weights)

    def focal(self) -> Any:
        return weighting.focal(self.plain, self.weights, self.options.focal_alpha, self.options.focal_gamma)

    def ohem(self) -> Any:
        return weighting.hardest(self.smoothed, self.weights, self.options.ohem_fraction)

    def boundary(self) -> Any:
        factor = weighting.boundary_factor(self.batch, self.options.boundary_weight, self.options.boundary_width)
        return weighted_mean(self.smoothed, self.weights * factor)

    def dice(self) -> Any:
        return overlap.dice(self.batch)

    def lovasz(self) -> Any:
        return overlap.lovasz(self.batch)
