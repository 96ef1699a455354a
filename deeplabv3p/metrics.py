"""Scores from one confusion matrix: PA, MPA, mIoU, FWIoU, per-class IoU and accuracy. NumPy only.

A class that is neither in the truth nor predicted says nothing about the model, so a mean over classes needs a set:

- ``miou`` averages over the classes whose union is not empty, :attr:`Scores.classes_counted` of them. One pixel that is
  predicted as a class that the truth lacks adds a class with IoU 0, so the set depends on the prediction.
- ``miou_in_truth`` averages over the classes that occur in the truth, :attr:`Scores.classes_in_truth` of them: the same
  set for every prediction. It is the one to compare results by.
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
    """Scores of a confusion matrix (int64 [K, K], rows truth). All are fractions, nan where nothing was counted.

    ``ignored`` is the class whose number is the ignored one in the label files, None where it is no class. None of its
    pixels is scored, so it has no IoU and is in no mean; where it is predicted, that is an error of the true class.
    """

    confusion: NDArray[np.int64]
    ignored: int | None = None

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
        """Intersection over union of each class, float64 [K]; nan where the union is empty, and of the ignored one."""
        union = self.confusion.sum(axis=1) + self.confusion.sum(axis=0) - np.diag(self.confusion)
        values = _ratio(np.diag(self.confusion), union)
        if self.ignored is not None:
            values[self.ignored] = np.nan
        return values

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
    def miou_in_truth(self) -> float:
        """Mean of :attr:`iou` over the classes that occur in the truth."""
        return _mean(self.iou[self.pixels > 0])

    @property
    def fwiou(self) -> float:
        """IoU weighted by each class's share of the true pixels."""
        share = _ratio(self.pixels, self.confusion.sum())
        return float(np.sum(share[share > 0] * self.iou[share > 0])) if self.total else float("nan")

    @property
    def classes_counted(self) -> int:
        """How many classes :attr:`miou` averages over."""
        return int(np.sum(~np.isnan(self.iou)))

    @property
    def classes_in_truth(self) -> int:
        """How many classes :attr:`miou_in_truth` averages over."""
        return int(np.count_nonzero(self.pixels))

    @property
    def only_predicted(self) -> tuple[int, ...]:
        """The classes that :attr:`miou` counts and :attr:`miou_in_truth` does not: predicted, but not in the truth."""
        return tuple(np.flatnonzero(~np.isnan(self.iou) & (self.pixels == 0)).tolist())


def _ratio(part: NDArray[np.int64] | np.int64, whole: NDArray[np.int64] | np.int64) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.true_divide(part, whole), np.float64)


def _mean(values: NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
