"""From files to arrays: photographs by OpenCV, label PNGs by Pillow, and every damaged file an error that names it."""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from deeplabv3p import files
from deeplabv3p.data.classes import VOID_COLOR, ClassList
from deeplabv3p.data.depth import decode_deep, is_deep, largest_but_few, likely_white, looks_like, scaled
from deeplabv3p.data.palettes import (
    BY_ITSELF,
    Color,
    Content,
    Reading,
    color_labels,
    decide,
    greys_matter,
    is_plain,
    read_by_color,
)
from deeplabv3p.data.whole import JPEG_SIGNATURE, PNG_SIGNATURE, check_jpeg, check_png, jpeg_ends_early
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import FULL_RANGE

Picture = npt.NDArray[np.uint8]
PathLike = str | os.PathLike[str]

# What a decoder complains about is raised as DataError here; OpenCV's own lines would tear the progress display.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_NAMED = 5  # files in a sentence
_EXIF_ORIENTATION = 0x0112
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6  # the colour types of PNG
_NO_CLASSES = ClassList((), explicit_colors=False)
_GREY_STEP = 8  # values closer than this are no steps of grey
_LOOKED_AT = 32  # label maps of a dataset


class Oddities:
    """What is odd about pictures that are used all the same; several threads may tell.

    Args:
        picture_max: what the pictures are read with.
        sure: whether the user said so: then no other range is proposed.
    """

    def __init__(self, picture_max: int = FULL_RANGE, *, sure: bool = False) -> None:
        self._picture_max, self._sure = picture_max, sure
        self._cut: dict[str, None] = {}
        self._largest: dict[str, int] = {}

    def note_cut(self, path: PathLike) -> None:
        """A JPEG whose last part is missing."""
        self._cut[os.fspath(path)] = None

    def note_deep(self, path: PathLike, largest: int) -> None:
        """A picture of 16 bits, and its largest value."""
        self._largest[os.fspath(path)] = largest

    def lines(self) -> list[str]:
        """A sentence for each kind, with its count and the first files."""
        found = []
        if self._cut:
            names = list(self._cut)
            more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
            what = "1 picture is a cut JPEG" if len(names) == 1 else f"{len(names):,} pictures are cut JPEGs"
            first = ", ".join(names[:_NAMED])
            found.append(f"{what}, a part of which is missing and read as grey: {first}{more}.")
        largest = list(self._largest.values())
        white = None if self._sure else likely_white(largest, self._picture_max)
        if white is not None:
            found.append(f"{looks_like(largest, self._picture_max, white)}.")
        return found


def read_image(path: PathLike, picture_max: int = FULL_RANGE, oddities: Oddities | None = None) -> Picture:
    """Read a photograph of any kind OpenCV knows.

    Grey becomes three equal channels, alpha is dropped, 16 bits become 8, the EXIF orientation is applied.

    Args:
        path: the file.
        picture_max: the value of white in files of 16 bits a channel (:func:`deeplabv3p.pixels.to_bytes`).
        oddities: is told about pictures that can be used with reservations. Without it, these are refused.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        DataError: the file is missing, truncated or damaged, is no picture, or has values beyond ``picture_max``.
    """
    data = _read(path)
    is_jpeg = data.startswith(JPEG_SIGNATURE)
    if is_jpeg:
        check_jpeg(data, path)
    elif data.startswith(PNG_SIGNATURE):
        check_png(data, path)
    deep = not is_jpeg and is_deep(data)
    values = decode_deep(data) if deep and picture_max != FULL_RANGE else None
    image = _decode(data) if values is None else scaled(values, picture_max, path)
    if image is None:
        raise DataError(f"{path} cannot be decoded as a picture: it is damaged or of an unknown kind. Replace it.")
    if deep and oddities is not None:
        oddities.note_deep(path, _largest(data) if values is None else largest_but_few(values))
    if is_jpeg and jpeg_ends_early(data, image):
        if oddities is None:
            raise DataError(f"{path} is a truncated JPEG: a part of its picture is missing. Copy it again.")
        oddities.note_cut(path)
    return image


def largest_value(path: PathLike) -> int | None:
    """The largest value of a picture of 16 bits a channel, its brightest thousandth left out; None for other files and
    those that cannot be read."""
    try:
        data = _read(path)
    except DataError:
        return None
    return _largest(data) if is_deep(data) else None


def _largest(data: bytes) -> int:
    values = decode_deep(data)
    return FULL_RANGE if values is None else largest_but_few(values)


def _decode(data: bytes) -> Picture | None:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        return None
    return None if image is None else np.asarray(image, np.uint8)


def image_size(path: PathLike) -> tuple[int, int]:
    """(height, width) as :func:`read_image` returns it, from the header alone; raises DataError."""
    width, height, turned = _header(path)
    return (width, height) if turned else (height, width)


def is_turned(path: PathLike) -> bool:
    """Whether the EXIF orientation of a picture swaps its width and height; raises DataError."""
    return _header(path)[2]


def read_label(
    path: PathLike, class_list: ClassList, ignore_index: int | None, reading: Reading = BY_ITSELF
) -> Picture:
    """Read a label PNG: grey or palette numbers, or colours where the class list gives them explicitly.

    In colours, ignored pixels have the colour of class ``ignore_index`` or VOC's void colour (224, 224, 192). Palette
    maps whose palette has the class colours in another order are read by colour.

    Args:
        path: the PNG.
        class_list: the classes; label i is class i.
        ignore_index: the number that means ignore in this file (0 to 65535), or None if there is none.
        reading: what palettes and greys mean in the dataset that the file is of (:func:`dataset_reading`); by default
            the file alone decides.

    Returns:
        uint8 [H, W]: 0 to K - 1, or ``pixels.IGNORE``.

    Raises:
        DataError: the file is missing, damaged or not a PNG, or holds a value or colour that is neither a class nor
            the ignore label, or does not fit ``reading``.
    """
    stored = _stored(path)
    if stored.kind in (_RGB, _RGB_ALPHA):
        if not class_list.explicit_colors:
            raise DataError(
                f"{path} is an RGB label map, and the class list gives no colours. "
                "Add them to it (name R G B), or store class numbers as a grey or palette PNG."
            )
        if stored.depth == 16:
            raise DataError(_ambiguous_depth(path, stored))
        return _from_colors(_pixels(stored, path), path, class_list, ignore_index)
    by_color = stored.kind != _PALETTE and reading.greys != "numbers" and stored.depth <= 8
    if not by_color and (stored.depth < 8 if stored.kind == _GREY else stored.depth == 16 and stored.kind != _GREY):
        raise DataError(_ambiguous_depth(path, stored))
    raw = _pixels(stored, path)
    if stored.kind == _PALETTE:
        by_color = reading.palettes == "colors" or bool(reading.known)
        by_color = by_color or not is_plain(stored.palette, class_list, ignore_index)
    if by_color:  # or perhaps: the values that occur tell
        content = _content(stored, _values(raw), path)
        if read_by_color(content, class_list, ignore_index, reading):
            return np.asarray(cv2.LUT(raw, color_labels(content, class_list, ignore_index)), np.uint8)
        if not content.exact:
            raise DataError(_ambiguous_depth(path, stored))
    return _from_numbers(raw, path, len(class_list.classes), ignore_index)


def dataset_reading(paths: Sequence[PathLike], class_list: ClassList, ignore_index: int | None) -> Reading:
    """What palette and grey maps of a dataset mean, by a look at some of its label maps, evenly spaced.

    Whatever was not looked at is checked when it is read. Files that cannot be read have no say.

    Raises:
        UnclearMapsError: no reading is certain.
    """
    count = min(_LOOKED_AT, len(paths))
    chosen = [paths[place * len(paths) // count] for place in range(count)]
    contents = []
    for path in chosen:
        with contextlib.suppress(DataError):
            contents.append(label_content(path, class_list, ignore_index))
    return decide(contents, class_list, ignore_index)


def content_of(path: PathLike, values: Iterable[int]) -> Content | None:
    """What a label PNG holds whose ``values`` are known, grey ones of fewer bits scaled to 8; None for other files."""
    try:
        stored = _stored(path)
    except DataError:
        return None
    if stored.kind in (_RGB, _RGB_ALPHA):
        return Content(os.fspath(path), "colors")
    return _content(stored, values, path) if stored.depth <= 8 else None


def numbers_content(data: bytes, name: str) -> Content | None:
    """What the bytes of a label PNG called ``name`` hold, whatever the classes; None where it is none or damaged."""
    try:
        stored = _stored_in(data, name)
        whole = stored.kind != _PALETTE or is_plain(stored.palette, _NO_CLASSES, None)
        return None if whole else _content(stored, _values(_pixels(stored, name)), name)
    except DataError:
        return None


def label_content(path: PathLike, class_list: ClassList, ignore_index: int | None) -> Content:
    """What a label PNG holds, as far as it matters for :func:`dataset_reading`; raises DataError."""
    stored = _stored(path)
    if stored.kind in (_RGB, _RGB_ALPHA):
        return Content(os.fspath(path), "colors")
    if stored.kind == _PALETTE and is_plain(stored.palette, class_list, ignore_index):
        used = stored.palette[: len(class_list.classes)]  # they are all right, so which of them occur does not matter
        return Content(os.fspath(path), "palette", dict(enumerate(used)), stored.palette)
    if stored.kind != _PALETTE and (stored.depth == 16 or not greys_matter(class_list, ignore_index)):
        return Content(os.fspath(path), "grey", exact=stored.depth >= 8)
    return _content(stored, _values(_pixels(stored, path)), path)


@dataclass(frozen=True)
class _Stored:
    """A PNG whose chunks are whole: colour type, bits a channel, palette."""

    data: bytes
    kind: int
    depth: int
    palette: tuple[Color, ...]


def _stored(path: PathLike) -> _Stored:
    return _stored_in(_read(path), path)


def _stored_in(data: bytes, path: PathLike) -> _Stored:
    if not data.startswith(PNG_SIGNATURE):
        raise DataError(f"{path} is not a PNG file. Label maps must be PNG, which keeps every value.")
    entries = check_png(data, path)
    return _Stored(data, data[25], data[24], _colors_in(entries) if data[25] == _PALETTE else ())


@functools.lru_cache(maxsize=64)
def _colors_in(entries: bytes) -> tuple[Color, ...]:
    """The colours of a PLTE chunk; datasets have one palette, which then lies in memory once."""
    return tuple(zip(entries[::3], entries[1::3], entries[2::3], strict=False))


def _pixels(stored: _Stored, path: PathLike) -> npt.NDArray[np.generic]:
    """The values, [H, W]: bytes, grey of fewer bits scaled to 8, or uint16; or [H, W, C] colours."""
    try:
        with Image.open(io.BytesIO(stored.data)) as picture:
            raw = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is a damaged label map ({error}). Replace it.") from None
    return np.ascontiguousarray(raw[..., 0]) if stored.kind == _GREY_ALPHA else raw


def _values(raw: npt.NDArray[np.generic]) -> list[int]:
    found: list[int] = np.flatnonzero(cv2.calcHist([raw], [0], None, [256], [0, 256])).tolist()
    return found


def _content(stored: _Stored, values: Iterable[int], path: PathLike) -> Content:
    if stored.kind != _PALETTE:
        return Content(os.fspath(path), "grey", {v: (v, v, v) for v in values}, exact=stored.depth >= 8)
    shown = {value: stored.palette[value] if value < len(stored.palette) else None for value in values}
    return Content(os.fspath(path), "palette", shown, stored.palette)


def _ambiguous_depth(path: PathLike, stored: _Stored) -> str:
    # Shrinking tools turn 8-bit {0, 255} into 1-bit {0, 1}: class 1 and ignore cannot be told apart.
    return f"{path} has {stored.depth} bits a channel, which is ambiguous. Store 8-bit grey or a palette."


def _read(path: PathLike) -> bytes:
    data = files.read_bytes(path)
    if not data:
        raise DataError(f"{path} is empty. Replace it.")
    return data


def _header(path: PathLike) -> tuple[int, int, bool]:
    """(width, height, turned): the stored size, and whether EXIF swaps it."""
    files.check_regular(path)
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            # Asking a PNG that has no EXIF for it makes Pillow decode all of it.
            has_exif = picture.format != "PNG" or "exif" in picture.info
            turned = has_exif and picture.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
            if turned and picture.format == "TIFF":  # Pillow reports the size of a TIFF already turned
                width, height = height, width
    except UnidentifiedImageError:
        raise DataError(f"{path} is not a picture of a known kind. Replace it.") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from None
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} has a damaged header ({error}). Replace it.") from None
    return width, height, turned


def _from_numbers(raw: npt.NDArray[np.generic], path: PathLike, count: int, ignore: int | None) -> Picture:
    wide = raw.dtype != np.uint8
    memory, wrong = _tables(65536 if wide else 256, count, ignore)
    # cv2.LUT is five times faster than indexing, and takes bytes only.
    bad = wrong[raw] if wide else cv2.LUT(raw, wrong)
    if cv2.countNonZero(bad):
        raise DataError(_describe_wrong(raw, bad, path, count, ignore))
    return np.asarray(memory[raw] if wide else cv2.LUT(raw, memory), np.uint8)


@functools.lru_cache(maxsize=8)
def _tables(size: int, count: int, ignore: int | None) -> tuple[Picture, Picture]:
    """Lookup by the number in the file: the label in memory, and 1 where the number is neither class nor ignore."""
    numbers = np.arange(size)
    ignored = numbers == (-1 if ignore is None else ignore)
    memory = np.where((numbers < count) & ~ignored, numbers, IGNORE).astype(np.uint8)
    return memory, ((numbers >= count) & ~ignored).astype(np.uint8)


def _describe_wrong(raw: npt.NDArray[np.generic], bad: Picture, path: PathLike, count: int, ignore: int | None) -> str:
    values, pixels = np.unique(raw[bad > 0], return_counts=True)
    shown = " and ".join(f"{value} ({number:,} pixels)" for value, number in zip(values[:2], pixels[:2], strict=True))
    more = _and_more(len(values) - 2, "value")
    ignored = "there is no ignore label" if ignore is None else f"the ignore label is {ignore}"
    hint = "Correct the map, the class list or the ignore label."
    if ignore != 255 and set(np.unique(raw).tolist()) <= {0, 255}:
        hint = "This looks like a 0/255 mask: store 1 for 255 if it marks a class, or set the ignore label to 255."
    elif (greys := np.unique(raw)).size > 1 and np.diff(greys.astype(np.int64)).min() >= _GREY_STEP:
        hint = "If greys stand for classes here, tools/dataset_converter/doctor.py --fix makes numbers of even steps."
    return f"{path} holds the label {shown}{more}, but the classes are 0 to {count - 1} and {ignored}. {hint}"


def _and_more(count: int, noun: str) -> str:
    return f" and {count} other {noun}{'s' if count > 1 else ''}" if count > 0 else ""


def _from_colors(raw: npt.NDArray[np.generic], path: PathLike, class_list: ClassList, ignore: int | None) -> Picture:
    codes, labels = _color_table(class_list, ignore)
    pixels = raw[..., :3].astype(np.int32)
    code = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    where = np.minimum(np.searchsorted(codes, code), len(codes) - 1)
    bad = codes[where] != code
    if bad.any():
        values, numbers = np.unique(code[bad], return_counts=True)
        value = int(values[np.argmax(numbers)])
        more = _and_more(len(values) - 1, "colour")
        raise DataError(
            f"{path} holds the colour ({value >> 16}, {value >> 8 & 255}, {value & 255}) in {numbers.max():,} "
            f"pixels{more}, which no class has. Correct the map or the class list."
        )
    return labels[where]


@functools.lru_cache(maxsize=8)
def _color_table(class_list: ClassList, ignore: int | None) -> tuple[npt.NDArray[np.int32], Picture]:
    """Sorted colours, each as one number, and their labels in memory."""
    table = {item.color: IGNORE if label == ignore else label for label, item in enumerate(class_list.classes)}
    if ignore is not None:
        table.setdefault(VOID_COLOR, IGNORE)
    pairs = sorted((red << 16 | green << 8 | blue, label) for (red, green, blue), label in table.items())
    return np.array([code for code, _ in pairs], np.int32), np.array([label for _, label in pairs], np.uint8)
