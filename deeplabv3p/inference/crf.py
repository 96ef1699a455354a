"""A dense CRF that moves the borders of labels to the edges of the picture.

Krähenbühl and Koltun, Efficient inference in fully connected CRFs with Gaussian edge potentials (arXiv:1210.5644): each
pixel is connected with every other one, by a kernel of their distance and one of their distance in place and colour.
Mean field: Q ← softmax(log p + Σ weight · filtered Q), with p the network's probabilities (section 3). pydensecrf2
computes it where it is installed (``pip install 'deeplabv3p[crf]'``), else NumPy.
"""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from deeplabv3p.errors import DataError
from deeplabv3p.inference.lattice import Lattice
from deeplabv3p.inference.options import CrfOptions
from deeplabv3p.inference.views import Picture, Span
from deeplabv3p.sampling import Floats

# Mean field holds about six arrays of the scores of a piece of the picture, each at most that large.
_PIECE_BYTES = 192 * 2**20
# Pixels around a piece that take part in it: what lies three standard deviations away, and no more than this.
_MAX_MARGIN = 256
# A class of lower probability than this cannot be told from 0 beside one of 1 in float32, nor can it win.
_SMALLEST = float(np.finfo(np.float32).eps)


def implementation() -> str:
    """What computes the CRF: ``pydensecrf2 1.1`` or ``NumPy``."""
    return "NumPy" if _densecrf() is None else f"pydensecrf2 {importlib.metadata.version('pydensecrf2')}"


def refine(image: Picture, probabilities: Floats, options: CrfOptions) -> Floats:
    """Refine the probabilities of a picture.

    Args:
        image: uint8 [H, W, 3], RGB.
        probabilities: float32 [K, H, W], 0 to 1.

    Returns:
        Probabilities after mean field, float32 [K, H, W], adding up to 1 over the classes.

    Raises:
        DataError: the shapes do not fit each other.
    """
    if probabilities.ndim != 3 or probabilities.shape[1:] != image.shape[:2]:
        raise DataError(f"probabilities {list(probabilities.shape)} do not fit a picture {list(image.shape)}.")
    energy = unary_energy(probabilities)
    module = _densecrf()
    if module is not None:
        return refine_compiled(module, image, energy, options)
    return refine_numpy(image, energy, options)


def refine_pieces(
    image: Picture, probabilities: Callable[[Span, Span], Floats], options: CrfOptions
) -> Iterator[tuple[Span, Span, Floats]]:
    """Refine the probabilities of a picture of any size, in pieces (rows, columns) with their [K, rows, columns].

    A picture of ordinary size is one piece. A larger one is cut into squares that are refined with a margin of three
    standard deviations of the wider kernel around them: what lies further away is left out.

    Args:
        image: uint8 [H, W, 3], RGB.
        probabilities: gives those of a rectangle of pixels; rectangles are asked for from top to bottom.
    """
    height, width = image.shape[:2]
    classes = len(probabilities((0, 1), (0, 1)))
    most_pixels = _PIECE_BYTES // (4 * classes)
    if height * width <= most_pixels:
        whole = (0, height), (0, width)
        yield *whole, refine(image, probabilities(*whole), options)
        return
    margin = min(math.ceil(3 * max(options.gaussian_sxy, options.bilateral_sxy)), _MAX_MARGIN)
    side = max(math.isqrt(most_pixels) - 2 * margin, margin)
    for rows, outer_rows in _cuts(height, side, margin):
        for columns, outer_columns in _cuts(width, side, margin):
            part = image[slice(*outer_rows), slice(*outer_columns)]
            refined = refine(part, probabilities(outer_rows, outer_columns), options)
            top, left = rows[0] - outer_rows[0], columns[0] - outer_columns[0]
            inner = refined[:, top : top + rows[1] - rows[0], left : left + columns[1] - columns[0]]
            yield rows, columns, inner


def _cuts(length: int, side: int, margin: int) -> list[tuple[Span, Span]]:
    """An axis in parts of about equal length, at most ``side``, and each with its margin."""
    count = -(-length // side)
    edges = [length * index // count for index in range(count + 1)]
    return [
        ((first, end), (max(first - margin, 0), min(end + margin, length))) for first, end in itertools.pairwise(edges)
    ]


def unary_energy(probabilities: Floats) -> Floats:
    """−log p of probabilities 0 to 1, finite."""
    return -np.log(np.maximum(probabilities, np.float32(_SMALLEST)))


def refine_compiled(module: Any, image: Picture, energy: Floats, options: CrfOptions) -> Floats:
    """Mean field by pydensecrf2; ``energy`` is −log p, float32 [K, H, W]."""
    classes, height, width = energy.shape
    crf = module.DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(np.ascontiguousarray(energy.reshape(classes, -1)))
    crf.addPairwiseGaussian(sxy=options.gaussian_sxy, compat=options.gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=options.bilateral_sxy,
        srgb=options.bilateral_srgb,
        rgbim=np.ascontiguousarray(image),
        compat=options.bilateral_compat,
    )
    return np.asarray(crf.inference(options.iterations), np.float32).reshape(energy.shape)


def refine_numpy(image: Picture, energy: Floats, options: CrfOptions) -> Floats:
    """Mean field in NumPy; ``energy`` is −log p, float32 [K, H, W]."""
    classes, height, width = energy.shape
    y, x = np.divmod(np.arange(height * width), width)
    place = np.stack([x, y], axis=1).astype(np.float32)
    color = image.reshape(-1, 3).astype(np.float32)
    edges = np.concatenate([place / options.bilateral_sxy, color / options.bilateral_srgb], axis=1, dtype=np.float32)
    kernels = [
        _Kernel(place / np.float32(options.gaussian_sxy), options.gaussian_compat),
        _Kernel(edges, options.bilateral_compat),
    ]
    flat = energy.reshape(classes, -1)
    current = _softmax_of_negative(flat)
    for _ in range(options.iterations):
        logits = -flat
        for kernel in kernels:
            for index in range(classes):
                logits[index] += kernel.filter(current[index])
        current = _softmax_of_negative(np.negative(logits, out=logits))
    return current.reshape(energy.shape)


class _Kernel:
    """A Gaussian kernel of weight ``weight``, normalized symmetrically: D^-½ k D^-½ with D the sums of its rows."""

    def __init__(self, points: Floats, weight: float) -> None:
        self._lattice = Lattice(points)
        total = self._lattice.filter(np.ones(len(points), np.float32))
        self._before: Floats = np.sqrt(total) ** np.float32(-1)
        self._after: Floats = self._before * np.float32(weight)

    def filter(self, values: Floats) -> Floats:
        """The weighted sum over all points, for values [N]."""
        return self._after * self._lattice.filter(self._before * values)


def _softmax_of_negative(energy: Floats) -> Floats:
    scores: Floats = energy.min(axis=0) - energy
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=0)
    return scores


@functools.cache
def _densecrf() -> Any:
    """The module of pydensecrf2, null where it is not installed."""
    try:
        from pydensecrf import densecrf
    except ImportError:
        return None
    return densecrf
