"""The dense CRF: ours in NumPy beside pydensecrf2, what holds for any CRF, and large pictures in pieces."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from fake_engine import Pointwise, noise, pointwise_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.inference import CrfOptions, InferenceOptions, crf, predict, predict_scores
from deeplabv3p.inference.lattice import Lattice


def coarse_scores(image, classes, seed=0):
    """Probabilities such as a network has: a colour for each class, compared on a coarse grid, with noise."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    small = cv2.resize(image, (width // 16, height // 16), interpolation=cv2.INTER_AREA).astype(np.float32)
    centers = small.reshape(-1, 3)[rng.choice(small.shape[0] * small.shape[1], classes, replace=False)]
    logits = -((small[:, :, None] - centers) ** 2).sum(axis=3) / 800 + rng.normal(size=(*small.shape[:2], classes))
    logits = cv2.resize(logits.astype(np.float32), (width, height)).reshape(height, width, classes).transpose(2, 0, 1)
    shares = np.exp(logits - logits.max(axis=0))
    return (shares / shares.sum(axis=0)).astype(np.float32)


def numpy_refine(image, probabilities, options):
    return crf.refine_numpy(image, crf.unary_energy(probabilities), options)


def compiled_refine(image, probabilities, options):
    module = pytest.importorskip("pydensecrf.densecrf")
    return crf.refine_compiled(module, image, crf.unary_energy(probabilities), options)


BOTH = pytest.mark.parametrize("refine", [numpy_refine, compiled_refine])


@pytest.mark.parametrize(
    "options", [CrfOptions(), CrfOptions(5, gaussian_sxy=1.5, bilateral_sxy=20, bilateral_srgb=5, bilateral_compat=4)]
)
def test_ours_agrees_with_pydensecrf2_on_photographs(photographs, options):
    for image in np.ascontiguousarray(photographs[:, ::2, ::2]):
        probabilities = coarse_scores(image, 6)
        ours = numpy_refine(image, probabilities, options)
        theirs = compiled_refine(image, probabilities, options)
        assert (ours.argmax(axis=0) == theirs.argmax(axis=0)).mean() > 0.999
        # The same lattice: only the order of sums in float32 differs, which ten steps may enlarge.
        assert np.abs(ours - theirs).max() < 1e-3
        # And there was something to agree on.
        assert (ours.argmax(axis=0) != probabilities.argmax(axis=0)).mean() > 0.03


@BOTH
def test_labels_move_to_the_edge_of_the_picture(refine):
    image = np.full((60, 80, 3), (200, 30, 30), np.uint8)
    image[:, 40:] = (30, 30, 200)
    truth = np.zeros((60, 80), int)
    truth[:, 40:] = 1
    shifted = np.zeros((60, 80), bool)
    shifted[:, 46:] = True
    probabilities = np.stack([np.where(shifted, 0.3, 0.7), np.where(shifted, 0.7, 0.3)]).astype(np.float32)
    assert (probabilities.argmax(axis=0) == truth).mean() < 0.95
    np.testing.assert_array_equal(refine(image, probabilities, CrfOptions()).argmax(axis=0), truth)


@BOTH
def test_a_single_pixel_of_another_class_is_smoothed_away(refine):
    probabilities = np.stack([np.full((30, 30), 0.8), np.full((30, 30), 0.2)]).astype(np.float32)
    probabilities[:, 15, 15] = (0.2, 0.8)
    labels = refine(np.full((30, 30, 3), 90, np.uint8), probabilities, CrfOptions()).argmax(axis=0)
    assert not labels.any()


@BOTH
@settings(max_examples=15)
@given(height=st.integers(1, 20), width=st.integers(1, 20), classes=st.integers(2, 4), seed=st.integers(0, 99))
def test_uniform_probabilities_stay_uniform(refine, height, width, classes, seed):
    probabilities = np.full((classes, height, width), 1 / classes, np.float32)
    refined = refine(noise(height, width, seed), probabilities, CrfOptions())
    np.testing.assert_allclose(refined, probabilities, atol=1e-5)  # ten steps of float32


@BOTH
@settings(max_examples=15)
@given(height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 99))
def test_one_class_stays_certain_and_several_add_up_to_one(refine, height, width, seed):
    image = noise(height, width, seed)
    certain = refine(image, np.ones((1, height, width), np.float32), CrfOptions())
    np.testing.assert_array_equal(certain, np.ones_like(certain))
    shares = np.random.default_rng(seed).dirichlet((1, 1, 1), (height, width)).astype(np.float32).transpose(2, 0, 1)
    np.testing.assert_allclose(refine(image, shares, CrfOptions()).sum(axis=0), 1, atol=1e-5)  # float32


@BOTH
def test_a_constant_picture_keeps_its_label_and_gets_surer(refine):
    probabilities = np.empty((3, 40, 50), np.float32)
    probabilities[:] = np.array([0.3, 0.45, 0.25])[:, None, None]
    refined = refine(np.full((40, 50, 3), 128, np.uint8), probabilities, CrfOptions())
    assert (refined.argmax(axis=0) == 1).all()
    assert refined[1].min() > 0.99


@BOTH
def test_without_weights_nothing_changes(refine, photographs):
    image = np.ascontiguousarray(photographs[0, :64, :64])
    probabilities = coarse_scores(image, 4)
    options = CrfOptions(3, gaussian_compat=0, bilateral_compat=0)
    np.testing.assert_allclose(refine(image, probabilities, options), probabilities, atol=1e-5)  # exp of log


def test_classes_can_be_in_any_order(photographs):
    image = np.ascontiguousarray(photographs[1, :80, :100])
    probabilities = coarse_scores(image, 5)
    order = [3, 0, 4, 1, 2]
    np.testing.assert_allclose(
        numpy_refine(image, probabilities[order], CrfOptions()),
        numpy_refine(image, probabilities, CrfOptions())[order],
        atol=1e-4,  # sums over classes in another order, enlarged by ten steps
    )


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_the_lattice_is_nearly_a_gaussian(dimensions):
    """Against the sum over all pairs. The lattice is an approximation: the paper's own is off by some hundredths."""
    rng = np.random.default_rng(dimensions)
    points = rng.uniform(0, 3, (400, dimensions)).astype(np.float32)
    values = rng.uniform(0, 1, 400).astype(np.float32) + points[:, 0]
    exact = np.exp(-0.5 * ((points[:, None] - points) ** 2).sum(axis=2))
    lattice = Lattice(points)
    ours = lattice.filter(values) / lattice.filter(np.ones(400, np.float32))
    expected = exact @ values / exact.sum(axis=1)
    assert np.abs(ours - expected).mean() < 0.05
    assert np.corrcoef(ours, expected)[0, 1] > 0.99


@settings(max_examples=30)
@given(count=st.integers(1, 60), dimensions=st.integers(1, 5), spread=st.floats(0, 1e4), seed=st.integers(0, 99))
def test_the_lattice_is_linear_positive_and_keeps_constants(count, dimensions, spread, seed):
    rng = np.random.default_rng(seed)
    lattice = Lattice((spread * rng.normal(size=(count, dimensions))).astype(np.float32))
    ones = lattice.filter(np.ones(count, np.float32))
    assert (ones > 0).all()
    one, other = rng.uniform(0, 1, (2, count)).astype(np.float32)
    assert (lattice.filter(one) >= -1e-6).all()
    both = lattice.filter(one + np.float32(2) * other)
    np.testing.assert_allclose(both, lattice.filter(one) + 2 * lattice.filter(other), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(lattice.filter(np.full(count, 3, np.float32)) / ones, 3, rtol=1e-5)


@given(length=st.integers(1, 300), side=st.integers(1, 100), margin=st.integers(0, 40))
def test_pieces_cover_every_pixel_once_and_have_their_margin(length, side, margin):
    cuts = crf._cuts(length, side, margin)
    assert [pixel for (first, end), _ in cuts for pixel in range(first, end)] == list(range(length))
    for (first, end), outer in cuts:
        assert end - first <= side
        assert outer == (max(first - margin, 0), min(end + margin, length))


def test_a_large_picture_in_pieces_is_nearly_the_whole(photographs, monkeypatch):
    """What is left out lies three standard deviations away or more."""
    image = photographs[1]
    probabilities = coarse_scores(image, 3)
    options = CrfOptions(4, bilateral_sxy=15)

    def ask(rows, columns):
        return probabilities[:, slice(*rows), slice(*columns)]

    ((_, _, whole),) = crf.refine_pieces(image, ask, options)
    monkeypatch.setattr(crf, "_PIECE_BYTES", 4 * 3 * 190 * 190)
    labels = np.full(image.shape[:2], 255, np.uint8)
    count = 0
    for rows, columns, part in crf.refine_pieces(image, ask, options):
        labels[slice(*rows), slice(*columns)] = part.argmax(axis=0)
        count += 1
    assert count == 12
    assert (labels == whole.argmax(axis=0)).mean() > 0.99


def test_the_crf_refines_the_averaged_probabilities(monkeypatch):
    runtime = Pointwise(pointwise_spec())
    image = noise(30, 40)
    options = CrfOptions(2, bilateral_sxy=5)
    probabilities = predict_scores(runtime, image, InferenceOptions(temperature=60.0, flip=True))
    expected = crf.refine(image, np.moveaxis(probabilities, 2, 0), options)
    asked = InferenceOptions(temperature=60.0, flip=True, crf=options)
    np.testing.assert_array_equal(predict_scores(runtime, image, asked), np.moveaxis(expected, 0, 2))
    np.testing.assert_array_equal(predict(runtime, image, asked), expected.argmax(axis=0))
    assert (predict(runtime, image, asked) != probabilities.argmax(axis=2)).any()
    monkeypatch.setattr(crf, "_densecrf", lambda: None)
    assert crf.implementation() == "NumPy"
    ours = predict(runtime, image, asked)
    assert (ours == expected.argmax(axis=0)).mean() > 0.99


def test_what_cannot_be_refined():
    with pytest.raises(DataError, match="do not fit"):
        crf.refine(noise(4, 5), np.ones((2, 5, 4), np.float32), CrfOptions())
    for changes in ({"iterations": 0}, {"gaussian_sxy": 0.0}, {"bilateral_srgb": float("nan")}):
        with pytest.raises(UsageError, match="1 or more iterations and standard deviations above 0"):
            CrfOptions(**changes)
    with pytest.raises(UsageError, match="weights of a CRF"):
        CrfOptions(bilateral_compat=-1)
