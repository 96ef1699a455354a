"""Flip, scales and temperature: the mean of probabilities, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from example_spec import SPEC
from fake_engine import Pointwise, Subsampling, noise, pointwise_spec
from hypothesis import given
from hypothesis import strategies as st

from deeplabv3p.errors import UsageError
from deeplabv3p.inference import InferenceOptions, predict, predict_scores
from deeplabv3p.spec import Window

SIZES = st.integers(1, 50)
FLIP = InferenceOptions(flip=True)


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=2, keepdims=True))
    return shares / shares.sum(axis=2, keepdims=True)


@given(height=SIZES, width=SIZES, windowed=st.booleans())
def test_flip_changes_nothing_for_a_model_that_does_not_tell_left_from_right(height, width, windowed):
    runtime = Pointwise(pointwise_spec())
    image = noise(height, width)
    window = Window((16, 16), (11, 11)) if windowed else None
    scores = predict_scores(runtime, image, InferenceOptions(flip=True, window=window))
    np.testing.assert_array_equal(scores, predict_scores(runtime, image))


@given(height=SIZES, width=SIZES, windowed=st.booleans())
def test_with_flip_a_mirrored_picture_has_the_mirrored_result(height, width, windowed):
    """Also of a model that tells left from right, which alone does not have that."""
    runtime = Pointwise(pointwise_spec(), shift=30)
    options = InferenceOptions(flip=True, window=Window((16, 16), (11, 11)) if windowed else None)
    image = noise(height, width)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    np.testing.assert_array_equal(
        predict_scores(runtime, mirrored, options)[:, ::-1], predict_scores(runtime, image, options)
    )


def test_flip_averages_probabilities_not_logits():
    runtime = Pointwise(pointwise_spec(), shift=40)
    image = noise(8, 9)
    ramp = np.zeros((8, 9, 3))
    ramp[..., 0] = 40 * np.arange(9)
    logits, mirrored = image + ramp, image + ramp[:, ::-1]
    expected = (softmax(logits) + softmax(mirrored)) / 2
    np.testing.assert_allclose(predict_scores(runtime, image, FLIP), expected, atol=1e-6)  # float32 against float64
    labels = predict(runtime, image, FLIP)
    np.testing.assert_array_equal(labels, expected.argmax(axis=2))
    assert (labels != (logits + mirrored).argmax(axis=2)).any()
    assert (labels != predict(runtime, image)).any()


def test_scales_are_the_mean_of_each_scale_alone():
    runtime = Subsampling(SPEC.replace(input={"size_hw": None}))
    image = noise(64, 96)
    scales = (0.5, 1.0, 1.25)
    each = [predict_scores(runtime, image, InferenceOptions(scales=(scale,))) for scale in scales]
    assert not np.array_equal(each[0], each[1])
    together = predict_scores(runtime, image, InferenceOptions(scales=scales))
    np.testing.assert_allclose(together, sum(each) / 3, atol=1e-6)  # sums of three numbers below 1
    shapes = [shape[1:3] for shape in runtime.shapes]
    assert shapes[:3] == [(32, 48), (64, 96), (80, 120)]
    np.testing.assert_array_equal(each[1], predict_scores(runtime, image))


def test_the_longest_side_stays_the_bound_of_a_scaled_picture():
    runtime = Subsampling(SPEC.replace(input={"size_hw": None, "max_side": 96}))
    predict(runtime, noise(128, 192), InferenceOptions(scales=(0.5, 1.0, 2.0)))
    assert [shape[1:3] for shape in runtime.shapes] == [(32, 48), (64, 96), (64, 96)]
    runtime.shapes.clear()
    predict(runtime, noise(32, 32), InferenceOptions(scales=(2.0, 4.0)))
    assert [shape[1:3] for shape in runtime.shapes] == [(64, 64), (96, 96)]


def test_windows_slide_over_the_resized_picture():
    runtime = Subsampling(SPEC)
    predict(runtime, noise(128, 192), InferenceOptions(window=Window((64, 96), (64, 96)), scales=(0.5, 1.0, 1.5)))
    assert len(runtime.shapes) == 1 + 4 + 9
    constant = np.full((50, 70, 3), (30, 20, 10), np.uint8)
    spec = pointwise_spec(input={"pad_value": 20.0})
    options = InferenceOptions(window=Window((16, 16), (9, 9)), scales=(0.4, 1.0, 2.2), flip=True)
    expected = np.broadcast_to(softmax(constant[:1, :1].astype(float)), constant.shape)
    scores = predict_scores(Pointwise(spec), constant, options)
    np.testing.assert_allclose(scores, expected, atol=1e-6)  # the mean of six equal numbers


def test_a_model_of_a_fixed_size_has_no_scales_without_a_window():
    with pytest.raises(UsageError, match="needs a sliding window of that size: --window 64x96"):
        predict(Subsampling(SPEC), noise(64, 96), InferenceOptions(scales=(0.5, 1.0)))
    predict(Subsampling(SPEC), noise(64, 96), FLIP)


@pytest.mark.parametrize("scales", [(), (0.0,), (float("nan"),), (float("inf"),), (-1.0,), (0.5, 0.5)])
def test_scales_that_cannot_be(scales):
    with pytest.raises(UsageError, match="scale"):
        InferenceOptions(scales=scales)


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf")])
def test_temperatures_that_cannot_be(temperature):
    with pytest.raises(UsageError, match="temperature"):
        InferenceOptions(temperature=temperature)


def test_temperature_divides_logits():
    image = noise(8, 9)
    options = InferenceOptions(temperature=50.0)
    scores = predict_scores(Pointwise(pointwise_spec()), image, options)
    np.testing.assert_allclose(scores, softmax(image / 50.0), atol=1e-6)  # float32 against float64


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_probabilities_are_not_softmaxed_again(temperature):
    class Probable(Pointwise):
        def run(self, batch):
            return softmax(batch[0] / np.float32(40)).astype(np.float32)[None]

    runtime = Probable(pointwise_spec(output={"kind": "probabilities"}))
    image = noise(8, 9)
    scores = predict_scores(runtime, image, InferenceOptions(temperature=temperature, flip=True))
    # As of logits: p^(1/T), divided by the sum. Logarithms of probabilities down to e^-6 lose a digit.
    np.testing.assert_allclose(scores, softmax(image / 40 / temperature), atol=1e-5)


def test_a_probability_of_zero_stays_finite():
    class Sure(Pointwise):
        def run(self, batch):
            return np.broadcast_to(np.float32([1, 0, 0]), batch.shape)

    runtime = Sure(pointwise_spec(output={"kind": "probabilities"}))
    scores = predict_scores(runtime, noise(4, 4), InferenceOptions(temperature=2.0))
    np.testing.assert_allclose(scores, np.broadcast_to(np.float32([1, 0, 0]), (4, 4, 3)), atol=1e-6)


def test_quantized_scores_are_averaged_in_their_real_units():
    """int8 steps of 2 around zero point −3: softmax of the integers would be another distribution."""
    image = noise(16, 16) // 2
    quantized = Pointwise(pointwise_spec(output={"scale": 2.0, "zero_point": -3}), shift=3)
    exact = Pointwise(pointwise_spec(), shift=3)
    exact.run = lambda batch: (Pointwise.run(quantized, batch).astype(np.float32) + 3) * 2
    assert quantized.run(image[None].astype(np.float32)).dtype == np.int8
    for options in (InferenceOptions(), FLIP, InferenceOptions(window=Window((8, 8), (5, 5)), temperature=9.0)):
        np.testing.assert_array_equal(predict_scores(quantized, image, options), predict_scores(exact, image, options))
        np.testing.assert_array_equal(predict(quantized, image, options), predict(exact, image, options))
