"""The part of the examination that fits before the first step of a training: headers, and a few label maps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from deeplabv3p.data.dataset import Dataset, Sample, describe_sizes
from deeplabv3p.data.decode import image_size
from deeplabv3p.data.doctor.findings import plural
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE

SECONDS = 1.0
"""What it takes at most, on a disk of any speed: the sample that is due then is the last."""
_HEADERS, _MAPS = 200, 24  # of each set: about 0.1 s and 0.1 s on one core for pictures of usual size
_DOCTOR = "python tools/dataset_converter/doctor.py"


def precheck(train_set: Dataset, val_set: Dataset) -> tuple[str, ...]:
    """Look for what would spoil a run that starts now; evenly spaced samples, at most SECONDS in all.

    :func:`open_dataset` has checked lists and files. This compares the sizes in the headers of some pictures and label
    maps, reads some label maps, and looks for pictures that are in both sets.

    Returns:
        warnings, one sentence each.

    Raises:
        DataError: a header or label map that was looked at is damaged, differs in size from its picture or holds a
            value that is no class; or the maps look like masks of 0 and 255, from which only class 0 would be learned.
    """
    until = time.monotonic() + SECONDS
    for dataset in (train_set, val_set):
        for sample in _spaced(dataset.samples, _HEADERS, until):
            sizes = image_size(sample.image), image_size(sample.label)
            if sizes[0] != sizes[1]:
                raise DataError(describe_sizes(sample, *sizes))
    _check_values(train_set, until)
    shared = {sample.image for sample in train_set.samples} & {sample.image for sample in val_set.samples}
    if not shared:
        return ()
    return (
        f"{plural(len(shared), 'picture')} of {val_set.source} are in {train_set.source}, too: validation scores will "
        f"be too good ({_DOCTOR} {train_set.root} says which).",
    )


def _check_values(dataset: Dataset, until: float) -> None:
    """Read some label maps; training has read them all only at the end of its first epoch."""
    seen, with_ignored, present = 0, 0, set[int]()
    for sample in _spaced(dataset.samples, _MAPS, until):
        label = dataset.label(sample)
        values = np.flatnonzero(np.bincount(label.ravel(), minlength=256)).tolist()
        present.update(values)
        with_ignored += IGNORE in values
        seen += 1
    if seen and present == {IGNORE}:
        raise DataError(
            f"all {seen} label maps looked at hold nothing but ignored pixels, as {dataset.samples[0].label}."
        )
    masks = dataset.ignore_index == 255 and len(dataset.classes) > 1 and present == {0, IGNORE}
    # Ignored seams in pictures of nothing but background look like it in one map, not in half of them.
    if masks and with_ignored * 2 >= seen:
        raise DataError(
            f"all {seen} label maps looked at hold only 0 and 255, as {dataset.samples[0].label}: 255 is ignored, so "
            f"only class 0 would be learned. `{_DOCTOR} {dataset.root} --fix NEW_FOLDER` makes 1 of 255."
        )


def _spaced(samples: Sequence[Sample], count: int, until: float) -> Iterator[Sample]:
    """At most ``count`` of the samples, evenly spaced, the first included, until the time is over."""
    for place in range(min(count, len(samples))):
        yield samples[place * len(samples) // min(count, len(samples))]
        if time.monotonic() > until:
            return
