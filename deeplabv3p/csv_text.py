"""Tables as CSV text that a spreadsheet opens as what it is, and back. The one place that writes CSV.

Spreadsheets run a cell as a formula if it begins with ``= + - @``, a tab or a carriage return, and class and file names
come from elsewhere. Such text gets an apostrophe in front, which spreadsheets take for "this is text". Text that begins
with apostrophes and then goes on like that gets one more, so that :func:`from_csv` gives back what was written. Numbers
stay numbers, negative ones too.
"""

from __future__ import annotations

import csv
import io
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence

# Some programs strip blanks first, and take the wide forms of East Asian keyboards for the same signs.
_FORMULA = re.compile(r"'*(?:\s*[=+\-@＝＋－＠]|[\t\r\n])")
_LINE_END = "\r\n"  # the csv module quotes cells with these characters; they are not what ends our lines


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, object] | Sequence[object]]) -> str:
    """A table as CSV, lines ending in ``\\n``.

    Args:
        columns: names of the columns, the first line.
        rows: cells by their column's name (others are left out, missing ones empty), or in the columns' order. Numbers
            are written as they are, None as an empty cell, all else as text.
    """
    lines: list[Sequence[object]] = [columns]
    lines += [[row.get(name) for name in columns] if isinstance(row, Mapping) else row for row in rows]
    return "".join(_line(cells) for cells in lines)


def from_csv(text: str) -> list[dict[str, str]]:
    """The rows of a table that :func:`to_csv` wrote, cells by their column's name, all of them text."""
    lines = [[_fused(cell) for cell in line] for line in csv.reader(io.StringIO(text, newline=""))]
    return [dict(zip(lines[0], cells, strict=True)) for cells in lines[1:]]


def _line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator=_LINE_END).writerow([_defused(cell) for cell in cells])
    return text.getvalue().removesuffix(_LINE_END) + "\n"


def _defused(cell: object) -> object:
    if cell is None or isinstance(cell, numbers.Number):
        return cell
    text = str(cell)
    return f"'{text}" if _FORMULA.match(text) else text


def _fused(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
