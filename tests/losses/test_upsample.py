"""Logits at the label's pixels."""

from __future__ import annotations

import numpy as np
import pytest

from deeplabv3p.losses.upsample import upsample

SIZES = [((3, 4), (12, 16)), ((9, 13), (33, 49)), ((1, 1), (5, 6)), ((5, 5), (5, 5))]


@pytest.mark.parametrize(
    ("small", "large", "align_corners"),
    [*((*sizes, align) for sizes in SIZES for align in (False, True)), ((2, 3), (1, 1), True)],
)
def test_upsampling_is_the_rule_that_labels_are_made_by(small, large, align_corners):
    """Edge-clamped, half-pixel centres or corners aligned: the loss sees what `pixels.labels_from_output` samples."""
    logits = np.random.default_rng(3).normal(size=(1, *small, 2)).astype(np.float32)
    rows, columns = (
        np.arange(n) * ((s - 1) / (n - 1) if n > 1 else 0)
        if align_corners
        else np.clip((np.arange(n) + 0.5) * s / n - 0.5, 0, s - 1)
        for s, n in zip(small, large, strict=True)
    )
    expected = np.empty((*large, 2))
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, small[0] - 1), min(x0 + 1, small[1] - 1)
            top = logits[0, y0, x0] * (1 - (x - x0)) + logits[0, y0, x1] * (x - x0)
            bottom = logits[0, y1, x0] * (1 - (x - x0)) + logits[0, y1, x1] * (x - x0)
            expected[i, j] = top * (1 - (y - y0)) + bottom * (y - y0)
    whole = np.asarray(upsample(logits, large, align_corners=align_corners))[0]
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    thin = np.asarray(upsample(logits, large, align_corners=align_corners, step=3))[0]
    np.testing.assert_allclose(thin, expected[1::3, 1::3], atol=1e-5)
