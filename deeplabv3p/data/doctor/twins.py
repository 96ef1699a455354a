"""Pictures that are the same, or nearly: a 64-bit difference hash finds candidates, small thumbnails decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from deeplabv3p.data.decode import Picture

THUMB = 24
"""Side of a thumbnail in pixels; it is grey, so one takes 576 bytes."""
NEAR_BITS = 12
"""Hashes that differ in at most this many of 64 bits are compared further. Unrelated pictures differ in 32 or so."""
COPY_DIFFERENCE, ALIKE_DIFFERENCE = 3.0, 10.0
"""Mean absolute difference of thumbnails, in grey levels of 255, brightness and contrast taken out, up to which two
pictures are copies, and look alike. docs/doctor.md says how they were chosen."""
_FLAT = 3.0  # standard deviation of a thumbnail below which there is nothing to compare
_ROWS = 256  # hashes compared with all others at once: bounds the memory

Likeness = Literal["copy", "alike"]


@dataclass(frozen=True)
class Twins:
    """Two pictures, by their place in the two sequences; ``difference`` in grey levels, 0 for equal files."""

    first: int
    second: int
    likeness: Likeness
    difference: float


@dataclass(frozen=True)
class Looks:
    """What is known of some pictures, row by row: digests of the files, hashes uint64 [N], thumbnails uint8
    [N, T, T]."""

    digests: Sequence[bytes]
    hashes: npt.NDArray[np.uint64]
    thumbs: Picture


def thumbnail(image: Picture) -> Picture:
    """uint8 [H, W, 3] → grey uint8 [THUMB, THUMB], each pixel the mean of its part of the picture."""
    small = cv2.resize(image, (4 * THUMB, 4 * THUMB), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (THUMB, THUMB), interpolation=cv2.INTER_AREA))


def difference_hash(thumb: Picture) -> int:
    """64 bits: whether brightness rises to the right, in 8 x 8 places. Scaling and compression hardly change it."""
    grid = cv2.resize(thumb, (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(grid[:, 1:] > grid[:, :-1]).tobytes(), "big")


def find_twins(first: Looks, second: Looks | None = None) -> list[Twins]:
    """For each picture of ``first`` its most alike one of ``second`` (None: of those before it in ``first``), if any.

    Every hash is compared with every other, which is exact and takes a second for 10,000 by 10,000.
    """
    other = first if second is None else second
    places: dict[bytes, int] = {}
    for place, digest in enumerate(other.digests):
        places.setdefault(digest, place)
    found = []
    for start in range(0, len(first.hashes), _ROWS):
        block = first.hashes[start : start + _ROWS]
        near = np.bitwise_count(block[:, None] ^ other.hashes[None]) <= NEAR_BITS
        for row in np.flatnonzero(near.any(axis=1)).tolist():
            index = start + row
            same = places.get(first.digests[index])
            if same is not None and (second is not None or same < index):
                found.append(Twins(index, same, "copy", 0.0))
                continue
            candidates = np.flatnonzero(near[row])
            if second is None:
                candidates = candidates[candidates < index]
            twin = _closest(first.thumbs[index], other.thumbs, candidates)
            if twin is not None:
                found.append(Twins(index, *twin))
    return found


def _closest(thumb: Picture, thumbs: Picture, candidates: npt.NDArray[np.intp]) -> tuple[int, Likeness, float] | None:
    """The candidate with the smallest difference, if it is small enough. Flat pictures are like nothing."""
    spread = float(thumb.std())
    if not len(candidates) or spread < _FLAT:
        return None
    own = _evened(thumb[None])
    # In units of the thumbnails' contrast, then in grey levels of a picture of usual contrast.
    differences = np.abs(_evened(thumbs[candidates]) - own).mean(axis=(1, 2)) * _USUAL_CONTRAST
    best = int(np.nan_to_num(differences, nan=np.inf).argmin())
    difference = float(differences[best])
    if not difference <= ALIKE_DIFFERENCE:
        return None
    return int(candidates[best]), "copy" if difference <= COPY_DIFFERENCE else "alike", round(difference, 2)


_USUAL_CONTRAST = 50.0  # standard deviation of a photograph's grey levels


def _evened(thumbs: Picture) -> npt.NDArray[np.float32]:
    """Thumbnails with mean 0 and standard deviation 1; nan for flat ones."""
    values = thumbs.astype(np.float32)
    spread = values.std(axis=(1, 2), keepdims=True)
    spread[spread < _FLAT] = np.nan
    return np.asarray((values - values.mean(axis=(1, 2), keepdims=True)) / spread, np.float32)
