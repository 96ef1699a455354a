from __future__ import annotations

import contextlib
import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.data import astronaut, coffee

from deeplabv3p.data.classes import ClassList, default_colors
from deeplabv3p.data.decode import image_size, is_turned, read_image, read_label
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo

PHOTO = coffee()[:120, :200]  # 120 high, 200 wide
CLASSES = ClassList(
    tuple(ClassInfo(f"c{i}", color) for i, color in enumerate(default_colors(4))), explicit_colors=False
)
COLORED = ClassList(CLASSES.classes, explicit_colors=True)


def encode(picture: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, kind, **options)
    return buffer.getvalue()


def put(folder: Path, data: bytes, name: str = "file.png") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def error_of(function: Any, path: Path, *arguments: Any) -> str:
    with pytest.raises(DataError) as error:
        function(path, *arguments)
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_pictures_keep_every_value(tmp_path: Path, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    path = put(tmp_path, encode(PHOTO, kind, **options), f"photo.{kind.lower()}")
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, PHOTO)
    assert image_size(path) == (120, 200)


def test_a_jpeg_is_close_and_rgb(tmp_path: Path) -> None:
    image = read_image(
        put(tmp_path, encode(PHOTO, "JPEG", quality=95, subsampling=0))
    )  # the content counts, not the suffix
    assert np.abs(image.astype(int) - PHOTO).mean() < 2


def test_grey_alpha_and_16_bit_become_rgb(tmp_path: Path) -> None:
    grey = PHOTO[..., 0]
    np.testing.assert_array_equal(read_image(put(tmp_path, encode(grey, "PNG"))), np.dstack([grey] * 3))
    alpha = np.dstack([PHOTO, np.full(grey.shape, 90, np.uint8)])
    np.testing.assert_array_equal(read_image(put(tmp_path, encode(alpha, "PNG"))), PHOTO)
    deep = cv2.imencode(".png", PHOTO[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(read_image(put(tmp_path, deep)), PHOTO)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = put(tmp_path, encode(PHOTO, kind, exif=exif))
    upright = {
        1: PHOTO,
        2: PHOTO[:, ::-1],
        3: PHOTO[::-1, ::-1],
        4: PHOTO[::-1],
        5: PHOTO.transpose(1, 0, 2),
        6: np.rot90(PHOTO, -1),
        7: PHOTO.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(PHOTO),
    }[orientation]
    image = read_image(path)
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).mean() < 8  # JPEG and WebP at default quality
    assert image_size(path) == upright.shape[:2]
    assert is_turned(path) == (orientation >= 5)


def test_the_size_comes_from_the_header_alone(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG"):
        data = encode(PHOTO, kind)
        assert image_size(put(tmp_path, data[: len(data) // 2])) == (120, 200)


def test_every_cut_of_a_jpeg_is_an_error(tmp_path: Path) -> None:
    thumbnail = encode(PHOTO[:8, :8], "JPEG")  # its end marker stands in the headers of the whole
    segment = b"\xff\xe5" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = encode(PHOTO, "JPEG", quality=60)
    data = data[:2] + segment + data[2:]
    assert data.find(b"\xff\xd9") < data.rfind(b"\xff\xda")
    assert read_image(put(tmp_path, data)).shape == PHOTO.shape
    for size in [*range(3, len(data), 37), len(data) - 1, len(data) - 2]:
        assert "truncated JPEG" in error_of(read_image, put(tmp_path, data[:size]))


def test_a_truncated_progressive_jpeg_is_an_error(tmp_path: Path) -> None:
    data = encode(PHOTO, "JPEG", progressive=True)
    assert read_image(put(tmp_path, data + b"trailing bytes are harmless")).shape == PHOTO.shape
    assert "truncated JPEG" in error_of(read_image, put(tmp_path, data[: len(data) * 3 // 4]))


def test_every_cut_of_a_png_is_an_error(tmp_path: Path) -> None:
    data = encode(PHOTO[:40, :40], "PNG")
    for size in [*range(8, len(data), 41), *range(len(data) - 13, len(data))]:
        path = put(tmp_path, data[:size])
        assert "truncated PNG" in error_of(read_image, path)
        assert "truncated PNG" in error_of(read_label, path, CLASSES, 255)


PNG_BYTES = encode(PHOTO[:30, :30, 0] % 4, "PNG")
JPEG_BYTES = encode(PHOTO[:30, :30], "JPEG")


@settings(max_examples=150, deadline=None)
@given(st.integers(8, len(PNG_BYTES) - 1), st.integers(1, 255))
def test_any_flipped_byte_of_a_png_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, position: int, change: int
) -> None:
    damaged = bytearray(PNG_BYTES)
    damaged[position] ^= change
    path = put(tmp_path_factory.getbasetemp(), bytes(damaged))
    error_of(read_image, path)
    error_of(read_label, path, CLASSES, 255)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(JPEG_BYTES) - 1), st.binary(min_size=1, max_size=20))
@example(2, b"\xff" * 20)
def test_a_damaged_jpeg_is_a_picture_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, position: int, patch: bytes
) -> None:
    path = put(tmp_path_factory.getbasetemp(), JPEG_BYTES[:position] + patch + JPEG_BYTES[position + len(patch) :])
    for function in (read_image, image_size):
        with contextlib.suppress(DataError):
            function(path)


@pytest.mark.parametrize("data", [b"", b"this is text\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", bytes(100)])
def test_what_is_no_picture_is_an_error(tmp_path: Path, data: bytes) -> None:
    path = put(tmp_path, data, "picture.png")
    error_of(read_image, path)
    error_of(image_size, path)
    error_of(read_label, path, CLASSES, 255)


def test_missing_files_and_folders_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        error_of(read_image, path)
        error_of(image_size, path)
        error_of(read_label, path, CLASSES, 255)


VALUES = np.random.default_rng(0).integers(0, 4, (20, 30)).astype(np.uint8)
WITH_IGNORE = np.where(VALUES == 3, 255, VALUES).astype(np.uint8)


def palette_picture(values: np.ndarray) -> Image.Image:
    picture = Image.fromarray(values, mode="P")
    picture.putpalette(np.array(default_colors(256), np.uint8).tobytes())
    return picture


@pytest.mark.parametrize("ignore", [None, 255])
def test_grey_palette_and_16_bit_labels(tmp_path: Path, ignore: int | None) -> None:
    values = VALUES if ignore is None else WITH_IGNORE
    forms = [values, palette_picture(values), values.astype(np.uint16), np.dstack([values, values])]
    for form in forms:
        label = read_label(put(tmp_path, encode(form, "PNG")), CLASSES, ignore)
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label, values)


def test_small_palettes_keep_their_indexes(tmp_path: Path) -> None:
    data = encode(palette_picture(VALUES), "PNG", bits=2)
    assert data[24] == 2
    np.testing.assert_array_equal(read_label(put(tmp_path, data), CLASSES, None), VALUES)


@pytest.mark.parametrize("ignore", [0, 2, 3])
def test_a_class_number_may_be_the_ignore_label(tmp_path: Path, ignore: int) -> None:
    label = read_label(put(tmp_path, encode(VALUES, "PNG")), CLASSES, ignore)
    np.testing.assert_array_equal(label, np.where(ignore == VALUES, IGNORE, VALUES))


def test_the_ignore_label_may_have_16_bits(tmp_path: Path) -> None:
    values = np.where(VALUES == 3, 65535, VALUES.astype(np.uint16)).astype(np.uint16)
    label = read_label(put(tmp_path, encode(values, "PNG")), CLASSES, 65535)
    np.testing.assert_array_equal(label, WITH_IGNORE)


def test_a_value_that_is_no_class_is_named_and_counted(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[0, :7] = 4
    for form in (values, values.astype(np.uint16), palette_picture(values)):
        text = error_of(read_label, put(tmp_path, encode(form, "PNG")), CLASSES, 255)
        assert "the label 4 (7 pixels)" in text
        assert "the classes are 0 to 3 and the ignore label is 255" in text
    values[1, :3] = 9
    values[2, :2] = 255
    text = error_of(read_label, put(tmp_path, encode(values, "PNG")), CLASSES, None)
    assert "the label 4 (7 pixels) and 9 (3 pixels) and 1 other value," in text
    assert "there is no ignore label" in text
    assert "mask" not in text
    text = error_of(read_label, put(tmp_path, encode(VALUES.astype(np.uint16) * 300, "PNG")), CLASSES, None)
    assert "the label 300 (" in text


def test_a_mask_of_0_and_255_gets_a_hint(tmp_path: Path) -> None:
    path = put(tmp_path, encode(((VALUES > 1) * 255).astype(np.uint8), "PNG"))
    assert "0/255 mask" in error_of(read_label, path, CLASSES, None)
    assert set(np.unique(read_label(path, CLASSES, 255))) == {0, IGNORE}


def test_rgb_labels_need_colours(tmp_path: Path) -> None:
    colors = np.array(default_colors(256), np.uint8)[WITH_IGNORE]
    alpha = np.dstack([colors, np.full(VALUES.shape, 255, np.uint8)])
    for form in (colors, alpha):
        path = put(tmp_path, encode(form, "PNG"))
        assert "RGB label map" in error_of(read_label, path, CLASSES, 255)
        np.testing.assert_array_equal(read_label(path, COLORED, 255), WITH_IGNORE)
        np.testing.assert_array_equal(read_label(path, COLORED, 0), np.where(WITH_IGNORE == 0, IGNORE, WITH_IGNORE))
    assert "(224, 224, 192)" in error_of(read_label, path, COLORED, None)


def test_an_unknown_colour_is_named(tmp_path: Path) -> None:
    colors = np.array(default_colors(256), np.uint8)[VALUES]
    colors[0, :5] = (1, 2, 3)
    colors[1, :2] = (255, 255, 255)
    text = error_of(read_label, put(tmp_path, encode(colors, "PNG")), COLORED, 255)
    assert "the colour (1, 2, 3) in 5 pixels and 1 other colour," in text


def sub_byte_grey(depth: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 8, 2, depth, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(depth)) * 2)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_below_8_bits_is_refused_as_ambiguous(tmp_path: Path, depth: int) -> None:
    assert f"{depth} bit" in error_of(read_label, put(tmp_path, sub_byte_grey(depth)), CLASSES, 255)


def test_a_jpeg_label_is_refused(tmp_path: Path) -> None:
    assert "must be PNG" in error_of(read_label, put(tmp_path, encode(VALUES, "JPEG")), CLASSES, 255)


def test_real_photographs_decode_as_pillow_does(tmp_path: Path) -> None:
    path = put(tmp_path, encode(astronaut(), "JPEG", quality=90, subsampling=0))
    pillow = np.asarray(Image.open(path).convert("RGB"))
    assert np.abs(read_image(path).astype(int) - pillow).max() <= 2  # two libraries round the colour conversion


def test_the_last_bytes_of_a_message_are_about_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file with blanks ü.png"
    path.write_text("no picture")
    assert re.search("ü.png cannot be decoded", error_of(read_image, path))
