"""Scores from one confusion matrix: PA, MPA, mIoU, FWIoU, per-class IoU and accuracy. NumPy only.

``miou`` averages over classes whose union is not empty and :attr:`Scores.classes_counted` says how many those are: a
class that is neither in the truth nor predicted says nothing about the model.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from deeplabv3p.pixels import IGNORE


def confusion_matrix(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Count pixels by (true class, predicted class).

    Args:
        truth, prediction: uint8, equal shapes. ``IGNORE`` in ``truth`` counts nowhere.
        num_classes: K; every other value must be below it.

    Returns:
        int64 [K, K], rows truth, columns prediction. Matrices of parts add up to the matrix of the whole.

    Raises:
        ValueError: shapes differ, or a value is not a class.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth is {truth.shape}, prediction {prediction.shape}: shapes must be equal")
    valid = truth != IGNORE
    rows, columns = truth[valid], prediction[valid]
    if rows.size and max(int(rows.max()), int(columns.max())) >= num_classes:
        raise ValueError(f"a label is not below the number of classes, {num_classes}")
    cells = rows.astype(np.int64) * num_classes + columns
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of a confusion matrix (int64 [K, K], rows truth). All are fractions, nan where nothing was counted."""

    confusion: NDArray[np.int64]

    @property
    def pixels(self) -> NDArray[np.int64]:
        """True pixels of each class, int64 [K]."""
        return np.asarray(self.confusion.sum(axis=1), np.int64)

    @property
    def total(self) -> int:
        """Scored pixels."""
        return int(self.confusion.sum())

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class, float64 [K]; nan where the union is empty."""
        union = self.confusion.sum(axis=1) + self.confusion.sum(axis=0) - np.diag(self.confusion)
        return _ratio(np.diag(self.confusion), union)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of each class's true pixels that were found (recall), float64 [K]; nan for absent classes."""
        return _ratio(np.diag(self.confusion), self.pixels)

    @property
    def pa(self) -> float:
        """Pixel accuracy: the share of scored pixels that are right."""
        return float(_ratio(np.trace(self.confusion), self.confusion.sum()))

    @property
    def mpa(self) -> float:
        """Mean of :attr:`accuracy` over the classes that occur in the truth."""
        return _mean(self.accuracy)

    @property
    def miou(self) -> float:
        """Mean of :attr:`iou` over the classes with a non-empty union."""
        return _mean(self.iou)

    @property
    def fwiou(self) -> float:
        """IoU weighted by each class's share of the true pixels."""
        share = _ratio(self.pixels, self.confusion.sum())
        return float(np.sum(share[share > 0] * self.iou[share > 0])) if self.total else float("nan")

    @property
    def classes_counted(self) -> int:
        """How many classes :attr:`miou` averages over."""
        return int(np.sum(~np.isnan(self.iou)))


def _ratio(part: NDArray[np.int64] | np.int64, whole: NDArray[np.int64] | np.int64) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.true_divide(part, whole), np.float64)


def _mean(values: NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
