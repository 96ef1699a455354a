"""Bilinear sampling of a small grid of scores at the pixels of a picture, and its argmax without most of the mixing.

C++ mirrors this file, so the arithmetic is defined to the bit. The grid points around a coordinate c are l = floor(c)
and min(l + 1, last), and w = c − l, rounded to float32. A score is mixed in float32 as a·(1 − w) + b·w, every product
and sum rounded on its own (no fused multiply-add), along x first, then y. The label of a pixel is:

- where the four grid points around it have the same leader (the class of the highest score there, the lowest class of
  equal ones): that leader;
- elsewhere the class of the highest mixed score, the lowest class of equal ones.

The first rule is what makes it cheap, as most pixels have one leader around them. It agrees with the second: rounded
mixing is monotone, so that leader has the highest mixed score. Only where rounding makes another one equal to it, the
first rule decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indexes = npt.NDArray[np.intp]
Labels = npt.NDArray[np.uint8]

# The share of mixed blocks above which mixing all pixels is cheaper. Trained networks have 4 to 21 % of them.
_DENSE_SHARE = 0.5
# Picture pixels that are worked on at once: a few buffers of 128 KiB float32 stay in a second-level cache of 1 MiB.
_CHUNK_PIXELS = 32768
_BAND_PIXELS = 32768
# The most pixels of a block along an axis: larger ones would not leave enough blocks for NumPy's inner loops.
_MAX_BLOCK = 16


@dataclass(frozen=True)
class Neighbours:
    """For each coordinate of an axis the two grid points around it, and their float32 weights 1 − w and w."""

    low: Indexes
    high: Indexes
    low_weight: Floats
    high_weight: Floats


@dataclass(frozen=True)
class _Blocks:
    """An axis cut into short runs of pixels between the same two grid points, ``low`` and ``high`` [n]. ``pixels``
    [size, n] are the pixels of each run (the last one again where it is shorter), the weights are theirs, and
    ``block_of`` [pixels of the axis] is the run of each pixel."""

    low: Indexes
    high: Indexes
    pixels: Indexes
    low_weight: Floats
    high_weight: Floats
    block_of: Indexes


def neighbours(where: npt.NDArray[np.float64], grid: int) -> Neighbours:
    """The grid points around each coordinate, which is 0 to ``grid`` − 1."""
    low = np.floor(where).astype(np.intp)
    weight = (where - low).astype(np.float32)
    return Neighbours(low, np.minimum(low + 1, grid - 1), np.float32(1) - weight, weight)


def classes_first(scores: npt.NDArray[np.generic]) -> Floats:
    """[h, w, K] of any real type → contiguous float32 [K, h, w]. OpenCV transposes four times as fast as NumPy."""
    height, width, classes = scores.shape
    flat = np.ascontiguousarray(scores, np.float32).reshape(height * width, classes)
    return np.asarray(cv2.transpose(flat), np.float32).reshape(classes, height, width)


def sample_scores(planes: Floats, y: Neighbours, x: Neighbours) -> Floats:
    """The mixed scores of every class: [K, h, w] at rows ``y`` and columns ``x`` → [K, rows, columns]."""
    wide, above, below = _widen(planes, y, x)
    result = wide.take(above, axis=1)
    result *= y.low_weight[:, None]
    other = wide.take(below, axis=1)
    other *= y.high_weight[:, None]
    result += other
    return result


def sample_argmax(planes: Floats, y: Neighbours, x: Neighbours) -> Labels:
    """Labels by the definition above: contiguous finite [K, h, w], K at most 256, → uint8 [rows, columns].

    Only the blocks of pixels whose four grid points differ are mixed, and of their classes only those that can win.
    Where that is most of the picture, all of it is mixed: a plain pass costs less for each pixel.
    """
    leaders = argmax(planes)
    labels = leaders.take(x.low, axis=1).take(y.low, axis=0)
    rows, columns = _blocks(y), _blocks(x)
    upper, lower = leaders.take(rows.low, axis=0), leaders.take(rows.high, axis=0)
    first = upper.take(columns.low, axis=1)
    mixed = first != upper.take(columns.high, axis=1)
    mixed |= first != lower.take(columns.low, axis=1)
    mixed |= first != lower.take(columns.high, axis=1)
    if np.count_nonzero(mixed) > _DENSE_SHARE * mixed.size:
        _mix_all(planes, y, x, mixed.take(rows.block_of, axis=0).take(columns.block_of, axis=1), labels)
        return labels
    block_rows, block_columns = np.nonzero(mixed)
    step = max(1, _CHUNK_PIXELS // (len(rows.pixels) * len(columns.pixels)))
    for start in range(0, len(block_rows), step):
        chunk = slice(start, start + step)
        _mix_blocks(planes, rows, columns, block_rows[chunk], block_columns[chunk], labels)
    return labels


def argmax(planes: Floats) -> Labels:
    """The argmax over [K, h, w], several times as fast as NumPy's along the first axis."""
    best = planes[0].copy()
    leaders = np.zeros(best.shape, np.uint8)
    greater = np.empty(best.shape, np.bool_)
    label = greater.view(np.uint8)
    for index in range(1, len(planes)):
        np.greater(planes[index], best, out=greater)
        np.maximum(planes[index], best, out=best)
        # Classes come in rising order, so the last one that was greater is the largest number: no masked store.
        label *= np.uint8(index)
        np.maximum(leaders, label, out=leaders)
    return leaders


def _blocks(axis: Neighbours) -> _Blocks:
    count = len(axis.low)
    pixels = np.arange(count)
    run_starts = np.flatnonzero(np.diff(axis.low, prepend=-1))
    lengths = np.diff(run_starts, append=count)
    # Runs at the edges may be long (a cropped picture), so they are cut to the size of the others.
    size = min(int(np.median(lengths) + 0.5), _MAX_BLOCK)
    starts = np.flatnonzero((pixels - np.repeat(run_starts, lengths)) % size == 0)
    last = np.append(starts[1:], count) - 1
    members = np.minimum(starts + np.arange(size)[:, None], last)
    block_of = np.repeat(np.arange(len(starts)), np.diff(starts, append=count))
    weights = axis.low_weight[members], axis.high_weight[members]
    return _Blocks(axis.low[starts], axis.high[starts], members, *weights, block_of)


def _mix_blocks(
    planes: Floats,
    rows: _Blocks,
    columns: _Blocks,
    row: Indexes,
    column: Indexes,
    labels: Labels,
) -> None:
    """Write the labels of the blocks (row[i], column[i]). Arrays have the block as their last axis, so that NumPy's
    inner loops are long."""
    classes, grid_h, grid_w = planes.shape
    flat = planes.reshape(classes, grid_h * grid_w)
    corners = np.stack(
        [
            rows.low[row] * grid_w + columns.low[column],
            rows.low[row] * grid_w + columns.high[column],
            rows.high[row] * grid_w + columns.low[column],
            rows.high[row] * grid_w + columns.high[column],
        ]
    )
    able = _can_win(flat, corners)
    candidates = able.sum(axis=0)
    # Blocks with the most candidates first: the blocks that have an n-th one are then the first of them, a plain slice.
    order = np.argsort(-candidates)
    corners, candidates, row, column = corners[:, order], candidates[order], row[order], column[order]
    # The classes of each block in rising order, block after block. (np.nonzero of two axes takes three times as long.)
    class_of = np.flatnonzero(cv2.transpose(able.view(np.uint8)).take(order, axis=0)) % classes
    offset = np.cumsum(candidates) - candidates
    x_low, x_high = columns.low_weight[:, column], columns.high_weight[:, column]
    y_low, y_high = rows.low_weight[:, None, row], rows.high_weight[:, None, row]
    shape = (len(rows.pixels), len(columns.pixels), len(order))
    best, buffer, other = (np.empty(shape, np.float32) for _ in range(3))
    winner = np.empty(shape, np.uint8)
    greater = np.empty(shape, np.bool_)
    for rank in range(int(candidates[0])):
        count = int(np.searchsorted(-candidates, -rank))
        number = class_of[offset[:count] + rank]
        values = planes.reshape(-1).take(corners[:, :count] + number * (grid_h * grid_w))
        top = values[0] * x_low[:, :count] + values[1] * x_high[:, :count]
        bottom = values[2] * x_low[:, :count] + values[3] * x_high[:, :count]
        score, second = (best if rank == 0 else buffer)[..., :count], other[..., :count]
        np.multiply(top, y_low[..., :count], out=score)
        np.multiply(bottom, y_high[..., :count], out=second)
        score += second
        label = number.astype(np.uint8)
        if rank == 0:
            winner[:] = label
            continue
        np.greater(score, best[..., :count], out=greater[..., :count])
        np.maximum(score, best[..., :count], out=best[..., :count])
        # Candidates come in rising order: the greatest number among those that were greater is the winner.
        mask = greater[..., :count].view(np.uint8)
        mask *= label
        np.maximum(winner[..., :count], mask, out=winner[..., :count])
    labels.reshape(-1)[rows.pixels[:, None, row] * labels.shape[1] + columns.pixels[:, column]] = winner


def _widen(planes: Floats, y: Neighbours, x: Neighbours) -> tuple[Floats, Indexes, Indexes]:
    """The grid rows that ``y`` needs, mixed along x, [K, n, columns], and which of them is above and below each row."""
    used, position = np.unique(np.concatenate([y.low, y.high]), return_inverse=True)
    rows = planes[:, used]
    wide = rows.take(x.low, axis=2)
    wide *= x.low_weight
    other = rows.take(x.high, axis=2)
    other *= x.high_weight
    wide += other
    return wide, position[: len(y.low)], position[len(y.low) :]


def _mix_all(planes: Floats, y: Neighbours, x: Neighbours, where: npt.NDArray[np.bool_], labels: Labels) -> None:
    """Write the labels of the pixels ``where``. A band of rows at a time: first the grid rows it needs are widened, all
    classes at once, then class by class the rows are mixed and compared, so that a band stays in the cache."""
    step = max(1, _BAND_PIXELS // len(x.low))
    for start in range(0, len(y.low), step):
        band = slice(start, start + step)
        part = Neighbours(y.low[band], y.high[band], y.low_weight[band], y.high_weight[band])
        wide, above, below = _widen(planes, part, x)
        winner = _argmax_rows(wide, (above, part.low_weight[:, None]), (below, part.high_weight[:, None]))
        np.copyto(labels[band], winner, where=where[band])


def _can_win(flat: Floats, corners: Indexes) -> npt.NDArray[np.bool_]:
    """Which classes [K, n] may have the highest mixed score somewhere between the four grid points ``corners`` [4, n]:
    not those whose highest corner is below the lowest corner of another class, by more than mixing can round."""
    values = flat.take(corners[0], axis=1)
    lowest, highest = values, values.copy()
    for index in corners[1:]:
        values = flat.take(index, axis=1)
        np.minimum(lowest, values, out=lowest)
        np.maximum(highest, values, out=highest)
    bar = lowest.max(axis=0)
    # Mixing four equal numbers is off by less than 16 roundings of 2^-24, or by the smallest normal number near zero.
    bar -= np.abs(bar) * np.float32(2.0**-18) + np.float32(1e-37)
    able: npt.NDArray[np.bool_] = highest >= bar
    return able


def _argmax_rows(wide: Floats, above: tuple[Indexes, Floats], below: tuple[Indexes, Floats]) -> Labels:
    """Mix rows of [K, n, W], given as (row, weight [r, 1]) above and below, → the argmax [r, W]."""
    shape = (len(above[0]), wide.shape[2])
    winner = np.zeros(shape, np.uint8)
    best, score, other = (np.empty(shape, np.float32) for _ in range(3))
    greater = np.empty(shape, np.bool_)
    label = greater.view(np.uint8)
    for index, plane in enumerate(wide):
        target = score if index else best
        # mode="clip" lets take write straight into `out`; the default buffers it. The indexes are in range.
        np.take(plane, above[0], axis=0, out=target, mode="clip")
        np.take(plane, below[0], axis=0, out=other, mode="clip")
        target *= above[1]
        other *= below[1]
        target += other
        if index:
            np.greater(score, best, out=greater)
            np.maximum(score, best, out=best)
            label *= np.uint8(index)
            np.maximum(winner, label, out=winner)
    return winner
