"""Losses over logits and label maps, ignore-aware, in ``keras.ops`` (any backend).

Shapes: B pictures, H x W label pixels, h x w logit pixels, K classes. Networks put out logits at their own stride; the
loss samples them bilinearly at the label's pixels, the same rule by which labels are made and scored.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

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
        per_pixel = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return ops.sum(per_pixel * weights) / ops.maximum(ops.sum(weights), 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "align_corners": self.align_corners}


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
