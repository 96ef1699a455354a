"""Gaussian filtering of values that lie anywhere in a space of a few dimensions, in NumPy.

Adams, Baek and Davis, Fast high-dimensional filtering using the permutohedral lattice (Eurographics 2010): each point
gives its value to the d + 1 corners of the simplex it lies in (splat), the corners are blurred along the d + 1 axes of
the lattice, and each point collects from its corners again (slice). Work and memory are linear in the points.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indexes = npt.NDArray[np.intp]
Keys = npt.NDArray[np.uint64]


class Lattice:
    """The lattice of points [N, d], finite and in units of the standard deviation of the Gaussian."""

    def __init__(self, points: Floats) -> None:
        keys, self._weights, steps = _simplices(_elevate(points))
        unique, index = np.unique(keys, return_inverse=True)
        self._corner: Indexes = index.reshape(keys.shape)
        self._size = len(unique)
        self._before = [_find(unique, unique - step) for step in steps]
        self._after = [_find(unique, unique + step) for step in steps]

    def filter(self, values: Floats) -> Floats:
        """Blur values [N] with a Gaussian, up to a factor that is the same everywhere.

        The factor is that of the lattice; dividing by what a field of ones becomes takes it out.
        """
        # One corner more than there are: missing neighbours point to it, and it stays 0.
        field = np.zeros(self._size + 1, np.float32)
        shares = self._weights * values
        for corner, share in zip(self._corner, shares, strict=True):
            field[:-1] += np.bincount(corner, share, self._size)
        for before, after in zip(self._before, self._after, strict=True):
            field[:-1] += np.float32(0.5) * (field.take(before) + field.take(after))
        for corner, share in zip(self._corner, shares, strict=True):
            # mode="clip" lets take write straight into `out`; the default buffers it. The indexes are in range.
            field.take(corner, out=share, mode="clip")
        shares *= self._weights
        result: Floats = shares.sum(axis=0)
        return result


def _elevate(points: Floats) -> Floats:
    """Points [N, d] on the plane of sum 0 in d + 1 dimensions: [d + 1, N], scaled so that splat, blur and slice
    together have the variance of the Gaussian (section 3.1 of the paper)."""
    count, dimensions = points.shape
    deviation = (dimensions + 1) * np.sqrt(2 / 3)
    result = np.empty((dimensions + 1, count), np.float32)
    total = np.zeros(count, np.float32)
    for axis in range(dimensions, 0, -1):
        scaled = points[:, axis - 1] * np.float32(deviation / np.sqrt(axis * (axis + 1)))
        result[axis] = total - axis * scaled
        total += scaled
    result[0] = total
    return result


def _simplices(elevated: Floats) -> tuple[Keys, Floats, Keys]:
    """The simplex around each point: the keys of its corners and their barycentric weights, both [d + 1, N], and what a
    key changes by in a step along each axis of the lattice, [d + 1].

    A key is linear in the coordinates, modulo 2^64, so a neighbour's follows by adding. Two of n corners share one by
    chance with a probability of about n² / 2^65: one in a million for six million corners.
    """
    sides = len(elevated)
    # The nearest lattice point whose coordinates are multiples of d + 1, which may have left the plane of sum 0.
    nearest = np.rint(elevated / np.float32(sides))
    excess = nearest.sum(axis=0).astype(np.intp)
    nearest *= sides
    # rank[i]: how many coordinates are further above their lattice point; equal ones in the order of the axes.
    order = np.argsort(nearest - elevated, axis=0, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(sides)[:, None], axis=0)
    # Back onto the plane: the coordinates that were rounded furthest go to the next multiple.
    rank += excess
    for outside, step in ((rank < 0, sides), (rank >= sides, -sides)):
        rank[outside] += step
        nearest[outside] += step
    order = np.argsort(rank, axis=0)
    height = np.take_along_axis((elevated - nearest) / np.float32(sides), order, axis=0)
    weights = np.empty_like(height)
    weights[1:] = (height[:-1] - height[1:])[::-1]
    weights[0] = 1 - (height[0] - height[-1])

    # The last coordinate follows from the others, as they add up to 0: its factor is 0.
    factors = np.append(np.random.default_rng(0).integers(0, 2**64, sides - 1, np.uint64), np.uint64(0))
    # A step along an axis adds 1 to every coordinate and takes d + 1 from its own.
    steps = factors.sum(dtype=np.uint64) - np.uint64(sides) * factors
    keys = np.empty(elevated.shape, np.uint64)
    keys[0] = (nearest.astype(np.int64).astype(np.uint64) * factors[:, None]).sum(axis=0, dtype=np.uint64)
    for corner in range(1, sides):  # corner by corner, in the order of the ranks from the last
        keys[corner] = keys[corner - 1] + steps[order[sides - corner]]
    return keys, weights, steps


def _find(unique: Keys, keys: Keys) -> Indexes:
    """Where each key stands in the sorted ``unique``; its length where it does not."""
    place = np.searchsorted(unique, keys)
    known = unique.take(place, mode="clip") == keys
    return np.where(known, place, len(unique))
