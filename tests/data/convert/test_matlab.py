"""The reader of MATLAB files, held against SciPy's writer."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from deeplabv3p.data.convert.matlab import read_field
from deeplabv3p.data.convert.voc import read_matrix
from deeplabv3p.errors import DataError


def saved(content: dict, compressed: bool = True) -> bytes:
    out = io.BytesIO()
    scipy.io.savemat(out, content, do_compression=compressed)
    return out.getvalue()


SEGMENTATION = np.random.default_rng(0).integers(0, 21, (37, 53), np.uint8)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float64, np.float32])
def test_numeric_matrices_of_every_kind(compressed, dtype):
    matrix = SEGMENTATION.astype(dtype)
    other = scipy.sparse.csc_matrix(np.eye(5))
    data = saved({"before": np.arange(9), "GTcls": {"Boundaries": other, "Segmentation": matrix}}, compressed)
    np.testing.assert_array_equal(read_field(data, "GTcls", "Segmentation", "x"), matrix)
    np.testing.assert_array_equal(read_matrix(data, "x"), SEGMENTATION)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (2, 2), (5, 1)])
def test_small_matrices_which_are_stored_in_their_tags(shape):
    matrix = np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape)
    np.testing.assert_array_equal(read_matrix(saved({"GTcls": {"Segmentation": matrix}}, False), "x"), matrix)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"GTinst": {"Segmentation": SEGMENTATION}}, "it has no GTcls.Segmentation"),
        ({"GTcls": {"Other": SEGMENTATION}}, "it has no GTcls.Segmentation"),
        ({"GTcls": {"Segmentation": "text"}}, "not of real numbers"),
        ({"GTcls": {"Segmentation": SEGMENTATION + 1j}}, "not of real numbers"),
        ({"GTcls": {"Segmentation": np.zeros((2, 2, 2))}}, "two dimensions"),
        ({"GTcls": {"Segmentation": np.full((2, 2), 256.0)}}, "no label map of numbers from 0 to 255"),
        ({"GTcls": {"Segmentation": np.full((2, 2), 0.5)}}, "no label map of numbers from 0 to 255"),
        ({"GTcls": {"Segmentation": np.zeros((0, 2))}}, "no label map of numbers from 0 to 255"),
    ],
)
def test_other_contents(content, reason):
    with pytest.raises(DataError, match=reason):
        read_matrix(saved(content), "x")


def test_no_matlab_file():
    for data in (b"", b"x" * 500, saved({"GTcls": 1})[:130], b"MATLAB 7.3 MAT-file" + bytes(400)):
        with pytest.raises(DataError, match="cannot read x as a label map"):
            read_matrix(data, "x")


def test_a_file_that_unpacks_without_end(monkeypatch):
    data = saved({"GTcls": {"Segmentation": np.zeros((1000, 1000), np.uint8)}})
    assert len(data) < 5000
    monkeypatch.setattr("deeplabv3p.data.convert.matlab.MAX_BYTES", 100_000)
    with pytest.raises(DataError, match="unpacks to more than"):
        read_matrix(data, "x")


PLAIN, PACKED = (saved({"GTcls": {"Segmentation": SEGMENTATION[:6, :6]}}, packed) for packed in (False, True))


@given(st.sampled_from([PLAIN, PACKED]), st.data())
def test_damaged_files_are_refused_or_read(whole, data):
    at = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.booleans())
    broken = whole[:at] if cut else whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    with contextlib.suppress(DataError):
        assert read_matrix(broken, "x").ndim == 2
