"""The pictures behind int8 files: those to calibrate with, and those that say what a layer in 8 bits costs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.pictures import find_pictures
from deeplabv3p.data.classes import ClassList
from deeplabv3p.data.dataset import Dataset, open_dataset
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.evaluation.score import evaluate
from deeplabv3p.export.calibration import draw
from deeplabv3p.export.export import AccuracyControl
from deeplabv3p.spec import ModelSpec

_PICTURE_FOLDERS = ("images", "JPEGImages")

Run = Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]]


def calibration_pictures(dataset_path: str, dataset_file: str | None, count: int) -> list[Path]:
    """``count`` pictures, evenly drawn from the list of a dataset, or from all pictures of a folder, or of the picture
    folder in it.

    Raises:
        DataError: the dataset cannot be read, or holds too few.
    """
    if dataset_file is not None:
        # The labels of the dataset are not looked at, so neither are the classes.
        dataset = open_dataset(dataset_path, dataset_file, ClassList((), explicit_colors=False), None)
        return [sample.image for sample in draw(dataset.samples, count, dataset.source)]
    folder = Path(dataset_path)
    if not folder.is_dir():
        raise DataError(f"the dataset folder {folder} does not exist.")
    inside = next((folder / name for name in _PICTURE_FOLDERS if (folder / name).is_dir()), folder)
    return draw(find_pictures([str(inside)]), count, str(inside))


def accuracy_control(dataset: Dataset, count: int, max_points: float) -> AccuracyControl:
    """Control of the mIoU on ``count`` pictures of a dataset, evenly drawn: at most ``max_points`` (100 times the
    fraction) are to be lost.

    Raises:
        DataError: the dataset holds too few.
    """
    drawn = dataclasses.replace(dataset, samples=tuple(draw(dataset.samples, count, dataset.source)))

    def score(run: Run, spec: ModelSpec) -> float:
        miou = evaluate(_Running(run, spec), drawn).scores.miou_in_truth  # the same classes for every file
        if math.isnan(miou):
            raise DataError(f"all pixels of {count} pictures of {dataset.source} are ignored: there is no mIoU.")
        return miou

    return AccuracyControl(score, max_points / 100)


class _Running:
    """A model that is run by a function, as a :class:`deeplabv3p.runtime.Runtime`."""

    name, device = "openvino", "CPU"

    def __init__(self, run: Run, spec: ModelSpec) -> None:
        self.spec = spec
        self.run = run

    def close(self) -> None:
        """Nothing is held."""


def check_flags(dataset_path: str | None, dataset_file: str | None, needing: str | None) -> None:
    """Require the flags that calibration needs; ``needing`` names a file that has to be calibrated.

    Raises:
        UsageError: one is missing.
    """
    if dataset_path is None and needing is not None:
        raise UsageError(
            f"{needing} needs pictures to calibrate with: --dataset_path DIR, with --dataset_file LIST for those of a "
            "list."
        )
    if dataset_path is None and dataset_file is not None:
        raise UsageError("--dataset_file is a list of a dataset. Name its folder with --dataset_path.")
