"""Dumped tensors become the labels that the library takes from the same tensor, or one clear line."""

from __future__ import annotations

import numpy as np
import pytest
from example_spec import SPEC

from deeplabv3p import pixels
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.evaluation.raw_output import default_dtype, labels_from_raw

PICTURE = (50, 70)
GRID = (16, 24)  # of SPEC: 64x96 at stride 4


def logits(seed: int = 0, grid: tuple[int, int] = GRID) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*grid, 3)).astype(np.float32)


def expected(output: np.ndarray, spec=SPEC) -> np.ndarray:
    return pixels.labels_from_output(output, pixels.place(PICTURE, spec.input), spec.output)


@pytest.mark.parametrize("resize", ["stretch", "fit", "pad", "crop"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_every_layout_and_resize_rule(tmp_path, layout, resize):
    spec = SPEC.replace(input={"resize": resize}, output={"layout": layout})
    output = logits()
    if layout == "NCHW":
        output = np.ascontiguousarray(output.transpose(2, 0, 1))
    (tmp_path / "a.raw").write_bytes(output.tobytes())
    labels = labels_from_raw(tmp_path / "a.raw", spec, "float32", PICTURE)
    assert labels.shape == PICTURE
    assert len(np.unique(labels)) == 3
    np.testing.assert_array_equal(labels, expected(output, spec))


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8", "int16", "int32"])
def test_every_type(tmp_path, dtype):
    spec = SPEC.replace(output={"scale": 0.05, "zero_point": 3}) if "int8" in dtype else SPEC
    output = (logits() * 20 + 100).clip(0, 127).astype(dtype)
    (tmp_path / "a.raw").write_bytes(output.tobytes())
    np.testing.assert_array_equal(labels_from_raw(tmp_path / "a.raw", spec, dtype, PICTURE), expected(output, spec))


def test_labels(tmp_path):
    spec = SPEC.replace(output={"kind": "labels"})
    output = logits().argmax(axis=2).astype(np.int32)
    (tmp_path / "a.raw").write_bytes(output.tobytes())
    np.testing.assert_array_equal(labels_from_raw(tmp_path / "a.raw", spec, "int32", PICTURE), expected(output, spec))
    output[0, 0] = 3
    (tmp_path / "a.raw").write_bytes(output.tobytes())
    with pytest.raises(DataError, match=r"a\.raw holds the label 3, but the spec lists 3 classes"):
        labels_from_raw(tmp_path / "a.raw", spec, "int32", PICTURE)


def test_an_open_size_follows_the_picture(tmp_path):
    spec = SPEC.replace(input={"size_hw": None})
    output = logits(grid=(13, 18))  # 50x70 at stride 4, rounded up
    (tmp_path / "a.raw").write_bytes(output.tobytes())
    np.testing.assert_array_equal(labels_from_raw(tmp_path / "a.raw", spec, "float32", PICTURE), expected(output, spec))
    output = logits(grid=(12, 17))  # a network from elsewhere that rounds down
    (tmp_path / "a.raw").write_bytes(output.tobytes())
    np.testing.assert_array_equal(labels_from_raw(tmp_path / "a.raw", spec, "float32", PICTURE), expected(output, spec))


def test_a_wrong_number_of_bytes_says_what_is_expected(tmp_path):
    (tmp_path / "a.raw").write_bytes(logits().tobytes()[:-1])
    sizes = r"a\.raw has 4,607 bytes, but an output of 16x24x3 float32 \(NHWC, kind logits, stride 4\) .* has 4,608\."
    with pytest.raises(DataError, match=sizes):
        labels_from_raw(tmp_path / "a.raw", SPEC, "float32", PICTURE)
    (tmp_path / "a.raw").write_bytes(logits().tobytes())
    with pytest.raises(DataError, match="has 2,304"):
        labels_from_raw(tmp_path / "a.raw", SPEC, "float16", PICTURE)
    (tmp_path / "a.raw").write_bytes(b"")
    with pytest.raises(DataError, match="has 0 bytes"):
        labels_from_raw(tmp_path / "a.raw", SPEC, "float32", PICTURE)
    with pytest.raises(DataError, match="cannot read"):
        labels_from_raw(tmp_path / "none.raw", SPEC, "float32", PICTURE)


def test_numbers_that_are_none_are_refused(tmp_path):
    output = logits()
    output[2, 3, 1] = np.nan
    (tmp_path / "a.raw").write_bytes(output.tobytes())
    with pytest.raises(DataError, match=r"a\.raw: .*NaN"):
        labels_from_raw(tmp_path / "a.raw", SPEC, "float32", PICTURE)


def test_a_sliding_window_has_no_single_output(tmp_path):
    spec = SPEC.replace(input={"resize": "window"})
    with pytest.raises(UsageError, match="sliding window"):
        labels_from_raw(tmp_path / "a.raw", spec, "float32", PICTURE)


def test_what_the_spec_tells_of_the_type():
    assert default_dtype(SPEC) == "float32"
    with pytest.raises(UsageError, match="quantized"):
        default_dtype(SPEC.replace(output={"scale": 0.1, "zero_point": 0}))
    with pytest.raises(UsageError, match="labels"):
        default_dtype(SPEC.replace(output={"kind": "labels"}))
