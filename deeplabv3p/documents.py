"""JSON and TOML, read with limits: whatever a file holds, it is read or refused in one line.

Python's own readers let pass what breaks others later: numbers that are none (``NaN``, ``1e999``), numbers of thousands
of digits, half characters (``"\\ud800"``), which crash what draws text, and brackets so deep that the next look into
them fails.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Callable
from typing import Any

from deeplabv3p import files
from deeplabv3p.errors import DataError

MAX_DEPTH = 200
"""Brackets within brackets. A network of nested models has about thirty, and Python's own limit is near a thousand."""

_INTEGER_LIMIT = 1 << 63  # as far as whole numbers go in arrays, in TOML and in C++
_INTEGER_DIGITS = 19
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_json(path: str | os.PathLike[str], *, what: str = "", limit: int | None = None) -> Any:
    """The content of a JSON file; see :func:`deeplabv3p.files.read_bytes` and :func:`parse_json`."""
    return parse_json(files.read_bytes(path, what=what, limit=limit), os.fspath(path))


def parse_json(text: str | bytes, where: str, *, foreign: bool = False) -> Any:
    """JSON as Python's objects.

    Args:
        text: the document, UTF-8 where it is bytes.
        where: its name for messages.
        foreign: for files of other programs, which may hold more than is used of them: numbers that are none or out of
            range are None then, and a key may stand twice (the last one counts).

    Raises:
        DataError: it is not JSON; a key stands twice; a number is not finite or beyond 64 bits; a text has half a
            character; brackets are deeper than MAX_DEPTH; it does not fit into the memory.
    """
    odd: Callable[[str], Any] = _nothing if foreign else _Odd
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        value = json.loads(
            text,
            object_pairs_hook=None if foreign else _no_duplicates,
            parse_constant=odd,
            parse_int=lambda digits: _integer(digits, odd),
            parse_float=lambda digits: _float(digits, odd),
        )
        _check_depth(value, text.count("[") + text.count("{"))
        if not foreign:
            _refuse_odd(value)
        if _HALF_CHARACTER.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not valid JSON: byte {error.start} is not text (UTF-8).") from None
    except UnicodeEncodeError:
        raise DataError(f"{where}: a text in it has half a character (\\ud800 to \\udfff alone). Correct it.") from None
    except RecursionError:
        raise DataError(f"{where}: not valid JSON: brackets are more than {MAX_DEPTH} deep.") from None
    except MemoryError:
        raise DataError(f"{where} does not fit into the memory.") from None
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON ({error}).") from None
    return value


def read_toml(path: str | os.PathLike[str], *, what: str = "", limit: int | None = None) -> dict[str, Any]:
    """The tables of a TOML file; arguments and errors as of :func:`deeplabv3p.files.read_bytes`.

    Raises:
        DataError: also where it is not TOML, with the line, where a number is not finite or beyond 64 bits, and where
            brackets are too deep.
    """
    where = os.fspath(path)
    content = files.read_bytes(path, what=what, limit=limit)
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        tables = tomllib.loads(text, parse_float=lambda digits: _float(digits, _Odd))
        _check_depth(tables, text.count("[") + text.count("{") + text.count("."))
        _mark_integers(tables)
        _refuse_odd(tables)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not valid TOML: byte {error.start} is not text (UTF-8).") from None
    except RecursionError:
        raise DataError(f"{where}: not valid TOML: brackets are more than {MAX_DEPTH} deep.") from None
    except MemoryError:
        raise DataError(f"{where} does not fit into the memory.") from None
    except ValueError as error:
        raise DataError(f"{where}: not valid TOML ({error}).") from None
    return tables


def is_text(value: str) -> bool:
    """Whether a string holds whole characters only, which every font and every file can take."""
    return _SURROGATE.search(value) is None


def whole_number(text: str) -> int | None:
    """The number that a text is, in the digits 0 to 9 without a sign; None where it is none, or has over 18 digits.

    ``str.isdigit`` is true for ``²``, which ``int`` refuses, and so are thousands of digits.
    """
    return int(text) if 0 < len(text) < _INTEGER_DIGITS and text.isascii() and text.isdigit() else None


def shown(text: str) -> str:
    """A text from a file as a part of a one-line message: short, and with escapes for what does not print."""
    plain = text if text.isprintable() and is_text(text) else ascii(text)[1:-1]
    return plain if len(plain) <= 60 else plain[:57] + "..."


def _integer(digits: str, odd: Callable[[str], Any]) -> Any:
    if len(digits) > _INTEGER_DIGITS + 1:
        return odd(digits)
    value = int(digits)
    return value if -_INTEGER_LIMIT <= value < _INTEGER_LIMIT else odd(digits)


def _float(digits: str, odd: Callable[[str], Any]) -> Any:
    value = float(digits)
    return value if math.isfinite(value) else odd(digits)


def _nothing(digits: str) -> None:
    return None


class _Odd:
    """A number that is none, or none of 64 bits, until its place is known."""

    def __init__(self, digits: str) -> None:
        self.text = digits if len(digits) <= 20 else f"{digits[:12]}… of {len(digits)} characters"


def _refuse_odd(value: Any) -> None:
    """Raise ValueError for the first number in ``value`` that is none; the message names its place, as ``a.b[2]``."""
    left = [(value, "")]
    while left:
        item, place = left.pop()
        if isinstance(item, _Odd):
            name = f"'{shown(place)}'" if place else "the number"
            raise ValueError(f"{name} is {item.text}, expected a finite number of 64 bits")
        if isinstance(item, dict):
            left += [(inner, f"{place}.{key}".lstrip(".")) for key, inner in item.items()]
        elif isinstance(item, list):
            left += [(inner, f"{place}[{index}]") for index, inner in enumerate(item)]


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key '{shown(key)}' stands twice")
        result[key] = value
    return result


def _check_depth(value: Any, brackets: int) -> None:
    """Raise RecursionError beyond MAX_DEPTH. ``brackets`` is the most that there can be: few need no look."""
    level, depth = [value], 0
    while level and brackets > MAX_DEPTH:
        depth += 1
        if depth > MAX_DEPTH:
            raise RecursionError
        level = [
            item
            for outer in level
            if isinstance(outer, (dict, list))
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, (dict, list))
        ]


def _mark_integers(tables: dict[str, Any]) -> None:
    """TOML's whole numbers have 64 bits, Python's reader takes any: make those that are beyond odd ones, in place."""
    left: list[Any] = [tables]
    while left:
        outer = left.pop()
        for key, item in list(outer.items() if isinstance(outer, dict) else enumerate(outer)):
            if isinstance(item, (dict, list)):
                left.append(item)
            elif isinstance(item, int) and not -_INTEGER_LIMIT <= item < _INTEGER_LIMIT:
                outer[key] = _Odd(str(item))
