"""How many pixels each class has in a dataset, and the class weights that follow from it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deeplabv3p import files
from deeplabv3p.data.dataset import Dataset
from deeplabv3p.errors import DataError
from deeplabv3p.progress import Progress, silent

Counts = npt.NDArray[np.int64]


def sample_counts(dataset: Dataset, *, cache: Path | None = None, progress: Progress = silent) -> Counts:
    """Pixels of each class in each label map, without the ignored ones: int64 [N, K].

    Args:
        dataset: the samples; pictures are not read.
        cache: a folder for the result, or None. The file's name is a SHA-256 of the content of all label files, the
            classes and the ignore label, so what is found there is never out of date, and a folder may serve many
            datasets. A cache that cannot be read or written costs a count the next time, nothing else.
        progress: told about label maps as they are counted; not called where the cache has them.

    Raises:
        DataError: a label map is missing, damaged or holds a number that is no class.
    """
    file = None if cache is None else cache / f"class_counts_{_key(dataset)[:32]}.npz"
    if file is not None and (found := _read(file, dataset)) is not None:
        return found
    counts = np.zeros((len(dataset), len(dataset.classes)), np.int64)
    for index, row in enumerate(_count_all(dataset)):
        counts[index] = row
        progress(index + 1, len(dataset))
    if file is not None:
        with contextlib.suppress(DataError), files.atomic_path(file) as temporary:
            np.savez_compressed(temporary, counts=counts)
    return counts


def balanced_weights(counts: Counts) -> npt.NDArray[np.float32]:
    """total / (C · count) for the C classes that have pixels, float32 [K]: over the dataset each of them weighs the
    same, and pixels weigh 1 on average. A class without pixels gets 1, as an average pixel has."""
    present = counts > 0
    weights = np.ones(len(counts), np.float64)
    weights[present] = counts.sum() / (present.sum() * counts[present].astype(np.float64))
    return weights.astype(np.float32)


def _count_all(dataset: Dataset) -> Iterator[Counts]:
    """The rows in order. Decoding is done outside Python's lock, so threads help."""
    classes = len(dataset.classes)

    def count(index: int) -> Counts:
        label = dataset.label(dataset.samples[index])
        return np.bincount(label.ravel(), minlength=256)[:classes].astype(np.int64)

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from pool.map(count, range(len(dataset)))
    finally:
        pool.shutdown(cancel_futures=True)


def _key(dataset: Dataset) -> str:
    """SHA-256 of what the counts depend on."""
    meaning = [dataclasses.asdict(dataset.class_list), dataset.ignore_index, dataclasses.astuple(dataset.reading)]
    whole = hashlib.sha256(json.dumps(meaning).encode())
    for sample in dataset.samples:
        try:
            whole.update(hashlib.sha256(sample.label.read_bytes()).digest())
        except OSError as error:
            raise DataError(f"cannot read {sample.label}: {error.strerror}.") from None
    return whole.hexdigest()


def _read(file: Path, dataset: Dataset) -> Counts | None:
    """What the cache has, if it is whole."""
    if not file.is_file():
        return None
    with contextlib.suppress(DataError):
        counts = files.read_npz(file).get("counts")
        if counts is not None and counts.shape == (len(dataset), len(dataset.classes)) and counts.dtype == np.int64:
            return counts
    return None
