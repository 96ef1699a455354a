"""JPEGs that end early although they have an end marker: decoders fill them up, and say nothing."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deeplabv3p.data.classes import ClassList, default_colors
from deeplabv3p.data.dataset import open_dataset
from deeplabv3p.data.decode import Oddities, read_image
from deeplabv3p.data.doctor import diagnose
from deeplabv3p.data.whole import jpeg_ends_early
from deeplabv3p.errors import DataError
from deeplabv3p.spec import ClassInfo

CLASSES = ClassList(tuple(map(ClassInfo, ("sky", "road"), default_colors(2))), explicit_colors=False)


def photo(height, width, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5) // 2 + cv2.resize(noise[:4, :4], (width, height)) // 2


def jpeg(mode="RGB", height=96, width=128, **options):
    data = io.BytesIO()
    Image.fromarray(photo(height, width)).convert(mode).save(data, "JPEG", quality=85, **options)
    return data.getvalue()


def cut(data, share):
    """The file up to a share of its pixels' data, with an end marker."""
    begin = data.index(b"\xff\xda") + 14
    kept = data[: begin + int((len(data) - 2 - begin) * share)]
    return kept.rstrip(b"\xff") + b"\xff\xd9"


def ends_early(data):
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    return image is not None and jpeg_ends_early(data, image)


KINDS = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["RGB", "L", "CMYK"]),
        "progressive": st.booleans(),
        "optimize": st.booleans(),
        "height": st.integers(1, 120),
        "width": st.integers(1, 120),
        "subsampling": st.sampled_from([0, 1, 2]),
        "restart_marker_rows": st.sampled_from([0, 1, 2]),
    }
)


@settings(max_examples=60, deadline=None)
@given(kind=KINDS)
def test_whole_files_are_whole(kind):
    assert not ends_early(jpeg(**kind))


@settings(max_examples=80, deadline=None)
@given(kind=KINDS, share=st.floats(0.05, 0.9))
def test_what_the_cut_changed_is_noticed(kind, share):
    data = jpeg(**kind)
    end = cut(data, share)
    try:
        with Image.open(io.BytesIO(data)) as whole, Image.open(io.BytesIO(end)) as rest:
            changed = whole.tobytes() != rest.tobytes()
    except OSError:
        return  # no decoder takes it
    # Padding bits and the last coefficients may go without a trace.
    assert ends_early(end) or not changed


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("progressive", [False, True])
def test_a_turned_picture_of_usual_size(tmp_path, progressive, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(height=300, width=400, progressive=progressive, exif=exif)
    assert len(data) > 1 << 14  # beyond what is always proved
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    read_image(path)
    path.write_bytes(cut(data, 0.5))
    with pytest.raises(DataError, match=r"a\.jpg is a truncated JPEG: a part of its picture is missing"):
        read_image(path)


def test_a_picture_with_grey_corners_is_whole(tmp_path):
    image = np.full((200, 300, 3), 128, np.uint8)
    image[40:160, 40:260] = photo(120, 220)
    path = tmp_path / "letterbox.jpg"
    Image.fromarray(image).save(path, quality=95)
    for _ in range(2):
        assert read_image(path).shape == (200, 300, 3)


def test_cut_pictures_are_counted_where_they_are_used_all_the_same(tmp_path):
    odd = Oddities()
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(cut(jpeg(), 0.5))
        assert read_image(tmp_path / f"{name}.jpg", oddities=odd).shape == (96, 128, 3)
    (line,) = odd.lines()
    assert line.startswith("2 pictures are cut JPEGs, a part of which is missing and read as grey: ")
    assert line.endswith("b.jpg.")


def test_training_and_the_doctor_refuse_them(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(cut(jpeg(), 0.5))
    Image.fromarray(np.zeros((96, 128), np.uint8)).save(tmp_path / "labels" / "a.png")
    (tmp_path / "train.txt").write_text("a\n")
    with pytest.raises(DataError, match="a part of its picture is missing"):
        open_dataset(tmp_path, "train.txt", CLASSES, 255).load(0)
    (found,) = (item for item in diagnose(tmp_path).findings if item.kind == "damaged_picture")
    assert found.severity == "error"
    assert "a part of its picture is missing" in found.message


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tif", ".ppm"])
def test_other_kinds_that_are_cut_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), photo(96, 128))
    data = path.read_bytes()
    for share in (0.5, 0.9, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DataError, match=r"a\.\w+ (cannot be decoded|is a truncated|is a damaged)"):
            read_image(path)
