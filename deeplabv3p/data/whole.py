"""Whether a picture file holds all of its picture. Decoders make up what is missing, and say nothing."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from deeplabv3p.errors import DataError

PathLike = str | os.PathLike[str]

JPEG_SIGNATURE = b"\xff\xd8\xff"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_START_OF_SCAN, _END_OF_IMAGE, _EXIF = 0xDA, 0xD9, 0xE1
_FRAMES = {0xC0: "sequential", 0xC1: "sequential", 0xC2: "progressive", 0xC9: "sequential", 0xCA: "progressive"}
_BETWEEN_SCANS = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # the marker that ends the data of a scan
_SMALL = 1 << 14  # bytes of a JPEG that is decoded twice more without a suspicion: it takes a millisecond
_ANY = bytes(random.Random(0).randrange(0xFF) for _ in range(4096))
# Pictures may be cut where a restart marker, one of eight in turn, is due: then a decoder waits for that.
_FILLER = _ANY + b"".join(bytes([0xFF, 0xD0 + number % 8]) + _ANY[:256] for number in range(16))
_MADE_UP = 128  # the grey that stands for blocks that are missing
_MOST_DIGESTS = 1 << 17
_whole: set[bytes] = set()
"""Digests of files that were decoded for the proof: a training reads each of them many times."""


def check_jpeg(data: bytes, path: PathLike) -> None:
    """Require the end marker after the start of the scan.

    Thumbnails inside the headers have end markers of their own, so the headers are walked, not searched.
    """
    for marker, start, _ in _segments(data):
        if marker == _START_OF_SCAN:
            if data.rfind(b"\xff\xd9") > start:  # mostly at the very end
                return
            break
    raise DataError(f"{path} is a truncated JPEG: its end is missing. Copy it again.")


def jpeg_ends_early(data: bytes, decoded: npt.NDArray[np.uint8]) -> bool:
    """Whether the data of a JPEG ends before its picture does, though it has its end marker.

    Decoders fill such a picture up with grey, and a progressive one stays coarse. Where everything is there, they skip
    what stands between the data and the end marker; so bytes put in there change nothing, unless data is missing. That
    costs two decodings, which are made only where something looks like it: a grey corner, a picture in several scans
    (each file once), and small files.

    Args:
        data: the file, after :func:`check_jpeg`.
        decoded: uint8 [H, W, 3], what a decoder made of it.
    """
    frame, counted, scans, end = None, 0, 0, 0
    bits: dict[int, list[int | None]] = {}  # of each channel and coefficient: what is still missing, None: all
    for marker, start, body in _segments(data):
        if marker in _FRAMES and frame is None and len(body) > 5:
            frame, counted = _FRAMES[marker], body[5]
            bits = {channel: [None] * 64 for channel in body[6::3][:counted]}
        elif marker == _START_OF_SCAN:
            scans += 1
            if not body or len(body) < 4 + 2 * body[0]:
                return True
            first, last, precision = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            for channel in body[1 : 1 + 2 * body[0] : 2]:
                rest = precision & 15 if frame == "progressive" else 0
                bits.setdefault(channel, [None] * 64)[first : last + 1] = [rest] * (min(last, 63) + 1 - first)
            end = start
            if scans == 1 and data.rfind(b"\xff\xda", start + 2) < 0:  # the usual file: nothing more to walk
                break
        elif marker == _END_OF_IMAGE:
            end = start
            break
    if frame is None:  # lossless and other rare kinds
        return False
    needed = 64 if frame == "progressive" else 1
    if any(rest != 0 for channel in bits.values() for rest in channel[:needed]):
        return True
    suspicious = scans > 1 or frame == "progressive" or len(data) < _SMALL or counted == 4 or _grey_corner(decoded)
    return suspicious and not _proved_whole(data, data.find(b"\xff\xd9", end))


def _grey_corner(decoded: npt.NDArray[np.uint8]) -> bool:
    """The last block lies in a corner, whichever way EXIF turns the picture."""
    return bool((decoded[:: max(1, decoded.shape[0] - 1), :: max(1, decoded.shape[1] - 1)] == _MADE_UP).all(2).any())


def _proved_whole(data: bytes, end: int) -> bool:
    digest = hashlib.blake2b(data, digest_size=16).digest()
    if digest in _whole:
        return True
    try:
        bare = _without_exif(data[:end])
        same = _pixels(bare + data[end:]) == _pixels(bare + _FILLER + data[end:])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return True  # a kind that Pillow does not read, or so damaged that the decoder's word counts
    if same and len(_whole) < _MOST_DIGESTS:
        _whole.add(digest)
    return same


def _without_exif(data: bytes) -> bytes:
    """Pillow looks at EXIF before pixels, and warns of what it does not like there."""
    parts, begin = [], 0
    for marker, start, body in _segments(data):
        if marker == _START_OF_SCAN:
            break
        if marker == _EXIF:
            parts.append(data[begin:start])
            begin = start + 4 + len(body)
    return b"".join([*parts, data[begin:]])


def _pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.tobytes()


def _segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(marker, where it starts, its body) of a JPEG, to its end marker; the data of scans is skipped."""
    position = 2
    while True:
        position = data.find(b"\xff", position)
        while 0 <= position < len(data) and data[position] == 0xFF:  # fill bytes may precede a marker
            position += 1
        if position < 0 or position >= len(data):
            return
        marker = data[position]
        if marker == _END_OF_IMAGE:
            yield marker, position - 1, b""
            return
        if position + 3 > len(data):
            return
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # these stand alone
            position += 1
            continue
        length = int.from_bytes(data[position + 1 : position + 3], "big")
        yield marker, position - 1, data[position + 3 : position + 1 + length]
        position += 1 + length
        if marker == _START_OF_SCAN:
            found = _BETWEEN_SCANS.search(data, position)
            if found is None:
                return
            position = found.start()


def check_png(data: bytes, path: PathLike) -> bytes:
    """Walk the chunks to IEND and check each one's sum, so that no decoder gets to guess what is missing. Returns the
    palette's bytes, none if there is none."""
    position = len(PNG_SIGNATURE)
    palette = b""
    view = memoryview(data)
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(view[position : position + 4], "big")
        name = bytes(view[position + 4 : position + 8])
        if end + 4 > len(data):
            break
        intact = zlib.crc32(view[position + 4 : end]) == int.from_bytes(view[end : end + 4], "big")
        misplaced = position == len(PNG_SIGNATURE) and (name, end) != (b"IHDR", position + 21)
        if misplaced or not intact:
            raise DataError(f"{path} is a damaged PNG. Copy it again.")
        if name == b"IEND":
            return palette
        if name == b"PLTE":
            palette = bytes(view[position + 8 : end])
        position = end + 4
    raise DataError(f"{path} is a truncated PNG: its end is missing. Copy it again.")
