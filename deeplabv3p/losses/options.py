"""Which loss to train with, as plain values: importing this loads no Keras."""

from __future__ import annotations

import dataclasses
from typing import Literal

WeightedType = Literal["None", "adaptive", "balanced"]


@dataclasses.dataclass(frozen=True)
class LossOptions:
    """The options of ``train.py`` that name the loss, under the same names.

    Attributes:
        loss: a name or a weighted sum of names, such as ``ce+0.5*dice``.
        weighted_type: class weights: none, from each picture, or from the whole dataset.
        label_smoothing: share of the target that is spread over all classes, 0 to below 1.
        focal_alpha: factor of the focal loss.
        focal_gamma: exponent of the focal loss, 0 or more.
        ohem_fraction: share of the valid pixels, the hardest ones, that OHEM averages over.
        boundary_weight: factor of the pixels near a boundary between classes in the boundary loss, 1 or more.
        boundary_width: how near, in label pixels.
    """

    loss: str = "crossentropy"
    weighted_type: WeightedType = "None"
    label_smoothing: float = 0.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    ohem_fraction: float = 0.25
    boundary_weight: float = 5.0
    boundary_width: int = 3
