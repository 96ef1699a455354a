"""What the values of palette and grey label maps mean, class numbers or colours, decided over a whole dataset.

PNG optimisers store colour maps as palette PNGs whose order is their own, or as grey ones where all colours are grey.
Then a value says its colour and nothing else. One map rarely tells: so maps are looked at together, and every map that
does not fit what was decided is an error when it is read.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from deeplabv3p.data.classes import VOID_COLOR, ClassList, default_colors
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE

Color = tuple[int, int, int]
Kind = Literal["grey", "palette", "colors"]

_STANDARD = (default_colors(256), tuple((value, value, value) for value in range(256)))  # VOC's palette, the grey ramp


@dataclass(frozen=True)
class Content:
    """What one label map holds. ``shown``: the values that occur and the colour of each, none where a palette is too
    short. ``palette``: all of it. ``exact``: false for grey of fewer than 8 bits, whose values may have been scaled."""

    name: str
    kind: Kind
    shown: Mapping[int, Color | None] = field(default_factory=dict)
    palette: tuple[Color, ...] = ()
    exact: bool = True


@dataclass(frozen=True)
class Reading:
    """How the palette and grey maps of a dataset are read.

    ``palettes``: ``numbers``; ``colors``; or ``either``, where colours and numbers say the same, so that a map in
    which the colours are in another order is read by them. ``known`` are (number, colour, file) of maps that are read
    by number and show colours of no class: others must show the same. ``sure``: the palettes are of a kind that says
    nothing about classes, so a likeness with class colours is chance.
    """

    palettes: Literal["numbers", "colors", "either"] = "either"
    greys: Literal["numbers", "colors", "unclear"] = "numbers"
    known: tuple[tuple[int, Color, str], ...] = ()
    sure: bool = False


BY_ITSELF = Reading()
"""Each map decides alone."""


class UnclearMapsError(DataError):
    """The label maps of a dataset can be read in two ways, or in none. ``files``: those that show it."""

    def __init__(self, message: str, files: Sequence[str]) -> None:
        super().__init__(message)
        self.files = tuple(files)


def decide(contents: Iterable[Content], class_list: ClassList, ignore_index: int | None) -> Reading:
    """How to read the maps of a dataset, by what some or all of them hold. Without class colours it is by number.

    Raises:
        UnclearMapsError: the palettes contradict each other or the class colours, so that no reading is certain.
    """
    maps = list(contents)
    judge = _judge(class_list, ignore_index)
    palettes = [item for item in maps if item.kind == "palette" and item.shown]
    reading = _decide_palettes(palettes, judge)
    colored = reading.palettes == "colors" or any(item.kind == "colors" for item in maps)
    greys = _decide_greys([item for item in maps if item.kind == "grey"], judge, colored=colored)
    return Reading(reading.palettes, greys, reading.known, reading.sure)


def read_by_color(content: Content, class_list: ClassList, ignore_index: int | None, reading: Reading) -> bool:
    """Whether a palette or grey map is read by its colours.

    Raises:
        UnclearMapsError: it does not fit the reading of its dataset.
    """
    judge = _judge(class_list, ignore_index)
    if content.kind == "grey":
        return _grey_by_color(content, judge, reading)
    moved, foreign = judge.moved(content), judge.foreign(content)
    if reading.palettes == "colors":
        return True
    if moved and not reading.sure:
        if reading.palettes == "numbers" or foreign:
            raise _both_ways(content, content.name, judge, moved[0], foreign[0] if foreign else None)
        return True
    known = {number: (color, name) for number, color, name in reading.known}
    for item, number, color in _said([content], judge):
        expected, other = known.get(number, (color, ""))
        if color != expected:
            raise _contradiction(number, item.name, other)
    return False


@functools.lru_cache(maxsize=256)
def is_plain(palette: tuple[Color, ...], class_list: ClassList, ignore_index: int | None) -> bool:
    """Whether a palette, whatever of it occurs, shows no class's colour at another number, so that numbers are safe:
    where it begins with the class list's colours, or is a standard one and there are no class colours."""
    content = Content("", "palette", dict(enumerate(palette)), palette)
    judge = _judge(class_list, ignore_index)
    if not judge.colors:
        return _is_standard(content)
    own = palette[: judge.count]
    aligned = own == tuple(item.color for item in class_list.classes[: len(own)])
    return aligned and not judge.moved(content)


def greys_matter(class_list: ClassList, ignore_index: int | None) -> bool:
    """Whether some grey is the colour of a class with another number, so that grey maps may be colours."""
    judge = _judge(class_list, ignore_index)
    return any(judge.of_color((v, v, v)) not in (None, v) for v in range(256))


def color_labels(content: Content, class_list: ClassList, ignore_index: int | None) -> npt.NDArray[np.uint8]:
    """The label of each value by its colour, uint8 [256]; the ignored number is ignored where its colour is no class's.

    Raises:
        DataError: a value that occurs has the colour of no class.
    """
    judge = _judge(class_list, ignore_index)
    table = np.full(256, IGNORE, np.uint8)
    for number, color in content.shown.items():
        label = judge.of_color(color)
        if label is None and not (number == ignore_index and content.exact):
            where = "its palette shows" if content.kind == "palette" else "it shows"
            raise DataError(
                f"{content.name} is read by colour, because the numbers in such maps of the dataset are not those of "
                f"the class list, and {where} {_text(color)} at number {number}, which no class has. Correct the map "
                "or the class list."
            )
        table[number] = IGNORE if label is None else label
    return table


class _Judge:
    """What numbers and colours mean in a class list."""

    def __init__(self, class_list: ClassList, ignore: int | None) -> None:
        self.classes, self.count, self.ignore = class_list.classes, len(class_list.classes), ignore
        self.colors: dict[Color, int] = {}
        if class_list.explicit_colors:
            self.colors = {c.color: IGNORE if n == ignore else n for n, c in enumerate(self.classes)}
            if ignore is not None:
                self.colors.setdefault(VOID_COLOR, IGNORE)

    def of_number(self, number: int) -> int | None:
        """The label that a number is, if it is one."""
        if number == self.ignore:
            return IGNORE
        return number if number < self.count else None

    def of_color(self, color: Color | None) -> int | None:
        """The label that a colour is, if it is one."""
        return None if color is None else self.colors.get(color)

    def moved(self, content: Content) -> list[int]:
        """The numbers that show the colour of another class than theirs."""
        found = []
        for number, color in content.shown.items():
            label = self.of_color(color)
            if label is None or label == self.of_number(number) or self.is_free(number):
                continue
            # Behind the entry that is right, the same colour again is padding.
            own = next((n for n, c in enumerate(self.classes) if c.color == color), IGNORE)
            padding = own < number and own < len(content.palette) and content.palette[own] == color
            if not padding:
                found.append(number)
        return found

    def foreign(self, content: Content) -> list[int]:
        """The numbers that show a colour of no class."""
        moved = set(self.moved(content))
        return [
            number
            for number, color in content.shown.items()
            if color is not None
            and number not in moved
            and not self.is_free(number)
            and (not self.colors or self.of_color(color) != self.of_number(number))
        ]

    def is_free(self, number: int) -> bool:
        """The ignored number behind the classes may have any colour: palettes are rarely made for it."""
        return number == self.ignore and number >= self.count


@functools.lru_cache(maxsize=8)
def _judge(class_list: ClassList, ignore: int | None) -> _Judge:
    return _Judge(class_list, ignore)


def _decide_palettes(maps: Sequence[Content], judge: _Judge) -> Reading:
    moved = [(item, numbers) for item in maps if (numbers := judge.moved(item))]
    foreign = [(item, numbers) for item in maps if (numbers := judge.foreign(item))]
    if not moved:
        return Reading("numbers", known=_known(maps, judge)) if foreign else Reading()
    in_range = all(judge.of_number(number) is not None for item in maps for number in item.shown)
    numbers_fit = in_range and _contradicting(maps, judge) is None
    standard = all(_is_standard(item) for item, _ in moved)
    first = moved[0][0]
    if not foreign:
        # A whole standard palette has the colours of some classes by chance, and others that it would not need.
        chance = standard and any(judge.of_color(color) is None for color in first.palette[: judge.count])
        if chance and numbers_fit and len(first.palette) >= judge.count:
            raise _both_ways(first, first.name, judge, moved[0][1][0], None)
        return Reading("colors")
    if not numbers_fit:
        return Reading("colors")
    if standard:
        return Reading("numbers", known=_known(maps, judge), sure=True)
    raise _both_ways(first, foreign[0][0].name, judge, moved[0][1][0], foreign[0][1][0], foreign[0][0])


def _known(maps: Sequence[Content], judge: _Judge) -> tuple[tuple[int, Color, str], ...]:
    """The colours of numbers; raises where two maps contradict each other."""
    contradiction = _contradicting(maps, judge)
    if contradiction is not None:
        raise _contradiction(*contradiction)
    known = {number: (number, color, item.name) for item, number, color in reversed(list(_said(maps, judge)))}
    return tuple(known[number] for number in sorted(known))


def _contradicting(maps: Sequence[Content], judge: _Judge) -> tuple[int, str, str] | None:
    """A number, and two maps that show other colours at it."""
    seen: dict[int, tuple[Color, str]] = {}
    for item, number, color in _said(maps, judge):
        before, name = seen.setdefault(number, (color, item.name))
        if color != before:
            return number, item.name, name
    return None


def _said(maps: Sequence[Content], judge: _Judge) -> Iterable[tuple[Content, int, Color]]:
    """What palettes say of numbers. Standard ones say nothing about classes."""
    for item in maps:
        if not _is_standard(item):
            for number, color in item.shown.items():
                if color is not None and not judge.is_free(number):
                    yield item, number, color


def _is_standard(content: Content) -> bool:
    """Whether a palette is one that tools use whatever the classes are. One that holds nothing but what occurs was made
    for this map, by an optimiser perhaps, whatever order its colours are in."""
    used = [(number, color) for number, color in content.shown.items() if color is not None]
    length = len(content.palette)
    whole = length > max([1, *content.shown]) and (length >= 256 or length > len(content.shown))
    return whole and any(
        all(table[number] == color for number, color in used) and content.palette == table[: len(content.palette)]
        for table in _STANDARD
    )


def _decide_greys(maps: Sequence[Content], judge: _Judge, *, colored: bool) -> Literal["numbers", "colors", "unclear"]:
    if not judge.colors or not maps:
        return "numbers"
    known, odd, differ = True, False, False
    for item in maps:
        for value, color in item.shown.items():
            label, number = judge.of_color(color), judge.of_number(value)
            known &= label is not None
            odd |= number is None or not item.exact
            odd |= value == judge.ignore and value >= judge.count and label not in (None, IGNORE)
            differ |= label is not None and label != number
    if known and (odd or (differ and colored)):
        return "colors"
    return "unclear" if differ and colored else "numbers"


def _grey_by_color(content: Content, judge: _Judge, reading: Reading) -> bool:
    if reading.greys != "unclear":
        return reading.greys == "colors"
    labels = {value: (judge.of_number(value), judge.of_color(color)) for value, color in content.shown.items()}
    differing = [value for value, (number, color) in labels.items() if number != color]
    if differing and all(color is not None for _, color in labels.values()):
        value = differing[0]
        number, color = labels[value]
        raise UnclearMapsError(
            f"{content.name} is grey among maps of colours, and can be read in two ways: {value} is the number of "
            f"{_name(judge, number)} or the grey of {_name(judge, color)}. Store it as RGB, or all maps as numbers.",
            [content.name],
        )
    return False


def _both_ways(
    content: Content, other: str, judge: _Judge, moved: int, foreign: int | None, holder: Content | None = None
) -> UnclearMapsError:
    ours, theirs = judge.of_number(moved), judge.of_color(content.shown[moved])
    rest = ""
    if foreign is not None:
        where = "it" if other == content.name else other
        rest = f", but {where} also shows {_text((holder or content).shown[foreign])}, which no class has"
    return UnclearMapsError(
        f"the palette of {content.name} can be read in two ways: number {moved} is {_name(judge, ours)} by its number "
        f"and {_name(judge, theirs)} by its colour {_text(content.shown[moved])}{rest}. If colours count, complete the "
        "class list, or store the maps as RGB; if numbers count, take the colours out of the class list, or store "
        "the maps as grey PNG.",
        dict.fromkeys((content.name, other)),  # type: ignore[arg-type]
    )


def _contradiction(number: int, first: str, second: str) -> UnclearMapsError:
    return UnclearMapsError(
        f"the palettes of {second} and {first} show different colours at number {number}, so the numbers are not those "
        "of classes (PNG optimisers order palettes anew in each file). Give every class of the class list its colour "
        "(name R G B), and the maps are read by colour; or store class numbers as grey PNG.",
        (second, first),
    )


def _name(judge: _Judge, label: int | None) -> str:
    if label is None:
        return "no class"
    return "ignored" if label == IGNORE else f"'{judge.classes[label].name}'"


def _text(color: Color | None) -> str:
    return "no colour" if color is None else f"({color[0]}, {color[1]}, {color[2]})"
