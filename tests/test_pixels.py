"""Pixels: against slow float64 twins written from the definitions, for every rule, size and grid."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import pytest
import skimage.data
from example_spec import SPEC
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.pixels import (
    AxisMap,
    Geometry,
    labels_from_output,
    normalize,
    prepare,
    resize_image,
)

FLOAT_INPUT = dataclasses.replace(SPEC.input, size_hw=(32, 32))
LOGITS = SPEC.output
RULES = ("stretch", "fit", "pad", "crop")
sides = st.integers(1, 40)


def input_spec(**changes):
    return dataclasses.replace(FLOAT_INPUT, **changes)


def output_spec(**changes):
    return dataclasses.replace(LOGITS, **changes)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- normalize and resize


def test_normalize_is_the_float32_formula_to_the_bit():
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1).reshape(16, 16, 3)
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    expected = (levels.astype(np.float32) - np.float32(mean)) / np.float32(std)
    np.testing.assert_array_equal(normalize(levels, mean, std), expected)


@pytest.mark.parametrize("shape", [(3,), (5, 3), (4, 5, 3), (2, 4, 5, 3)])
def test_normalize_takes_any_leading_axes(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = (image.astype(np.float32) - np.float32([1, 2, 3])) / np.float32([4, 5, 6])
    result = normalize(image, (1, 2, 3), (4, 5, 6))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


def test_normalize_takes_views():
    image = picture(6, 8)
    np.testing.assert_array_equal(
        normalize(image[::2, ::-1, ::-1], (1, 2, 3), (4, 5, 6)),
        normalize(image[::2, ::-1, ::-1].copy(), (1, 2, 3), (4, 5, 6)),
    )


def test_resize_is_opencvs_exact_bilinear():
    image = skimage.data.astronaut()
    resized = resize_image(image, (97, 161))
    np.testing.assert_array_equal(resized, cv2.resize(image, (161, 97), interpolation=cv2.INTER_LINEAR_EXACT))
    # Within one level of the textbook formula: the fixed point rounds once.
    exact = bilinear(image.astype(np.float64), grid_rows(512, 97), grid_rows(512, 161))
    assert np.abs(resized - exact).max() <= 1


def test_resize_to_the_same_size_keeps_every_pixel():
    image = picture(9, 7)
    np.testing.assert_array_equal(resize_image(image, (9, 7)), image)


# --- prepare


def expected_layout(rule, picture_hw, tensor_hw):
    """(scaled size, offset of the crop), from the words in the documentation, in fractions."""
    (height, width), (th, tw) = picture_hw, tensor_hw
    if rule == "stretch":
        return tensor_hw, (0, 0)
    if rule == "pad" and height <= th and width <= tw:
        return picture_hw, (0, 0)
    choose = max if rule == "crop" else min
    # Compare th/height with tw/width without rounding.
    by_height = choose(th * width, tw * height) == th * width
    part, whole = (th, height) if by_height else (tw, width)
    scaled = tuple(max(1, math.floor((2 * side * part + whole) / (2 * whole))) for side in picture_hw)
    return scaled, tuple(max(0, s - t) // 2 for s, t in zip(scaled, tensor_hw, strict=True))


@given(st.sampled_from(RULES), st.tuples(sides, sides), st.tuples(sides, sides), st.integers(0, 99))
@settings(max_examples=300, deadline=None)
def test_prepare_places_the_picture_by_its_rule(rule, picture_hw, tensor_hw, seed):
    image = picture(*picture_hw, seed)
    spec = input_spec(size_hw=tensor_hw, resize=rule, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), pad_value=7.5)
    tensor, geometry = prepare(image, spec)
    (sh, sw), (top, left) = expected_layout(rule, picture_hw, tensor_hw)
    expected = np.full((*tensor_hw, 3), 7.5, np.float32)
    inside = cv2.resize(image, (sw, sh), interpolation=cv2.INTER_LINEAR_EXACT).reshape(sh, sw, 3)
    inside = inside[top : top + tensor_hw[0], left : left + tensor_hw[1]]
    expected[: inside.shape[0], : inside.shape[1]] = inside
    np.testing.assert_array_equal(tensor, expected)
    assert geometry.picture_hw == picture_hw
    assert geometry.tensor_hw == tensor_hw
    for axis, size, scaled, cropped in ((geometry.y, picture_hw[0], sh, top), (geometry.x, picture_hw[1], sw, left)):
        # The ends of the picture, half a pixel outside its first and last centre, land on the ends of the scaled one.
        assert axis.scale * -0.5 + axis.offset == pytest.approx(-0.5 - cropped)
        assert axis.scale * (size - 0.5) + axis.offset == pytest.approx(scaled - 0.5 - cropped)
    if rule == "crop":
        assert sh >= tensor_hw[0]
        assert sw >= tensor_hw[1]
    if rule in ("fit", "pad"):
        assert sh <= tensor_hw[0]
        assert sw <= tensor_hw[1]


def test_the_centre_of_a_cropped_photograph_is_used():
    image = skimage.data.chelsea()  # 300x451
    tensor, _ = prepare(image, input_spec(size_hw=(300, 300), resize="crop"))
    np.testing.assert_array_equal(tensor, normalize(image[:, 75:375], FLOAT_INPUT.mean, FLOAT_INPUT.std))


@pytest.mark.parametrize(
    ("picture_hw", "max_side", "expected"),
    [
        ((30, 45), None, (30, 45)),
        ((30, 45), 45, (30, 45)),
        ((30, 45), 20, (13, 20)),  # 13.33
        ((45, 30), 15, (15, 10)),
        ((3, 2), 1, (1, 1)),  # 0.67
        ((2, 100), 10, (1, 10)),  # 0.2 → at least 1
        ((5, 2), 3, (3, 1)),  # 1.2
        ((4, 2), 3, (3, 2)),  # 1.5 → halves up
    ],
)
def test_without_a_fixed_size_the_longer_side_is_bounded(picture_hw, max_side, expected):
    tensor, geometry = prepare(picture(*picture_hw), input_spec(size_hw=None, max_side=max_side))
    assert tensor.shape == (*expected, 3)
    assert geometry.tensor_hw == expected
    assert geometry.y.scale == expected[0] / picture_hw[0]


def test_bgr_reverses_the_channels_before_mean_and_std():
    image = picture(5, 6)
    changes = {"size_hw": None, "mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0)}
    tensor, _ = prepare(image, input_spec(color="BGR", **changes))
    expected = (image[..., ::-1].astype(np.float32) - np.float32([1, 2, 3])) / np.float32([4, 5, 6])
    np.testing.assert_array_equal(tensor, expected)


def test_nchw_is_the_same_tensor_with_channels_first():
    image = picture(20, 30)
    first, _ = prepare(image, input_spec(resize="fit", layout="NCHW"))
    last, _ = prepare(image, input_spec(resize="fit"))
    assert first.shape == (3, 32, 32)
    assert first.flags.c_contiguous
    np.testing.assert_array_equal(first.transpose(1, 2, 0), last)


def test_padding_is_normalized_in_the_order_of_the_channels():
    spec = input_spec(resize="pad", pad_value=10.0, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    tensor, _ = prepare(picture(4, 4), spec)
    np.testing.assert_array_equal(tensor[31, 31], np.float32([4.5, 2.0, 0.875]))


def test_float16_is_the_rounded_float32():
    image = picture(32, 32)
    half, _ = prepare(image, input_spec(dtype="float16"))
    full, _ = prepare(image, input_spec())
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, full.astype(np.float16))


def test_uint8_without_scale_and_mean_is_the_picture_itself():
    image = picture(32, 32)
    tensor, _ = prepare(image, input_spec(dtype="uint8", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    assert tensor.dtype == np.uint8
    np.testing.assert_array_equal(tensor, image)


def test_int8_is_rounded_and_clipped():
    image = picture(32, 32)
    tensor, _ = prepare(image, input_spec(dtype="int8", scale=0.01, zero_point=-3))
    x = (image.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)
    expected = np.clip(np.rint(x / np.float32(0.01)) - 3, -128, 127)
    assert tensor.dtype == np.int8
    np.testing.assert_array_equal(tensor, expected)


@pytest.mark.parametrize("color", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point"),
    [
        ("float32", None, None),
        ("float16", None, None),
        ("uint8", 0.02, 120),
        ("int8", 0.013, -7),
        ("uint8", None, None),
    ],
)
def test_every_type_layout_and_order_is_the_formula_with_its_padding(dtype, scale, zero_point, layout, color):
    """The table look-up against the documented formula on every pixel, padding that is no byte included."""
    image = picture(20, 30)
    mean, std = (1.5, 100.25, 200.0), (3.0, 60.5, 100.0)
    spec = input_spec(
        resize="pad",
        pad_value=77.5,
        mean=mean,
        std=std,
        color=color,
        layout=layout,
        dtype=dtype,
        scale=scale,
        zero_point=zero_point,
    )
    tensor, _ = prepare(image, spec)
    padded = np.full((32, 32, 3), 77.5, np.float32)
    padded[:20, :30] = image if color == "RGB" else image[..., ::-1]
    expected = (padded - np.float32(mean)) / np.float32(std)
    if dtype in ("uint8", "int8"):
        if scale is not None:
            expected = expected / np.float32(scale)
        limits = np.iinfo(dtype)
        expected = np.clip(np.rint(expected) + np.float32(zero_point or 0), limits.min, limits.max)
    if layout == "NCHW":
        expected = expected.transpose(2, 0, 1)
    assert tensor.dtype == dtype
    assert tensor.flags.c_contiguous
    np.testing.assert_array_equal(tensor, expected.astype(dtype))


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_not_a_picture_is_refused(bad):
    with pytest.raises(DataError, match=r"uint8 \[height, width, 3\]"):
        prepare(bad, FLOAT_INPUT)


def test_a_window_is_not_available():
    with pytest.raises(UsageError, match="window"):
        prepare(picture(4, 4), input_spec(resize="window"))


# --- labels: the slow twin


def grid_rows(size, grid):
    """Where ``grid`` samples with half-pixel centres fall on ``size`` pixels."""
    return [(i + 0.5) * size / grid - 0.5 for i in range(grid)]


def bilinear(values, ys, xs):
    """Textbook bilinear sampling of float64 [h, w, K] at the coordinates, clamped to the edge."""
    height, width = values.shape[:2]
    result = np.empty((len(ys), len(xs), *values.shape[2:]))
    for i, y in enumerate(np.clip(ys, 0.0, height - 1.0)):
        y0 = math.floor(y)
        y1 = min(y0 + 1, height - 1)
        for j, x in enumerate(np.clip(xs, 0.0, width - 1.0)):
            x0 = math.floor(x)
            x1 = min(x0 + 1, width - 1)
            top = values[y0, x0] * (1 - (x - x0)) + values[y0, x1] * (x - x0)
            bottom = values[y1, x0] * (1 - (x - x0)) + values[y1, x1] * (x - x0)
            result[i, j] = top * (1 - (y - y0)) + bottom * (y - y0)
    return result


def grid_coordinates(axis, picture, tensor, grid, align_corners):
    """In two steps, as the documentation defines them: picture → tensor → output grid."""
    at = [axis.scale * i + axis.offset for i in range(picture)]
    if align_corners:
        return [t * (grid - 1) / (tensor - 1) if tensor > 1 else 0.0 for t in at]
    return [(t + 0.5) * grid / tensor - 0.5 for t in at]


def assert_labels_match(labels, output, geometry, align_corners):
    """Equal to the argmax of the float64 twin wherever its two best scores differ by more than float32 can hide."""
    (height, width), (th, tw) = geometry.picture_hw, geometry.tensor_hw
    ys = grid_coordinates(geometry.y, height, th, output.shape[0], align_corners)
    xs = grid_coordinates(geometry.x, width, tw, output.shape[1], align_corners)
    scores = bilinear(output.astype(np.float64), ys, xs)
    chosen = np.take_along_axis(scores, labels[..., None].astype(int), axis=2)[..., 0]
    # Weights are rounded to 2^-24, then each of the six products and sums.
    tolerance = 8 * 2.0**-24 * max(np.abs(output).max(), 1e-30)
    assert (scores.max(axis=2) - chosen <= tolerance).all()


class TestAgainstTheTwin:
    @given(
        rule=st.sampled_from(RULES),
        sizes=st.tuples(
            st.tuples(sides, sides), st.tuples(sides, sides), st.tuples(st.integers(1, 12), st.integers(1, 12))
        ),
        classes=st.integers(1, 6),
        align_corners=st.booleans(),
        layout=st.sampled_from(["NHWC", "NCHW"]),
        seed=st.integers(0, 2**16),
    )
    @example(rule="crop", sizes=((40, 3), (1, 1), (1, 1)), classes=3, align_corners=True, layout="NHWC", seed=0)
    @example(rule="stretch", sizes=((1, 1), (40, 40), (10, 10)), classes=3, align_corners=False, layout="NHWC", seed=0)
    @settings(max_examples=150, deadline=None)
    def test_every_rule_size_and_grid(self, *, rule, sizes, classes, align_corners, layout, seed):
        picture_hw, tensor_hw, grid_hw = sizes
        _, geometry = prepare(picture(*picture_hw), input_spec(size_hw=tensor_hw, resize=rule))
        output = np.random.default_rng(seed).normal(0, 5, (*grid_hw, classes)).astype(np.float32)
        given_output = output.transpose(2, 0, 1) if layout == "NCHW" else output
        spec = output_spec(align_corners=align_corners, layout=layout)
        labels = labels_from_output(given_output, geometry, spec)
        assert labels.shape == picture_hw
        assert labels.dtype == np.uint8
        assert_labels_match(labels, output, geometry, align_corners)

    @pytest.mark.parametrize("align_corners", [False, True])
    @pytest.mark.parametrize(
        ("picture_hw", "tensor_hw", "grid_hw"),
        [((150, 97), (65, 97), (17, 25)), ((65, 97), (129, 193), (33, 49)), ((300, 41), (64, 64), (64, 64))],
    )
    def test_pictures_of_many_blocks(self, monkeypatch, picture_hw, tensor_hw, grid_hw, align_corners):
        monkeypatch.setattr("deeplabv3p.sampling._CHUNK_PIXELS", 1000)
        _, geometry = prepare(picture(*picture_hw), input_spec(size_hw=tensor_hw))
        output = np.random.default_rng(3).normal(0, 5, (*grid_hw, 4)).astype(np.float32)
        labels = labels_from_output(output, geometry, output_spec(align_corners=align_corners))
        assert_labels_match(labels, output, geometry, align_corners)

    @given(st.tuples(sides, sides), st.tuples(sides, sides), st.booleans(), st.integers(0, 2**16))
    @settings(max_examples=100, deadline=None)
    def test_labels_are_taken_from_the_nearest_grid_point(self, picture_hw, grid_hw, align_corners, seed):
        tensor_hw = (24, 36)
        _, geometry = prepare(picture(*picture_hw), input_spec(size_hw=tensor_hw, resize="fit"))
        output = np.random.default_rng(seed).integers(0, 256, grid_hw).astype(np.int64)
        labels = labels_from_output(output, geometry, output_spec(kind="labels", align_corners=align_corners))
        for axis, index in ((geometry.y, 0), (geometry.x, 1)):
            at = grid_coordinates(axis, picture_hw[index], tensor_hw[index], grid_hw[index], align_corners)
            # Halves may fall either way in float arithmetic; look at the rest.
            clear = [abs(v - math.floor(v) - 0.5) > 1e-9 for v in at]
            nearest = [min(max(math.floor(v + 0.5), 0), grid_hw[index] - 1) for v in at]
            if index == 0:
                rows, clear_rows = nearest, clear
        expected = output[np.ix_(rows, nearest)]
        where = np.ix_(clear_rows, clear)
        np.testing.assert_array_equal(labels[where], expected[where])


def plain_geometry(height, width):
    return Geometry((height, width), (height, width), AxisMap(1.0, 0.0), AxisMap(1.0, 0.0))


def test_at_the_pictures_own_size_it_is_the_plain_argmax():
    output = np.random.default_rng(0).normal(size=(37, 53, 9)).astype(np.float32)
    labels = labels_from_output(output, plain_geometry(37, 53), output_spec(stride=1))
    np.testing.assert_array_equal(labels, output.argmax(axis=2))


def test_a_vertical_edge_in_the_picture_stays_where_it_is():
    """Two classes whose scores cross exactly between two grid columns: the border is half way, at every rule."""
    output = np.zeros((8, 8, 2), np.float32)
    output[:, :4, 0] = output[:, 4:, 1] = 1
    for rule in RULES:
        _, geometry = prepare(picture(64, 64), input_spec(size_hw=(32, 32), resize=rule))
        labels = labels_from_output(output, geometry, LOGITS)
        np.testing.assert_array_equal(labels, np.repeat([[0] * 32 + [1] * 32], 64, axis=0), err_msg=rule)


def test_labels_outside_a_crop_are_those_of_its_edge():
    output = np.zeros((8, 8, 3), np.float32)
    output[:, 0, 1] = output[:, -1, 2] = 1
    _, geometry = prepare(picture(32, 96), input_spec(size_hw=(32, 32), resize="crop"))
    labels = labels_from_output(output, geometry, LOGITS)
    assert (labels[:, :32] == 1).all()
    assert (labels[:, 64:] == 2).all()
    assert (labels[:, 40:56] == 0).all()


def test_ties_go_to_the_lowest_class():
    output = np.zeros((4, 4, 5), np.float32)
    output[..., [2, 4]] = 1
    _, geometry = prepare(picture(13, 17), input_spec(size_hw=(16, 16)))
    assert (labels_from_output(output, geometry, LOGITS) == 2).all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_a_class_that_leads_everywhere_wins_everywhere(height, width, seed):
    rng = np.random.default_rng(seed)
    output = rng.normal(0, 1e3, (5, 7, 3)).astype(np.float32)
    output[..., 1] = output.max(axis=2) + np.float32(1)
    _, geometry = prepare(picture(height, width), input_spec(size_hw=(20, 28)))
    assert (labels_from_output(output, geometry, LOGITS) == 1).all()


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint8, np.float64])
def test_every_real_type_is_taken(dtype):
    output = np.random.default_rng(0).permutation(8 * 8 * 2).reshape(8, 8, 2).astype(dtype)
    _, geometry = prepare(picture(50, 30), input_spec())
    expected = labels_from_output(output.astype(np.float32), geometry, LOGITS)
    np.testing.assert_array_equal(labels_from_output(output, geometry, LOGITS), expected)


def test_a_quantized_output_needs_no_dequantizing():
    output = np.random.default_rng(0).integers(-128, 128, (8, 8, 4), dtype=np.int8)
    _, geometry = prepare(picture(50, 30), input_spec())
    real = (output.astype(np.float32) - 5) * np.float32(0.25)
    quantized = labels_from_output(output, geometry, output_spec(scale=0.25, zero_point=5))
    np.testing.assert_array_equal(quantized, labels_from_output(real, geometry, LOGITS))


def test_255_classes_are_told_apart():
    output = np.zeros((1, 255, 255), np.float32)
    output[0, np.arange(255), np.arange(255)] = 1
    labels = labels_from_output(output, plain_geometry(1, 255), output_spec(stride=1))
    np.testing.assert_array_equal(labels[0], np.arange(255))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_an_error(bad):
    output = np.zeros((8, 8, 2), np.float32)
    output[3, 4, 1] = bad
    with pytest.raises(DataError, match="NaN or infinity"):
        labels_from_output(output, plain_geometry(32, 32), LOGITS)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8, 2), (0, 8, 2), (8, 8, 256)])
def test_an_output_of_another_shape_is_an_error(shape):
    with pytest.raises(DataError, match="output is"):
        labels_from_output(np.zeros(shape, np.float32), plain_geometry(32, 32), LOGITS)


@pytest.mark.parametrize("value", [-1, 256])
def test_labels_that_no_byte_holds_are_an_error(value):
    output = np.zeros((8, 8), np.int64)
    output[0, 0] = value
    with pytest.raises(DataError, match=f"{value}"):
        labels_from_output(output, plain_geometry(32, 32), output_spec(kind="labels"))


def test_labels_may_come_with_a_class_axis_of_one():
    output = np.arange(6).reshape(2, 3)
    spec = output_spec(kind="labels", stride=1)
    for layout, axis in (("NHWC", 2), ("NCHW", 0)):
        labels = labels_from_output(
            np.expand_dims(output, axis), plain_geometry(2, 3), dataclasses.replace(spec, layout=layout)
        )
        np.testing.assert_array_equal(labels, output)


def test_the_whole_path_maps_a_picture_of_labels_onto_itself():
    """A model that puts out its input at stride 1 must give back the picture: prepare and labels are inverse maps."""
    label = np.kron(np.random.default_rng(0).integers(0, 3, (6, 9)), np.ones((16, 16), int)).astype(np.uint8)
    image = np.eye(3, dtype=np.uint8)[label] * 255
    spec = input_spec(size_hw=(72, 110), resize="fit")
    tensor, geometry = prepare(image, spec)
    labels = labels_from_output(tensor, geometry, output_spec(stride=1))
    assert (labels == label).mean() > 0.97
    inner = np.zeros_like(label, bool)
    for row in range(0, 96, 16):
        for column in range(0, 144, 16):
            inner[row + 2 : row + 14, column + 2 : column + 14] = True
    np.testing.assert_array_equal(labels[inner], label[inner])
