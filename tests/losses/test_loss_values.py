"""Every loss against a float64 NumPy oracle: values, gradients, ignored pixels, absent classes, half precision.

The tests run on any backend: test_loss_jax.py runs some of them on JAX.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplabv3p.losses import batch, cross_entropy, overlap, weighting
from deeplabv3p.losses.make import make_loss
from deeplabv3p.losses.options import LossOptions, parse_loss
from deeplabv3p.pixels import IGNORE

CLASSES = 5
WEIGHTS = np.array([0.2, 1.0, 3.0, 0.7, 1.5])

CASES = {
    "ce": LossOptions(),
    "ce-smoothed-adaptive": LossOptions(weighted_type="adaptive", label_smoothing=0.125),
    "ce-balanced": LossOptions(weighted_type="balanced"),
    "focal": LossOptions("focal"),
    "focal-of-a-root-adaptive": LossOptions("focal", "adaptive", focal_alpha=1.0, focal_gamma=0.5),
    "ohem": LossOptions("ohem", ohem_fraction=0.25),
    "ohem-smoothed-balanced": LossOptions("ohem", "balanced", label_smoothing=0.25, ohem_fraction=0.0625),
    "boundary": LossOptions("boundary", boundary_width=1),
    "boundary-adaptive": LossOptions("boundary", "adaptive", boundary_weight=3.0, boundary_width=2),
    "dice": LossOptions("dice"),
    "lovasz": LossOptions("lovasz"),
    "sum": LossOptions("ce+0.5*dice+2*lovasz+0.25*focal", "adaptive"),
}
all_losses = pytest.mark.parametrize("options", CASES.values(), ids=CASES.keys())


# --- the oracle -------------------------------------------------------------------------------------------------------


def enlarged(logits: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Bilinear with half-pixel centres, float64 [B, H, W, K]."""
    for axis, pixels in ((1, size_hw[0]), (2, size_hw[1])):
        grid = logits.shape[axis]
        where = np.clip((np.arange(pixels) + 0.5) * grid / pixels - 0.5, 0, grid - 1)
        low = np.minimum(where.astype(int), max(grid - 2, 0))
        share = (where - low).reshape([-1 if i == axis else 1 for i in range(4)])
        high = np.minimum(low + 1, grid - 1)
        logits = np.take(logits, low, axis) * (1 - share) + np.take(logits, high, axis) * share
    return logits


def oracle(labels: np.ndarray, logits: np.ndarray, options: LossOptions) -> float:
    """The loss in float64, pixel by pixel and class by class as the formulas say it."""
    logits = enlarged(logits.astype(np.float64), labels.shape[1:3])
    if not (labels != IGNORE).any():
        return 0.0
    return sum(term.factor * _term(term.name, labels, logits, options) for term in parse_loss(options.loss))


def _term(name: str, labels: np.ndarray, logits: np.ndarray, options: LossOptions) -> float:
    valid = labels != IGNORE
    log_p = logits - logits.max(-1, keepdims=True)
    log_p = (log_p - np.log(np.exp(log_p).sum(-1, keepdims=True)))[valid]  # [N, K]
    y = labels[valid].astype(int)
    if name == "dice":
        return 1 - np.mean([_dice(np.exp(log_p[:, c]), y == c) for c in np.unique(y)])
    if name == "lovasz":
        return float(np.mean([_lovasz(np.abs((y == c) - np.exp(log_p[:, c])), y == c) for c in np.unique(y)]))
    weights = _pixel_weights(labels, options)[valid]
    losses = -log_p[np.arange(len(y)), y]
    if name == "focal":
        losses = options.focal_alpha * (1 - np.exp(-losses)) ** options.focal_gamma * losses
        return float(np.average(losses, weights=weights))
    losses = (1 - options.label_smoothing) * losses - options.label_smoothing * log_p.mean(-1)
    if name == "ohem":
        hardest = np.argsort(-losses)[: int(np.ceil(options.ohem_fraction * len(losses)))]
        return float(np.average(losses[hardest], weights=weights[hardest]))
    if name == "boundary":
        weights = weights * _boundary(labels, options)[valid]
    return float(np.average(losses, weights=weights))


def _pixel_weights(labels: np.ndarray, options: LossOptions) -> np.ndarray:
    weights = np.ones(labels.shape)
    for i, picture in enumerate(labels):
        present = np.unique(picture[picture != IGNORE])
        for c in present:
            balanced = (picture != IGNORE).sum() / (len(present) * (picture == c).sum())
            factor = {"None": 1.0, "adaptive": balanced, "balanced": WEIGHTS[c]}[options.weighted_type]
            weights[i][picture == c] = factor
    return weights


def _boundary(labels: np.ndarray, options: LossOptions) -> np.ndarray:
    factor, reach = np.ones(labels.shape), options.boundary_width
    for b, i, j in np.ndindex(labels.shape):
        window = labels[b, max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1]
        if np.any((window != labels[b, i, j]) & (window != IGNORE)):
            factor[b, i, j] = options.boundary_weight
    return factor


def _dice(p: np.ndarray, truth: np.ndarray) -> float:
    return 2 * p[truth].sum() / (p.sum() + truth.sum())


def _lovasz(errors: np.ndarray, truth: np.ndarray) -> float:
    """Σ error · growth of the Jaccard loss as the pixels, from the most wrong on, are added to the wrong ones."""
    total, before, wrong = 0.0, 0.0, np.zeros(len(errors), bool)
    for i in np.argsort(-errors, kind="stable"):
        wrong[i] = True
        union = truth.sum() + (wrong & ~truth).sum()
        now = 1 - (truth & ~wrong).sum() / union
        total += errors[i] * (now - before)
        before = now
    return total


# --- helpers ----------------------------------------------------------------------------------------------------------


def build(options: LossOptions) -> keras.losses.Loss:
    weights = WEIGHTS if options.weighted_type == "balanced" else None
    return make_loss(options, num_classes=CLASSES, align_corners=False, class_weights=weights)


def value_and_gradient(options: LossOptions, labels: np.ndarray, logits: np.ndarray, dtype: str = "float32"):
    """(float, float64 array), on TensorFlow or JAX."""
    loss, start = build(options), keras.ops.convert_to_tensor(logits, dtype)
    if keras.backend.backend() == "jax":
        import jax

        value, gradient = jax.jit(jax.value_and_grad(lambda x: loss(labels, x)))(start)
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(start)
            value = loss(labels, start)
        gradient = tape.gradient(value, start)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    return float(value), np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(gradient, "float32")), np.float64)


def sample(size_hw: tuple[int, int] = (8, 12), grid: tuple[int, int] = (4, 6), seed: int = 7, scale: float = 2.0):
    """Labels in blocks, so that not every pixel lies at a boundary, a sixth of the pixels ignored, and logits."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES - 1, (2, 2, 3)).repeat(size_hw[0] // 2, 1).repeat(size_hw[1] // 3, 2)
    labels = labels.astype(np.uint8)  # class 4 is absent
    labels[rng.random(labels.shape) < 1 / 6] = IGNORE
    return labels, (rng.normal(size=(2, *grid, CLASSES)) * scale).astype(np.float32)


# --- tests ------------------------------------------------------------------------------------------------------------


def test_cross_entropy_by_hand():
    labels = np.array([[[0, 1], [IGNORE, 1]]], np.uint8)
    logits = np.zeros((1, 2, 2, 2), np.float32)
    loss = make_loss(LossOptions(), num_classes=2, align_corners=False)
    assert float(loss(labels, logits)) == pytest.approx(np.log(2))
    logits[0, 0, 0] = (np.log(3), 0)  # probability 3/4 of the right class
    expected = -(np.log(3 / 4) + 2 * np.log(1 / 2)) / 3
    assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-6)


@all_losses
def test_value_and_gradient_equal_the_oracle(options):
    """The gradient against central differences of the float64 oracle: their error is far below float32's."""
    labels, logits = sample()
    value, gradient = value_and_gradient(options, labels, logits)
    assert value == pytest.approx(oracle(labels, logits, options), rel=2e-6)  # a few roundings in float32
    for index in np.random.default_rng(1).choice(logits.size, 40, replace=False):
        step = np.zeros(logits.size)
        step[index] = 1e-6  # small against the distance of two errors, whose order losses with a sort depend on
        step = step.reshape(logits.shape)
        slope = (oracle(labels, logits + step, options) - oracle(labels, logits - step, options)) / 2e-6
        assert gradient.flat[index] == pytest.approx(slope, rel=1e-4, abs=1e-6)


@all_losses
def test_ignored_pixels_have_no_influence_and_no_gradient(options):
    labels, logits = sample(grid=(8, 12))  # a logit for each label pixel
    ignored = labels == IGNORE
    value, gradient = value_and_gradient(options, labels, logits)
    assert not np.any(gradient[ignored])
    assert np.all(np.any(gradient[~ignored], -1)) or options.loss in {"ohem", "lovasz"}, "the others have one"
    other = logits.copy()
    other[ignored] = np.random.default_rng(5).normal(size=other[ignored].shape) * 1e4
    changed, other_gradient = value_and_gradient(options, labels, other)
    assert changed == value
    np.testing.assert_array_equal(other_gradient, gradient)


@all_losses
def test_a_batch_without_valid_pixels_gives_0_and_a_gradient_of_0(options):
    labels, logits = sample()
    value, gradient = value_and_gradient(options, np.full_like(labels, IGNORE), logits)
    assert value == 0
    assert not np.any(gradient)


@all_losses
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_extreme_logits_in_half_precision_are_as_in_float64(options, dtype):
    """±10 000: exponentials overflow and differences are larger than half precision resolves; the loss is float32."""
    labels, logits = sample(scale=1.0)
    logits = np.where(logits > 1, 1e4, np.where(logits < -1, -1e4, logits)).astype(np.float32)
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(logits, dtype), "float32"))
    value, gradient = value_and_gradient(options, labels, logits, dtype)
    assert value == pytest.approx(oracle(labels, rounded, options), rel=1e-5)
    assert np.all(np.isfinite(gradient))


@all_losses
def test_a_picture_of_one_class_and_one_without_valid_pixels_are_averaged_safely(options):
    labels, logits = sample()
    labels[0] = 2
    labels[1] = IGNORE
    value, gradient = value_and_gradient(options, labels, logits)
    assert value == pytest.approx(oracle(labels, logits, options), rel=2e-6)
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient[0])
    assert not np.any(gradient[1])


def test_lovasz_of_large_pictures_is_that_of_every_second_row_and_column():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, CLASSES, (1, 8, 9)).repeat(32, 1).repeat(8, 2).astype(np.uint8)  # 256x72 > 128x128
    logits = rng.normal(size=(1, 16, 9, CLASSES)).astype(np.float32)
    assert 1 < labels[0].size / overlap.LOVASZ_PIXELS < 4
    value, gradient = value_and_gradient(LossOptions("lovasz"), labels, logits)
    thin_logits = enlarged(logits.astype(np.float64), labels.shape[1:3])[:, 1::2, 1::2]
    assert value == pytest.approx(oracle(labels[:, 1::2, 1::2], thin_logits, LossOptions("lovasz")), rel=1e-5)
    assert np.all(np.any(gradient, -1)), "every logit is seen by some pixel"


@given(
    values=st.lists(
        st.floats(0, 1e4, width=32, allow_subnormal=False) | st.sampled_from([0.0, 0.5, 0.5, -1.0]),
        min_size=1,
        max_size=30,
    ),
    place=st.floats(0, 1),
)
@settings(max_examples=30)
def test_the_kth_largest_is_exact_with_ties_too(values, place):
    taking_part = sorted((v for v in values if v >= 0), reverse=True)
    k = round(place * len(taking_part))
    found = float(weighting._kth_largest(keras.ops.convert_to_tensor(values, "float32"), k))
    assert found == (taking_part[k - 1] if k else -1)


def test_pixels_that_tie_share_what_is_left_of_the_hardest():
    losses, weights = np.float32([[[3, 1, 1, 1, 0]]]), np.ones((1, 1, 5), np.float32)
    found = float(weighting.hardest(losses, weights, 0.4))  # two of five: the 3 and a third of each 1
    assert found == pytest.approx((3 + 1) / 2)


def test_sums_over_millions_of_pixels_keep_their_precision():
    """TensorFlow's own sum over three axes is 0.3 % off here: it adds up each column in float32, one by one."""
    classes = 3
    labels = np.zeros((4, 512, 512), np.uint8)
    labels[:, 300:] = 1
    logits = np.zeros((4, 1, 1, classes), np.float32)
    logits[..., 0] = 3
    p = np.exp([3, 0, 0]) / np.exp([3, 0, 0]).sum()
    n = np.array([300, 212]) * 512 * 4
    expected = 1 - np.mean([2 * n[c] * p[c] / (n.sum() * p[c] + n[c]) for c in (0, 1)])
    loss = make_loss(LossOptions("dice"), num_classes=classes, align_corners=False)
    assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-5)


def test_the_logits_are_upsampled_once_for_all_terms(monkeypatch):
    sizes = []
    upsample = batch.upsample
    monkeypatch.setattr(batch, "upsample", lambda *a, **k: sizes.append(a) or upsample(*a, **k))
    labels, logits = sample()
    build(LossOptions("ce+dice+lovasz+ohem+boundary+focal"))(labels, logits)
    assert len(sizes) == 1


@pytest.mark.parametrize("options", [LossOptions(), LossOptions(label_smoothing=0.1), LossOptions("dice")])
def test_the_kernels_of_xla_give_what_plain_operations_give(options, monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("there are kernels of our own on TensorFlow only")
    labels, logits = sample(scale=40.0)  # a naive softmax would overflow
    results = []
    for compiled in (True, False):
        for module in (cross_entropy, overlap):
            monkeypatch.setattr(module, "on_tensorflow_cpu", lambda values, compiled=compiled: compiled)
        results.append(value_and_gradient(options, labels, logits))
    (ours, our_gradient), (theirs, their_gradient) = results
    assert ours == pytest.approx(theirs, rel=1e-6)
    # Gradients sum up some pixels in another order; float32 keeps 7 digits.
    np.testing.assert_allclose(our_gradient, their_gradient, atol=1e-6 * np.abs(their_gradient).max())
