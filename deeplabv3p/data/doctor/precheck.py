"""The part of the examination that fits before the first step of a training: headers, and a few label maps."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from deeplabv3p.data.dataset import Dataset, Sample, describe_sizes
from deeplabv3p.data.decode import image_size, largest_value
from deeplabv3p.data.depth import likely_white, looks_like
from deeplabv3p.data.doctor.findings import plural
from deeplabv3p.data.doctor.labels import MOSTLY
from deeplabv3p.data.doctor.presence import one_class_text, only_text
from deeplabv3p.data.groups import group_paths
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import FULL_RANGE

SECONDS = 1.0
"""What it takes at most, on a disk of any speed: the sample that is due then is the last."""
_HEADERS, _MAPS, _PICTURES = 200, 24, 12  # of each set: about 0.1 s and 0.1 s on one core for pictures of usual size
_NAMES = 10_000  # that are compared: about 0.3 s
_DOCTOR = "python tools/dataset_converter/doctor.py"


def precheck(train_set: Dataset, val_set: Dataset) -> tuple[str, ...]:
    """Look for what would spoil a run that starts now; evenly spaced samples, at most SECONDS in all.

    :func:`open_dataset` has checked lists and files. This compares the sizes in the headers of some pictures and label
    maps, reads some label maps, more while a class was not met yet, and looks for pictures, or parts of one thing
    by their names, that are in both sets.

    Returns:
        warnings, one sentence each.

    Raises:
        DataError: a header or label map that was looked at is damaged, differs in size from its picture or holds a
            value that is no class; pictures of 16 bits look like fewer, and nobody says what white is; the maps look
            like masks of 0 and 255, from which only class 0 would be learned; there is one class only, or none.
    """
    until = time.monotonic() + SECONDS
    for dataset in (train_set, val_set):
        for sample in _spaced(dataset.samples, _HEADERS, until):
            sizes = image_size(sample.image), image_size(sample.label)
            if sizes[0] != sizes[1]:
                raise DataError(describe_sizes(sample, *sizes))
        _check_range(dataset, until)
    warnings = _check_values(train_set, until)
    shared = {sample.image for sample in train_set.samples} & {sample.image for sample in val_set.samples}
    if shared:
        warnings.append(
            f"{plural(len(shared), 'picture')} of {val_set.source} are in {train_set.source}, too: validation scores "
            f"will be too good ({_DOCTOR} {train_set.root} says which)."
        )
    elif time.monotonic() < until and len(train_set) + len(val_set) <= _NAMES:
        warnings += _check_groups(train_set, val_set)
    return tuple(warnings)


def _check_groups(train_set: Dataset, val_set: Dataset) -> list[str]:
    """Tiles of one photograph, frames of one video, copies of one picture on both sides."""
    keys = group_paths({sample.name for dataset in (train_set, val_set) for sample in dataset.samples})
    trained = {keys[sample.name] for sample in train_set.samples}
    both = [sample for sample in val_set.samples if keys[sample.name] in trained]
    if not both:
        return []
    like = next(sample for sample in train_set.samples if keys[sample.name] == keys[both[0].name])
    return [
        f"by their names {len(both):,} of {plural(len(val_set), 'picture')} of {val_set.source} are of one photograph "
        f"or video with pictures of {train_set.source}, as {both[0].name} and {like.name}: validation scores may be "
        f"too good. `python tools/dataset_converter/dataset.py split {shlex.quote(str(train_set.root))}` keeps them "
        "together."
    ]


def _check_range(dataset: Dataset, until: float) -> None:
    """Pictures of 16 bits whose values are small would train, and score, as black ones."""
    if dataset.picture_max is not None:
        return
    samples = _spaced(dataset.samples, _PICTURES, until)
    largest = [value for sample in samples if (value := largest_value(sample.image)) is not None]
    white = likely_white(largest)
    if white is not None:
        looks = looks_like(largest, FULL_RANGE, white)
        raise DataError(f"{dataset.source}: {looks}, or --picture_max {FULL_RANGE} if they are meant to be that dark.")


def _check_values(dataset: Dataset, until: float) -> list[str]:
    """Read some label maps; training has read them all only at the end of its first epoch."""
    names = [item.name for item in dataset.classes]
    seen, with_ignored, counts = 0, 0, np.zeros(256, np.int64)
    for sample in _looked_at(dataset.samples):
        label = dataset.label(sample)
        found = cv2.calcHist([label], [0], None, [256], [0, 256]).ravel().astype(np.int64)
        counts += found
        with_ignored += bool(found[IGNORE])
        seen += 1
        # All is well; else the maps are looked at on and on, as long as there is time.
        if time.monotonic() > until or (seen >= _MAPS and counts[: len(names)].all()):
            break
    present = set(np.flatnonzero(counts).tolist())
    if len(names) == 1:
        raise DataError(one_class_text(names[0], masks=IGNORE in present and dataset.ignore_index == 255))
    if present == {IGNORE}:
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
    classes = present - {IGNORE}
    whole = seen == len(dataset)
    missing = [name for label, name in enumerate(names) if label not in classes and label != dataset.ignore_index]
    warnings = []
    if len(classes) == 1:
        text = only_text(names[classes.pop()], seen, dataset.source)
        if whole:
            raise DataError(f"{text} Were the annotations lost in a conversion? `{_DOCTOR} {dataset.root}` says more.")
        warnings.append(f"the first look at {text} All {len(dataset):,} are not looked at before the training.")
    elif whole and missing:
        shown = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        warnings.append(
            f"{plural(len(missing), 'class')} without a pixel in {dataset.source}, not to be learned: {shown}."
        )
    share = counts[IGNORE] / max(counts.sum(), 1)
    if share > MOSTLY:
        warnings.append(
            f"{100 * share:.0f} % of the pixels in {plural(seen, 'label map')} of {dataset.source} are ignored: "
            "training sees the rest only. Is --ignore_index right?"
        )
    return warnings


def _looked_at(samples: Sequence[Sample]) -> Iterator[Sample]:
    """All samples, some evenly spaced ones first."""
    count = min(_MAPS, len(samples))
    first = [place * len(samples) // count for place in range(count)]
    yield from (samples[place] for place in first)
    chosen = set(first)
    yield from (sample for place, sample in enumerate(samples) if place not in chosen)


def _spaced(samples: Sequence[Sample], count: int, until: float) -> Iterator[Sample]:
    """At most ``count`` of the samples, evenly spaced, the first included, until the time is over."""
    for place in range(min(count, len(samples))):
        yield samples[place * len(samples) // min(count, len(samples))]
        if time.monotonic() > until:
            return
