"""Regions whose label is probably wrong, from the probabilities of a model that has not been trained on the pictures.

The idea is that of confident learning (Northcutt, Jiang and Chuang 2021, arXiv:1911.00068): where a model is sure of
another class than the given one, doubt the label. Pixels are too many to look at, and a model is unsure of itself along
every outline; so, as Lad and Mueller do for whole pictures (arXiv:2307.05080), the doubts of many pixels are gathered,
here over connected regions of one given and one suggested class.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from deeplabv3p.data.dataset import Dataset, Sample
from deeplabv3p.errors import UsageError
from deeplabv3p.inference import PLAIN, InferenceOptions, predict_scores
from deeplabv3p.pixels import IGNORE
from deeplabv3p.progress import Progress, silent
from deeplabv3p.runtime import Runtime
from deeplabv3p.sampling import argmax

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

MIN_PIXELS = 64
"""Smaller regions are left out: they are specks along outlines by the hundred."""

# A model that has never been wrong about a class gives it a probability of 0; this is as sure as one may be.
_LEAST_PROBABILITY = np.float32(1e-6)


@dataclass(frozen=True)
class Doubt:
    """A connected region (4 neighbours) that is labelled ``labelled`` and should perhaps be ``suggested``.

    ``box`` is (top, left, bottom, right) in pixels, the last two excluded; ``mask`` bool [bottom − top, right − left]
    are the region's pixels in it. ``log_odds`` is the mean over them of ln(p(suggested) / p(labelled)).
    """

    labelled: int
    suggested: int
    box: tuple[int, int, int, int]
    mask: Mask
    log_odds: float

    @property
    def pixels(self) -> int:
        """The size of the region."""
        return int(np.count_nonzero(self.mask))

    @property
    def score(self) -> float:
        """How much the region deserves a look: ``log_odds`` · ln(pixels). The odds say how sure the model is; the size
        counts by its logarithm, or the large regions that any model gets wrong would come before every small object."""
        return self.log_odds * math.log(self.pixels)


@dataclass(frozen=True)
class SuspectLabel:
    """A doubt about the label map of ``sample``, number ``index`` of its dataset."""

    index: int
    sample: Sample
    doubt: Doubt


def find_label_errors(
    runtime: Runtime,
    dataset: Dataset,
    *,
    options: InferenceOptions = PLAIN,
    min_pixels: int = MIN_PIXELS,
    limit: int = 1000,
    progress: Progress = silent,
) -> tuple[SuspectLabel, ...]:
    """The regions of a dataset whose labels are most probably wrong, the most suspect first.

    A model knows by heart the labels that it was trained with, wrong ones included: use pictures it has not seen.

    Args:
        runtime: the model; it puts out logits or probabilities.
        dataset: the pictures, with as many classes as the model.
        options: sliding window, flip and the like.
        min_pixels: the size of the smallest region, at least 2.
        limit: how many regions to return at most; memory holds these, and the probabilities of one picture.
        progress: called after each picture.

    Raises:
        UsageError: the model and the dataset have different numbers of classes, or the model cannot be used with these
            options.
        DataError: a picture or a label map cannot be used, or the model puts out labels.
    """
    if runtime.spec.num_classes != len(dataset.classes):
        raise UsageError(
            f"the model '{runtime.spec.model.name}' has {runtime.spec.num_classes} classes, but the dataset "
            f"{dataset.source} has {len(dataset.classes)}. Pass the class list that the model was trained with."
        )
    found: list[SuspectLabel] = []
    for index, sample in enumerate(dataset.samples):
        image, label = dataset.load(index)
        probabilities = predict_scores(runtime, image, options)
        regions = doubts(label, probabilities, min_pixels, dataset.ignored_class)
        found += (SuspectLabel(index, sample, doubt) for doubt in regions)
        # A stable sort: of equal ones the first in the dataset stays in front.
        found = sorted(found, key=lambda suspect: -suspect.doubt.score)[:limit]
        progress(index + 1, len(dataset))
    return tuple(found)


def doubts(
    label: Labels, probabilities: Floats, min_pixels: int = MIN_PIXELS, ignored: int | None = None
) -> list[Doubt]:
    """The regions of one picture where the most probable class is not the given one, in no particular order.

    Where such regions of one given class and different suggested ones touch, only the one with the highest score is
    told: to a person it is one place.

    Args:
        label: uint8 [H, W], 0 to K - 1 or ``pixels.IGNORE``, of which nothing is said.
        probabilities: float32 [H, W, K].
        min_pixels: the size of the smallest region, at least 2.
        ignored: the class whose number is the ignored one, which no label has and none is suggested to be.
    """
    planes = np.moveaxis(probabilities, 2, 0)
    if ignored is not None:
        planes = planes.copy()
        planes[ignored] = -1
    predicted = argmax(planes)
    wrong = (label != IGNORE) & (label != predicted)
    log_odds = np.zeros(label.shape, np.float32)
    log_odds[wrong] = _log_odds(planes, label, predicted, wrong)
    found: list[Doubt] = []
    for labelled in np.unique(label[wrong]).tolist():
        of_class = wrong & (label == labelled)
        _, place_of = cv2.connectedComponents(of_class.view(np.uint8), connectivity=4)
        places: dict[int, Doubt] = {}
        for suggested in np.unique(predicted[of_class]).tolist():
            for doubt in _regions(of_class & (predicted == suggested), labelled, suggested, log_odds, min_pixels):
                top, left, bottom, right = doubt.box
                place = int(place_of[top:bottom, left:right][doubt.mask][0])
                if place not in places or doubt.score > places[place].score:
                    places[place] = doubt
        found += places.values()
    return found


def _regions(mask: Mask, labelled: int, suggested: int, log_odds: Floats, min_pixels: int) -> Iterator[Doubt]:
    """The connected parts of a mask that are large enough."""
    if np.count_nonzero(mask) < min_pixels:
        return
    _, region_of, figures, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    for region in np.flatnonzero(figures[1:, cv2.CC_STAT_AREA] >= max(min_pixels, 2)) + 1:
        left, top, width, height = (int(value) for value in figures[region, :4])
        inside = np.s_[top : top + height, left : left + width]
        own = region_of[inside] == region
        mean = float(log_odds[inside][own].mean(dtype=np.float64))
        yield Doubt(labelled, suggested, (top, left, top + height, left + width), own, mean)


def _log_odds(planes: Floats, label: Labels, predicted: Labels, where: Mask) -> Floats:
    """ln(p(predicted) / p(label)) of the pixels ``where``, float32 [n]."""
    rows, columns = np.nonzero(where)
    suggested, given = (
        np.maximum(planes[classes[where], rows, columns], _LEAST_PROBABILITY) for classes in (predicted, label)
    )
    return np.log(suggested / given)
