"""Lists for training, validation and test: groups of pictures stay together, and rare classes are spread."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeplabv3p import files
from deeplabv3p.data.dataset import LAYOUTS_TEXT, VOC_LAYOUT, find_layout
from deeplabv3p.data.doctor.inventory import Inventory, shown, take_inventory
from deeplabv3p.data.doctor.lists import can_be_listed
from deeplabv3p.data.doctor.record import raw_label
from deeplabv3p.data.groups import AUTO, Grouping, group_names
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.progress import Progress, silent

LISTS = ("train", "val", "test")
_MOST_VALUES = 1024  # of all label maps together; where there are more they are smeared, and no classes


@dataclass(frozen=True)
class Split:
    """A dataset divided. ``lists`` has the names of each list, sorted; ``left_out`` says which files are in none, and
    why. ``unread`` counts label maps that cannot be read, so that their classes had no say.
    """

    root: Path
    lists: dict[str, tuple[str, ...]]
    grouping: Grouping
    left_out: tuple[str, ...] = ()
    unread: int = 0

    @property
    def paths(self) -> dict[str, Path]:
        """Where the list files belong."""
        folder = lists_folder(self.root)
        return {name: folder / f"{name}.txt" for name in self.lists}


def lists_folder(root: Path) -> Path:
    """The folder of a dataset's lists: VOC has its own, others have them beside the pictures' folder."""
    return root / "ImageSets" / "Segmentation" if find_layout(root) == VOC_LAYOUT else root


def parse_ratio(text: str) -> tuple[float, ...]:
    """Shares of train, val and, where it is given, test, with the sum 1, of a text such as ``0.8:0.1:0.1`` or ``4:1``.

    Raises:
        UsageError: it is none.
    """
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if len(parts) == 3 and parts[2] == 0:
        del parts[2]
    if len(parts) not in (2, 3) or not all(math.isfinite(part) and part > 0 for part in parts):
        raise UsageError(f"the ratio is '{text}', but it is two or three shares above 0: 0.8:0.1:0.1, or 4:1.")
    largest = max(parts)
    scaled = [part / largest for part in parts]  # sums of huge numbers would not be finite
    return tuple(part / sum(scaled) for part in scaled)


def divide(
    keys: Mapping[str, str], ratio: Sequence[float], seed: int = 0, classes: Mapping[str, Collection[int]] | None = None
) -> tuple[tuple[str, ...], ...]:
    """Divide names into lists so that no group is in two of them. The order of ``keys`` does not matter.

    Every list differs from its share by at most the largest group. Groups with the rarest class are dealt first, to
    lists that lack it: so it is on all sides where there are groups enough. Where nothing else decides, the order is
    that of a hash of the seed and the group, which no version of Python changes.

    Args:
        keys: the group of each name.
        ratio: the lists' shares, with the sum 1.
        seed: another one gives another division.
        classes: what each name's label map shows.

    Returns:
        the names of each list, sorted.

    Raises:
        DataError: there are fewer groups than lists.
    """
    members: dict[str, list[str]] = {}
    for name in sorted(keys):
        members.setdefault(keys[name], []).append(name)
    if len(members) < len(ratio):
        raise DataError(
            f"{len(keys)} names in {len(members)} groups cannot fill {len(ratio)} lists with a group on one side only."
        )
    order = sorted(members, key=lambda key: (_rank(seed, key), key))
    held = {
        key: Counter(value for name in members[key] for value in set((classes or {}).get(name, ()))) for key in order
    }
    goal = [share * len(keys) for share in ratio]
    totals: Counter[int] = Counter()
    for counts in held.values():
        totals.update(counts)
    need = {value: [share * total for share in ratio] for value, total in totals.items()}
    have: list[Counter[int]] = [Counter() for _ in ratio]
    sizes = [0] * len(ratio)
    placed: list[list[str]] = [[] for _ in ratio]

    def deal(key: str, value: int | None) -> None:
        room = [goal[place] - sizes[place] for place in range(len(ratio))]
        # Only lists that the group fits into, or the one with most room: this bounds how far sizes are off.
        fitting = [place for place in range(len(ratio)) if room[place] >= len(members[key])]
        choice = fitting or [max(range(len(ratio)), key=lambda place: room[place])]
        if value is None:
            best = max(choice, key=lambda place: room[place])
        else:
            best = max(
                choice,
                key=lambda place: (
                    have[place][value] == 0,
                    ratio[place] if have[place][value] == 0 else need[value][place],
                    room[place],
                ),
            )
        placed[best].append(key)
        sizes[best] += len(members[key])
        have[best].update(held[key])
        for found, number in held[key].items():
            need[found][best] -= number

    waiting = dict.fromkeys(order)
    groups_with = Counter(value for key in order for value in held[key])
    while groups_with:
        rarest = min(groups_with, key=lambda value: (groups_with[value], value))
        for key in [key for key in waiting if rarest in held[key]]:
            deal(key, rarest)
            del waiting[key]
            groups_with.subtract(held[key].keys())
        groups_with = +groups_with
    for key in waiting:
        deal(key, None)
    _fill_empty(placed, sizes, goal, members)
    return tuple(tuple(sorted(name for key in part for name in members[key])) for part in placed)


def _fill_empty(
    placed: list[list[str]], sizes: list[int], goal: Sequence[float], members: Mapping[str, Sequence[str]]
) -> None:
    """A list whose share is less than a group gets the smallest one of the fullest list that can spare one."""
    for place, part in enumerate(placed):
        if part:
            continue
        giver = max(
            (other for other in range(len(placed)) if len(placed[other]) > 1),
            key=lambda other: sizes[other] - goal[other],
        )
        key = min(placed[giver], key=lambda key: len(members[key]))
        placed[giver].remove(key)
        part.append(key)
        sizes[giver] -= len(members[key])
        sizes[place] += len(members[key])


def _rank(seed: int, key: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{key}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def split_folder(
    root: str | os.PathLike[str],
    ratio: Sequence[float] = (0.8, 0.1, 0.1),
    *,
    group: str = AUTO,
    seed: int = 0,
    progress: Progress = silent,
) -> Split:
    """Divide a dataset of any layout with folders of pictures and label maps. Nothing is written.

    Args:
        root: the folder.
        ratio: the shares of train, val and, where there are three, test.
        group: see :func:`deeplabv3p.data.groups.group_names`.
        seed: see :func:`divide`.
        progress: told about label maps as they are read.

    Raises:
        DataError: there is no dataset in the folder, or it has too few pictures or groups.
        UsageError: ``group`` is no regular expression, or matches nothing.
    """
    root = Path(root)
    layout = find_layout(root)
    if root.is_dir() and layout is None:
        raise DataError(f"{root} holds {LAYOUTS_TEXT}, so there is nothing to divide into lists.")
    inventory = take_inventory(root)
    labels, left_out = _usable(inventory)
    if len(labels) < len(ratio):
        why = f" ({left_out[0]})" if left_out else ""
        raise DataError(
            f"{root} holds {len(labels)} pictures with label maps{why}, too few for {len(ratio)} lists. "
            "Have more, or name fewer shares; tools/dataset_converter/doctor.py says what is wrong with names."
        )
    grouping = group_names(labels, group)
    groups = len(grouping.groups)
    if groups < len(ratio):
        names = ", ".join(shown(name) for name in grouping.example())
        what = f"{len(labels):,} pictures are {groups} {'group' if groups == 1 else 'groups'} by name"
        raise DataError(
            f"{root}: {what} ({names}, …), too few for {len(ratio)} lists without one group on two sides. Say another "
            "--group or --ratio (two shares), or --group none if they are not tiles of one photograph or frames of one "
            "video."
        )
    classes, unread = _classes(labels, progress)
    parts = divide(grouping.keys, ratio, seed, classes)
    return Split(root, dict(zip(LISTS, parts, strict=False)), grouping, left_out, unread)


def write_lists(split: Split, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write the lists; returns their paths.

    Raises:
        DataError: lists are there and ``overwrite`` is off; or one is there that this division has not; or they cannot
            be written.
    """
    check_lists(split.root, len(split.lists), overwrite=overwrite)
    for name, path in split.paths.items():
        files.write_text(path, "".join(f"{line}\n" for line in split.lists[name]))
    return tuple(split.paths.values())


def check_lists(root: str | os.PathLike[str], count: int, *, overwrite: bool) -> None:
    """Raises DataError where lists are in the way of ``count`` new ones, as :func:`write_lists` does."""
    folder = lists_folder(Path(root))
    there = [folder / f"{name}.txt" for name in LISTS if os.path.lexists(folder / f"{name}.txt")]
    if there and not overwrite:
        raise DataError(
            f"{there[0]} exists. Train with it (--dataset_file), or add --overwrite to write "
            f"{' and '.join(f'{name}.txt' for name in LISTS[:count])} anew."
        )
    stale = [folder / f"{name}.txt" for name in LISTS[count:] if folder / f"{name}.txt" in there]
    if stale:
        raise DataError(
            f"{stale[0]} exists, and the ratio has no share for it: its pictures would be in two lists. Remove it, or "
            "say three shares."
        )


def _usable(inventory: Inventory) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The label maps of the names that training finds, and what is left out, as sentences."""
    labels: dict[str, Path] = {}
    reasons: dict[str, list[str]] = {}
    for pair in inventory.pairs:
        if pair.image is None or pair.label is None:
            why = "without a picture" if pair.image is None else "without a label map"
        elif pair.others or not pair.found:
            why = "of a name that may mean several files, or none that training finds"
        elif not can_be_listed(pair.name):
            why = "of a name that a list cannot hold"
        elif pair.image.parent == inventory.root / (inventory.layout or ("",))[0]:
            labels[pair.name] = pair.label
            continue
        else:  # what another list of pairs names
            continue
        reasons.setdefault(why, []).append(inventory.relative(pair.image or pair.label or inventory.root))
    return labels, tuple(
        f"{len(found):,} {'file' if len(found) == 1 else 'files'} {why}, as {found[0]}"
        for why, found in reasons.items()
    )


def _classes(labels: Mapping[str, Path], progress: Progress) -> tuple[dict[str, frozenset[int]], int]:
    """What each label map shows, and how many cannot be read; those show nothing."""
    found: dict[str, frozenset[int]] = {}
    unread = 0
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for name, values in zip(labels, pool.map(_values, labels.values()), strict=True):
            unread += values is None
            found[name] = values if values and len(values) <= _MOST_VALUES else frozenset()
            progress(len(found), len(labels))
    finally:
        pool.shutdown(cancel_futures=True)
    if len(frozenset().union(*found.values())) > _MOST_VALUES:
        return {}, unread
    return found, unread


def _values(path: Path) -> frozenset[int] | None:
    """The numbers in a label map, or its colours. Ignored ones are among them: without a class list nobody knows."""
    try:
        raw, _ = raw_label(path)
    except DataError:
        return None
    numbers = raw if raw.ndim == 2 else raw.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    return frozenset(np.unique(numbers).tolist())
