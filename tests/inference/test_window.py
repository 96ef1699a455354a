"""Sliding windows: which there are, and that what they say about a pixel is put together rightly."""

from __future__ import annotations

import numpy as np
import pytest
from example_spec import SPEC
from fake_engine import Pointwise, Subsampling, noise, pointwise_spec
from hypothesis import example, given
from hypothesis import strategies as st

from deeplabv3p.errors import UsageError
from deeplabv3p.inference import InferenceOptions, predict, predict_scores
from deeplabv3p.inference.views import anchors, make_views
from deeplabv3p.spec import Window

SIZES = st.integers(1, 70)


@st.composite
def windows(draw):
    """At most three windows over a pixel on each axis, so that there are not thousands."""
    height, width = draw(st.integers(3, 40)), draw(st.integers(3, 40))
    stride_hw = (draw(st.integers(-(-height // 3), height)), draw(st.integers(-(-width // 3), width)))
    return Window((height, width), stride_hw)


@given(length=SIZES, window=st.integers(1, 40), data=st.data())
def test_anchors_step_by_the_stride_and_the_last_is_aligned_to_the_end(length, window, data):
    stride = data.draw(st.integers(1, window))
    starts = anchors(length, window, stride)
    assert starts[0] == 0
    assert starts[-1] == max(length - window, 0)
    assert starts[:-1] == [index * stride for index in range(len(starts) - 1)]
    covered = {pixel for start in starts for pixel in range(start, start + window)}
    assert set(range(length)) <= covered
    assert len(set(starts)) == len(starts)


@pytest.mark.parametrize(("stride", "count"), [(512, 4), (480, 6)])
def test_the_number_of_windows_is_segmenters(stride, count):
    """A picture of 663x994: figures of the Segmenter code, whose windows are laid out by the same rule."""
    options = InferenceOptions(window=Window((512, 512), (stride, stride)))
    (view,) = make_views(SPEC.replace(input={"size_hw": None}), (663, 994), options)
    assert len(view.tiles) == count


@given(height=SIZES, width=SIZES, window=windows(), batch=st.integers(1, 4))
def test_windows_of_a_pointwise_model_equal_the_whole_picture_to_the_bit(height, width, window, batch):
    """Scores are whole numbers, so that sums and quotients are exact."""
    runtime = Pointwise(pointwise_spec())
    image = noise(height, width)
    options = InferenceOptions(window=window, window_batch=batch)
    np.testing.assert_array_equal(predict(runtime, image, options), image.argmax(axis=2))
    np.testing.assert_array_equal(predict_scores(runtime, image, options), predict_scores(runtime, image))


@given(height=SIZES, width=SIZES, window=windows(), scale=st.floats(0.2, 3))
@example(height=1, width=13, window=Window((3, 3), (1, 3)), scale=2.75)  # a pixel centre on the edge of two windows
def test_every_pixel_lies_in_a_window_at_any_scale(height, width, window, scale):
    (view,) = make_views(pointwise_spec(), (height, width), InferenceOptions(window=window, scales=(scale,)))
    seen = np.zeros((height, width), bool)
    for tile in view.tiles:
        seen[slice(*tile.rows), slice(*tile.columns)] = True
        for span, axis, size in (
            (tile.rows, tile.geometry.y, window.size_hw[0]),
            (tile.columns, tile.geometry.x, window.size_hw[1]),
        ):
            where = axis.scale * np.arange(*span) + axis.offset
            # Within the tensor, to the rounding of float64.
            assert (where >= -0.5 - 1e-9).all()
            assert (where < size - 0.5 + 1e-9).all()
    assert seen.all()


def test_where_windows_overlap_the_scores_are_their_mean():
    runtime = Pointwise(pointwise_spec(), shift=1)
    image = np.zeros((4, 20, 3), np.uint8)
    options = InferenceOptions(window=Window((4, 12), (4, 8)))
    # Class 0 of a window is its column, 0 to 11: the second window begins at column 8.
    column = np.arange(20.0)
    score = np.where(column < 8, column, np.where(column < 12, column - 4, column - 8))
    expected = np.exp(score) / (np.exp(score) + 2)
    # Logits up to 11 in float32, times the slope of a sigmoid: a few roundings of 1e-7.
    np.testing.assert_allclose(predict_scores(runtime, image, options)[0, :, 0], expected, atol=1e-6)


def test_the_last_run_is_padded_to_the_size_of_the_others():
    runtime = Pointwise(pointwise_spec())
    options = InferenceOptions(window=Window((10, 10), (10, 10)), window_batch=4)
    predict(runtime, noise(30, 20), options)
    assert [batch.shape for batch in runtime.batches] == [(4, 10, 10, 3)] * 2
    np.testing.assert_array_equal(runtime.batches[1][2], runtime.batches[1][1])


def test_a_batch_also_pads_the_run_of_a_whole_picture():
    """So a model file with a fixed batch of 2 can be used."""
    runtime = Pointwise(pointwise_spec())
    image = noise(30, 20)
    labels = predict(runtime, image, InferenceOptions(window_batch=2))
    assert runtime.batches[0].shape == (2, 30, 20, 3)
    np.testing.assert_array_equal(labels, image.argmax(axis=2))


def test_a_picture_smaller_than_the_window_is_padded_right_and_below():
    runtime = Pointwise(pointwise_spec())
    image = noise(5, 30)
    predict(runtime, image, InferenceOptions(window=Window((8, 16), (8, 16))))
    assert len(runtime.batches) == 2
    np.testing.assert_array_equal(runtime.batches[1][0, :5], image[:, 14:])
    np.testing.assert_array_equal(runtime.batches[1][0, 5:], np.full((3, 16, 3), 7))


def test_a_model_at_stride_4_sees_its_windows_where_they_are():
    """The windows start at pixels that are no multiple of 4. A ramp stays a ramp, but for the two pixels at the borders
    of a window, beyond the centres of its outermost cells: there a score is up to 1.5 steps off, and a grid that
    is one pixel off would show everywhere."""
    ramp = np.zeros((60, 90, 3), np.uint8)
    ramp[..., 0] = 2 * np.arange(90)
    ramp[..., 1] = 3 * np.arange(60)[:, None]
    spec = pointwise_spec(output={"stride": 4, "kind": "probabilities"})
    scores = predict_scores(Subsampling(spec), ramp, InferenceOptions(window=Window((24, 32), (13, 17))))
    error = np.abs(scores - ramp)
    assert error[..., 0].max() <= 1.5 * 2
    assert error[..., 1].max() <= 1.5 * 3
    # 6 windows down and 5 across have at most 2 · 2 pixels each where the score is off.
    assert (error[..., 0] == 0).mean() > 0.6
    assert (error[..., 1] == 0).mean() > 0.5


def test_the_window_of_the_spec_slides_without_options():
    spec = pointwise_spec(input={"resize": "window"}, window=Window((16, 16), (8, 8)))
    runtime = Pointwise(spec)
    image = noise(16, 40)
    np.testing.assert_array_equal(predict(runtime, image), image.argmax(axis=2))
    assert len(runtime.batches) == 4
    predict(runtime, image, InferenceOptions(window=Window((16, 40), (16, 40))))
    assert len(runtime.batches) == 5


def test_a_model_of_a_fixed_size_takes_windows_of_that_size():
    runtime = Subsampling(SPEC)
    image = noise(100, 200)
    predict(runtime, image, InferenceOptions(window=Window((64, 96), (36, 52))))
    assert {shape[:3] for shape in runtime.shapes} == {(1, 64, 96)}
    with pytest.raises(UsageError, match="takes 64x96 pixels, so the window must have that size, not 64x64"):
        predict(runtime, image, InferenceOptions(window=Window((64, 64), (36, 52))))


def test_windows_that_cannot_be():
    with pytest.raises(UsageError, match="leaves pixels out"):
        InferenceOptions(window=Window((8, 8), (9, 8)))
    with pytest.raises(UsageError, match="1 pixel or more"):
        InferenceOptions(window=Window((8, 8), (0, 8)))
    with pytest.raises(UsageError, match="does not say its size"):
        predict(Pointwise(pointwise_spec(input={"resize": "window"})), noise(4, 4))
    with pytest.raises(UsageError, match="leaves pixels out"):
        predict(Pointwise(pointwise_spec(input={"resize": "window"}, window=Window((4, 4), (5, 4)))), noise(4, 4))
    with pytest.raises(UsageError, match="1 or more windows"):
        InferenceOptions(window_batch=0)
