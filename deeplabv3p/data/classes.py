"""Class lists: a text file whose line i names label i, with an optional colour."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from deeplabv3p import files
from deeplabv3p.data.class_files import Row, read_rows, table_text
from deeplabv3p.errors import DataError
from deeplabv3p.spec import ClassInfo

MAX_CLASSES = 255  # label 255 is taken: it is IGNORE in memory

CLASS_FILES = ("classes.txt", "class_dict.csv", "labelmap.txt", "class_names.txt")
"""What a dataset's own class file is called, in the order in which they are looked for."""

_MAX_BYTES = 1 << 20  # of a class file


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


def own_class_file(root: Path) -> Path | None:
    """The class file that lies in the folder of a dataset; None: there is none."""
    return next((root / name for name in CLASS_FILES if (root / name).is_file()), None)


def load_classes(path: str | os.PathLike[str]) -> ClassList:
    """Read a class list: one class a line, label 0 first, ``name`` or ``name R G B``. Names may hold spaces.

    Files of other habits are read where they are certain: colours before the names or as ``#RRGGBB``, numbered lines,
    tables with a header (``name,r,g,b`` or ``Pixel Value, Class``), CVAT's ``labelmap.txt``. Lines that begin with #
    are comments.

    Raises:
        DataError: the file is missing or not UTF-8 text, a line inside is blank, a name or a colour stands twice, only
            some lines have a colour, the lines may mean several things, or there are no classes or more than 255. The
            message gives the line number.
    """
    data = files.read_bytes(path, what="the class list", limit=_MAX_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line} is not text (UTF-8). A class list has one name a line.") from None
    return _parse(text, str(path))


def save_classes(path: str | os.PathLike[str], classes: tuple[ClassInfo, ...]) -> None:
    """Write ``name R G B`` lines that :func:`load_classes` reads back, atomically; a table where names look like
    something else, such as ``road 1``.

    Raises:
        DataError: the classes would not read back (a line break in a name, a name or a colour twice), or the file
            cannot be written.
    """
    lines = "".join(f"{item.name} {item.color[0]} {item.color[1]} {item.color[2]}\n" for item in classes)
    for text in (lines, table_text([Row(0, item.name, item.color) for item in classes])):
        try:
            if _parse(text, str(path)).classes == classes:
                files.write_text(path, text)
                return
        except DataError:
            if text is not lines:
                raise
    raise DataError(f"{path}: these class names cannot be stored one a line. Remove line breaks and outer spaces.")


def _parse(text: str, where: str) -> ClassList:
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")]
    if lines == [""]:
        raise DataError(f"{where} is empty. Write one class name a line, label 0 first.")
    if "\0" in text:
        number = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{where}: line {number} is not text. A class list has one name a line.")
    for number, line in enumerate(lines, 1):
        if not line:
            raise DataError(f"{where}: line {number} is blank. Every line is a class; remove it or name the class.")
    rows = read_rows(list(enumerate(lines, 1)), where)
    if len(rows) > MAX_CLASSES:
        raise DataError(f"{where} names {len(rows)} classes; at most {MAX_CLASSES} fit, because 255 means ignore.")
    names: dict[str, int] = {}
    seen: dict[str, int] = {}
    colors: dict[tuple[int, int, int], int] = {}
    for row in rows:
        if not row.name:
            raise DataError(f"{where}: line {row.line} has no name. Write one class name a line, label 0 first.")
        names[row.name] = row.line
        first = seen.setdefault(_looks(row.name), row.line)
        if first != row.line:
            raise DataError(
                f"{where}: line {row.line} names '{row.name}' again (first in line {first}). Names must differ."
            )
        if row.color is not None:
            first = colors.setdefault(row.color, row.line)
            if first != row.line:
                raise DataError(
                    f"{where}: line {row.line} has the colour of line {first}, {row.color}. Colours must differ."
                )
    if colors and len(colors) < len(rows):
        odd = next(row for row in rows if row.color is None)
        raise DataError(f"{where}: line {odd.line} has no colour, others have one. Give every class one, or none.")
    palette = tuple(colors) if colors else default_colors(len(names))
    classes = tuple(ClassInfo(name, color) for name, color in zip(names, palette, strict=True))
    return ClassList(classes, explicit_colors=bool(colors))


def _looks(name: str) -> str:
    """A name as it looks: letters and accents in one form, without characters that nobody sees."""
    text = unicodedata.normalize("NFC", name)
    return "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
