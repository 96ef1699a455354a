"""Labels and scores at pixels against their definition written down plainly, to the bit, over geometries and scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplabv3p import sampling
from deeplabv3p.pixels import AxisMap, Geometry, class_planes, coordinates, dequantize, labels_from_output
from deeplabv3p.spec import OutputSpec

ULP = 2.0**-23


def spec(layout="NHWC", kind="logits", *, align_corners=False, scale=None, zero_point=None):
    return OutputSpec("scores", layout, kind, 4, align_corners, scale, zero_point)


def plain_coordinates(axis, picture, tensor, grid, align_corners):
    """As the library composes them, in float64: picture → grid in one linear map, clamped."""
    if align_corners:
        ratio, shift = ((grid - 1) / (tensor - 1) if tensor > 1 else 0.0), 0.0
    else:
        ratio = grid / tensor
        shift = 0.5 * ratio - 0.5
    return [min(max(axis.scale * ratio * i + (axis.offset * ratio + shift), 0.0), grid - 1.0) for i in range(picture)]


def plain(output, geometry, align_corners=False):
    """(scores, labels) by the definition, pixel by pixel, NumPy's float32 scalars rounding every step."""
    (height, width), (tensor_h, tensor_w), (grid_h, grid_w) = geometry.picture_hw, geometry.tensor_hw, output.shape[:2]
    ys = plain_coordinates(geometry.y, height, tensor_h, grid_h, align_corners)
    xs = plain_coordinates(geometry.x, width, tensor_w, grid_w, align_corners)
    one = np.float32(1)
    leaders = output.argmax(axis=2)
    scores = np.empty((height, width, output.shape[2]), np.float32)
    labels = np.empty((height, width), np.uint8)
    for i, y in enumerate(ys):
        top, v = int(y), np.float32(y - int(y))
        bottom = min(top + 1, grid_h - 1)
        for j, x in enumerate(xs):
            left, w = int(x), np.float32(x - int(x))
            right = min(left + 1, grid_w - 1)
            upper = output[top, left] * (one - w) + output[top, right] * w
            lower = output[bottom, left] * (one - w) + output[bottom, right] * w
            scores[i, j] = upper * (one - v) + lower * v
            around = {leaders[top, left], leaders[top, right], leaders[bottom, left], leaders[bottom, right]}
            labels[i, j] = around.pop() if len(around) == 1 else scores[i, j].argmax()
    return scores, labels


def scores_at(output, geometry, output_spec, rows=slice(None)):
    """[K, rows, W] as the library mixes them."""
    planes = class_planes(dequantize(output, output_spec), output_spec)
    y, x = coordinates(geometry, planes.shape[1:], output_spec.align_corners)
    return sampling.sample_scores(
        planes, sampling.neighbours(y[rows], planes.shape[1]), sampling.neighbours(x, planes.shape[2])
    )


def grid_of(kind, shape, seed):
    """Scores that reach the corners of the arithmetic: noise, few values (ties), values a rounding apart, tiny ones."""
    rng = np.random.default_rng(seed)
    if kind == "noise":
        values = rng.normal(0, 5, shape)
    elif kind == "ties":
        values = rng.integers(-1, 3, shape)
    elif kind == "roundings":
        values = rng.choice([1.0, -3.0, 1e4], shape) * (1 + ULP * rng.integers(-2, 3, shape))
    elif kind == "tiny":
        values = rng.integers(-3, 4, shape) * 1e-45
    else:  # regions with a class that leads: what models put out
        values = rng.normal(0, 1, shape) + 6 * (np.arange(shape[2]) == (np.arange(shape[1])[None, :, None] // 3))
    return values.astype(np.float32)


KINDS = ("noise", "ties", "roundings", "tiny", "regions")
sides = st.integers(1, 30)
maps = st.builds(AxisMap, st.floats(0.05, 20), st.floats(-30, 30))
geometries = st.builds(Geometry, st.tuples(sides, sides), st.tuples(sides, sides), maps, maps)


@given(
    geometry=geometries,
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 7)),
    kind=st.sampled_from(KINDS),
    layout=st.sampled_from(["NHWC", "NCHW"]),
    align_corners=st.booleans(),
    dense_share=st.sampled_from([-1.0, 0.5, 1.0]),
    chunk=st.sampled_from([1, 50, 32768]),
    seed=st.integers(0, 2**16),
)
def test_labels_are_the_definition_to_the_bit(
    *, geometry, shape, kind, layout, align_corners, dense_share, chunk, seed
):
    """Any linear map; blocks or all pixels; chunks and bands of any size."""
    output = grid_of(kind, shape, seed)
    given_output = np.ascontiguousarray(output.transpose(2, 0, 1)) if layout == "NCHW" else output
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "_DENSE_SHARE", dense_share)
        patch.setattr(sampling, "_CHUNK_PIXELS", chunk)
        patch.setattr(sampling, "_BAND_PIXELS", chunk)
        labels = labels_from_output(given_output, geometry, spec(layout, align_corners=align_corners))
    np.testing.assert_array_equal(labels, plain(output, geometry, align_corners)[1])


@given(
    geometry=geometries,
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)),
    kind=st.sampled_from(KINDS),
    layout=st.sampled_from(["NHWC", "NCHW"]),
    cut=st.integers(0, 30),
    seed=st.integers(0, 2**16),
)
def test_scores_are_the_definition_to_the_bit_in_any_bands(*, geometry, shape, kind, layout, cut, seed):
    output = grid_of(kind, shape, seed)
    given_output = output.transpose(2, 0, 1) if layout == "NCHW" else output
    expected = plain(output, geometry)[0].transpose(2, 0, 1)
    height = geometry.picture_hw[0]
    bands = [slice(cut), slice(cut, None)] if 0 < cut < height else [slice(None)]
    parts = [scores_at(given_output, geometry, spec(layout), rows) for rows in bands]
    assert parts[0].dtype == np.float32
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), expected)


def test_one_leader_all_around_wins_over_a_class_that_rounding_makes_equal():
    """The rule for one leader, where an argmax of the mixed scores would say 0: class 1 is one rounding ahead of class
    0 at both grid points, and both are mixed to the same number between them."""
    weight = np.float32(0.7)
    for step in range(1, 200):
        behind = np.float32([1, 1 + step * ULP])
        ahead = np.nextafter(behind, np.float32(2))
        mixed = [pair[0] * (np.float32(1) - weight) + pair[1] * weight for pair in (behind, ahead)]
        if mixed[0] == mixed[1]:
            break
    else:
        pytest.fail("no such pair of scores found")
    geometry = Geometry((1, 1), (1, 2), AxisMap(1.0, 0.0), AxisMap(1.0, float(weight)))
    output = np.stack([behind, ahead], axis=1)[None]
    assert labels_from_output(output, geometry, spec()) == 1
    assert scores_at(output, geometry, spec()).argmax() == 0


def test_a_class_that_leads_nowhere_can_win_between_the_leaders():
    output = np.array([[[10, 0, 9], [0, 10, 9]]], np.float32)
    geometry = Geometry((1, 3), (1, 2), AxisMap(1.0, 0.0), AxisMap(0.5, 0.0))
    np.testing.assert_array_equal(labels_from_output(output, geometry, spec()), [[0, 2, 1]])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_whole_numbers_are_sampled_as_their_float32(dtype):
    rng = np.random.default_rng(1)
    output = rng.integers(0, 7, (6, 5, 4)).astype(dtype)  # few values: many ties
    geometry = Geometry((31, 23), (24, 20), AxisMap(0.77, 0.1), AxisMap(0.9, -0.3))
    expected = plain(output.astype(np.float32), geometry)
    np.testing.assert_array_equal(labels_from_output(output, geometry, spec()), expected[1])
    quantized = spec(scale=0.25, zero_point=3)
    real = (output.astype(np.float32) - 3) * np.float32(0.25)
    np.testing.assert_array_equal(dequantize(output, quantized), real)
    scores = scores_at(output, geometry, quantized)
    np.testing.assert_array_equal(scores, plain(real, geometry)[0].transpose(2, 0, 1))


def test_dequantizing_real_numbers_changes_and_copies_nothing():
    output = np.ones((2, 2, 2), np.float32)
    assert dequantize(output, spec()) is output


def test_long_clamped_edges_cost_no_more_than_the_rest():
    """A crop: one grid cell covers most of the picture. Its pixels are cut into short runs: no block grows with it."""
    axis = sampling.neighbours(np.clip(np.linspace(-400, 30, 1000), 0, 9), 10)
    blocks = sampling._blocks(axis)
    assert len(blocks.pixels) <= 16
    covered = np.unique(blocks.pixels)
    np.testing.assert_array_equal(covered, np.arange(1000))
    np.testing.assert_array_equal(axis.low[blocks.pixels], np.broadcast_to(blocks.low, blocks.pixels.shape))


def test_pictures_of_many_chunks_and_bands():
    output = grid_of("regions", (33, 49, 4), 3)
    geometry = Geometry((300, 200), (129, 193), AxisMap(0.43, 0.0), AxisMap(0.965, 0.0))
    for share in (-1.0, 1.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sampling, "_DENSE_SHARE", share)
            patch.setattr(sampling, "_CHUNK_PIXELS", 500)
            patch.setattr(sampling, "_BAND_PIXELS", 1000)
            labels = labels_from_output(output, geometry, spec())
        np.testing.assert_array_equal(labels, plain(output, geometry)[1], err_msg=str(share))
