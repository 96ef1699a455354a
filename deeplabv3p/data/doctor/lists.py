"""What lists and names say: lists that cannot be read, names without files, files without names, spellings."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from deeplabv3p.data.doctor.findings import Finding, finding, plural
from deeplabv3p.data.doctor.inventory import Inventory, SplitList, shown
from deeplabv3p.data.kinds import kinds_text


def list_findings(inventory: Inventory) -> list[Finding]:
    """Findings that need no look into a picture."""
    found = [result for item in inventory.lists for result in _of_list(item, inventory)]
    if not inventory.lists:
        found.append(finding("no_lists", f"no list found: all {plural(len(inventory.pairs), 'name')} looked at."))
    if inventory.unread:
        names = [inventory.relative(path) for path in inventory.unread]
        found.append(finding("unread_kind", f"{kinds_text(inventory.unread)}.", names))
    return [*found, *_unpaired(inventory), *_names(inventory)]


def usable(inventory: Inventory) -> tuple[int, ...]:
    """The pairs that can be looked at: listed, and with both files."""
    pairs = inventory.pairs
    return tuple(index for index in inventory.listed if pairs[index].image and pairs[index].label)


def _of_list(item: SplitList, inventory: Inventory) -> list[Finding]:
    if item.problem is not None:
        return [finding("list_unreadable", item.problem, [item.name])]
    if item.empty:
        return [finding("list_empty", f"{item.name} is empty.", [item.name])]
    found = []
    lines = len(item.members) + len(item.unknown)
    for kind, names, what in (
        ("unknown_names", item.unknown, "without such files"),
        ("name_spelling", item.respelled, "spelled otherwise than their files"),
        ("repeated_names", item.repeated, "again"),
    ):
        if names:
            message = f"{item.name}: {len(names):,} of {plural(lines, 'name')} {what}: {_some(names)}."
            found.append(finding(kind, message, [shown(name) for name in names], fixable=len(names)))
    pairs = [inventory.pairs[index] for index in item.members]
    lone = [pair for pair in pairs if not (pair.image and pair.label)]
    if lone:
        what = "picture" if lone[0].image is None else "label map"
        message = (
            f"{item.name}: {len(lone):,} of {plural(lines, 'name')} without a file, as "
            f"'{shown(lone[0].name)}' has no {what}.{_hint(inventory) if lone[0].label is None else ''}"
        )
        found.append(finding("listed_unpaired", message, [shown(pair.name) for pair in lone], fixable=len(lone)))
    doubtful = [pair for pair in pairs if pair.others]
    if doubtful:
        files = [inventory.relative(path) for pair in doubtful for path in (pair.image, *pair.others) if path]
        message = (
            f"{item.name}: {plural(len(doubtful), 'name')} may mean several files, as '{shown(doubtful[0].name)}'."
        )
        found.append(finding("ambiguous_name", message, files))
    split = [
        pair for pair in pairs if pair.image and pair.label and not pair.found and _case_split(pair.image, pair.label)
    ]
    if split:
        message = (
            f"{item.name}: {plural(len(split), 'picture')} and their label maps differ in upper and lower case, as "
            f"{inventory.relative(split[0].image or Path())} and {inventory.relative(split[0].label or Path())}."
        )
        found.append(finding("name_spelling", message, [shown(pair.name) for pair in split], fixable=len(split)))
    return found


def _case_split(image: Path, label: Path) -> bool:
    first, second = image.stem, label.stem
    return first != second and first.casefold() == second.casefold()


def _unpaired(inventory: Inventory) -> list[Finding]:
    """Files that nothing uses."""
    if inventory.layout is None:
        return []
    listed = set(inventory.listed) if inventory.lists else set()
    rest = [pair for index, pair in enumerate(inventory.pairs) if index not in listed]
    found = []
    for kind, files, other in (
        ("without_label", [pair.image for pair in rest if pair.label is None], "label map"),
        ("without_picture", [pair.label for pair in rest if pair.image is None], "picture"),
    ):
        names = [inventory.relative(path) for path in files if path]
        if names:
            hint = _hint(inventory) if kind == "without_picture" else ""
            what = "picture" if kind == "without_label" else "label map"
            message = f"{plural(len(names), what)} without a {other}: {_some(names)}.{hint}"
            found.append(finding(kind, message, names))
    if inventory.lists:
        whole = [inventory.relative(pair.image) for pair in rest if pair.image and pair.label]
        if whole:
            message = f"{plural(len(whole), 'pair')} of picture and label map are in no list: {_some(whole)}."
            found.append(finding("unlisted", message, whole))
    return found


def _hint(inventory: Inventory) -> str:
    """Where label maps are called like pictures but for an ending, as ``street_mask.png``: says so."""
    lone = {pair.name for pair in inventory.pairs if pair.label is None}
    labels = [pair.name for pair in inventory.pairs if pair.image is None]
    endings = {_ending(name, lone) for name in labels}
    ending = endings.pop() if len(endings) == 1 else None
    return f" Label maps seem to be called like pictures plus '{ending}': rename them." if ending else ""


def _ending(name: str, pictures: set[str]) -> str | None:
    return next((name[cut:] for cut in range(len(name) - 1, 0, -1) if name[:cut] in pictures), None)


def _names(inventory: Inventory) -> list[Finding]:
    """Spellings that other systems and tools stumble over."""
    files = [path for pair in inventory.pairs for path in (pair.image, pair.label, *pair.others) if path]
    found = []
    by_case: dict[str, set[str]] = {}
    for path in files:
        text = unicodedata.normalize("NFC", os.fspath(path))
        by_case.setdefault(text.casefold(), set()).add(text)
    clashes = [inventory.relative(Path(text)) for group in by_case.values() if len(group) > 1 for text in sorted(group)]
    if clashes:
        message = f"{plural(len(clashes), 'name')} differ in upper and lower case alone: {_some(clashes)}."
        found.append(finding("case_clash", message, clashes))
    odd = [inventory.relative(path) for path in files if not (can_be_listed(path.stem) and can_be_listed(path.name))]
    if odd:
        found.append(finding("odd_name", f"{plural(len(odd), 'file')} with troublesome names: {_some(odd)}.", odd))
    apart = [inventory.relative(path) for path in files if not unicodedata.is_normalized("NFC", path.name)]
    if apart:
        message = f"{plural(len(apart), 'file name')} with accents in two characters: {_some(apart)}."
        found.append(finding("unicode_spelling", message, apart))
    return found


def can_be_listed(name: str) -> bool:
    """Whether a list can hold a name: blanks at its ends go, it is UTF-8 text, and terminals obey odd characters."""
    return name == name.strip() and name.isprintable() and _is_utf8(name)


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _some(names: Sequence[str], count: int = 3) -> str:
    more = len(names) - count
    return ", ".join(f"'{shown(name)}'" for name in names[:count]) + (f" and {more:,} more" if more > 0 else "")
