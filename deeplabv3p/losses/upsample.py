"""Logits at the label's pixels, by the same bilinear rule by which labels are made and scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops


def upsample(logits: Any, size_hw: tuple[int, int], *, align_corners: bool = False, step: int = 1) -> Any:
    """Logits [B, h, w, K] → float32 [B, H, W, K], bilinear, edge-clamped, with half-pixel centres or, with
    ``align_corners``, so that the corner pixels of both coincide.

    ``step``: of the H x W pixels, only every ``step``-th row and column, from the middle of the first ``step`` on.
    """
    logits = ops.cast(logits, "float32")
    if step == 1 and not align_corners:
        return ops.image.resize(logits, size_hw, interpolation="bilinear")
    rows, columns = (
        _axis_weights(pixels, grid, align_corners)[step // 2 :: step]
        for pixels, grid in zip(size_hw, logits.shape[1:3], strict=True)
    )
    return ops.einsum("Xw,bYwk->bYXk", columns, ops.einsum("Yh,bhwk->bYwk", rows, logits))


def _axis_weights(pixels: int, grid: int, align_corners: bool) -> npt.NDArray[np.float32]:
    """float32 [pixels, grid]: the share of each grid point in each pixel."""
    where = np.arange(pixels, dtype=np.float64)
    where = where * ((grid - 1) / max(pixels - 1, 1)) if align_corners else (where + 0.5) * grid / pixels - 0.5
    where = np.clip(where, 0, grid - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(where[:, None] - np.arange(grid))), np.float32)
