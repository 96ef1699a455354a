"""What the lists say together: the same picture twice, classes that are scored but not trained, classes nobody has."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deeplabv3p.data.doctor.findings import Example, Finding, Severity, finding, plural
from deeplabv3p.data.doctor.inventory import Inventory, SplitList
from deeplabv3p.data.doctor.labels import Meaning, numbers_of
from deeplabv3p.data.doctor.record import LabelFacts, Record, pack
from deeplabv3p.data.doctor.twins import THUMB, Looks, Twins, find_twins
from deeplabv3p.data.groups import group_paths

_UNIONS = ("trainval", "train_val", "trainvaltest", "all", "full")
_NEIGHBOURS = 120  # frames: numbers of pictures closer than this in one series are called neighbouring


class Split(NamedTuple):
    """A list and those of its members that were looked at and are whole."""

    item: SplitList
    records: tuple[Record, ...]


def split_findings(
    records: Sequence[Record], kinds: Mapping[int, str], inventory: Inventory, meaning: Meaning, *, named: bool
) -> list[Finding]:
    """Findings that need all records: leakage and classes. ``named``: the first list is the one to train on."""
    by_index = {record.index: record for record in records}
    # Training first: what the others share with it is told of them.
    lists = without_unions(inventory.lists)
    lists = lists if named else sorted(lists, key=lambda item: not is_training(item))
    splits = [Split(item, tuple(by_index[index] for index in item.members if index in by_index)) for item in lists]
    found = [*_shared(lists, inventory), *_groups(lists, inventory)]
    for first, second in itertools.combinations(splits, 2):
        found += _across(first, second, inventory)
    found += _within(splits or [Split(SplitList(inventory.root, "the dataset"), tuple(records))], inventory)
    readable = [record for record in records if record.label and record.index not in kinds]
    # Where maps cannot be read, nothing can be said about the classes in them.
    if meaning.class_list is not None and len(readable) == len(records) and records:
        found += _classes(splits, readable, meaning, named=named)
    return found


def without_unions(lists: Sequence[SplitList]) -> list[SplitList]:
    """The lists without those that only put others together, such as ``trainval``: what they share is meant."""
    kept = []
    for item in lists:
        members = set(item.members)
        parts = [set(other.members) for other in lists if other is not item and set(other.members) < members]
        together: set[int] = set().union(*parts)
        is_union = len(parts) > 1 and together == members
        overlaps = sum(bool(members & set(other.members)) for other in lists if other is not item)
        by_name = item.path.stem.lower().endswith(_UNIONS) and (parts or overlaps > 1)
        if item.members and not is_union and not by_name:
            kept.append(item)
    return kept


def is_training(item: SplitList) -> bool:
    """Whether a list is one to train on, by its name."""
    return "train" in item.path.stem.lower()


def _shared(lists: Sequence[SplitList], inventory: Inventory) -> list[Finding]:
    found = []
    for first, second in itertools.combinations(lists, 2):
        both = [index for index in second.members if index in set(first.members)]
        if both:
            message = (
                f"{len(both):,} of {plural(len(second.members), 'picture')} of {second.name}: in {first.name}, too."
            )
            files = [inventory.relative(inventory.pairs[index].image or inventory.root) for index in both]
            found.append(finding("in_two_lists", message, files))
    return found


def _groups(lists: Sequence[SplitList], inventory: Inventory) -> list[Finding]:
    """Groups by name with pictures in two lists."""
    names_of = {index: inventory.pairs[index].name for item in lists for index in item.members}
    groups = group_paths(set(names_of.values()))
    keys = {index: groups[name] for index, name in names_of.items()}
    found = []
    for first, second in itertools.combinations(lists, 2):
        known = {keys[index]: index for index in reversed(first.members)}
        shared = set(first.members)
        both = [index for index in second.members if index not in shared and keys[index] in known]
        if both:
            names = [f"{_name(index, inventory)} ~ {_name(known[keys[index]], inventory)}" for index in both]
            message = (
                f"{len(both):,} of {plural(len(second.members), 'picture')} of {second.name}: of "
                f"{plural(len({keys[index] for index in both}), 'group')} that {first.name} has pictures of, too, by "
                f"name, as {names[0]}."
            )
            found.append(finding("group_across", message, names))
    return found


def _name(index: int, inventory: Inventory) -> str:
    return inventory.relative(inventory.pairs[index].image or inventory.root / inventory.pairs[index].name)


def _across(first: Split, second: Split, inventory: Inventory) -> list[Finding]:
    """Copies and look-alikes between two lists, each picture of the second with its nearest of the first."""
    shared = set(first.item.members)
    ours = [record for record in first.records if record.picture]
    theirs = [record for record in second.records if record.picture and record.index not in shared]
    if not ours or not theirs:
        return []
    found = []
    twins = find_twins(_looks(theirs), _looks(ours))
    for kind, likeness, what in (
        ("copies_across", "copy", "copies of pictures of"),
        ("alike_across", "alike", "almost like pictures of"),
    ):
        chosen = sorted((twin for twin in twins if twin.likeness == likeness), key=lambda twin: twin.difference)
        if not chosen:
            continue
        pairs = [(_path(theirs[twin.first], inventory), _path(ours[twin.second], inventory)) for twin in chosen]
        names = [f"{inventory.relative(a)} ~ {inventory.relative(b)}" for a, b in pairs]
        message = (
            f"{len(chosen):,} of {plural(len(second.records), 'picture')} of {second.item.name}: {what} "
            f"{first.item.name}, as {names[0]}{_difference(chosen[0])}.{_video(pairs) if likeness == 'alike' else ''}"
        )
        severity: Severity | None = None
        if 2 * len(chosen) > len(second.records):
            severity = "warning"
            message += f" That is most of {second.item.name}: its scores say little about other pictures."
        examples = [Example(pictures=pair) for pair in pairs[:4]]
        found.append(finding(kind, message, names, severity=severity, examples=examples))
    return found


def _difference(twin: Twins) -> str:
    return "" if twin.difference == 0 else f" (thumbnails differ by {twin.difference:.1f} of 255)"


def _video(pairs: Sequence[tuple[Path, Path]]) -> str:
    """Says so where the two of each pair are numbered closely in one series, as frames of a video are."""
    close = 0
    for first, second in pairs:
        a, b = (re.fullmatch(r"(.*?)(\d+)", path.stem) for path in (first, second))
        close += bool(a and b and a[1] == b[1] and abs(int(a[2]) - int(b[2])) <= _NEIGHBOURS)
    whole = "Their numbers are" if close == len(pairs) else f"The numbers of {close:,} are"
    return f" {whole} close, as those of neighbouring frames of a video are." if close else ""


def _within(splits: Sequence[Split], inventory: Inventory) -> list[Finding]:
    """Identical files in one list. Look-alikes are not told: frames of a video are meant to be many."""
    found = []
    for split in splits:
        first: dict[bytes, Record] = {}
        copies = []
        for record in split.records:
            if record.picture and first.setdefault(record.picture.digest, record) is not record:
                copies.append((_path(record, inventory), _path(first[record.picture.digest], inventory)))
        if copies:
            names = [f"{inventory.relative(a)} = {inventory.relative(b)}" for a, b in copies]
            message = f"{plural(len(copies), 'picture')} of {split.item.name}: copies of others in it, as {names[0]}."
            found.append(finding("copies_within", message, names, examples=[Example(pictures=copies[0])]))
    return found


def class_pixels(label: LabelFacts, meaning: Meaning) -> set[int]:
    """The classes in a readable map."""
    assert meaning.class_list is not None
    classes = meaning.class_list.classes
    numbers = numbers_of(label) if label.stored == "numbers" else None
    if numbers is None:
        labels = {pack(item.color): index for index, item in enumerate(classes)}
        numbers = {labels[code]: pixels for code, pixels in label.counts.items() if code in labels}
    return {value for value in numbers if value < len(classes) and value != meaning.ignore_index}


def _classes(splits: Sequence[Split], readable: Sequence[Record], meaning: Meaning, *, named: bool) -> list[Finding]:
    assert meaning.class_list is not None
    names = [item.name for item in meaning.class_list.classes]
    present = {record.index: class_pixels(record.label, meaning) for record in readable if record.label}
    everywhere: set[int] = set().union(*present.values())
    expected = set(range(len(names))) - {meaning.ignore_index}
    found = []
    empty = sorted(expected - everywhere)
    if empty:
        message = f"{plural(len(empty), 'class')} of {len(names)} in no label map: {_class_names(empty, names)}."
        found.append(finding("class_empty", message, [names[index] for index in empty]))
    training = [split for place, split in enumerate(splits) if (place == 0 if named else is_training(split.item))]
    others = [split for split in splits if split not in training]
    if training and others:
        trained: set[int] = set().union(*(present.get(r.index, set()) for split in training for r in split.records))
        for split in others:
            scored: set[int] = set().union(*(present.get(record.index, set()) for record in split.records))
            lacking = sorted(scored - trained)
            if lacking:
                where = " and ".join(item.item.name for item in training)
                message = (
                    f"{plural(len(lacking), 'class')} in {split.item.name} but not in {where}: "
                    f"{_class_names(lacking, names)}."
                )
                found.append(finding("class_not_trained", message, [names[index] for index in lacking]))
    return found


def _class_names(indexes: Sequence[int], names: Sequence[str]) -> str:
    text = ", ".join(f"{names[index]} ({index})" for index in indexes[:8])
    return text + (f" and {len(indexes) - 8} more" if len(indexes) > 8 else "")


def _looks(records: Sequence[Record]) -> Looks:
    pictures = [record.picture for record in records if record.picture]
    thumbs = np.frombuffer(b"".join(picture.thumb for picture in pictures), np.uint8).reshape(-1, THUMB, THUMB)
    return Looks([p.digest for p in pictures], np.array([p.hash for p in pictures], np.uint64), thumbs)


def _path(record: Record, inventory: Inventory) -> Path:
    path = inventory.pairs[record.index].image
    assert path is not None
    return path
