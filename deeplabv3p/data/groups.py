"""Which pictures are of one thing, by their names: tiles of a photograph, frames of a video, copies of an augmentation.

Names are all there is to see, so these are rules of thumb, and the caller says what they did. A number at the end makes
a group where what stands before it is numbered, too (``IMG_1_0``, ``IMG_1_1``), or where it is padded as frames are
(``clip_000123``). Plain numbering (``img_0001`` to ``img_9999``, ``cat_1``, VOC's ``2007_000032``) makes none.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from deeplabv3p.errors import UsageError

AUTO, NONE = "auto", "none"

_DEEPEST = 4  # numbers at the end of a tile's name: left, top, right, bottom
_FEW = 64  # a group of up to so many may be most of a small dataset: the tiles of one photograph
_MOST_ROWS = 64  # of a picture that was cut into tiles
_ENDING = 40  # characters of a name that hold what a tool puts behind it
_FRAME_DIGITS = 4  # of numbers that are padded with zeros, as frames of a video are

_SUFFIX = r"(?:jpe?g|png|bmp|tiff?|webp|gif)"
_ROBOFLOW = re.compile(rf"(?i)(.+?)(?:[_.-]{_SUFFIX})?\.rf\.[0-9a-z_-]+")
_COPY_WORD = r"(?:aug(?:mented|mentation)?|[hv]?flip(?:ped)?|mirror(?:ed)?|rot(?:ated?|ation)?|copy)"
_COPY = re.compile(rf"(?i)(.+?)(?:[_. -]+{_COPY_WORD}(?:[_. -]*(?:[0-9]+|lr|ud|[hvxy]))?| ?\([0-9]+\))")
_TILE = re.compile(r"(?i)(.+?)[_. -]+(?:x|r|row|i)[_-]?[0-9]+[_. -]+(?:y|c|col|j)[_-]?[0-9]+")
_PART_WORDS = frozenset(("tile", "patch", "crop", "part", "slice"))
_COUNT_WORDS = _PART_WORDS | {"frame", "fr", "f", "img", "image", "x", "y", "r", "c", "row", "col"}
_DIGITS, _GAPS = "0123456789", "_. -"
_COUNTED = frozenset(
    (
        "img",
        "image",
        "images",
        "photo",
        "photos",
        "picture",
        "pic",
        "dsc",
        "dscn",
        "dscf",
        "dji",
        "gopr",
        "pxl",
        "sample",
        "data",
        "train",
        "val",
        "valid",
        "test",
        "mask",
    )
)
"""Words before the numbers that cameras, and people, count unrelated pictures with."""
_DATED = re.compile(r"(?:19|20)[0-9]{2}(?:[_-]?[0-9]{2}){0,2}$")


@dataclass(frozen=True)
class Grouping:
    """Pictures by what they are of. ``keys`` has the group of each name; equal keys are one group.

    ``series`` is one name of a long numbered series whose pictures were taken one by one, because it is most of the
    dataset, and ``series_count`` its length. ``unmatched`` counts names that a pattern did not match.
    """

    keys: dict[str, str]
    series: str | None = None
    series_count: int = 0
    unmatched: int = 0

    @property
    def groups(self) -> dict[str, list[str]]:
        """The names of each group, both in order."""
        found: dict[str, list[str]] = {}
        for name in sorted(self.keys):
            found.setdefault(self.keys[name], []).append(name)
        return dict(sorted(found.items()))

    @property
    def is_plain(self) -> bool:
        """Whether each picture stands for itself."""
        return len(set(self.keys.values())) == len(self.keys)

    def example(self, count: int = 2) -> tuple[str, ...]:
        """The first names of the first group of several; empty where there is none."""
        return next((tuple(members[:count]) for members in self.groups.values() if len(members) > 1), ())


@dataclass(frozen=True)
class _Tail:
    """A name cut before its last number."""

    base: str
    gap: bool
    word: str
    number: str


def group_names(names: Collection[str], how: str = AUTO) -> Grouping:
    """The groups of some names.

    Args:
        names: of pictures, without suffix; their order does not matter.
        how: ``auto``: by the rules of this module; ``none``: each by itself; else a regular expression that is searched
            in each name: names with the same text in its groups (without any: the same match) belong together.

    Raises:
        UsageError: the expression is none, or matches no name.
    """
    if how == NONE:
        return Grouping({name: name for name in names})
    return _by_rules(sorted(set(names))) if how == AUTO else _by_pattern(sorted(set(names)), how)


def group_paths(names: Collection[str]) -> dict[str, tuple[str, str]]:
    """The folder and the group of each name that may have folders before it, as those of lists of pairs have: a folder
    may be a video, and hold the same names as the next one."""
    parts = {name: os.path.split(name) for name in names}
    grouping = _by_rules(sorted({stem for _, stem in parts.values()}))
    return {name: (folder, grouping.keys[stem]) for name, (folder, stem) in parts.items()}


def _by_pattern(names: Sequence[str], pattern: str) -> Grouping:
    try:
        expression = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"--group '{pattern}' is no regular expression: {error}.") from None
    keys, unmatched = {}, 0
    for name in names:
        match = expression.search(name)
        if match is None:
            unmatched += 1
            keys[name] = f"\0{name}"  # no match can be equal to it: names hold no NUL
        else:
            keys[name] = "\0\0".join(part or "" for part in match.groups()) if match.re.groups else match[0]
    if unmatched == len(names):
        raise UsageError(f"--group '{pattern}' matches no name, as '{names[0]}'." if names else "there are no names.")
    return Grouping(keys, unmatched=unmatched)


def _by_rules(names: Sequence[str]) -> Grouping:
    stems = {name: _without_copies(name) for name in names}
    found = sorted(set(stems.values()))
    of_stem: dict[str, str] = {}
    for depth in range(_DEEPEST, 1, -1):
        cut = {stem: tail for stem in found if stem not in of_stem and (tail := _cut(stem, depth))}
        tiled = _qualified(cut, _are_rows)
        if len(tiled) > 1:
            of_stem.update({stem: tail.base for stem, tail in cut.items() if tail.base in tiled})
    cut = {stem: tail for stem in found if stem not in of_stem and (tail := _cut(stem, 1))}
    numbered = _qualified(cut, _are_of_one)
    long = {base for base, tails in numbered.items() if _is_most(base, len(tails), len(found))}
    if any(len(tails) == len(found) for tails in numbered.values()):  # one group of all is no grouping
        long = set(numbered)
    of_stem.update({stem: tail.base for stem, tail in cut.items() if tail.base in numbered and tail.base not in long})
    keys = {name: of_stem.get(stem, stem) for name, stem in stems.items()}
    # The longest run of plain numbers, grouped by no rule: frames of one video look like it, too.
    sizes = Counter(keys.values())
    counts = Counter(tail.base for stem, tail in cut.items() if stem not in of_stem and sizes[stem] == 1)
    base, count = counts.most_common(1)[0] if counts else ("", 0)
    if base not in long and not _is_most("", count, len(found)):
        return Grouping(keys)
    return Grouping(keys, next(name for name in names if (tail := cut.get(stems[name])) and tail.base == base), count)


def _is_most(base: str, count: int, total: int) -> bool:
    """Whether a series is so much of a dataset that it is the dataset's own numbering."""
    return count > (0.8 if _numbered(base) else 0.5) * total and (count > _FEW or not _numbered(base))


def _without_copies(name: str) -> str:
    """A name without what tools put behind it: of an augmented copy, or of a tile's place."""
    if ".rf." in name.lower() and (match := _ROBOFLOW.fullmatch(name)):
        name = match[1]
    for pattern in (_COPY, _TILE):
        start, end = name[:-_ENDING], name[-_ENDING:]  # looking at all of a long name takes long
        match = pattern.fullmatch(end)
        # A word before it that is no number may be a class or a place; that is for the rules to say.
        if match and (pattern is _COPY or _numbered(start + match[1])):
            name = start + match[1]
    return name


def _cut(name: str, depth: int) -> _Tail | None:
    """A name cut before its last ``depth`` numbers; the tail has the first of these. None: it has fewer."""
    tail: _Tail | None = None
    for _ in range(depth):
        tail = _cut_once(name)
        if tail is None or (depth > 1 and not tail.gap):
            return None
        name = tail.base
    return tail


def _cut_once(name: str) -> _Tail | None:
    head = name.rstrip(_DIGITS)
    base = head.rstrip(_GAPS)
    if len(head) == len(name) or not base:
        return None
    number, gap = name[len(head) :], len(base) < len(head)
    place = max(base.rfind(character) for character in _GAPS) + 1
    word, before = base[place:].lower(), base[:place].rstrip(_GAPS)
    return _Tail(before, True, word, number) if word in _COUNT_WORDS and before else _Tail(base, gap, "", number)


def _qualified(cut: Mapping[str, _Tail], rule: Callable[[str, Sequence[_Tail]], bool]) -> dict[str, Sequence[_Tail]]:
    series: dict[str, list[_Tail]] = defaultdict(list)
    for tail in cut.values():
        series[tail.base].append(tail)
    return {base: tails for base, tails in series.items() if len(tails) > 1 and rule(base, tails)}


def _are_rows(base: str, tails: Sequence[_Tail]) -> bool:
    """Whether the numbers are rows of a picture cut into tiles: few, from 0 or 1 on, not padded as photographs are."""
    values = {int(tail.number) for tail in tails}
    padded = any(len(tail.number) > 2 and tail.number[0] == "0" for tail in tails)
    return _numbered(base) and not _DATED.search(base) and not padded and min(values) < 2 and len(values) <= _MOST_ROWS


def _are_of_one(base: str, tails: Sequence[_Tail]) -> bool:
    """Whether pictures with these numbers are of one thing."""
    padded = any(len(tail.number) >= _FRAME_DIGITS and tail.number[0] == "0" for tail in tails)
    if not _numbered(base):  # a word: the numbers may be all there is to tell unrelated pictures apart
        counted = re.split(r"[_. -]+", base.lower())[-1] in _COUNTED
        frames = padded and not counted and all(tail.gap for tail in tails)
        return frames or all(tail.word in _PART_WORDS for tail in tails)
    if _DATED.search(base):  # what was taken on a day, or in a year, is not one thing; frames of a video are regular
        return _regular(tails)
    return padded or all(tail.gap for tail in tails)


def _numbered(base: str) -> bool:
    return any("0" <= character <= "9" for character in base)


def _regular(tails: Sequence[_Tail]) -> bool:
    """Whether most steps from number to number are equal."""
    values = sorted({int(tail.number) for tail in tails})
    steps = Counter(second - first for first, second in itertools.pairwise(values))
    if not steps:
        return False
    step, count = steps.most_common(1)[0]
    return count >= 0.75 * steps.total() and (step == 1 or steps.total() >= 3)
