"""JSON from others: parsed with limits, and fields that are checked as they are taken."""

from __future__ import annotations

from typing import Any, TypeVar

from deeplabv3p import documents
from deeplabv3p.data.convert.foreign import Content
from deeplabv3p.errors import DataError

Kind = TypeVar("Kind")

_WORDS = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}


def read_json(file: Content) -> Any:
    """The content of a JSON file; raises DataError."""
    return documents.parse_json(file.read(), file.where, foreign=True)


def take(item: Any, key: str, kind: type[Kind], where: str) -> Kind:
    """``item[key]``, which must be of a kind; raises DataError."""
    if not isinstance(item, dict):
        raise DataError(f"{where}: what should hold '{key}' is not an object.")
    if key not in item:
        raise DataError(f"{where}: '{key}' is missing.")
    value = item[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{where}: '{key}' is not {_WORDS[kind]}.")
    return value


def size_of(item: Any, height: str, width: str, where: str) -> tuple[int, int]:
    """(height, width) from two keys; raises DataError."""
    return take(item, height, int, where), take(item, width, int, where)
