"""Pictures that a source annotates twice: alike, they are taken once; differently, nobody can say which is meant."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from deeplabv3p.data.convert.foreign import ALL, Pixels, Record
from deeplabv3p.data.convert.maps import size_as_seen
from deeplabv3p.errors import DataError

_RANK = {"test": 0, "val": 1, "train": 2, ALL: 3}
"""Which list keeps a picture that is in several: what is held out stays held out."""


def without_doubles(records: Sequence[Record]) -> tuple[list[Record], list[str], list[str]]:
    """(the records, each picture once, notes, warnings).

    Two records are of the same picture if it is the same file, or if name and bytes are equal.

    Raises:
        DataError: a picture is annotated twice, and differently.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for number, record in enumerate(records):
        groups[record.image.where].append(number)
    by_name: dict[str, list[int]] = defaultdict(list)
    for numbers in groups.values():
        by_name[records[numbers[0]].name].append(numbers[0])
    doubles = [[*numbers] for numbers in groups.values() if len(numbers) > 1]
    for numbers in by_name.values():
        for same in _same_bytes(records, numbers) if len(numbers) > 1 else ():
            doubles.append([number for first in same for number in groups[records[first].image.where]])
    gone: set[int] = set()
    moved = merged = 0
    for numbers in doubles:
        alive = [number for number in numbers if number not in gone]
        labels = [(number, label) for number in alive if (label := _label(records[number])) is not None]
        for number, label in labels[1:]:
            if label.shape != labels[0][1].shape or (label != labels[0][1]).any():
                raise DataError(_differ(records[labels[0][0]], records[number]))
        if len(labels) < 2:
            continue
        ranked = sorted((number for number, _ in labels), key=lambda n: (_RANK.get(records[n].split, 2), n))
        gone |= set(ranked[1:])
        merged += 1
        moved += len({records[n].split for n in ranked} - {ALL}) > 1
    kept = [record for number, record in enumerate(records) if number not in gone]
    notes = [f"{merged:,} pictures are annotated more than once, alike: each is taken once"] if merged else []
    text = f"{moved:,} pictures are in several lists, such as train and val: each is kept in the one that is held out"
    return kept, notes, [text] if moved else []


def _same_bytes(records: Sequence[Record], numbers: Sequence[int]) -> list[list[int]]:
    """Those of ``numbers`` whose pictures have the same bytes, in groups of two and more."""
    sizes: dict[int | None, list[int]] = defaultdict(list)
    for number in numbers:
        sizes[getattr(records[number].image, "size", None)].append(number)
    unknown = sizes.pop(None, [])  # pictures inside of other files
    suspects = [same for same in sizes.values() if len(same) > 1]
    if unknown:
        suspects = [list(numbers)]
    found: dict[bytes, list[int]] = defaultdict(list)
    for number in (number for same in suspects for number in same):
        try:
            found[hashlib.sha256(records[number].image.read()).digest()].append(number)
        except DataError:  # it will be left out, with this reason
            continue
    return [same for same in found.values() if len(same) > 1]


def _label(record: Record) -> Pixels | None:
    """The label map; None where the picture is going to be left out."""
    try:
        drawn = record.label(size_as_seen(record.image))
    except DataError:
        return None
    return drawn if isinstance(drawn, np.ndarray) else drawn.label


def _differ(one: Record, other: Record) -> str:
    if one.origin == other.origin or not other.origin:
        where = f"twice in {one.origin}" if one.origin else "twice"
    else:
        where = f"in {one.origin} and in {other.origin}"
    return (
        f"the picture {one.image.where} is annotated {where}, differently. Which is meant? Remove one of them, or "
        "name only the sources that are meant."
    )
