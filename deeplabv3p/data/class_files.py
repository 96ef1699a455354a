"""Class files of many habits: names alone, colours before or behind them, numbered lines, tables, CVAT's label map.

A line such as ``64 128 64 Animal`` must never become a class of that name. So the whole file is looked at: one habit
has to explain all of its lines, and a file that two habits explain, or none, is refused with the reason.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from deeplabv3p.errors import DataError

Color = tuple[int, int, int]

_BETWEEN = r"[\s,;:=|]"
_NUMBER = r"[-+]?[0-9]+(?:\.[0-9]+)?"
_FIRST = re.compile(rf"{_BETWEEN}*({_NUMBER})(?={_BETWEEN}|$)")
_LAST = re.compile(rf"(?:^|(?<={_BETWEEN[:-1]}]))({_NUMBER}){_BETWEEN}*$")
_TRIPLE = re.compile(rf"(?:\brgb)?[(\[{{]\s*({_NUMBER})\s*[,;\s]\s*({_NUMBER})\s*[,;\s]\s*({_NUMBER})\s*[)\]}}]")
_HEX = re.compile(r"(?<![\w#])(?:#|0x)([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})(?!\w)")
_CVAT = re.compile(r"([^:]*[^:\s])\s*:\s*(?:([0-9]+)\s*,\s*([0-9]+)\s*,\s*([0-9]+))?\s*:([^:]*):([^:]*)")
# What every line begins or ends with in place of a separator, and what then stands for it.
_DRESSED = (
    (re.compile(r"[\[(]?([0-9]+)[.)\]]+\s+(?=\S)"), r"\1 "),  # 0. name, 0) name, [0] name
    (re.compile(r"(?:class|label|id|index)\s*#?([0-9]+)\s*[:=,]\s*(?=\S)", re.I), r"\1 "),  # class 0: name
    (re.compile(r"([0-9]+)\s+(?:->|=>|-|\u2013)\s+(?=\S)"), r"\1 "),  # 0 - name
    (re.compile(rf"(.*\S)\s+(?:->\s*|=>\s*|[-\u2013]\s+)(?=[(\[#]?{_NUMBER})"), r"\1 : "),  # name -> 0
    (re.compile(r"(.*\S)\s*[,;]$"), r"\1"),  # name,
)
_STRANGE = (
    (re.compile(r".*(?:^|\s|,)(?:#|0x)[0-9a-f]{3,8}(?:$|\s|,)", re.I), "a colour that has not six digits"),
    (re.compile(r"(?=.*[0-9])(?:[0-9a-f]{6}\s+\S|.*\S\s+[0-9a-f]{6}$)", re.I), "perhaps a colour without its #"),
    (re.compile(r"(?:.*\W)?(?:id|name|label|color)[\"']?\s*[:=]", re.I), "a name with keys"),
)
_OTHER_FORMAT = re.compile(
    r"[{}<\]]|\[(?!\s*[0-9])|item\s*\{|(?:names|nc|classes|labels|categories)\s*[:=]|---$|- ", re.I
)

_NAME = ("name", "names", "class_name", "classname", "label_name", "class", "classes", "label", "labels", "category")
_INDEX = (
    *("id", "idx", "index", "value", "pixel_value", "pixel", "label_id", "labelid", "class_id", "classid", "number"),
    *("class_index", "label_index", "class_number", "gray", "grey", "gray_value", "grey_value", "train_id", "trainid"),
)
_RED, _GREEN, _BLUE, _ALPHA = ("r", "red"), ("g", "green"), ("b", "blue"), ("a", "alpha")
_COLOR = ("color", "colour", "rgb", "color_rgb", "hex", "color_hex", "rgb_color", "hex_color")
_QUOTED_TRIPLE = re.compile(rf'"\s*[(\[]?\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[)\]]?\s*"')
_LONGEST, _MOST = 1000, 8  # characters of a line, numbers at one of its ends
_KNOWN = {*_NAME, *_INDEX, *_RED, *_GREEN, *_BLUE, *_ALPHA, *_COLOR}

TABLE_HEADER = "name,r,g,b"
"""The first line of a table, which holds any names."""
_WAY_OUT = f"Write 'name' or 'name R G B' a line, label 0 first, or a table whose first line is {TABLE_HEADER}."


@dataclass(frozen=True)
class Row:
    """A class: the line it is in, its name, its colour if it has one."""

    line: int
    name: str
    color: Color | None = None


@dataclass(frozen=True)
class _Parts:
    """A line with the numbers at both ends of it; where nothing but numbers is there, they are at both ends. ``raw``:
    as it stands in the file."""

    line: int
    raw: str
    text: str
    first: tuple[str, ...]
    last: tuple[str, ...]

    def name(self, first: int, last: int) -> str:
        """What is left without so many numbers at the ends."""
        text = self.text
        for _ in range(first):
            match = _FIRST.match(text)
            text = text[match.end() :] if match else ""
        for _ in range(last):
            match = _LAST.search(text)
            text = text[: match.start()] if match else ""
        return _unquoted(re.sub(rf"^{_BETWEEN}+|{_BETWEEN}+$", "", text)) if first or last else text


def read_rows(lines: Sequence[tuple[int, str]], where: str) -> list[Row]:
    """The classes in label order of lines with their numbers in the file, without blanks around them.

    Raises:
        DataError: they are of no habit that is known, or of several. Names and colours may still stand twice.
    """
    for number, text in lines:
        _refuse_doubtful(number, text, where)
    lines = [(number, text) for number, text in lines if not text.startswith("#") or _HEX.match(text)]
    if not lines:
        raise DataError(f"{where} holds no classes but comments. {_WAY_OUT}")
    long = next((number for number, text in lines if len(text) > _LONGEST), None)
    if long is not None:
        raise DataError(
            f"{where}: line {long} has more than {_LONGEST} characters, which no class name has. {_WAY_OUT}"
        )
    for number, text in lines[:2] if len(lines) > 1 else lines:
        if _OTHER_FORMAT.match(text):
            raise DataError(f"{where}: line {number} is '{text[:40]}', which is of no class list. {_WAY_OUT}")
    cvat = [_CVAT.fullmatch(text) for _, text in lines]
    if all(cvat):
        return [
            Row(number, match[1], _color(match.groups()[1:4], f"{where}: line {number}") if match[2] else None)
            for (number, _), match in zip(lines, cvat, strict=True)
            if match
        ]
    rows = _table(lines, where)
    if rows is not None:
        return rows
    return _free([(number, _QUOTED_TRIPLE.sub(r"(\1, \2, \3)", text)) for number, text in lines], where)


def _refuse_doubtful(number: int, text: str, where: str) -> None:
    """Refuse a line that would be a name with a number, a colour or a mark in it that are not meant so."""
    if re.match(r"#[^\W\d]\S*$", text) and not _HEX.match(text):
        _refuse(where, number, f"is '{text[:40]}', a class with a # in front or one that is commented out")
    ends = [part.strip("()[]{},;:|，；：、") for part in re.split(r"[\s,;:|，；：、]+", text) if part]
    if any(end.isdecimal() and not end.isascii() for end in (ends[:1] + ends[-1:])):
        _refuse(where, number, "has numbers in digits other than 0 to 9")
    if re.search(r"\s[0-9]+([/.-][0-9]+){2,}$", text):
        _refuse(where, number, f"is '{text[:40]}', whose end may be a colour")
    if re.search(r"[0-9]\s+#", text):
        _refuse(where, number, "has a comment behind a number. Put comments on lines of their own")


# Tables with a header


def _table(lines: Sequence[tuple[int, str]], where: str) -> list[Row] | None:
    number, header = lines[0]
    delimiter = next((mark for mark in ",;\t|" if mark in header), None)
    names = [_column(field) for field in (header.split(delimiter) if delimiter else header.split())]
    named = [at for at, name in enumerate(names) if name in _NAME]
    if names in (["name"], ["names"], ["class_name"], ["classname"]):
        return [Row(line, _unquoted(text)) for line, text in lines[1:]] or _refuse(where, number, "is a header alone")
    others = [name for name in names if name in _KNOWN and name not in _NAME]
    if not named or not (others or len(named) > 1) or (delimiter is None and not set(names) <= _KNOWN):
        return None
    if len(lines) == 1:
        _refuse(where, number, "is a header alone")
    if delimiter is None:  # names may hold blanks, so columns are found from the ends
        return _free(lines[1:], where)
    cells = [next(csv.reader([text], delimiter=delimiter, skipinitialspace=True)) for _, text in lines]
    for (line, _), fields in zip(lines, cells, strict=True):
        if len(fields) < len(names) or any(field.strip() for field in fields[len(names) :]):
            raise DataError(f"{where}: line {line} has {len(fields)} columns, its header has {len(names)}. {_WAY_OUT}")
    columns = [[fields[at].strip() for fields in cells[1:]] for at in range(len(names))]
    numeric = [at for at in named if all(re.fullmatch(r"[0-9]{1,9}", cell) for cell in columns[at])]
    texts = [at for at in named if at not in numeric]
    if not texts and names[named[0]] == "name":  # that says that they are names
        texts, numeric = named[:1], named[1:]
    best = min(texts, key=lambda at: _NAME.index(names[at]), default=None)
    if best is None:
        raise DataError(f"{where} has no column of class names (line {number}: '{header}'). {_WAY_OUT}")
    indexes = [at for at, name in enumerate(names) if name in _INDEX or at in numeric]
    if len(indexes) > 1:
        both = " and ".join(f"'{names[at]}'" for at in indexes[:2])
        raise DataError(
            f"{where} has two columns of numbers, {both}. Leave the one that the label maps do not hold out."
        )
    places = [line for line, _ in lines[1:]]
    colors = _table_colors(names, columns, places, where)
    rows = [Row(*row) for row in zip(places, columns[best], colors, strict=True)]
    if any(not row.name for row in rows):
        _refuse(where, next(row.line for row in rows if not row.name), "has no name")
    return _ordered(rows, columns[indexes[0]], where) if indexes else rows


def _table_colors(
    names: Sequence[str], columns: Sequence[Sequence[str]], places: Sequence[int], where: str
) -> list[Color | None]:
    found = [[at for at, name in enumerate(names) if name in kind] for kind in (_RED, _GREEN, _BLUE)]
    whole = [at for at, name in enumerate(names) if name in _COLOR]
    if not any(found) and not whole:
        return [None] * len(places)
    if whole and not any(found):
        texts = [_spread(columns[whole[0]][row]) for row in range(len(places))]
        parts = [re.findall(_NUMBER, text) for text in texts]
    elif all(len(places_of) == 1 for places_of in found):
        parts = [[columns[at[0]][row] for at in found] for row in range(len(places))]
    else:
        raise DataError(f"{where} has no three columns r, g and b. {_WAY_OUT}")
    return [_color(part, f"{where}: line {line}") for part, line in zip(parts, places, strict=True)]


def _column(text: str) -> str:
    return re.sub(r"[\s-]+", "_", _unquoted(text.strip()).strip().lower())


# Lines without a header


def _free(lines: Sequence[tuple[int, str]], where: str) -> list[Row]:
    texts = [text for _, text in lines]
    for pattern, plain in _DRESSED:
        if all(pattern.match(text) for text in texts):
            texts = [pattern.sub(plain, text, count=1) for text in texts]
    parts = [_cut(number, raw, text) for (number, raw), text in zip(lines, texts, strict=True)]
    first, last = (min(len(part) for part in ends) for ends in zip(*((p.first, p.last) for p in parts), strict=True))
    _check_all_colored(parts, last, where, "last")
    _check_all_colored(parts, first, where, "first")
    for pattern, what in _STRANGE if first + last < 3 and len(parts) > 1 else ():
        if all(pattern.match(part.raw) for part in parts):
            _refuse(where, parts[0].line, f"is '{parts[0].raw[:40]}', {what}")
    if (first, last) == (0, 0) or all(part.first == (part.text,) for part in parts):
        return _names(parts, where)
    rules = {
        (0, 1): _number_behind,
        (0, 3): lambda rows, place: _rows(rows, place, 0, 3, color=(0, 3)),
        (0, 4): _four_behind,
        (1, 0): lambda rows, place: _rows(rows, place, 1, 0, index=0),
        (1, 1): _numbers_around,
        (1, 3): lambda rows, place: _rows(rows, place, 1, 3, color=(1, 4), index=0),
        (1, 4): _alpha_behind,
        (3, 0): lambda rows, place: _rows(rows, place, 3, 0, color=(0, 3)),
        (3, 1): _color_name_number,
        (4, 0): _four_before,
    }
    rule = rules.get((first, last))
    if rule is None:
        bare = next((part for part in parts if part.first == part.last and not part.name(len(part.first), 0)), None)
        if bare:
            _refuse(where, bare.line, f"is '{bare.text[:40]}', numbers without a name")
        counts = " and ".join(f"{n} numbers {end} it" for n, end in ((first, "before"), (last, "behind")) if n)
        raise DataError(f"{where}: every line has a name with {counts}, which may mean several things. {_WAY_OUT}")
    return rule(parts, where)


def _cut(number: int, raw: str, text: str) -> _Parts:
    text = _spread(text)
    first: list[str] = []
    rest = text
    while len(first) < _MOST and (match := _FIRST.match(rest)):
        first.append(match[1])
        rest = rest[match.end() :]
    if not rest.strip(" \t,;:=|"):
        return _Parts(number, raw, text, tuple(first), tuple(first))
    last: list[str] = []
    while len(last) < _MOST and (match := _LAST.search(rest)):
        last.insert(0, match[1])
        rest = rest[: match.start()]
    return _Parts(number, raw, text, tuple(first), tuple(last))


def _spread(text: str) -> str:
    """Colours as three numbers: ``#804080`` and ``(128, 64, 128)`` become ``128 64 128``."""
    text = _HEX.sub(lambda match: " ".join(str(int(part, 16)) for part in match.groups()), text)
    return _TRIPLE.sub(lambda match: " ".join(match.groups()), text)


def _check_all_colored(parts: Sequence[_Parts], least: int, where: str, end: str) -> None:
    """Some lines with three numbers and others with fewer: the colour of those is missing."""
    if least >= 3 or not any(len(getattr(part, end)) >= 3 for part in parts):
        return
    ours = len(getattr(parts[0], end)) >= 3
    odd = next(part for part in parts if (len(getattr(part, end)) >= 3) != ours)
    has, first_has = ("no", "one") if ours else ("a", "none")
    raise DataError(
        f"{where}: line {odd.line} has {has} colour, line {parts[0].line} has {first_has}. Give every class one, or "
        "none."
    )


def _names(parts: Sequence[_Parts], where: str) -> list[Row]:
    """Names alone, unless something says that they are not."""
    if len(parts) > 2 and parts[0].raw == str(len(parts) - 1):
        _refuse(where, parts[0].line, f"is {parts[0].raw}, the count of the lines behind it. Leave it out")
    if parts[0].raw == "__ignore__" and len(parts) > 1:  # labelme's word for number -1
        parts = parts[1:]
    head = re.split(r"[,;\t|]", parts[0].text)
    if len(head) > 1 and _column(head[0]) in _KNOWN:
        _refuse(where, parts[0].line, f"is '{parts[0].text[:40]}', which looks like the header of an unknown table")
    if len(parts) == 1 and len(head) > 1:
        _refuse(where, parts[0].line, "is all there is, and holds several parts")
    counted = sorted(int(part.first[0]) for part in parts if len(part.first) == 1 and part.first[0].isdecimal())
    series = counted in (list(range(len(counted))), list(range(1, len(counted) + 1)))
    if series and len(counted) > 1 and 2 * len(counted) >= len(parts) and any(not part.first for part in parts):
        odd = next(part for part in parts if not part.first)
        raise DataError(f"{where}: line {odd.line} has no number, other lines begin with one. {_WAY_OUT}")
    listed = all(re.fullmatch(r".*[,;]", part.raw) for part in parts)
    names = [part.raw[:-1].strip() if listed else part.raw for part in parts]
    quoted = all(_unquoted(name) != name for name in names)
    return [Row(part.line, _unquoted(name) if quoted else name) for part, name in zip(parts, names, strict=True)]


def _rows(
    parts: Sequence[_Parts],
    where: str,
    first: int,
    last: int,
    *,
    color: tuple[int, int] | None = None,
    index: int | None = None,
) -> list[Row]:
    """Rows whose name stands between so many numbers; ``color`` and ``index`` say what these are, counted through."""
    rows, numbers = [], []
    for part in parts:
        given = (*part.first[:first], *part.last[len(part.last) - last :])
        name = part.name(first, last)
        if not name:
            _refuse(where, part.line, f"is '{part.text[:40]}', numbers without a name")
        place = f"{where}: line {part.line}"
        rows.append(Row(part.line, name, None if color is None else _color(given[slice(*color)], place)))
        numbers.append("" if index is None else given[index])
    return rows if index is None else _ordered(rows, numbers, where)


def _number_behind(parts: Sequence[_Parts], where: str) -> list[Row]:
    """``class 1``, ``route 66`` are names; ``sky 0``, ``road 1`` are a name and its number."""
    names = [Row(part.line, part.raw) for part in parts]
    if not _are_apart(parts, 0, 1) or len(parts) == 1:
        return names
    numbers = [part.last[-1] for part in parts]
    if _are_all_labels(numbers):
        return _rows(parts, where, 0, 1, index=0)
    if numbers == [str(place) for place in range(1, len(parts) + 1)]:
        _count_from_one(where, parts[0].line)
    if "0" in numbers:
        raise DataError(
            f"{where}: every line ends in a number, 0 among them, but they are not 0 to {len(parts) - 1}, so they may "
            f"be parts of names or numbers of labels. {_WAY_OUT}"
        )
    return names


def _four_behind(parts: Sequence[_Parts], where: str) -> list[Row]:
    """Name, number and colour; name, colour and opacity; or a colour behind names that end in a number."""
    numbers = [part.last[-4] for part in parts]
    if _are_apart(parts, 0, 4):
        if _are_all_labels(numbers) and len(parts) > 1:
            return _rows(parts, where, 0, 4, color=(1, 4), index=0)
        opaque = all(part.last[-1] == "255" for part in parts)
        if opaque and all(re.search(r"[,;\t|]", part.text) for part in parts):
            return _rows(parts, where, 0, 4, color=(0, 3))
        if opaque or _are_all_labels(numbers) or numbers == [str(n) for n in range(1, len(parts) + 1)]:
            raise DataError(
                f"{where}: every line has a name and four numbers, which may mean several things. {_WAY_OUT}"
            )
    return _rows(parts, where, 0, 3, color=(0, 3))


def _alpha_behind(parts: Sequence[_Parts], where: str) -> list[Row]:
    if not all(part.last[-1] == "255" for part in parts) and _are_apart(parts, 1, 4):
        raise DataError(
            f"{where}: every line has a name between five numbers, which may mean several things. {_WAY_OUT}"
        )
    if _are_apart(parts, 1, 4):
        return _rows(parts, where, 1, 4, color=(1, 4), index=0)
    return _rows(parts, where, 1, 3, color=(1, 4), index=0)


def _numbers_around(parts: Sequence[_Parts], where: str) -> list[Row]:
    if _are_apart(parts, 1, 1) and len(parts) > 1:
        raise DataError(
            f"{where}: every line has a name between two numbers, which may mean several things. {_WAY_OUT}"
        )
    return _rows(parts, where, 1, 0, index=0)  # 0: class 0


def _color_name_number(parts: Sequence[_Parts], where: str) -> list[Row]:
    if _are_apart(parts, 3, 1) and len(parts) > 1 and _are_all_labels([part.last[-1] for part in parts]):
        return _rows(parts, where, 3, 1, color=(0, 3), index=3)
    return _rows(parts, where, 3, 0, color=(0, 3))


def _four_before(parts: Sequence[_Parts], where: str) -> list[Row]:
    before, behind = (_are_all_labels([part.first[at] for part in parts]) for at in (0, 3))
    if before == behind:
        raise DataError(f"{where}: every line has four numbers and a name, which may mean several things. {_WAY_OUT}")
    return _rows(parts, where, 4, 0, color=(1, 4) if before else (0, 3), index=0 if before else 3)


def _are_apart(parts: Sequence[_Parts], first: int, last: int) -> bool:
    """Whether names without so many numbers are there and all different."""
    names = [part.name(first, last) for part in parts]
    return all(names) and len(set(names)) == len(names)


def _are_all_labels(numbers: Sequence[str]) -> bool:
    return sorted(numbers, key=lambda text: (len(text), text)) == [str(label) for label in range(len(numbers))]


def _ordered(rows: Sequence[Row], numbers: Sequence[str], where: str) -> list[Row]:
    """Rows by their numbers, which must be all from 0 on."""
    labels: dict[int, Row] = {}
    for row, text in zip(rows, numbers, strict=True):
        if not re.fullmatch(r"[0-9]{1,9}", text):
            _refuse(where, row.line, f"has '{text[:20]}' where the number of the class is expected")
        if int(text) in labels:
            _refuse(where, row.line, f"has the number {text} of line {labels[int(text)].line} again")
        labels[int(text)] = row
    if min(labels) == 1 and max(labels) == len(labels):
        _count_from_one(where, rows[0].line)
    lacking = next((label for label in range(len(labels)) if label not in labels), None)
    if lacking is not None:
        raise DataError(
            f"{where}: the lines are numbered up to {max(labels)}, but {lacking} is missing, and every label from 0 on "
            "needs a name. Number them without gaps as the label maps do, and leave out what is ignored."
        )
    return [labels[label] for label in range(len(labels))]


def _count_from_one(where: str, line: int) -> None:
    raise DataError(
        f"{where}: line {line} has number 1, but labels begin with 0. If those of the maps do, too, subtract 1; if "
        "0 is something else in them (often the background), add its line."
    )


def _color(texts: Sequence[str], where: str) -> Color:
    if len(texts) != 3 or not all(re.fullmatch(r"[-+]?[0-9]{1,9}", text) for text in texts):
        raise DataError(f"{where} has the colour ({', '.join(texts)[:60]}). Colours are three whole numbers, 0 to 255.")
    red, green, blue = (int(text) for text in texts)
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise DataError(f"{where} has the colour ({red}, {green}, {blue}). Colours are 0 to 255.")
    return red, green, blue


def _unquoted(text: str) -> str:
    quoted = len(text) > 2 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1].strip() if quoted else text


def _refuse(where: str, line: int, what: str) -> list[Row]:
    raise DataError(f"{where}: line {line} {what}. {_WAY_OUT}")


def table_text(rows: Sequence[Row]) -> str:
    """A table of classes, which reads back whatever their names hold."""
    lines = [TABLE_HEADER]
    for row in rows:
        quoted = row.name.replace('"', '""')
        lines.append(",".join([f'"{quoted}"', *map(str, row.color or ())]))
    return "".join(f"{line}\n" for line in lines)
