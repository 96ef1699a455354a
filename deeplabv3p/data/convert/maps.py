"""Label maps that others have stored as pictures: numbers or colours → labels, nothing guessed."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from deeplabv3p.data.classes import ClassList
from deeplabv3p.data.convert.foreign import Content
from deeplabv3p.data.decode import numbers_content
from deeplabv3p.data.palettes import UnclearMapsError, decide
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE

Pixels = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

_EXACT = {"PNG", "BMP", "TIFF", "GIF", "PPM"}
EXIF_ORIENTATION = 0x0112
_LOOKED_AT = 32  # label maps of a source
MAX_PIXELS = 1 << 28  # of a label map


def read_numbers(file: Content) -> npt.NDArray[np.uint16]:
    """The numbers in a grey or palette picture, 1 to 16 bits: uint16 [H, W]. Raises DataError."""
    raw = _open(file, colors=False)
    if raw.ndim == 3:
        if raw.shape[2] > 2 and (raw[..., :3] != raw[..., :1]).any():
            raise DataError(f"{file.where} has colours where class numbers are expected.")
        raw = raw[..., 0]
    if raw.dtype.kind not in "biu" or raw.min(initial=0) < 0 or raw.max(initial=0) > 65535:
        raise DataError(f"{file.where} holds values that are no class numbers.")
    return raw.astype(np.uint16)


def read_colors(file: Content) -> Pixels:
    """The colours of a picture, its palette applied, alpha dropped: uint8 [H, W, 3] RGB. Raises DataError."""
    return np.ascontiguousarray(_open(file, colors=True)[..., :3], np.uint8)


def _open(file: Content, *, colors: bool) -> npt.NDArray[np.generic]:
    data = file.read()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the limit here
            with Image.open(io.BytesIO(data)) as picture:
                picture.verify()  # decoding a PNG overlooks a missing end
            with Image.open(io.BytesIO(data)) as picture:
                if picture.format not in _EXACT:
                    raise DataError(
                        f"{file.where} is stored as {picture.format}, which does not keep values exactly. Label maps "
                        "must be PNG, BMP, TIFF, GIF or PPM."
                    )
                if picture.width * picture.height > MAX_PIXELS:
                    raise DataError(
                        f"{file.where} has {picture.width}x{picture.height} pixels, more than {MAX_PIXELS:,}."
                    )
                return np.asarray(picture.convert("RGB") if colors else picture)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{file.where} is no label map that can be read ({error}). Get the file again.") from None


def size_as_seen(picture: Content) -> tuple[int, int]:
    """(height, width) of a picture of any kind, turned as EXIF says, from its head. Raises DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(picture.read())) as opened:
                turned = opened.getexif().get(EXIF_ORIENTATION, 1) in {5, 6, 7, 8}
                return opened.size if turned else (opened.height, opened.width)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{picture.where} is no picture that can be read ({error}). Get the file again.") from None


def require_numbers(files: Sequence[Content]) -> None:
    """Look at some palette PNGs, evenly spaced, whose numbers shall be those of classes.

    Raises:
        DataError: their palettes contradict each other, as those of PNG optimisers do.
    """
    count = min(_LOOKED_AT, len(files))
    chosen = [files[place * len(files) // count] for place in range(count)]
    contents = [numbers_content(file.read(), file.where) for file in chosen]
    try:
        decide([item for item in contents if item is not None], ClassList((), explicit_colors=False), None)
    except UnclearMapsError as error:
        raise DataError(
            f"{' and '.join(error.files)} have palettes in different orders, so their numbers mean no classes. "
            "Convert them as rgb_masks, with a class file of names and colours."
        ) from None


def number_table(labels: Mapping[int, int]) -> npt.NDArray[np.uint16]:
    """A table for :func:`map_numbers`: number → label; the numbers that are missing are errors."""
    table = np.full(65536, 256, np.uint16)
    for number, label in labels.items():
        table[number] = label
    return table


def map_numbers(raw: npt.NDArray[np.generic], table: npt.NDArray[np.uint16], where: str) -> Pixels:
    """Whole numbers [H, W], 0 to 65535 → labels uint8 [H, W]; raises DataError for a number that the table lacks."""
    mapped: npt.NDArray[np.uint16] = table[raw]
    if mapped.max(initial=0) > 255:
        values, counts = np.unique(raw[mapped > 255], return_counts=True)
        more = f" and {len(values) - 1} other values" if len(values) > 1 else ""
        raise DataError(f"{where} holds the number {values[0]} ({counts[0]:,} pixels){more}, which is no class.")
    return mapped.astype(np.uint8)


class ColorTable:
    """Colours → labels, with their names for messages."""

    def __init__(self, labels: Mapping[Color, int]) -> None:
        pairs = sorted((red << 16 | green << 8 | blue, label) for (red, green, blue), label in labels.items())
        self._codes = np.array([code for code, _ in pairs], np.int32)
        self._labels = np.array([label for _, label in pairs], np.uint8)

    def map(self, colors: Pixels, where: str, other: int = IGNORE, tolerance: float = 0.0) -> Pixels:
        """uint8 [H, W, 3] RGB → labels uint8 [H, W].

        ``other`` is the label of colours that are not in the table. Where they have more than ``tolerance``, a share of
        the pixels, DataError is raised.
        """
        wide = colors.astype(np.int32)
        code = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
        at = np.minimum(np.searchsorted(self._codes, code), len(self._codes) - 1)
        labels: Pixels = self._labels[at]
        bad = self._codes[at] != code
        if bad.any():
            if bad.mean() > tolerance:
                values, counts = np.unique(code[bad], return_counts=True)
                value, number = int(values[np.argmax(counts)]), int(counts.max())
                more = f" and {len(values) - 1} other colours" if len(values) > 1 else ""
                raise DataError(
                    f"{where} holds the colour {value >> 16} {value >> 8 & 255} {value & 255} in {number:,} pixels"
                    f"{more}, which no class has. Are the masks smoothed or stored as JPEG?"
                )
            labels[bad] = other
        return labels


def ignore_boundaries(label: Pixels, width: int) -> Pixels:
    """The label map with the pixels up to ``width`` from a change of label ignored, on both sides."""
    kernel = np.ones((3, 3), np.uint8)
    # A pixel is beside a boundary where the labels around it are not all equal; the rest is distance.
    edge = cv2.dilate(label, kernel) != cv2.erode(label, kernel)
    if width > 1:
        edge = cv2.dilate(edge.astype(np.uint8), kernel, iterations=width - 1) > 0
    result = label.copy()
    if width > 0:
        result[edge] = IGNORE
    return result
