"""The figures of the progress line."""

from __future__ import annotations

import time

import keras
import numpy as np
import pytest

from deeplabv3p.metrics import Scores, confusion_matrix
from deeplabv3p.pixels import IGNORE
from deeplabv3p.training import meter
from deeplabv3p.training.meter import Feed, SaveClock, StreamingMeanIoU


def test_mean_iou_equals_the_scores_where_strides_are_equal():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (2, 6, 8)).astype(np.uint8)  # class 4 is in neither
    logits = rng.normal(size=(2, 6, 8, 5)).astype(np.float32)
    logits[..., 4] = -99
    truth[:, 0] = IGNORE
    metric = StreamingMeanIoU(5)
    metric.update_state(truth, keras.ops.convert_to_tensor(logits))
    expected = Scores(confusion_matrix(truth, logits.argmax(-1).astype(np.uint8), 5)).miou
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0


def test_an_ignored_class_is_not_in_the_mean():
    truth = np.array([[[IGNORE, 1, 1, 2]]], np.uint8)
    logits = keras.ops.one_hot(np.array([[[0, 1, 0, 2]]]), 3)
    metric = StreamingMeanIoU(3, ignored=0)
    metric.update_state(truth, logits)
    assert float(metric.result()) == pytest.approx(0.75)


def test_mean_iou_looks_at_the_centre_of_each_logit():
    truth = np.zeros((1, 4, 8), np.uint8)
    truth[:, :, 2::4] = 1  # (i + 0.5) · 4 = 2, 6
    logits = np.zeros((1, 1, 2, 2), np.float32)
    logits[..., 1] = 1
    metric = StreamingMeanIoU(2)
    metric.update_state(truth, keras.ops.convert_to_tensor(logits))
    assert float(metric.result()) == 1


def test_waiting_for_data_is_measured():
    def slow():
        for value in range(3):
            time.sleep(0.05)
            yield value, value

    feed = Feed(slow())
    batches = iter(feed)
    began = time.perf_counter()
    next(batches)
    assert feed.waited(began) >= 0.05
    next(batches)  # this one lies ready before its step begins
    assert feed.waited(time.perf_counter()) == 0


def test_states_are_saved_by_steps_and_by_time_but_not_all_the_time(monkeypatch):
    now = 0.0
    monkeypatch.setattr(meter.time, "monotonic", lambda: now)
    by_step, by_time, never = SaveClock(4, 0), SaveClock(0, 0.5), SaveClock(0, 0)
    assert [step for step in range(1, 10) if by_step.due(step)] == [4, 8]
    now = 29.9
    assert not by_time.due(1)
    now = 30.1
    assert by_time.due(1)
    by_time.saved(took=2.0)  # that is slow: the next is due after 200 seconds
    now = 200.0
    assert not by_time.due(2)
    now = 230.2
    assert by_time.due(2)
    assert not never.due(4)
