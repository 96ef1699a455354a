"""Other samples of the dataset: which one to take, and putting a part of it into a sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from deeplabv3p.data.augment.options import Draw, Draws, Parameters
from deeplabv3p.data.augment.view import View
from deeplabv3p.data.decode import Picture

_TEMPERATURE = 0.01  # T of DAFormer's rare class sampling, arXiv 2111.14887, section 4.1


@dataclass(frozen=True, repr=False)
class Pool:
    """All samples of a dataset.

    Attributes:
        load: gives picture and label map of a sample.
        size: how many there are.
        weights: probability of each class to be drawn as a rare one, float64 [K], 0 for those that no picture holds.
        holders: the samples that hold each class.
    """

    load: Callable[[int], tuple[Picture, Picture]]
    size: int
    weights: npt.NDArray[np.float64]
    holders: tuple[npt.NDArray[np.intp], ...]

    def other(self, draw: float) -> int:
        """Any sample."""
        return math.floor(draw * self.size)

    def rare_class(self, draw: float, present: npt.NDArray[np.bool_] | None = None) -> int | None:
        """A class by its weight, among those ``present`` (bool [K]); None if there are none."""
        weights = self.weights if present is None else self.weights * present
        total = np.cumsum(weights)
        if not total.size or total[-1] == 0:
            return None
        return int(np.searchsorted(total, draw * total[-1], side="right"))

    def holder(self, label: int, draw: float) -> int:
        """A sample that holds a class."""
        return int(self.holders[label][math.floor(draw * len(self.holders[label]))])


def make_pool(
    load: Callable[[int], tuple[Picture, Picture]], size: int, sample_counts: npt.NDArray[np.int64] | None
) -> Pool:
    """The pool of a dataset. ``sample_counts``, pixels by sample and class [N, K], is needed for classes only."""
    if sample_counts is None:
        return Pool(load, size, np.zeros(0), ())
    counts = sample_counts.sum(axis=0)
    share = counts / max(1, counts.sum())
    # The most common class has weight 1 before scaling, so none overflows; exp(100) is far from it, too.
    weights = np.where(counts > 0, np.exp((share.max(initial=0) - share) / _TEMPERATURE), 0.0)
    holders = tuple(np.flatnonzero(column) for column in sample_counts.T)
    return Pool(load, size, weights / max(1.0, weights.sum()), holders)


def rare_pixel(label: Picture, pool: Pool, draws: Draws, parameters: Parameters) -> tuple[int, int] | None:
    """A pixel (row, column) of a rare class of this label map; None where all of it is ignored."""
    present = cv2.calcHist([label], [0], None, [256], [0, 256]).ravel()[: len(pool.weights)] > 0
    chosen = pool.rare_class(draws[Draw.CROP_CLASS], present)
    if chosen is None:
        return None
    parameters["class crop"] = f"class {chosen}"
    return class_pixel(label, chosen, draws)


def class_pixel(label: Picture, chosen: int, draws: Draws) -> tuple[int, int] | None:
    """A pixel (row, column) of a class; None where the label map does not hold it."""
    places = np.flatnonzero(label == chosen)
    if not len(places):
        return None
    row, column = divmod(int(places[math.floor(draws[Draw.CROP_PIXEL] * len(places))]), label.shape[1])
    return row, column


def paste(view: View, donor: View, chosen: int) -> View:
    """The view with the pixels of one class of another one on it, where it shows its own picture."""
    view, donor = view.whole(), donor.whole()
    mask = (donor.label == chosen).view(np.uint8)
    if view.inside is not None:
        mask &= view.inside
    image = cv2.copyTo(donor.image, mask, view.image.copy())
    label = cv2.copyTo(donor.label, mask, view.label.copy())
    return View(np.asarray(image, np.uint8), np.asarray(label, np.uint8), view.margins, view.inside)


def cutmix(view: View, donor: View, draws: Draws, parameters: Parameters) -> View:
    """The view with a rectangle of another one, with its padding if it is there."""
    view, donor = view.whole(), donor.whole()
    share = math.sqrt(draws[Draw.CUTMIX_SHARE])
    spans = []
    for length, draw in zip(view.label.shape, (draws[Draw.CUTMIX_Y], draws[Draw.CUTMIX_X]), strict=True):
        start = math.floor(draw * length) - math.floor(length * share) // 2
        spans.append(slice(max(0, start), min(length, start + math.floor(length * share))))
    box = spans[0], spans[1]
    parameters["cutmix"] = f"rows {box[0].start}-{box[0].stop}, columns {box[1].start}-{box[1].stop}"
    image, label, inside = view.image.copy(), view.label.copy(), view.inside
    image[box], label[box] = donor.image[box], donor.label[box]
    if view.inside is not None or donor.inside is not None:
        inside = np.full_like(label, 255) if view.inside is None else view.inside.copy()
        inside[box] = 255 if donor.inside is None else donor.inside[box]
    return View(image, label, view.margins, inside)
