"""Pictures of 16 bits a channel that hold fewer: read as what they mean, or told."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplabv3p.data.classes import ClassList, default_colors
from deeplabv3p.data.dataset import open_dataset
from deeplabv3p.data.decode import Oddities, largest_value, read_image
from deeplabv3p.data.depth import BeyondWhiteError, is_deep, likely_white
from deeplabv3p.data.doctor import diagnose, precheck
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import to_bytes
from deeplabv3p.spec import FULL_RANGE, ClassInfo

CLASSES = ClassList(tuple(map(ClassInfo, ("sky", "road"), default_colors(2))), explicit_colors=False)


@pytest.fixture
def picture():
    return np.random.default_rng(3).integers(0, 256, (24, 32, 3)).astype(np.uint8)


def store(path, values):
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), values[..., ::-1] if values.ndim == 3 and values.shape[2] == 3 else values)
    return path


@given(bits=st.integers(8, 16), value=st.integers(0, FULL_RANGE))
def test_of_a_camera_of_some_bits_the_upper_eight_count(bits, value):
    white = 2**bits - 1
    assert to_bytes(np.array([value], np.uint16), white)[0] == min(value, white) >> (bits - 8)


@given(white=st.integers(1, FULL_RANGE), value=st.integers(0, FULL_RANGE))
def test_any_white_spans_the_bytes_in_order(white, value):
    low, here, above = to_bytes(np.array([0, value, min(value + 1, FULL_RANGE)], np.uint16), white)
    assert low == 0
    assert here <= above
    assert to_bytes(np.array([white], np.uint16), white)[0] == white * 256 // (white + 1)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_picture_in_more_bits_is_the_picture(tmp_path, picture, bits, suffix):
    deep = picture.astype(np.uint16) << (bits - 8)
    path = store(tmp_path / f"a{suffix}", deep)
    read = read_image(path, 2**bits - 1)
    # TIFF of 16 bits goes through libtiff's own rounding where all 16 are used.
    assert np.abs(read.astype(int) - picture).max() <= (suffix == ".tif" and bits == 16)
    grey = store(tmp_path / f"grey{suffix}", deep[..., 0])
    assert (read_image(grey, 2**bits - 1) == picture[..., :1]).all()
    # noise in the lower bits, and alpha
    noise = np.random.default_rng(bits).integers(0, 1 << (bits - 8), deep.shape).astype(np.uint16)
    alpha = np.dstack([(deep + noise)[..., ::-1], np.full(deep.shape[:2], FULL_RANGE, np.uint16)])
    if suffix == ".png":
        assert (read_image(store(tmp_path / "alpha.png", alpha), 2**bits - 1) == picture).all()


def test_eight_bits_are_left_alone(tmp_path, picture):
    for suffix in (".png", ".bmp", ".tif", ".webp", ".jpg"):
        path = store(tmp_path / f"a{suffix}", picture)
        assert not is_deep(path.read_bytes())
        assert largest_value(path) is None
        assert (read_image(path, 4095) == read_image(path)).all()


def test_headers_tell_the_depth(tmp_path, picture):
    deep = picture.astype(np.uint16)
    for suffix in (".png", ".tif", ".ppm"):
        path = store(tmp_path / f"a{suffix}", deep)
        assert is_deep(path.read_bytes()), suffix
        assert largest_value(path) == picture.max()
    assert not is_deep(b"II*\0\xff\xff\xff\xff")
    assert not is_deep(b"P5 1")


def test_values_beyond_white_are_refused_but_for_glints(tmp_path, picture):
    deep = picture.astype(np.uint16) << 4
    deep[0, :2] = FULL_RANGE
    assert (read_image(store(tmp_path / "glint.png", deep), 4095)[0, :2] == 255).all()
    path = store(tmp_path / "other.png", picture.astype(np.uint16) << 8)
    with pytest.raises(BeyondWhiteError, match=r"other.png holds values up to 65280, but white is 4095"):
        read_image(path, 4095)


def test_the_range_is_guessed_of_many_pictures_not_of_a_dark_one():
    assert likely_white([4080] * 3) == 4095
    assert likely_white([200, 1000, 900]) == 1023
    assert likely_white([16000] * 3) == 16383
    assert likely_white([255] * 3) == 255
    assert likely_white([16000]) is None
    assert likely_white([4080]) == 4095
    assert likely_white([4080, 30000, 100]) is None
    assert likely_white([]) is None
    assert likely_white([1000] * 3, 4095) == 1023
    assert likely_white([4000] * 3, 4095) is None


def test_oddities_are_one_sentence_a_kind(tmp_path, picture):
    paths = [store(tmp_path / f"{i}.png", picture.astype(np.uint16) << 4) for i in range(3)]
    odd = Oddities()
    for path in (*paths, paths[0]):
        read_image(path, oddities=odd)
    (line,) = odd.lines()
    assert line.startswith(
        "the largest value of 3 pictures of 16 bits is 4080 (the brightest thousandth left out), where "
    )
    assert "white is 65535: almost black" in line
    assert line.endswith("If the camera has 12 bits, say --picture_max 4095.")
    sure = Oddities(sure=True)
    read_image(paths[0], oddities=sure)
    assert sure.lines() == []


def test_a_hot_pixel_does_not_hide_twelve_bits(tmp_path, picture):
    odd = Oddities()
    for index in range(3):
        values = np.tile(picture, (4, 4, 1)).astype(np.uint16) << 4
        values[index, :4] = 65535
        path = store(tmp_path / f"{index}.png", values)
        assert largest_value(path) <= 4095
        read_image(path, oddities=odd)
    (line,) = odd.lines()
    assert "--picture_max 4095" in line


@pytest.fixture
def dataset(tmp_path, picture):
    for index in range(4):
        store(tmp_path / "images" / f"{index}.png", np.roll(picture, index, 0).astype(np.uint16) << 4)
        store(tmp_path / "labels" / f"{index}.png", (np.arange(24 * 32).reshape(24, 32) % 2).astype(np.uint8))
    (tmp_path / "train.txt").write_text("0\n1\n2\n3\n")
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    return tmp_path


def test_a_dataset_gives_the_pictures_of_eight_bits(dataset, picture):
    opened = open_dataset(dataset, "train.txt", CLASSES, 255, picture_max=4095)
    assert (opened.load(0)[0] == picture).all()


def test_the_doctor_and_the_quick_look_tell(dataset):
    (found,) = (item for item in diagnose(dataset).findings if item.kind == "dark_range")
    assert found.severity == "error"
    assert found.count == 4
    assert "say --picture_max 4095" in found.message
    for white in (4095, FULL_RANGE):
        assert "dark_range" not in {item.kind for item in diagnose(dataset, picture_max=white).findings}
    assert "beyond_white" in {item.kind for item in diagnose(dataset, picture_max=1023).findings}

    opened = open_dataset(dataset, "train.txt", CLASSES, 255)
    with pytest.raises(DataError, match=r"say --picture_max 4095, or --picture_max 65535 if they are meant"):
        precheck(opened, opened)
    for white in (4095, FULL_RANGE):
        opened = open_dataset(dataset, "train.txt", CLASSES, 255, picture_max=white)
        precheck(opened, opened)
