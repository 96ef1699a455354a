"""The whole examination: take the inventory, look at every sample once, judge."""

from __future__ import annotations

import itertools
import os
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from deeplabv3p.data.classes import ClassList, load_classes, own_class_file
from deeplabv3p.data.doctor.findings import SEVERITIES, Finding, Severity, finding, ranked
from deeplabv3p.data.doctor.inventory import Inventory, take_inventory
from deeplabv3p.data.doctor.labels import Meaning, classify, grey_steps, label_findings
from deeplabv3p.data.doctor.lists import list_findings, usable
from deeplabv3p.data.doctor.presence import presence_findings
from deeplabv3p.data.doctor.readings import decided
from deeplabv3p.data.doctor.record import Record, look
from deeplabv3p.data.doctor.samples import range_findings, sample_findings
from deeplabv3p.data.doctor.splits import split_findings
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.progress import Progress, silent
from deeplabv3p.spec import FULL_RANGE


@dataclass(frozen=True)
class Diagnosis:
    """What was found, the worst first, and what it was found in.

    ``records`` has one small entry for each sample that was looked at, ``label_kinds`` the kind of finding of every
    label map that cannot be used, by the index of its pair. ``classes_file`` is where the classes came from.
    """

    inventory: Inventory
    meaning: Meaning
    classes_file: Path | None
    findings: tuple[Finding, ...]
    records: tuple[Record, ...]
    label_kinds: dict[int, str]
    seconds: float
    picture_max: int = FULL_RANGE

    @property
    def healthy(self) -> bool:
        """Whether training would run and learn what is meant: no error."""
        return not self.of("error")

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(item for item in self.findings if item.severity == severity)

    @property
    def summary(self) -> str:
        """``2 errors, 1 warning, 0 notes``."""
        counts = [(len(self.of(severity)), severity) for severity in SEVERITIES]
        return ", ".join(f"{count} {severity}{'' if count == 1 else 's'}" for count, severity in counts)


def diagnose(
    dataset_path: str | os.PathLike[str],
    *,
    lists: Sequence[str | os.PathLike[str]] = (),
    classes_path: str | os.PathLike[str] | None = None,
    ignore_index: int | None = 255,
    picture_max: int | None = None,
    threads: int = 2,
    progress: Progress = silent,
) -> Diagnosis:
    """Examine a dataset of any layout that :func:`deeplabv3p.data.dataset.open_dataset` knows.

    Every picture and label map that a list names (without lists: every pair) is decoded once, in threads. Memory holds
    a few kilobytes a sample, whatever the size of the pictures. Files are only read.

    Args:
        dataset_path: the folder.
        lists: list files, the first for training; empty: all that the folder has.
        classes_path: the class list; None: the folder's own (``classes.txt`` and such), if it is there. Without one,
            values are not judged against classes.
        ignore_index: the number that counts for nothing in the files, or None.
        picture_max: the value of white in pictures of 16 bits a channel; None: 65535, unless they say otherwise, which
            is a finding.
        threads: how many decode.
        progress: told about samples as they are looked at.

    Raises:
        DataError: the folder, a named list or the class list is missing, or there is no dataset in the folder.
        UsageError: ``ignore_index`` or ``threads`` is out of range.
    """
    if ignore_index is not None and not 0 <= ignore_index <= 65535:
        raise UsageError(f"the ignore label is {ignore_index}, but labels are 0 to 65535.")
    if threads < 1:
        raise UsageError(f"threads is {threads}, expected at least 1.")
    begin = time.perf_counter()
    root = Path(dataset_path)
    classes_file = Path(classes_path) if classes_path is not None else own_class_file(root)
    class_list = load_classes(classes_file) if classes_file else None
    inventory = take_inventory(root, [Path(path) for path in lists], classes_file)
    if not inventory.pairs:
        raise DataError(f"{root} holds no pictures and no label maps.")
    stored = tuple(_records(inventory, class_list, ignore_index, picture_max or FULL_RANGE, threads, progress))
    reading, records, unclear = decided(stored, class_list, ignore_index, inventory)
    meaning = Meaning(class_list, ignore_index, reading)
    meaning = replace(meaning, steps=grey_steps(records, meaning))
    kinds = classify(records, meaning)
    found = [
        *list_findings(inventory),
        *sample_findings(records, inventory),
        *unclear,
        *range_findings(records, inventory, picture_max),
        *label_findings(records, kinds, inventory, meaning),
        *presence_findings(records, kinds, inventory, meaning, named=bool(lists)),
        *split_findings(records, kinds, inventory, meaning, named=bool(lists)),
    ]
    if class_list is None:
        values = sorted({value for record in records if record.label for value in record.label.counts})
        some = ", ".join(map(str, values[:12])) + (", …" if len(values) > 12 else "")
        found.append(finding("no_classes", f"no class list: label values are not judged; they are {some or 'none'}."))
    seconds = time.perf_counter() - begin
    white = picture_max or FULL_RANGE
    return Diagnosis(inventory, meaning, classes_file, ranked(found), records, kinds, seconds, white)


def _records(
    inventory: Inventory,
    class_list: ClassList | None,
    ignore_index: int | None,
    picture_max: int,
    threads: int,
    progress: Progress,
) -> Iterator[Record]:
    """The records in order. Decoding is done outside Python's lock, so threads help; few samples are on their way at a
    time, so that memory does not follow their number."""
    indexes = usable(inventory)
    waiting = iter(indexes)
    pool = ThreadPoolExecutor(threads)
    running: deque[Future[Record]] = deque()

    def submit(count: int) -> None:
        for index in itertools.islice(waiting, count):
            running.append(pool.submit(look, index, inventory.pairs[index], class_list, ignore_index, picture_max))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # sizes are a finding
            submit(4 * threads)
            for done in range(1, len(indexes) + 1):
                record = running.popleft().result()
                submit(1)
                yield record
                progress(done, len(indexes))
    finally:
        pool.shutdown(cancel_futures=True)
