"""Reading protocol buffers, the wire format of ONNX and TensorFlow files, without a schema and without trusting the
file. Format: https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Iterator

from deeplabv3p.errors import DataError

Value = int | memoryview
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_FIELDS = 1 << 17  # of one message: the largest graphs have some ten thousand operations
_MOST_WORK = 4_000_000  # fields that are looked at in one file, repeated looks included: some seconds


class DamagedError(DataError):
    """The bytes are not a protocol buffer."""


class _Work(threading.local):
    left: int | None = None  # fields that may still be looked at; None: any number


_work = _Work()


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Bound the work in this block: a file of millions of empty parts is damaged, and not gone through.

    Raises:
        DamagedError: it has more parts than any network.
    """
    before, _work.left = _work.left, _MOST_WORK
    try:
        yield
    finally:
        _work.left = before


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """The fields of a message in their order: (number, value). Values are whole numbers or parts of ``message`` (text,
    bytes, inner messages, and fixed-size numbers as their bytes).

    Raises:
        DamagedError: a part reaches behind the end, or has no known type, or there are too many.
    """
    position, end, count = 0, len(message), 0
    while position < end:
        count += 1
        if count > _MOST_FIELDS:
            raise DamagedError(f"it has more than {_MOST_FIELDS:,} parts in one place")
        key, position = (message[position], position + 1) if message[position] < 128 else _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = _varint(message, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise DamagedError("a part has no known type")
        if position + size > end:
            raise DamagedError("it is cut short")
        yield number, message[position : position + size]
        position += size
    if _work.left is not None:
        _work.left -= count
        if _work.left < 0:
            raise DamagedError("it has millions of parts, as no network does")


def inner(message: memoryview, number: int) -> Iterator[memoryview]:
    """The inner messages, texts or bytes of one field."""
    for found, value in fields(message):
        if found == number and isinstance(value, memoryview):
            yield value


def text(message: memoryview, number: int) -> str:
    """The text of a field; empty where it is absent."""
    value = b""
    for part in inner(message, number):
        value = bytes(part)
    return value.decode("utf-8", "replace")


def integer(message: memoryview, number: int, default: int = 0) -> int:
    """The whole number of a field, negative ones as int64."""
    for found, value in fields(message):
        if found == number and isinstance(value, int):
            default = value - (1 << 64) if value >= 1 << 63 else value
    return default


def integers(message: memoryview, number: int) -> list[int]:
    """A repeated whole number, packed or not."""
    found: list[int] = []
    for key, value in fields(message):
        if key != number:
            continue
        if isinstance(value, int):
            found.append(value)
            continue
        position = 0
        while position < len(value):
            item, position = _varint(value, position)
            found.append(item)
    return [value - (1 << 64) if value >= 1 << 63 else value for value in found]


def floats(message: memoryview, number: int) -> list[float]:
    """A repeated float32, packed or not."""
    found: list[float] = []
    for value in inner(message, number):
        found += struct.unpack(f"<{len(value) // 4}f", value[: len(value) // 4 * 4])
    return found


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise DamagedError("it is cut short")
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & ((1 << 64) - 1), position
    raise DamagedError("a number is too long")
