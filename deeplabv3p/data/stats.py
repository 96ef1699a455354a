"""What a dataset holds: pixels, pictures and connected pieces of each class, sizes, and what occurs together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from deeplabv3p.data.balance import balanced_weights, sample_counts
from deeplabv3p.data.dataset import Dataset
from deeplabv3p.data.decode import Picture, image_size
from deeplabv3p.errors import DataError
from deeplabv3p.progress import Progress, silent
from deeplabv3p.spec import ClassInfo

Counts = npt.NDArray[np.int64]
Areas = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassStatistics:
    """One class. ``piece_areas`` int64 [n] are the pixels of its connected pieces (4 neighbours), smallest first: an
    object that another one cuts in two is two pieces, and objects that touch are one. ``weight`` is that of
    ``--weighted_type balanced``."""

    info: ClassInfo
    pixels: int
    pictures: int
    weight: float
    piece_areas: Areas

    def piece_side(self, share: float) -> float:
        """The side, in pixels, of a square as large as a piece such that pieces up to that size hold ``share`` (0 to 1)
        of the class's pixels; nan without pieces. Counted by pixels, single specks of a careless brush do not hide the
        sizes of what was drawn."""
        if not self.piece_areas.size:
            return float("nan")
        held = np.cumsum(self.piece_areas)
        place = int(np.searchsorted(held, share * held[-1]))
        return float(np.sqrt(self.piece_areas[min(place, len(held) - 1)]))


@dataclass(frozen=True)
class DatasetStatistics:
    """A whole dataset. ``pixels`` are all pixels, ``ignored_pixels`` those without a class. ``sizes`` are the pictures'
    (height, width) with their numbers, the most frequent first. ``together`` int64 [K, K] are the pictures that hold
    both classes; its diagonal, those that hold the class."""

    source: str
    pictures: int
    pixels: int
    ignored_pixels: int
    classes: tuple[ClassStatistics, ...]
    sizes: tuple[tuple[tuple[int, int], int], ...]
    together: Counts

    @property
    def labelled_pixels(self) -> int:
        """Pixels that have a class."""
        return self.pixels - self.ignored_pixels


def dataset_statistics(dataset: Dataset, *, progress: Progress = silent) -> DatasetStatistics:
    """Count everything in one go over the label maps; of the pictures only the headers are read.

    Args:
        dataset: the samples.
        progress: called after each label map, once for the classes' pixels and once more for their pieces.

    Raises:
        DataError: a file is missing or damaged, a label map holds a number that is no class, or is not of its
            picture's size.
    """
    counts = sample_counts(dataset, progress=progress)
    sizes: Counter[tuple[int, int]] = Counter()
    pieces: list[list[Areas]] = [[] for _ in dataset.classes]
    for index, (size_hw, areas) in enumerate(_look(dataset)):
        sizes[size_hw] += 1
        for found, own in zip(pieces, areas, strict=True):
            found.append(own)
        progress(index + 1, len(dataset))
    pixels = counts.sum(axis=0)
    present = (counts > 0).astype(np.int64)
    total = sum(height * width * number for (height, width), number in sizes.items())
    classes = tuple(
        ClassStatistics(info, int(number), int(held), float(weight), np.sort(np.concatenate(areas)))
        for info, number, held, weight, areas in zip(
            dataset.classes, pixels, present.sum(axis=0), balanced_weights(pixels), pieces, strict=True
        )
    )
    return DatasetStatistics(
        source=dataset.source,
        pictures=len(dataset),
        pixels=total,
        ignored_pixels=total - int(pixels.sum()),
        classes=classes,
        sizes=tuple(sorted(sizes.items(), key=lambda item: (-item[1], item[0]))),
        together=present.T @ present,
    )


def _look(dataset: Dataset) -> Iterator[tuple[tuple[int, int], list[Areas]]]:
    """Size and pieces of each sample, in order; threads help, as OpenCV and Pillow let go of Python's lock."""

    def look(index: int) -> tuple[tuple[int, int], list[Areas]]:
        sample = dataset.samples[index]
        label = dataset.label(sample)
        size_hw = image_size(sample.image)
        if size_hw != label.shape:
            raise DataError(
                f"{sample.image} is {size_hw[0]}x{size_hw[1]} and its label map {sample.label} is "
                f"{label.shape[0]}x{label.shape[1]} (height x width). They must be equal."
            )
        return size_hw, [piece_areas(label == value) for value in range(len(dataset.classes))]

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from pool.map(look, range(len(dataset)))
    finally:
        pool.shutdown(cancel_futures=True)


def piece_areas(mask: npt.NDArray[np.bool_]) -> Areas:
    """Pixels of each connected piece (4 neighbours) of a mask [H, W]: int64 [n], in no particular order."""
    if not mask.any():
        return np.zeros(0, np.int64)
    as_bytes: Picture = mask.view(np.uint8)
    _, _, figures, _ = cv2.connectedComponentsWithStats(as_bytes, connectivity=4)
    return np.asarray(figures[1:, cv2.CC_STAT_AREA], np.int64)
