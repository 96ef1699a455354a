"""Class lists: a text file whose line i names label i, with an optional colour."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from deeplabv3p import files
from deeplabv3p.errors import DataError
from deeplabv3p.spec import ClassInfo

MAX_CLASSES = 255  # label 255 is taken: it is IGNORE in memory

_WITH_COLOR = re.compile(r"(.*\S)\s+(-?\d+)\s+(-?\d+)\s+(-?\d+)")


@dataclass(frozen=True)
class ClassList:
    """The classes in label order. ``explicit_colors``: the file gave the colours, so they may decode RGB label maps;
    otherwise they are :func:`default_colors`."""

    classes: tuple[ClassInfo, ...]
    explicit_colors: bool


def default_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """The first ``count`` (at most 256) colours of PASCAL VOC, (red, green, blue), 0 to 255, all different.

    The bits of the label number, three at a time, become the high bits of the channels.
    """
    colors = []
    for label in range(count):
        color = [0, 0, 0]
        for bit in range(8):
            color[bit % 3] |= (label >> bit & 1) << (7 - bit // 3)
        colors.append((color[0], color[1], color[2]))
    return tuple(colors)


VOID_COLOR = default_colors(256)[255]
"""The colour of "no label" in VOC's pictures, (224, 224, 192)."""


def load_classes(path: str | os.PathLike[str]) -> ClassList:
    """Read a class list: one class a line, label 0 first, ``name`` or ``name R G B``. Names may hold spaces.

    Raises:
        DataError: the file is missing or not UTF-8 text, a line inside is blank, a name or a colour stands twice, only
            some lines have a colour, or there are no classes or more than 255. The message gives the line number.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the class list {path}: {error.strerror}.") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line} is not text (UTF-8). A class list has one name a line.") from None
    return _parse(text, str(path))


def save_classes(path: str | os.PathLike[str], classes: tuple[ClassInfo, ...]) -> None:
    """Write ``name R G B`` lines that :func:`load_classes` reads back, atomically.

    Raises:
        DataError: the classes would not read back (a line break in a name, a name or a colour twice), or the file
            cannot be written.
    """
    text = "".join(f"{item.name} {item.color[0]} {item.color[1]} {item.color[2]}\n" for item in classes)
    if _parse(text, str(path)).classes != classes:
        raise DataError(f"{path}: these class names cannot be stored one a line. Remove line breaks and outer spaces.")
    files.write_text(path, text)


def _parse(text: str, where: str) -> ClassList:
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")]
    if lines == [""]:
        raise DataError(f"{where} is empty. Write one class name a line, label 0 first.")
    if "\0" in text:
        number = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{where}: line {number} is not text. A class list has one name a line.")
    if len(lines) > MAX_CLASSES:
        raise DataError(f"{where} names {len(lines)} classes; at most {MAX_CLASSES} fit, because 255 means ignore.")
    names: dict[str, int] = {}
    colors: dict[tuple[int, int, int], int] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            raise DataError(f"{where}: line {number} is blank. Every line is a class; remove it or name the class.")
        name, color = _split(line, f"{where}: line {number}")
        first = names.setdefault(name, number)
        if first != number:
            raise DataError(f"{where}: line {number} names '{name}' again (first in line {first}). Names must differ.")
        if color is not None:
            first = colors.setdefault(color, number)
            if first != number:
                raise DataError(f"{where}: line {number} has the colour of line {first}, {color}. Colours must differ.")
        if (color is not None) != bool(colors) or (colors and len(colors) != number):
            has, first_has = ("a", "none") if color else ("no", "one")
            raise DataError(
                f"{where}: line {number} has {has} colour, line 1 has {first_has}. Give every class one, or none."
            )
    palette = tuple(colors) if colors else default_colors(len(names))
    classes = tuple(ClassInfo(name, color) for name, color in zip(names, palette, strict=True))
    return ClassList(classes, explicit_colors=bool(colors))


def _split(line: str, where: str) -> tuple[str, tuple[int, int, int] | None]:
    match = _WITH_COLOR.fullmatch(line)
    if match is None:
        return line, None
    red, green, blue = (int(value) for value in match.groups()[1:])
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise DataError(f"{where} has the colour ({red}, {green}, {blue}). Colours are 0 to 255.")
    return match[1], (red, green, blue)
