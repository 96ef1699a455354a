"""The cards of galleries: pictures of a dataset with labels and predictions, and regions whose label is doubted."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from common.gallery_page import Card, error_layer, fit, label_layer, outline_layer, thumbnail
from deeplabv3p import visualize
from deeplabv3p.data.dataset import Dataset, Sample
from deeplabv3p.evaluation.label_errors import SuspectLabel
from deeplabv3p.metrics import Scores, confusion_matrix
from deeplabv3p.spec import ClassInfo

Pixels = npt.NDArray[np.uint8]
Order = Literal["list", "wrong", "miou"]

LABEL, PREDICTION, ERRORS, SUGGESTION = "label", "prediction", "errors", "suggestion"

_SHEET_WIDTH, _SHEET_HEIGHT, _SHEET_BAR, _SHEET_GAP = 1460, 180, 20, 4
# Width by height of a picture on the sheet; what is narrower or wider is shown with white beside it.
_SHEET_RATIOS = 0.6, 5.0
# Around a region: as much again as it is large, and at least so many pixels, to see what it lies in.
_CONTEXT, _LEAST_CONTEXT = 0.5, 48


class PictureCards:
    """Keeps cards of the pictures of a dataset: the first of the list, or the worst.

    ``order``: ``list``; ``wrong``: the largest share of wrong pixels first; ``miou``: the lowest mIoU first. Pictures
    without any labelled pixel come last. Memory holds ``limit`` thumbnails of ``side`` pixels. ``ignored``: the class
    whose number is the ignored one, None where it is no class.
    """

    def __init__(
        self, classes: Sequence[ClassInfo], *, order: Order, limit: int, side: int, ignored: int | None = None
    ) -> None:
        self._classes, self._order, self._limit, self._side = classes, order, limit, side
        self._ignored = ignored
        self._kept: list[tuple[float, int, Card]] = []  # a heap whose root is the next to go
        self._seen = 0

    def add(self, sample: Sample, image: Pixels, truth: Pixels, prediction: Pixels | None = None) -> None:
        """Consider a picture: image uint8 [H, W, 3] RGB, truth and prediction uint8 [H, W]."""
        index, self._seen = self._seen, self._seen + 1
        scores = None
        if prediction is not None:
            scores = Scores(confusion_matrix(truth, prediction, len(self._classes)), self._ignored)
        badness = self._badness(scores)
        key = (badness, -index)
        if len(self._kept) == self._limit and key < self._kept[0][:2]:
            return
        size_hw = fit(truth.shape, self._side)
        present = np.flatnonzero(np.bincount(truth.ravel(), minlength=256)[: len(self._classes)]).tolist()
        layers = {LABEL: label_layer(truth, self._classes, size_hw)}
        text = ", ".join(self._classes[label].name for label in present) or "no labelled pixel"
        if prediction is not None and scores is not None:
            layers |= {
                PREDICTION: label_layer(prediction, self._classes, size_hw),
                ERRORS: error_layer(truth, prediction, size_hw),
            }
            present = sorted({*present, *np.unique(prediction).tolist()})
            if scores.total:
                text = f"{100 * (1 - scores.pa):.1f} % of the pixels wrong, mIoU {scores.miou:.3f}; {text}"
        card = Card(sample.name, text, thumbnail(image, size_hw), layers, present, size_hw=size_hw)
        heapq.heappush(self._kept, (*key, card))
        if len(self._kept) > self._limit:
            heapq.heappop(self._kept)

    def cards(self) -> list[Card]:
        """The cards in their order."""
        return [card for _, _, card in self._ordered()]

    def indexes(self) -> list[int]:
        """Which pictures the cards are of, counted from 0 as they were added."""
        return [-negative for _, negative, _ in self._ordered()]

    def _ordered(self) -> list[tuple[float, int, Card]]:
        return sorted(self._kept, key=lambda kept: kept[:2], reverse=True)

    def _badness(self, scores: Scores | None) -> float:
        if self._order == "list" or scores is None:
            return 0.0
        score = scores.miou if self._order == "miou" else scores.pa
        return -math.inf if math.isnan(score) else -score


def contact_sheet(dataset: Dataset, indexes: Sequence[int]) -> Pixels:
    """Small pictures with their labels over them, and the legend: uint8 [H, W, 3] RGB.

    Raises:
        DataError: a picture or a label map cannot be read.
    """
    rows: list[Pixels] = []
    row: list[Pixels] = []
    for index in indexes:
        image, label = dataset.load(index)
        picture = visualize.overlay(image, label, dataset.classes)
        cell = _cell(picture, f"{index + 1} {dataset.samples[index].name}")
        if row and sum(other.shape[1] for other in (*row, cell)) > _SHEET_WIDTH:
            rows.append(np.concatenate(row, axis=1))
            row = []
        row.append(cell)
    rows += [np.concatenate(row, axis=1), visualize.legend(dataset.classes)]
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    )


def _cell(image: Pixels, title: str) -> Pixels:
    """A picture in a cell of the contact sheet, under its title: as wide as the picture at the height of all."""
    height = _SHEET_HEIGHT
    width = round(height * min(max(image.shape[1] / image.shape[0], _SHEET_RATIOS[0]), _SHEET_RATIOS[1]))
    scale = min(height / image.shape[0], width / image.shape[1])
    own_height, own_width = (max(1, round(side * scale)) for side in image.shape[:2])
    cell = np.full((_SHEET_BAR + height + _SHEET_GAP, width + _SHEET_GAP, 3), 255, np.uint8)
    small = cv2.resize(image, (own_width, own_height), interpolation=cv2.INTER_AREA)
    cell[_SHEET_BAR : _SHEET_BAR + own_height, :own_width] = small
    visualize.write_text(cell, title, (1, _SHEET_BAR - 6), 12)
    return cell


def suspect_card(dataset: Dataset, suspect: SuspectLabel, rank: int, side: int) -> Card:
    """A region in its surroundings, outlined; its layers are the label map, and the same with the suggested class.

    Raises:
        DataError: the picture or the label map cannot be read any more.
    """
    image, label = dataset.load(suspect.index)
    doubt, classes = suspect.doubt, dataset.classes
    top, left, bottom, right = doubt.box
    corrected = label.copy()
    corrected[top:bottom, left:right][doubt.mask] = doubt.suggested
    mask = np.zeros(label.shape, np.bool_)
    mask[top:bottom, left:right] = doubt.mask
    rows, columns = (
        slice(max(0, first - margin), min(size, end + margin))
        for first, end, size in ((top, bottom, label.shape[0]), (left, right, label.shape[1]))
        for margin in [max(_LEAST_CONTEXT, round(_CONTEXT * max(bottom - top, right - left)))]
    )
    cut = np.s_[rows, columns]
    # Small cuts are enlarged, or a small object would be a few pixels on the page.
    height, width = label[cut].shape
    size_hw = (max(1, round(height * side / max(height, width))), max(1, round(width * side / max(height, width))))
    labelled, suggested = classes[doubt.labelled].name, classes[doubt.suggested].name
    return Card(
        title=f"{rank}. {labelled} → {suggested}?",
        text=f"{suspect.sample.name}, {doubt.pixels:,} pixels at row {top}, column {left}; score {doubt.score:.1f}",
        picture=thumbnail(image[cut], size_hw),
        layers={
            LABEL: label_layer(label[cut], classes, size_hw),
            SUGGESTION: label_layer(corrected[cut], classes, size_hw),
        },
        classes=(doubt.labelled, doubt.suggested),
        outline=outline_layer(mask[cut], size_hw),
        size_hw=size_hw,
    )
