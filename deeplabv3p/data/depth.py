"""Picture files of 16 bits a channel: what their values mean, and when they seem to mean something else.

Cameras, microscopes and satellites store 10, 12 or 14 bits in files of 16. Read as 16 bits such a picture is almost
black. What white is, is a fact of the camera and not of a picture, which may be dark: it is said once, as
``picture_max``, by a flag or by the model's spec. Here is what tells that it was not said, or said wrongly.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from deeplabv3p.data.whole import PNG_SIGNATURE
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import to_bytes
from deeplabv3p.spec import FULL_RANGE

_USUAL = (255, 1023, 4095, 16383)  # white in 8, 10, 12 and 14 bits
_DARK, _DARK_FEW = 4, 8
"""Values below this share of white, in all pictures, are those of another range; with less to go by, the second."""
_FEW = 3  # pictures
_MOST_BEYOND = 100
"""One value in so many may lie above white, as where light saturates."""
_TIFF_SAMPLE_BITS = 258


def is_deep(data: bytes) -> bool:
    """Whether a file holds 16 bits a channel, by its header."""
    if data.startswith(PNG_SIGNATURE):
        return data[24:25] == b"\x10"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff_bits(data) > 8
    return data[:2] in (b"P5", b"P6") and _netpbm_white(data) > 255


def decode_deep(data: bytes) -> npt.NDArray[np.uint16] | None:
    """uint16 [H, W, 3] RGB of a file of 16 bits a channel; None where it cannot be decoded to that."""
    try:
        # RGB is asked for by hand: of TIFF files, OpenCV gives BGR at this depth, whatever it is asked for.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_BGR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        return None
    return None if image is None or image.dtype != np.uint16 else np.ascontiguousarray(image[..., ::-1])


class BeyondWhiteError(DataError):
    """A picture has values above what white is said to be."""


def scaled(values: npt.NDArray[np.uint16], picture_max: int, path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """The values as bytes (:func:`deeplabv3p.pixels.to_bytes`).

    Raises:
        BeyondWhiteError: more than one in a hundred lies above ``picture_max``, so white is something else.
    """
    if int((values > picture_max).sum()) * _MOST_BEYOND > values.size:
        raise BeyondWhiteError(
            f"{path} holds values up to {values.max()}, but white is {picture_max} (--picture_max, or the model's "
            "spec). Say what white is in these pictures, or use those of the camera that the model was trained for."
        )
    return to_bytes(values, picture_max)


def largest_but_few(values: npt.NDArray[np.uint16]) -> int:
    """The largest value of a picture, without the brightest thousandth: hot pixels and a mark for "no data" say nothing
    of what white is."""
    place = values.size - 1 - values.size // 1000
    return int(np.partition(values, place, axis=None)[place])


def likely_white(largest: Sequence[int], picture_max: int = FULL_RANGE) -> int | None:
    """What white seems to be, where it is less than ``picture_max``; None where there is no sign of that.

    Args:
        largest: the largest value of each of some pictures of 16 bits.
        picture_max: what white is said to be.
    """
    if not largest:
        return None
    top = max(largest)
    limit = (picture_max + 1) // (_DARK if len(largest) >= _FEW else _DARK_FEW)
    return next((white for white in _USUAL if top <= white < limit), None)


def looks_like(largest: Sequence[int], picture_max: int, white: int) -> str:
    """The sentence that says so."""
    pictures = "1 picture" if len(largest) == 1 else f"{len(largest):,} pictures"
    bits = (white + 1).bit_length() - 1
    return (
        f"the largest value of {pictures} of 16 bits is {max(largest)} (the brightest thousandth left out), where "
        f"white is {picture_max}: almost black. "
        f"If the camera has {bits} bits, say --picture_max {white}"
    )


def _tiff_bits(data: bytes) -> int:
    """Bits of the first channel of the first picture; 0 where the directory is damaged."""
    order = "<" if data[:2] == b"II" else ">"
    try:
        (at,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, _, number = struct.unpack_from(order + "HHI", data, entry)
            if tag == _TIFF_SAMPLE_BITS:
                # Up to two numbers stand in the entry itself, more where it points to.
                place = entry + 8 if number <= 2 else struct.unpack_from(order + "I", data, entry + 8)[0]
                return int(struct.unpack_from(order + "H", data, place)[0])
    except struct.error:
        return 0
    return 1  # the default of TIFF


def _netpbm_white(data: bytes) -> int:
    """The number behind width and height in a PGM or PPM; 0 where the header is damaged."""
    lines = [line.partition(b"#")[0] for line in data[:4096].split(b"\n")]
    words = b" ".join(lines).split()[:4]
    return int(words[3]) if len(words) == 4 and words[3].isdigit() and len(words[3]) <= 5 else 0
