"""Scores, by hand on 3x3 matrices and against scikit-learn on random label maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from deeplabv3p.metrics import Scores, confusion_matrix
from deeplabv3p.pixels import IGNORE


def test_scores_by_hand():
    # Truth 0: 4 right, 1 called 1. Truth 1: 2 right, 1 called 0, 1 called 2. Truth 2: 1 right.
    scores = Scores(np.array([[4, 1, 0], [1, 2, 1], [0, 0, 1]], np.int64))
    assert scores.total == 10
    assert scores.pa == pytest.approx(7 / 10)
    np.testing.assert_allclose(scores.accuracy, [4 / 5, 2 / 4, 1 / 1])
    assert scores.mpa == pytest.approx((0.8 + 0.5 + 1) / 3)
    np.testing.assert_allclose(scores.iou, [4 / 6, 2 / 5, 1 / 2])
    assert scores.miou == pytest.approx((4 / 6 + 2 / 5 + 1 / 2) / 3)
    assert scores.fwiou == pytest.approx(0.5 * 4 / 6 + 0.4 * 2 / 5 + 0.1 * 1 / 2)
    assert scores.classes_counted == 3


def test_a_class_that_is_neither_there_nor_predicted_counts_nowhere():
    scores = Scores(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]], np.int64))
    assert np.isnan(scores.iou[2])
    assert np.isnan(scores.accuracy[2])
    assert scores.classes_counted == 2
    assert scores.miou == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert scores.mpa == pytest.approx((3 / 4 + 1) / 2)


def test_a_class_that_is_only_predicted_counts_as_zero_iou_but_not_in_mpa():
    scores = Scores(np.array([[3, 0, 1], [0, 4, 0], [0, 0, 0]], np.int64))
    assert scores.iou[2] == 0
    assert scores.classes_counted == 3
    assert scores.miou == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert scores.mpa == pytest.approx((3 / 4 + 1) / 2)


def test_the_mean_over_the_truth_has_the_same_classes_for_every_prediction():
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    good = Scores(confusion_matrix(truth, np.array([[0, 0, 1, 2]], np.uint8), 4))
    other = Scores(confusion_matrix(truth, np.array([[0, 0, 0, 1]], np.uint8), 4))
    assert (good.classes_counted, other.classes_counted) == (3, 2)
    assert (good.classes_in_truth, other.classes_in_truth) == (2, 2)
    assert good.only_predicted == (2,)
    assert other.only_predicted == ()
    # One pixel of a third class turns the order of the two around.
    assert good.miou == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert other.miou == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert good.miou < other.miou
    assert good.miou_in_truth == pytest.approx((1 + 1 / 2) / 2)
    assert other.miou_in_truth == other.miou


def test_an_ignored_class_is_in_no_mean_and_its_predictions_are_errors():
    truth = np.array([[IGNORE, IGNORE, 1, 1, 2]], np.uint8)  # 0 in the files, which is ignored
    confusion = confusion_matrix(truth, np.array([[0, 1, 1, 0, 2]], np.uint8), 3)
    scores = Scores(confusion, ignored=0)
    assert np.isnan(scores.iou[0])
    np.testing.assert_allclose(scores.iou[1:], [1 / 2, 1])
    assert scores.miou == scores.miou_in_truth == 0.75
    assert scores.classes_counted == scores.classes_in_truth == 2
    assert scores.only_predicted == ()
    assert scores.pa == pytest.approx(2 / 3)
    assert Scores(confusion).miou == 0.5, "and this is what it was before"


@given(st.lists(st.integers(0, 5), min_size=25, max_size=25), st.sampled_from([None, 0, 3]))
def test_both_means_are_of_the_classes_they_say(cells, ignored):
    confusion = np.array(cells, np.int64).reshape(5, 5)
    if ignored is not None:
        confusion[ignored] = 0
    scores = Scores(confusion, ignored)
    for value, count, members in (
        (scores.miou, scores.classes_counted, [k for k in range(5) if not np.isnan(scores.iou[k])]),
        (scores.miou_in_truth, scores.classes_in_truth, [k for k in range(5) if confusion[k].any()]),
    ):
        assert count == len(members)
        assert ignored not in members
        np.testing.assert_allclose(value, np.mean(scores.iou[members]) if members else np.nan)
    assert np.isnan(scores.miou) or scores.miou <= scores.miou_in_truth or not scores.classes_in_truth


def test_nothing_scored_is_nan_not_zero():
    scores = Scores(np.zeros((3, 3), np.int64))
    assert all(np.isnan(value) for value in (scores.pa, scores.mpa, scores.miou, scores.fwiou))
    assert scores.classes_counted == 0


def test_ignored_pixels_count_nowhere_by_hand():
    truth = np.array([[0, 1, IGNORE], [1, IGNORE, 2], [2, 2, 0]], np.uint8)
    prediction = np.array([[0, 1, 2], [0, 0, 2], [2, 1, 0]], np.uint8)
    np.testing.assert_array_equal(confusion_matrix(truth, prediction, 3), [[2, 0, 0], [1, 1, 0], [0, 1, 2]])


@pytest.mark.parametrize(("truth", "prediction"), [(3, 0), (0, 3), (0, IGNORE), (254, 0)])
def test_a_value_that_is_no_class_is_refused(truth, prediction):
    with pytest.raises(ValueError, match="number of classes"):
        confusion_matrix(np.full((2, 2), truth, np.uint8), np.full((2, 2), prediction, np.uint8), 3)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="shapes"):
        confusion_matrix(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)


@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 30), ignored=st.floats(0, 0.9))
def test_agrees_with_scikit_learn(seed, classes, ignored):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, (13, 17)).astype(np.uint8)
    prediction = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, classes, truth.shape)).astype(np.uint8)
    truth[rng.random(truth.shape) < ignored] = IGNORE
    matrix = confusion_matrix(truth, prediction, classes)
    valid = truth != IGNORE
    if not valid.any():
        assert not matrix.any()
        return
    y, p, labels = truth[valid], prediction[valid], np.arange(classes)
    np.testing.assert_array_equal(matrix, reference.confusion_matrix(y, p, labels=labels))
    scores = Scores(matrix)
    assert scores.pa == pytest.approx(reference.accuracy_score(y, p))
    present = np.isin(labels, np.union1d(y, p))
    iou = reference.jaccard_score(y, p, labels=labels, average=None, zero_division=0)
    np.testing.assert_allclose(scores.iou[present], iou[present])
    assert np.isnan(scores.iou[~present]).all()
    assert scores.miou == pytest.approx(iou[present].mean())
    assert scores.fwiou == pytest.approx(
        reference.jaccard_score(y, p, labels=labels, average="weighted", zero_division=0)
    )
    in_truth = np.isin(labels, y)
    recall = reference.recall_score(y, p, labels=labels[in_truth], average="macro", zero_division=0)
    assert scores.mpa == pytest.approx(recall)


@given(seed=st.integers(0, 2**32 - 1))
def test_matrices_of_parts_add_up(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, 4, (2, 8, 9)).astype(np.uint8)
    whole = confusion_matrix(truth, prediction, 4)
    parts = confusion_matrix(truth[:3], prediction[:3], 4) + confusion_matrix(truth[3:], prediction[3:], 4)
    np.testing.assert_array_equal(whole, parts)
