"""The figures of the progress line."""

from __future__ import annotations

import time

import keras
import numpy as np
import pytest

from deeplabv3p.metrics import Scores, confusion_matrix
from deeplabv3p.pixels import IGNORE
from deeplabv3p.training.config import TrainConfig
from deeplabv3p.training.meter import Feed, StreamingMeanIoU
from deeplabv3p.training.optimizers import END_FRACTION, make_optimizer, make_schedule


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


@pytest.mark.parametrize("decay", ["None", "cosine", "exponential", "polynomial", "piecewise_constant"])
def test_schedules_start_and_end_where_they_say(decay):
    schedule = make_schedule(TrainConfig(decay_type=decay, learning_rate=0.1), 100)
    rates = [float(schedule(step)) if callable(schedule) else schedule for step in (0, 50, 100)]
    assert rates[0] == pytest.approx(0.1)
    if decay == "None":
        assert rates == [0.1] * 3
    else:
        assert rates[0] >= rates[1] >= rates[2]
        assert rates[2] == pytest.approx(0.1 * END_FRACTION, rel=1e-3)


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_weight_decay_spares_biases_and_norms(name):
    image = keras.Input((4, 4, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(2, 1, name="c")(image))
    model = keras.Model(image, x)
    for variable in model.trainable_variables:
        variable.assign(variable * 0 + 1)
    optimizer = make_optimizer(TrainConfig(optimizer=name, weight_decay=0.1), 0.5)
    optimizer.build(model.trainable_variables)
    zeros = [np.zeros(v.shape, np.float32) for v in model.trainable_variables]
    optimizer.apply(zeros)
    for variable in model.trainable_variables:
        expected = 1 - 0.5 * 0.1 if variable.path.endswith("kernel") else 1.0
        np.testing.assert_allclose(np.asarray(variable), expected, rtol=1e-6)
