"""One look at one sample: both files are decoded once, and what the judgements need is kept in a few kilobytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from deeplabv3p.data.classes import VOID_COLOR, ClassList, default_colors
from deeplabv3p.data.decode import Picture, content_of, largest_value, read_image, read_label
from deeplabv3p.data.depth import BeyondWhiteError
from deeplabv3p.data.doctor.findings import Box
from deeplabv3p.data.doctor.inventory import Pair, content_format
from deeplabv3p.data.doctor.twins import difference_hash
from deeplabv3p.data.doctor.twins import thumbnail as make_thumbnail
from deeplabv3p.data.palettes import Content
from deeplabv3p.errors import DataError
from deeplabv3p.spec import FULL_RANGE, ClassInfo

MAX_PIXELS = 100_000_000
"""A larger picture is not decoded: it takes more than 300 MB, in each of the threads."""
TINY = 9
"""Pixels of the largest region that counts as tiny: a square of 3."""
KEPT_VALUES = 320  # of one label map: all an 8-bit one can have, the commonest of another
FEW_VALUES = 64  # maps with more are no maps of classes with regions
UNSURE = 0.25
"""A pixel belongs to a class colour if it is closer than this share of the distance of the closest two."""

Stored = Literal["numbers", "colors", "bits"]
Colors = npt.NDArray[np.int32]

# Every 8-bit value is a class or ignored: this reads what the file holds, and still refuses what training refuses.
_EVERYTHING = ClassList(
    tuple(ClassInfo(str(label), color) for label, color in enumerate(default_colors(255))), explicit_colors=False
)
_EXIF_ORIENTATION = 0x0112
_REACH = 16  # pixels
_PACK = np.array([65536, 256, 1], np.int32)


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """A picture: size as training sees it, EXIF orientation (1: none), content format, digest of the file, hash and
    thumbnail for comparisons, and the largest value of one of 16 bits a channel."""

    size_hw: tuple[int, int]
    orientation: int
    format: str
    digest: bytes
    hash: int
    thumb: bytes
    largest: int | None = None


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """A label map as stored. ``counts``: pixels of each number, or of each colour as R·65536 + G·256 + B; of
    ``distinct`` ones, the commonest. ``grey``: colours with three equal channels. ``unsure``: the share of pixels that
    are far from every class colour, where the map is no exact one. ``one_pixel`` and ``tiny`` count its regions of 1
    and of 2 to TINY pixels; ``spot`` is one of them, ``wrong`` holds
    all pixels of numbers that are no class. ``content``: what may be numbers or colours, in PNGs of at most 8 bits."""

    size_hw: tuple[int, int]
    format: str
    stored: Stored
    counts: dict[int, int]
    distinct: int
    grey: bool = False
    unsure: float | None = None
    one_pixel: int = 0
    tiny: int = 0
    spot: Box | None = None
    wrong: Box | None = None
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What was seen of a pair. An error is the sentence of the decoder; ``huge`` names a file that was not decoded;
    ``beyond_white``: the picture is whole, but not of the range that was said."""

    index: int
    picture: PictureFacts | None = None
    label: LabelFacts | None = None
    picture_error: str | None = None
    label_error: str | None = None
    huge: tuple[Path, ...] = ()
    beyond_white: bool = False


def look(
    index: int, pair: Pair, class_list: ClassList | None, ignore_index: int | None, picture_max: int = FULL_RANGE
) -> Record:
    """Decode a pair that has both files. Never raises for what a file holds."""
    assert pair.image is not None
    assert pair.label is not None
    huge = tuple(path for path in (pair.image, pair.label) if _pixels(path) > MAX_PIXELS)
    if huge:
        return Record(index, huge=huge)
    picture, picture_error, beyond_white = None, None, False
    label, label_error = None, None
    try:
        picture = _look_at_picture(pair.image, picture_max)
    except DataError as error:
        picture_error, beyond_white = str(error), isinstance(error, BeyondWhiteError)
    try:
        label = _look_at_label(pair.label, class_list, ignore_index)
    except DataError as error:
        label_error = str(error)
    return Record(index, picture, label, picture_error, label_error, beyond_white=beyond_white)


def raw_label(path: Path) -> tuple[npt.NDArray[np.generic], Stored]:
    """A label map as stored: [H, W] uint8 or uint16 numbers, or uint8 [H, W, 3] colours.

    Raises DataError if the file is damaged."""
    try:
        return read_label(path, _EVERYTHING, 255), "numbers"
    except DataError:
        pass
    # Everything but a plain PNG. Reading it as a picture checks that it is whole, and gives its colours.
    colors = read_image(path)
    try:
        with Image.open(path) as file:
            mode, kind = file.mode, file.format
            if mode in ("L", "P") and kind != "JPEG" and _depth(path) == 8:
                return np.asarray(file), "numbers"
            if mode.startswith("I"):
                values = np.asarray(file)
                if values.min() < 0 or values.max() > 65535:
                    raise DataError(f"{path} holds numbers beyond 16 bits. Store 8-bit numbers.")
                return values.astype(np.uint16), "numbers"
            if mode == "1" or _depth(path) < 8 or (_depth(path) == 16 and kind == "PNG"):
                return (colors[..., 0] if mode in ("1", "L") else colors), "bits"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is a damaged label map ({error}). Replace it.") from None
    if mode == "L":
        return np.ascontiguousarray(colors[..., 0]), "numbers"
    return colors, "colors"


def snap(
    raw: npt.NDArray[np.generic], centres: Sequence[tuple[int, int, int]]
) -> tuple[Picture, npt.NDArray[np.bool_]]:
    """The nearest of the colours for each pixel, uint8 [H, W], and where it is too far from all of them to be sure.

    A grey map is compared by its value in all three channels.
    """
    packed = raw.astype(np.int32) @ _PACK if raw.ndim == 3 else raw.astype(np.int32) * _PACK.sum()
    codes, where = np.unique(packed, return_inverse=True)
    colors = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.float32)
    table = np.asarray(centres, np.float32)
    distance = np.linalg.norm(colors[:, None] - table[None], axis=2)
    between = np.linalg.norm(table[:, None] - table[None], axis=2)
    limit = UNSURE * between[~np.eye(len(table), dtype=bool)].min()
    nearest = distance.argmin(axis=1).astype(np.uint8)[where].reshape(raw.shape[:2])
    return nearest, (distance.min(axis=1) > limit)[where].reshape(raw.shape[:2])


def centres_of(
    raw: npt.NDArray[np.generic], class_list: ClassList | None, ignore_index: int | None
) -> tuple[tuple[int, int, int], ...] | None:
    """The colours that the classes, in order, had in a map before it was smeared; VOC's void colour may follow them.

    They are the class list's, or black and white for two classes. None where nothing says them: neighbouring numbers
    cannot be told apart once they are smeared.
    """
    if class_list is None or len(class_list.classes) < 2:
        return None
    if class_list.explicit_colors and raw.ndim == 3:
        colors = tuple(item.color for item in class_list.classes)
        return colors if ignore_index is None or VOID_COLOR in colors else (*colors, VOID_COLOR)
    if len(class_list.classes) > 2 or (raw.ndim == 3 and not _is_grey(raw)):
        return None
    grey = (raw if raw.ndim == 2 else raw[..., 0]).astype(np.int32)
    # JPEG smears within 16 pixels. Faint grey farther from white is a map of small numbers, and 255 is no class there.
    near_white = cv2.dilate((grey >= 128).astype(np.uint8), np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8))
    return None if ((grey > 0) & (near_white == 0)).any() else ((0, 0, 0), (255, 255, 255))


def _is_grey(raw: npt.NDArray[np.generic]) -> bool:
    return bool((raw[..., 0] == raw[..., 1]).all() and (raw[..., 1] == raw[..., 2]).all())


def _look_at_picture(path: Path, picture_max: int) -> PictureFacts:
    image = read_image(path, picture_max)
    thumb = make_thumbnail(image)
    return PictureFacts(
        (image.shape[0], image.shape[1]),
        _orientation(path),
        content_format(path) or "other",
        hashlib.blake2b(path.read_bytes(), digest_size=16).digest(),
        difference_hash(thumb),
        thumb.tobytes(),
        largest_value(path),
    )


def _look_at_label(path: Path, class_list: ClassList | None, ignore_index: int | None) -> LabelFacts:
    raw, stored = raw_label(path)
    counts, distinct = _count(raw)
    kind = content_format(path) or "other"
    grey = raw.ndim == 3 and all(code == (code & 255) * int(_PACK.sum()) for code in counts)
    unsure = None
    exact = kind != "JPEG" and _known(counts, raw.ndim == 3, class_list, ignore_index)
    if not exact and (centres := centres_of(raw, class_list, ignore_index)):
        unsure = float(snap(raw, centres)[1].mean())
    size = (raw.shape[0], raw.shape[1])
    content = content_of(path, counts if raw.ndim == 2 else ()) if kind == "PNG" else None
    if raw.dtype != np.uint8 or raw.ndim != 2 or distinct > FEW_VALUES or kind == "JPEG":
        return LabelFacts(size, kind, stored, counts, distinct, grey, unsure, content=content)
    one, tiny, spot = _tiny_regions(raw.astype(np.uint8, copy=False), [v for v in counts if v != ignore_index])
    wrong = None if exact else _box_of_wrong(raw.astype(np.uint8, copy=False), class_list, ignore_index)
    return LabelFacts(size, kind, stored, counts, distinct, grey, unsure, one, tiny, spot, wrong, content)


def _known(counts: dict[int, int], colors: bool, class_list: ClassList | None, ignore_index: int | None) -> bool:
    """Whether all numbers are those of classes; colours are not exact unless they are all of the list."""
    if class_list is None:
        return True
    if colors:
        return set(counts) <= {pack(color) for color in (*(item.color for item in class_list.classes), VOID_COLOR)}
    return all(value < len(class_list.classes) or value == ignore_index for value in counts)


def pack(color: tuple[int, int, int]) -> int:
    """A colour as one number: R·65536 + G·256 + B."""
    return color[0] << 16 | color[1] << 8 | color[2]


def _count(raw: npt.NDArray[np.generic]) -> tuple[dict[int, int], int]:
    """Pixels of each value, the commonest KEPT_VALUES of them, and how many there are."""
    if raw.ndim == 2 and raw.dtype == np.uint8:
        bins = np.bincount(raw.ravel(), minlength=256)
        values = np.flatnonzero(bins)
        numbers = bins[values]
    else:
        flat = raw.astype(np.int32) if raw.ndim == 2 else raw.astype(np.int32) @ _PACK
        values, numbers = np.unique(flat, return_counts=True)
    common = np.argsort(-numbers, kind="stable")[:KEPT_VALUES]
    pairs = zip(values[common].tolist(), numbers[common].tolist(), strict=True)
    return dict(pairs), len(values)


def _box_of_wrong(label: Picture, class_list: ClassList | None, ignore_index: int | None) -> Box | None:
    assert class_list is not None
    table = (np.arange(256) >= len(class_list.classes)).astype(np.uint8)
    if ignore_index is not None and ignore_index < 256:
        table[ignore_index] = 0
    left, top, width, height = cv2.boundingRect(cv2.LUT(label, table))
    return (top, left, top + height, left + width) if width else None


def _tiny_regions(label: Picture, values: Sequence[int]) -> tuple[int, int, Box | None]:
    """Regions (8-connected) of 1 and of 2 to TINY pixels, and where one of them is."""
    one, tiny, spot = 0, 0, None
    for value in values:
        mask = cv2.compare(label, value, cv2.CMP_EQ)
        left, top, width, height = cv2.boundingRect(mask)
        part = mask[top : top + height, left : left + width]
        _, _, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=8, ltype=cv2.CV_32S)
        areas = stats[1:, cv2.CC_STAT_AREA]
        small = np.flatnonzero(areas <= TINY)
        one += int((areas[small] == 1).sum())
        tiny += int((areas[small] > 1).sum())
        if spot is None and len(small):
            x, y, wide, high = stats[1 + int(small[0]), :4].tolist()
            spot = (top + y, left + x, top + y + high, left + x + wide)
    return one, tiny, spot


def _pixels(path: Path) -> int:
    """Pixels by the header; 0 where Pillow cannot tell."""
    try:
        with Image.open(path) as file:
            return file.width * file.height
    except Image.DecompressionBombError:
        return MAX_PIXELS + 1
    except (OSError, SyntaxError, ValueError):
        return 0


def _orientation(path: Path) -> int:
    """1 to 8, as EXIF counts; 1: as stored."""
    try:
        with Image.open(path) as file:
            # Asking a PNG that has no EXIF for it makes Pillow decode all of it.
            if file.format == "PNG" and "exif" not in file.info:
                return 1
            value = file.getexif().get(_EXIF_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _depth(path: Path) -> int:
    """Bits a channel of a PNG; 8 for other files."""
    with path.open("rb") as file:
        start = file.read(26)
    return start[24] if start.startswith(b"\x89PNG") and len(start) == 26 else 8
