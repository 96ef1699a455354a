"""Pictures that show what a network was given and what it made of it. All are uint8 [H, W, 3] RGB."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo, ModelSpec
from deeplabv3p.visualize import IGNORE_COLOR, Pixels, legend, shown, side_by_side

_PREDICTION_HEIGHT, _CELL_HEIGHT, _GAP = 256, 160, 12  # pixels


def prediction_sheet(image: Pixels, truth: Pixels, prediction: Pixels, classes: Sequence[ClassInfo]) -> Pixels:
    """Picture, truth and prediction side by side in the classes' colours, and what those that occur are called."""
    panels = [image, shown(truth, classes), shown(prediction, classes)]
    row = side_by_side(panels, ["picture", "truth", "prediction"], min(image.shape[0], _PREDICTION_HEIGHT))
    return _beside(row, _legend(classes, truth, prediction))


def batch_sheet(images: npt.NDArray[np.float32], labels: Pixels, names: Sequence[str], spec: ModelSpec) -> Pixels:
    """A training batch as pictures, each beside its label map, with its name and its share of ignored pixels.

    Args:
        images: float32 [B, H, W, 3], normalised as ``spec.input`` says; what is not finite is drawn black.
        labels: uint8 [B, H, W].
        names: of the B pictures.
        spec: of the network that trains on it.
    """
    rules = spec.input
    pixels = np.nan_to_num(images * np.asarray(rules.std, np.float32) + np.asarray(rules.mean, np.float32), nan=0)
    pictures = np.clip(pixels.round(), 0, 255).astype(np.uint8)
    if rules.color == "BGR":
        pictures = np.ascontiguousarray(pictures[..., ::-1])
    classes = spec.classes
    cells = []
    for picture, label, name in zip(pictures, labels, names, strict=True):
        titles = [name, f"{np.mean(label == IGNORE):.0%} ignored"]
        cell = side_by_side([picture, shown(label, classes)], titles, _CELL_HEIGHT)
        cells.append(_extended(cell, cell.shape[0] + _GAP, cell.shape[1] + _GAP))
    columns = max(1, round(math.sqrt(len(cells) / 2)))  # a cell is about twice as wide as high
    rows = [np.concatenate(cells[start : start + columns], axis=1) for start in range(0, len(cells), columns)]
    width = rows[0].shape[1]
    sheet = np.concatenate([_extended(row, row.shape[0], width) for row in rows])
    return _beside(sheet, _legend(classes, labels))


def _legend(classes: Sequence[ClassInfo], *labels: Pixels) -> Pixels:
    """What occurs in the label maps is called so; ignored pixels, too."""
    present = set().union(*(np.unique(label).tolist() for label in labels))
    if IGNORE in present:
        present.add(len(classes))
    return legend([*classes, ClassInfo("ignored", IGNORE_COLOR)], present)


def _beside(left: Pixels, right: Pixels) -> Pixels:
    """Two pictures in a row at their own sizes."""
    height = max(left.shape[0], right.shape[0])
    return np.concatenate([_extended(part, height, part.shape[1]) for part in (left, right)], axis=1)


def _extended(picture: Pixels, height: int, width: int) -> Pixels:
    """The picture with white to its right and below it."""
    larger = np.full((height, width, 3), 255, np.uint8)
    larger[: picture.shape[0], : picture.shape[1]] = picture
    return larger
