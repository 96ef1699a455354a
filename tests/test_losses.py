"""Cross entropy against a float64 NumPy oracle, with ignored pixels, on hand-made and random cases."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from deeplabv3p.losses.cross_entropy import CrossEntropy, upsample
from deeplabv3p.pixels import IGNORE


def oracle(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean of −log softmax over the valid pixels, float64; logits at the labels' size."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    valid = labels != IGNORE
    if not valid.any():
        return 0.0
    picked = np.take_along_axis(log_p, np.where(valid, labels, 0)[..., None].astype(int), -1)[..., 0]
    return float(-picked[valid].mean())


def value(labels: np.ndarray, logits: np.ndarray) -> float:
    return float(CrossEntropy()(labels, keras.ops.convert_to_tensor(logits)))


def test_by_hand():
    labels = np.array([[[0, 1], [IGNORE, 1]]], np.uint8)
    logits = np.zeros((1, 2, 2, 2), np.float32)
    assert value(labels, logits) == pytest.approx(np.log(2))
    logits[0, 0, 0] = (np.log(3), 0)  # probability 3/4 of the right class
    expected = -(np.log(3 / 4) + 2 * np.log(1 / 2)) / 3
    assert value(labels, logits) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ignored", [0.0, 0.3, 0.99, 1.0])
def test_against_the_oracle(ignored):
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 30, (2, 9, 11, 5)).astype(np.float32)  # large: a naive softmax would overflow in float16
    labels = rng.integers(0, 5, (2, 9, 11)).astype(np.uint8)
    labels[rng.random(labels.shape) < ignored] = IGNORE
    assert value(labels, logits) == pytest.approx(oracle(labels, logits), rel=1e-5, abs=1e-6)


def test_ignored_pixels_neither_count_nor_dilute():
    """A defect of plain Keras averaging: ignored pixels are divided by, so the loss shrinks with them."""
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(1, 4, 8, 3)).astype(np.float32), rng.integers(0, 3, (1, 4, 8)).astype(np.uint8)
    half = labels.copy()
    half[:, :, 4:] = IGNORE
    assert value(half, logits) == pytest.approx(oracle(labels[:, :, :4], logits[:, :, :4]), rel=1e-5)
    other = logits.copy()
    other[:, :, 4:] = 1000
    assert value(half, other) == value(half, logits)


def test_all_ignored_is_zero_with_zero_gradient():
    import tensorflow as tf

    logits = tf.Variable(np.random.default_rng(0).normal(size=(1, 2, 2, 3)).astype(np.float32))
    with tf.GradientTape() as tape:
        loss = CrossEntropy()(np.full((1, 8, 8), IGNORE, np.uint8), logits)
    assert float(loss) == 0
    assert not np.any(tape.gradient(loss, logits))


def test_gradient_is_checked_numerically():
    import tensorflow as tf

    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, (1, 5, 7)).astype(np.uint8)
    labels[0, 0] = IGNORE
    start = rng.normal(size=(1, 2, 3, 3)).astype(np.float32)
    logits = tf.Variable(start)
    with tf.GradientTape() as tape:
        loss = CrossEntropy()(labels, logits)
    gradient = np.asarray(tape.gradient(loss, logits))
    for index in [(0, 0, 0, 0), (0, 1, 2, 1), (0, 0, 1, 2)]:
        step = np.zeros_like(start)
        step[index] = 1e-2
        slope = (value(labels, start + step) - value(labels, start - step)) / 2e-2
        assert gradient[index] == pytest.approx(slope, abs=2e-4)  # central difference in float32


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
    np.testing.assert_allclose(np.asarray(upsample(logits, large, align_corners=align_corners))[0], expected, atol=1e-5)


def test_the_fused_kernel_gives_the_loss_and_the_gradient_of_keras_own(monkeypatch):
    import tensorflow as tf

    from deeplabv3p import losses

    rng = np.random.default_rng(3)
    labels = rng.integers(0, 21, (2, 33, 17)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.2] = IGNORE
    start = rng.normal(0, 40, (2, 9, 5, 21)).astype(np.float32)  # a naive softmax would overflow
    results = []
    for fused in (True, False):
        monkeypatch.setattr(losses, "on_tensorflow_cpu", lambda values, fused=fused: fused)
        logits = tf.Variable(start)
        with tf.GradientTape() as tape:
            loss = CrossEntropy()(labels, logits)
        results.append((float(loss), np.asarray(tape.gradient(loss, logits))))
    (ours, our_gradient), (theirs, their_gradient) = results
    assert ours == pytest.approx(theirs, rel=1e-6)
    # Gradients sum up to some hundred pixels in another order; float32 keeps 7 digits.
    np.testing.assert_allclose(our_gradient, their_gradient, atol=1e-6 * np.abs(their_gradient).max())
