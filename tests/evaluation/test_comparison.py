"""The arithmetic of a certificate, against plain loops and known cases."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from example_spec import SPEC

from deeplabv3p.evaluation.comparison import (
    LogitError,
    Share,
    agreement,
    bootstrap_difference,
    boundary_band,
    float_output,
    in_truth,
    iou_parts,
    miou,
    same_geometry,
)
from deeplabv3p.metrics import Scores, confusion_matrix
from deeplabv3p.pixels import IGNORE

CLASSES = 4


def random_labels(seed, shape=(23, 31), classes=CLASSES):
    """Blocks of labels, so that there are boundaries and pixels far from any."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, classes, (3, 3), np.uint8)
    return small.repeat(-(-shape[0] // 3), axis=0).repeat(-(-shape[1] // 3), axis=1)[: shape[0], : shape[1]]


@pytest.mark.parametrize("distance", [1, 3, 5])
def test_the_band_is_what_a_loop_over_pixels_finds(distance):
    labels = random_labels(distance)
    expected = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        window = labels[max(0, y - distance) : y + distance + 1, max(0, x - distance) : x + distance + 1]
        expected[y, x] = (window != labels[y, x]).any()
    np.testing.assert_array_equal(boundary_band(labels, distance), expected)
    assert 0 < expected.mean() < 1 or distance == 5


def test_the_edge_of_the_picture_is_no_boundary():
    assert not boundary_band(np.full((20, 20), 7, np.uint8)).any()


def test_agreement_counts_everywhere_and_in_the_references_band():
    reference = np.zeros((20, 40), np.uint8)
    reference[:, 20:] = 1
    labels = reference.copy()
    labels[0, :3] = 2  # far from the boundary
    labels[5, 18:21] = 3  # beside it
    found = agreement(reference, labels)
    assert found.everywhere == Share(800 - 6, 800)
    assert found.band == Share(200 - 3, 200)  # 5 columns on either side
    assert (found.everywhere + Share(6, 200)).percent == 80
    # The band is the reference's: that of the other map would be larger here.
    assert agreement(reference, reference) == agreement(reference, reference)
    assert np.isnan(agreement(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)).band.percent)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_quantized_outputs_become_real_and_channels_last(layout):
    spec = dataclasses.replace(SPEC.output, layout=layout, scale=0.25, zero_point=-3)
    values = np.random.default_rng(0).integers(-128, 127, (5, 7, 3)).astype(np.int8)
    stored = values if layout == "NHWC" else values.transpose(2, 0, 1)
    # The difference does not fit into int8: it must not be taken there.
    np.testing.assert_array_equal(float_output(stored, spec), (values.astype(np.float32) + 3) * 0.25)


def test_outputs_are_subtracted_only_where_they_mean_the_same():
    assert same_geometry(SPEC, SPEC.replace(input={"dtype": "int8", "scale": 0.1, "zero_point": 0, "layout": "NCHW"}))
    for change in (
        {"input": {"size_hw": (65, 97)}},
        {"input": {"resize": "fit"}},
        {"output": {"stride": 8}},
        {"output": {"kind": "probabilities"}},
        {"output": {"align_corners": True}},
    ):
        assert not same_geometry(SPEC, SPEC.replace(**change)), change
    labels = SPEC.replace(output={"kind": "labels"})
    assert not same_geometry(labels, labels)


def test_logit_errors_add_up_over_pictures_of_all_sizes():
    rng = np.random.default_rng(0)
    error, differences = LogitError(), []
    for side in (3, 8):
        reference = rng.normal(size=(side, side, 2)).astype(np.float32)
        other = reference + rng.normal(size=reference.shape).astype(np.float32)
        differences.append(np.abs(other - reference).ravel())
        error.add(reference, other)
    every = np.concatenate(differences)
    assert (error.maximum, error.count, error.pictures) == (pytest.approx(every.max()), every.size, 2)
    assert error.mean == pytest.approx(every.mean(dtype=np.float64))
    assert np.isnan(LogitError().mean)


def test_an_engine_that_puts_out_nan_has_an_infinite_error():
    error = LogitError()
    error.add(np.zeros((1, 1, 2), np.float32), np.array([[[0, np.nan]]], np.float32))
    assert error.maximum == np.inf
    error.add(np.zeros((1, 1, 2), np.float32), np.ones((1, 1, 2), np.float32))
    assert error.maximum == np.inf


def test_miou_of_parts_is_that_of_the_scores():
    rng = np.random.default_rng(1)
    parts, confusion = [], np.zeros((CLASSES + 1, CLASSES + 1), np.int64)
    for seed in range(6):
        truth = random_labels(seed)
        prediction = np.where(rng.random(truth.shape) < 0.2, random_labels(seed + 50), truth)
        truth[rng.random(truth.shape) < 0.1] = IGNORE
        confusion += confusion_matrix(truth, prediction, CLASSES + 1)  # the last class is never there
        parts.append(iou_parts(truth, prediction, CLASSES + 1))
    whole = np.sum(parts, axis=0)
    assert miou(whole) == pytest.approx(Scores(confusion).miou, abs=1e-15)
    assert miou(whole, in_truth(whole)) == pytest.approx(Scores(confusion).miou_in_truth, abs=1e-15)
    np.testing.assert_allclose(miou(np.stack(parts)), [miou(item) for item in parts])
    assert np.isnan(miou(np.zeros((3, 2), np.int64)))


def noisy_parts(pictures, wrong, seed):
    rng = np.random.default_rng(seed)
    parts = []
    for index in range(pictures):
        truth = random_labels(index)
        moved = rng.random(truth.shape) < wrong * rng.random()
        parts.append(iou_parts(truth, np.where(moved, (truth + 1) % CLASSES, truth).astype(np.uint8), CLASSES))
    return np.stack(parts)


def test_the_interval_of_a_model_with_itself_is_nothing():
    parts = noisy_parts(20, 0.4, 0)
    assert bootstrap_difference(parts, parts) == dataclasses.replace(bootstrap_difference(parts, parts), low=0, high=0)


def test_the_interval_holds_the_difference_and_is_the_same_every_time():
    reference, other = noisy_parts(40, 0.2, 0), noisy_parts(40, 0.4, 1)
    difference = float(miou(other.sum(axis=0)) - miou(reference.sum(axis=0)))
    found = bootstrap_difference(reference, other)
    assert found.low < difference < found.high < 0
    assert found == bootstrap_difference(reference, other)
    assert found != bootstrap_difference(reference, other, seed=1)
    # Paired: the pictures' own difficulty cancels, so it is narrower than drawing each side on its own would be.
    turned = bootstrap_difference(reference, other[::-1])
    assert found.high - found.low < turned.high - turned.low


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """The difference over a large population, and 60 samples of 30 pictures: 95 % intervals hold it 57 times on
    average; fewer than 50 has a probability below 0.001."""
    reference, other = noisy_parts(600, 0.3, 2), noisy_parts(600, 0.5, 3)
    true = float(miou(other.sum(axis=0)) - miou(reference.sum(axis=0)))
    rng, hits = np.random.default_rng(4), 0
    for _ in range(60):
        drawn = rng.choice(600, 30)
        found = bootstrap_difference(reference[drawn], other[drawn])
        hits += found.low <= true <= found.high
    assert hits >= 50


def of_pictures(truths, predictions, ignored=None):
    return np.stack([iou_parts(t, p, CLASSES, ignored) for t, p in zip(truths, predictions, strict=True)])


def rows(*labels):
    return [np.full((4, 4), label, np.uint8) for label in labels]


def test_the_interval_is_over_the_same_classes_in_every_resample():
    """Class 2 is in one picture of 20, where one model finds half of it; all else is equal. Resamples that lack the
    picture would otherwise say that there is no difference."""
    truths = rows(*[0, 1] * 9, 0, 2)
    reference = of_pictures(truths, truths)
    half = [*truths[:-1], truths[-1].copy()]
    half[-1][:2] = 3  # a class that is not in the truth
    other = of_pictures(truths, half)
    whole = other.sum(axis=0)
    difference = float(miou(whole, in_truth(whole)) - 1)
    assert difference == pytest.approx(-0.5 / 3)
    found = bootstrap_difference(reference, other)
    assert (found.low, found.high) == (pytest.approx(difference), pytest.approx(difference))


def test_a_stray_pixel_of_an_absent_class_costs_no_class():
    """The one with the stray pixel is better; over the classes that either predicts it would look 20 points worse."""
    truths = rows(*[0, 1] * 10)
    worse, better = [t.copy() for t in truths], [t.copy() for t in truths]
    for picture in worse:
        picture[0, :2] = 1 - picture[0, :2]
    better[0][0, 0] = 2
    reference, other = of_pictures(truths, worse), of_pictures(truths, better)
    assert miou(other.sum(axis=0)) < miou(reference.sum(axis=0))
    found = bootstrap_difference(reference, other)
    assert 0 < found.low <= found.high


def test_an_ignored_class_has_no_parts():
    truth, prediction = np.full((2, 2), IGNORE, np.uint8), np.zeros((2, 2), np.uint8)
    truth[0], prediction[0, 0] = 1, 1
    parts = iou_parts(truth, prediction, CLASSES, ignored=0)
    assert not parts[:, 0].any()
    assert float(miou(parts)) == 0.5


def test_no_class_in_the_truth_has_no_interval():
    truths = rows(IGNORE, IGNORE)
    parts = of_pictures(truths, rows(0, 1))
    assert np.isnan(bootstrap_difference(parts, parts).low)


def test_one_picture_has_no_interval():
    parts = noisy_parts(1, 0.3, 0)
    assert np.isnan(bootstrap_difference(parts, parts).low)
    with pytest.raises(ValueError, match="shapes must be equal"):
        bootstrap_difference(parts, noisy_parts(2, 0.3, 0))
