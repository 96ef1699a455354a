"""Polygons and run lengths → pixels.

A pixel belongs to a polygon if its centre does, by the even-odd rule: polygons that share an edge neither overlap nor
leave a gap, and areas are right on average. OpenCV's ``fillPoly`` paints all pixels that the outline touches, half a
pixel too much on every side, and its lines of 3 pixels are 5 across.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import DataError

Pixels = npt.NDArray[np.uint8]
Canvas = npt.NDArray[Any]
"""What is painted on, [H, W]: a label map, or the number of the shape that lies on top."""
Points = Sequence[Sequence[float]]
Box = tuple[slice, slice]
"""Rows and columns outside of which nothing was painted."""
NOWHERE: Box = (slice(0, 0), slice(0, 0))

_MAX_COORDINATE = 1e6  # pixels; beyond is nonsense, and OpenCV's integers overflow


def points_of(values: object, where: str, *, least: int) -> npt.NDArray[np.float64]:
    """(x, y) pairs as float64 [N, 2]; raises DataError for other things, fewer than ``least``, or no finite numbers."""
    try:
        points = np.array(values, np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise DataError(f"{where} holds points that are not pairs of numbers.") from None
    if len(points) < least:
        raise DataError(f"{where} holds a shape of {len(points)} points, at least {least} are needed.")
    if not np.isfinite(points).all() or np.abs(points).max(initial=0) > _MAX_COORDINATE:
        raise DataError(f"{where} holds coordinates that are not finite, or far outside of every picture.")
    return points


def fill_polygon(label: Canvas, points: Points | npt.NDArray[np.float64], value: int) -> Box:
    """Give ``value`` to the pixels of ``label``, [H, W], whose centres are inside a closed polygon; returns where.

    Coordinates are (x, y) in pixels from the picture's top left corner: the first pixel's centre is (0.5, 0.5). Parts
    outside of the picture are cut off. Where the outline crosses itself the even-odd rule decides, so a ring with a
    bridge has a hole.
    """
    height, width = label.shape
    start = np.asarray(points, np.float64)
    end = np.roll(start, -1, axis=0)
    top = max(0, int(np.floor(start[:, 1].min() - 0.5)))
    bottom = min(height, int(np.ceil(start[:, 1].max() + 0.5)))
    left = min(max(0, int(np.floor(start[:, 0].min() - 0.5))), width)
    right = min(width, int(np.ceil(start[:, 0].max() + 0.5)))
    if top >= bottom or left >= right:
        return NOWHERE
    # Downwards, whichever way the outline runs: two polygons that share an edge must round its crossings alike.
    upwards = start[:, 1:] > end[:, 1:]
    start, end = np.where(upwards, end, start), np.where(upwards, start, end)
    # The rows whose centres an edge passes, y0 <= row + 0.5 < y1, so that a corner counts once.
    first = np.clip(np.ceil(start[:, 1] - 0.5), top, bottom).astype(np.int64)
    last = np.clip(np.ceil(end[:, 1] - 0.5), top, bottom).astype(np.int64)
    counts = last - first
    edge = np.repeat(np.arange(len(start)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
    crossing = start[edge, 0] + (row + 0.5 - start[edge, 1]) * slope
    column = np.clip(np.ceil(crossing - 0.5), left, right).astype(np.int64)  # the first centre right of the edge
    toggles = np.zeros((bottom - top, right - left + 1), np.uint8)
    np.add.at(toggles, (row - top, column - left), 1)
    inside = np.bitwise_and(np.cumsum(toggles, axis=1, dtype=np.int64), 1)[:, :-1].astype(bool)
    label[top:bottom, left:right][inside] = value
    return slice(top, bottom), slice(left, right)


def draw_line(label: Canvas, points: Points | npt.NDArray[np.float64], value: int, thickness: int) -> Box:
    """Draw an open line with round ends through (x, y) points: the pixels whose centres are at most half of
    ``thickness`` from it. A single point is a disc. Returns where."""
    corners = np.asarray(points, np.float64)
    touched = NOWHERE
    for start, end in zip(corners, corners[1:] if len(corners) > 1 else corners, strict=False):
        low, high = np.minimum(start, end) - thickness / 2, np.maximum(start, end) + thickness / 2
        left, top = (max(0, int(np.floor(side))) for side in low)
        right, bottom = (max(0, int(np.ceil(side))) for side in high)
        part = label[top:bottom, left:right]
        y, x = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]] + 0.5
        along = end - start
        length = float(along @ along)
        at = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length if length else np.zeros(part.shape)
        at = np.clip(at, 0, 1)
        away = np.hypot(x - start[0] - at * along[0], y - start[1] - at * along[1])
        part[away <= thickness / 2] = value
        touched = around(touched, (slice(top, top + part.shape[0]), slice(left, left + part.shape[1])))
    return touched


def draw_circle(label: Canvas, points: Points | npt.NDArray[np.float64], value: int) -> Box:
    """Fill a circle given by its centre and a point on it; returns where."""
    (x, y), (to_x, to_y) = np.asarray(points, np.float64)
    radius = float(np.hypot(to_x - x, to_y - y))
    return fill_ellipse(label, (x, y), (radius, radius), 0.0, value)


def fill_ellipse(label: Canvas, center: Sequence[float], radii: Sequence[float], degrees: float, value: int) -> Box:
    """Fill an ellipse with half axes ``radii``, turned clockwise by ``degrees``; returns where."""
    angle, turn = np.linspace(0, 2 * np.pi, 256, endpoint=False), np.deg2rad(degrees)
    x, y = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    turned = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1)
    return fill_polygon(label, turned + np.asarray(center, np.float64), value)


def paint_mask(label: Canvas, mask: npt.NDArray[np.bool_], top: int, left: int, value: int, where: str) -> Box:
    """Give ``value`` to the pixels of a mask, bool [h, w], the first at (``top``, ``left``); returns where.

    Raises:
        DataError: it reaches out of the picture.
    """
    height, width = mask.shape
    if left < 0 or top < 0 or top + height > label.shape[0] or left + width > label.shape[1]:
        raise DataError(f"{where} holds a mask that reaches out of its picture.")
    box = slice(top, top + height), slice(left, left + width)
    label[box][mask] = value
    return box


def around(one: Box, other: Box) -> Box:
    """The box around two boxes."""
    if NOWHERE in (one, other):
        return one if other == NOWHERE else other
    rows, columns = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return rows, columns


def box_corners(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    """The four corners of an upright box."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def fill_runs(runs: Sequence[int] | npt.NDArray[np.int64], size: int, where: str) -> npt.NDArray[np.bool_]:
    """Run lengths, outside first, alternating → bool [size]; what the runs leave out at the end is outside.

    Raises:
        DataError: a run is negative, or they are longer than ``size``.
    """
    lengths = np.asarray(runs)
    if lengths.ndim != 1 or (lengths.size and (lengths.dtype.kind not in "iu" or int(lengths.min()) < 0)):
        raise DataError(f"{where} holds run lengths that are no whole numbers from 0 up.")
    if int(lengths.max(initial=0)) > size or int(lengths.sum()) > size:
        raise DataError(f"{where} holds runs of {int(lengths.sum()):,} pixels in a mask of {size:,}.")
    mask = np.zeros(size, bool)
    filled = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    mask[: len(filled)] = filled
    return mask


def coco_mask(segmentation: object, where: str) -> npt.NDArray[np.bool_]:
    """COCO's run lengths, ``{"size": [H, W], "counts": …}``, down the columns; counts are a list, or a text of their
    differences in groups of 5 bits → bool [H, W].

    Raises:
        DataError: it is something else, or does not fit its size.
    """
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= set(segmentation):
        raise DataError(f"{where} holds a segmentation that is neither polygons nor run lengths.")
    size, counts = segmentation["size"], segmentation["counts"]
    whole = (
        isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and 0 < side < 65536 for side in size)
    )
    if not whole or size[0] * size[1] > 1 << 30:
        raise DataError(f"{where} holds run lengths for a mask of size {size}.")
    if isinstance(counts, str):
        counts = _uncompress(counts.encode("utf-8", "replace"), where)
    if not isinstance(counts, list):
        raise DataError(f"{where} holds run lengths of type {type(counts).__name__}.")
    mask = fill_runs(_whole_numbers(counts, where), size[0] * size[1], where)
    return mask.reshape(size[1], size[0]).T


def _whole_numbers(values: list[object], where: str) -> npt.NDArray[np.int64]:
    if not all(isinstance(value, int) and 0 <= value < 1 << 40 for value in values):
        raise DataError(f"{where} holds run lengths that are no whole numbers from 0 up.")
    return np.array(values, np.int64)


def _uncompress(text: bytes, where: str) -> list[int]:
    """Each number is in characters from '0': 5 bits of it, low ones first, and a bit that says whether more follow; the
    last one's highest bit is the sign. From the fourth on, numbers are differences to the one before the last."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = character - 48
        if not 0 <= bits < 64 or shift > 40:
            raise DataError(f"{where} holds compressed run lengths that are damaged.")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise DataError(f"{where} holds compressed run lengths that are cut off.")
    return counts


def brush_mask(data: object, size: tuple[int, int], where: str) -> npt.NDArray[np.bool_]:
    """Label Studio's brush, a list of bytes with runs of an RGBA picture of ``size`` (height, width) → bool [H, W],
    True where alpha is not 0.

    It is a stream of bits: 32 for the number of values, 5 for the bits of a value minus 1, four times 4 for the bits of
    a length minus 1; then runs: 1 bit whether all values are equal, 2 bits that choose the bits of the length, the
    length minus 1, and one value or all of them.

    Raises:
        DataError: it is no such stream, or of another size.
    """
    good = isinstance(data, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in data)
    if not good or not isinstance(data, list):
        raise DataError(f"{where} holds a brush that is no list of bytes.")
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        if place > len(bits):
            raise DataError(f"{where} holds a brush that is cut off.")
        return int(bits[place - count : place], 2)

    height, width = size
    total, word = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    if total != height * width * 4:
        raise DataError(f"{where} holds a brush of {total:,} values, {height}x{width}x4 are expected.")
    values = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        equal = take(1)
        run = take(lengths[take(2)]) + 1
        if done + run > total:
            raise DataError(f"{where} holds a brush that is longer than its picture.")
        if equal:
            values[done : done + run] = min(take(word), 255)
        else:
            values[done : done + run] = [min(take(word), 255) for _ in range(run)]
        done += run
    return values.reshape(height, width, 4)[..., 3] > 0
