"""The C++ library against this package, bit by bit: the same tensors and the same labels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from example_spec import SPEC
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from outcome import outcome

from deeplabv3p import inference, pixels, sampling
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.inference.views import make_views
from deeplabv3p.spec import ClassInfo, OutputSpec, Window

DTYPES = ["float32", "float16", "uint8", "int8", "int32", "int64"]
ROUGHNESS = ["noise", "smooth", "equal", "close"]
FORMATS = ["rgb", "bgr", "rgba", "bgra", "grey"]

sides = st.integers(1, 48)
sizes = st.tuples(sides, sides)
seeds = st.integers(0, 2**32 - 1)
# Whole numbers and powers of two, too: with them halves are rounded.
levels = st.floats(-300, 300, width=32) | st.integers(-9, 260).map(float)
deviations = st.floats(2**-9, 300) | st.sampled_from([0.5, 1.0, 2.0])
scales = st.floats(2**-12, 4.0) | st.sampled_from([0.5, 1.0, 2.0])
quantizations = st.none() | st.tuples(scales, st.integers(-128, 255))


@st.composite
def input_changes(draw, size=sizes):
    quantization = draw(quantizations)
    return {
        "size_hw": draw(st.none() | size),
        "max_side": draw(st.none() | sides),
        "layout": draw(st.sampled_from(["NHWC", "NCHW"])),
        "dtype": draw(st.sampled_from(["float32", "float16", "uint8", "int8"])),
        "color": draw(st.sampled_from(["RGB", "BGR"])),
        "mean": draw(st.tuples(levels, levels, levels)),
        "std": draw(st.tuples(deviations, deviations, deviations)),
        "resize": draw(st.sampled_from(["stretch", "fit", "pad", "crop"])),
        "pad_value": draw(levels),
        "scale": None if quantization is None else quantization[0],
        "zero_point": None if quantization is None else quantization[1],
    }


def classes_of(count):
    return tuple(ClassInfo(str(index), (0, 0, 0)) for index in range(count))


def outputs(seed, shape, dtype, roughness):
    """Scores of a network: noise, or smooth as those of a trained one, or with many equal or nearly equal ones."""
    random = np.random.default_rng(seed)
    scores = random.normal(0, 4, shape)
    if roughness == "smooth":
        for axis in (0, 1):
            scores = scores.cumsum(axis) / 3
    if roughness == "equal":
        scores = np.round(scores / 4)
    if roughness == "close":  # so that rounding makes different scores equal
        scores = 1.7 + np.round(scores / 4) * 2.0**-23
    if np.dtype(dtype).kind != "f":
        limits = np.iinfo(dtype)
        return np.clip(np.rint(scores * 4), max(limits.min, -999), min(limits.max, 999)).astype(dtype)
    return scores.astype(dtype)


def output_job(output):
    """An output without its batch axis as the probe takes it."""
    return {"dtype": DTYPES.index(output.dtype.name), "shape": [1, *output.shape]}


def assert_same_bits(ours, theirs):
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    assert ours.tobytes() == theirs.tobytes()


# --- pictures to tensors


@given(sizes, sizes, st.integers(1, 4), seeds)
@example((1, 1), (40, 40), 3, 0)
@example((400, 3), (2, 500), 3, 0)
@example((1, 3000), (7, 5), 1, 0)
@example((64, 64), (32, 32), 3, 0)  # OpenCV takes another path for halves
@example((640, 480), (481, 641), 3, 0)
@example((5, 7), (256, 512), 3, 0)  # weights that are halves of 1/256
@settings(max_examples=1000)
def test_pictures_are_resized_as_opencv_does(probe, source, target, channels, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (*source, channels), np.uint8)
    expected = cv2.resize(picture, target[::-1], interpolation=cv2.INTER_LINEAR_EXACT).reshape(*target, channels)
    job = {"source": source, "target": target, "channels": channels}
    assert_same_bits(probe.array("resize", np.uint8, expected.shape, picture.tobytes(), **job), expected)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # halves may be infinite
@given(st.tuples(st.integers(1, 70), st.integers(1, 70)), input_changes(), st.sampled_from(FORMATS), sides, seeds)
@settings(max_examples=500)
def test_tensors_are_the_same(probe, picture_hw, changes, form, gap, seed):
    spec = SPEC.replace(input=changes)
    rgb = np.random.default_rng(seed).integers(0, 256, (*picture_hw, 3), np.uint8)
    if form == "grey":
        rgb[:] = rgb[..., :1]
    expected, _ = pixels.prepare(rgb, spec.input)
    orders = {"rgb": [0, 1, 2], "bgr": [2, 1, 0], "rgba": [0, 1, 2, 0], "bgra": [2, 1, 0, 0], "grey": [0]}
    view = rgb[..., orders[form]].reshape(picture_hw[0], -1)
    rows = np.pad(view, ((0, 0), (0, gap)))
    job = {"picture": picture_hw, "row_bytes": rows.shape[1], "format": FORMATS.index(form), "spec": spec.to_dict()}
    assert_same_bits(probe.array("prepare", expected.dtype, expected.shape, rows.tobytes(), **job), expected)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_every_half_is_rounded_as_numpy_does(probe):
    """The table of a tensor holds 256 values a channel: halves, subnormals and what is beyond them are among these."""
    picture = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1).reshape(16, 16, 3)
    for std in (1.0, 3.0, 2.0**-8 * 0.999, 7e5, 3e7, 1e9):
        spec = SPEC.replace(input={"size_hw": None, "dtype": "float16", "mean": (0.3, 127.0, 200.0), "std": (std,) * 3})
        expected, _ = pixels.prepare(picture, spec.input)
        job = {"picture": (16, 16), "row_bytes": 0, "format": 0, "spec": spec.to_dict()}
        assert_same_bits(probe.array("prepare", np.float16, expected.shape, picture.tobytes(), **job), expected)


@pytest.mark.parametrize(
    ("changes", "row_bytes", "error"),
    [({"resize": "window"}, 0, UsageError), ({}, 11, DataError), ({}, -12, DataError)],
)
def test_impossible_pictures_are_refused(probe, changes, row_bytes, error):
    spec = SPEC.replace(input=changes)
    with pytest.raises(error):
        probe.ask("prepare", bytes(48), picture=(4, 4), row_bytes=row_bytes, format=0, spec=spec.to_dict())


# --- outputs to labels


@st.composite
def output_cases(draw):
    """(spec, output without batch axis, size of the picture)."""
    count = draw(st.integers(1, 30) | st.sampled_from([150, 254, 255]))
    grid = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    dtype = draw(st.sampled_from(DTYPES))
    output = outputs(draw(seeds), (*grid, count), dtype, draw(st.sampled_from(ROUGHNESS)))
    layout = draw(st.sampled_from(["NHWC", "NCHW"]))
    if layout == "NCHW":
        output = np.ascontiguousarray(output.transpose(2, 0, 1))
    scale, zero_point = draw(quantizations) or (None, None)
    form = OutputSpec("logits", layout, "logits", 4, draw(st.booleans()), scale, zero_point)
    spec = SPEC.replace(input=draw(input_changes()), output=form, classes=classes_of(count))
    return spec, output, draw(sizes)


@given(output_cases())
@settings(max_examples=400)
def test_labels_are_the_same(probe, case):
    spec, output, picture_hw = case
    expected = pixels.labels_from_output(output, pixels.place(picture_hw, spec.input), spec.output)
    job = output_job(output) | {"spec": spec.to_dict(), "picture": picture_hw}
    for plainly in (0, 1):
        got = probe.array("labels", np.uint8, picture_hw, output.tobytes(), plainly=plainly, **job)
        assert_same_bits(got, expected)


@given(output_cases(), st.booleans())
@settings(max_examples=200)
def test_class_planes_are_the_same(probe, case, dequantized):
    spec, output, _ = case
    real = pixels.dequantize(output, spec.output) if dequantized else output
    expected = pixels.class_planes(real, spec.output)
    job = output_job(output) | {"spec": spec.to_dict(), "dequantized": int(dequantized)}
    assert_same_bits(probe.array("planes", np.float32, expected.shape, output.tobytes(), **job), expected)


def test_every_half_is_read_as_numpy_does(probe):
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = np.where(np.isfinite(halves), halves, np.float16(0)).reshape(256, 256, 1)
    job = output_job(halves) | {"spec": SPEC.replace(classes=classes_of(1)).to_dict(), "dequantized": 0}
    got = probe.array("planes", np.float32, (256, 256, 1), halves.tobytes(), **job)
    assert_same_bits(got, halves.astype(np.float32))


@given(output_cases(), st.data())
@settings(max_examples=200)
def test_mixed_scores_are_the_same(probe, case, data):
    spec, output, picture_hw = case
    spans = [sorted(data.draw(st.tuples(st.integers(0, side), st.integers(0, side)))) for side in picture_hw]
    assume(all(first < last for first, last in spans))
    planes = pixels.class_planes(pixels.dequantize(output, spec.output), spec.output)
    geometry = pixels.place(picture_hw, spec.input)
    where = pixels.coordinates(geometry, planes.shape[1:], spec.output.align_corners)
    y, x = (
        sampling.neighbours(axis[slice(*span)], grid)
        for axis, span, grid in zip(where, spans, planes.shape[1:], strict=True)
    )
    # The C++ function adds to a sum that begins with 0, which makes −0 a 0.
    expected = np.float32(0) + sampling.sample_scores(planes, y, x)
    job = output_job(output) | {"spec": spec.to_dict(), "picture": picture_hw, "rows": spans[0], "columns": spans[1]}
    assert_same_bits(probe.array("scores", np.float32, expected.shape, output.tobytes(), **job), expected)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 70, 299])
def test_outputs_that_are_not_finite_are_refused(probe, dtype, value, place):
    output = np.zeros((10, 10, 3), dtype)
    output.reshape(-1)[place] = value
    with pytest.raises(DataError, match="NaN or infinity"):
        probe.ask("labels", output.tobytes(), spec=SPEC.to_dict(), picture=(5, 5), plainly=0, **output_job(output))


@pytest.mark.parametrize(
    "shape", [[4, 4, 3], [2, 4, 4, 3], [1, 4, 4, 4], [1, 0, 4, 3], [1, -4, -4, 3], [1, 4, 4, 256], []]
)
def test_outputs_of_other_shapes_are_refused(probe, shape):
    job = {"spec": SPEC.to_dict(), "picture": (5, 5), "plainly": 0, "dtype": 0, "shape": shape}
    with pytest.raises(DataError, match=r"expected NHWC|puts out 4 classes"):
        probe.ask("labels", bytes(4096), **job)


@given(
    st.sampled_from([(5, 7), (5, 7, 1), (1, 5, 7), (1, 1, 7), (7, 1, 1), (5, 7, 2)]),
    st.sampled_from(DTYPES),
    st.tuples(st.integers(-1, 0), st.integers(0, 300)),
    st.sampled_from(["NHWC", "NCHW"]),
    input_changes(),
    sizes,
    seeds,
)
@settings(max_examples=200)
def test_outputs_of_labels_are_sampled_alike(probe, shape, dtype, span, layout, changes, picture_hw, seed):
    integers = np.random.default_rng(seed).integers(span[0], span[1] + 1, shape)
    output = np.clip(integers, *(np.iinfo(dtype).min, np.iinfo(dtype).max) if "int" in dtype else (None, None))
    output = output.astype(dtype)
    form = OutputSpec("labels", layout, "labels", 4, bool(seed % 2), None, None)
    spec = SPEC.replace(input=changes, output=form, classes=classes_of(200))

    def ours():
        labels = pixels.labels_from_output(output, pixels.place(picture_hw, spec.input), form)
        if labels.max() >= spec.num_classes:
            raise DataError("as deeplabv3p.inference has it")
        return labels.tobytes()

    def theirs():
        return probe.ask("labels", output.tobytes(), spec=spec.to_dict(), picture=picture_hw, **output_job(output))

    assert outcome(ours) == outcome(theirs)


# --- windows


class Replayed:
    """An engine that puts out what it is given, one window after the other."""

    name, device = "numpy", "cpu"

    def __init__(self, spec, results):
        self.spec = spec
        self._results = iter(results)

    def run(self, batch):
        return next(self._results)[None]


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.integers(8, 32), st.integers(8, 32)),
    st.tuples(st.integers(4, 40), st.integers(4, 40)),
    st.integers(1, 9),
    st.booleans(),
    st.sampled_from(["float32", "float16", "int8", "uint8"]),
    st.sampled_from(ROUGHNESS),
    seeds,
)
@example((600, 700), (300, 600), (100, 100), 21, False, "float32", "smooth", 0)  # more than one block of work
@settings(max_examples=150)
def test_windows_are_averaged_alike(probe, picture_hw, size, stride, count, align, dtype, roughness, seed):
    scale, zero_point = (None, None) if "float" in dtype else (0.037, 3)
    spec = SPEC.replace(
        input={"size_hw": None, "resize": "window"},
        output=OutputSpec("logits", "NHWC", "logits", 4, align, scale, zero_point),
        classes=classes_of(count),
        window=Window(size, stride),
    )
    grid = (-(-size[0] // 4), -(-size[1] // 4))
    job = {"spec": spec.to_dict(), "picture": picture_hw, "dtype": DTYPES.index(dtype), "shape": [1, *grid, count]}
    if stride[0] > size[0] or stride[1] > size[1]:
        with pytest.raises(UsageError, match="leaves pixels out"):
            probe.ask("windows", **job)
        return
    (view,) = make_views(spec, picture_hw, inference.PLAIN)
    results = [outputs(seed + i, (*grid, count), dtype, roughness) for i in range(len(view.tiles))]
    expected = inference.predict(Replayed(spec, results), np.zeros((*picture_hw, 3), np.uint8))
    payload = b"".join(result.tobytes() for result in results)
    assert_same_bits(probe.array("windows", np.uint8, picture_hw, payload, **job), expected)


def test_too_many_windows_are_refused(probe):
    spec = SPEC.replace(window=Window((2, 2), (1, 1)))
    with pytest.raises(UsageError, match="million"):
        probe.ask("windows", spec=spec.to_dict(), picture=(1002, 1002), dtype=0, shape=[1, 1, 1, 3])
