"""Reading flatbuffers, the wire format of .tflite files, without a schema and without trusting the file: every offset
is checked against the file's end, so that a damaged file is a DataError. Format: https://flatbuffers.dev/internals/."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from deeplabv3p.errors import DataError

_MAX_ITEMS = 1 << 20  # of a list of tables; a network has thousands


class DamagedError(DataError):
    """The bytes are not a flatbuffer."""


@dataclass(frozen=True)
class Table:
    """A table: its fields by their number in the schema, each absent (then the default) or present."""

    data: bytes
    position: int

    def _field(self, number: int) -> int | None:
        """Where a field lies; None where it is absent."""
        vtable = self.position - self._read("<i", self.position)
        size = self._read("<H", vtable)
        if 6 + 2 * number > size:
            return None
        offset = self._read("<H", vtable + 4 + 2 * number)
        return self.position + offset if offset else None

    def _read(self, kind: str, position: int) -> int:
        if position < 0:
            raise DamagedError("an offset points before the start of the file")
        try:
            return int(struct.unpack_from(kind, self.data, position)[0])
        except struct.error:
            raise DamagedError("an offset points behind the end of the file") from None

    def number(self, field: int, kind: str = "<i", default: int = 0) -> int:
        """A whole number or a truth value; ``kind`` as in the struct module."""
        position = self._field(field)
        return default if position is None else self._read(kind, position)

    def table(self, field: int) -> Table | None:
        """A table."""
        position = self._field(field)
        return None if position is None else Table(self.data, position + self._read("<I", position))

    def _vector(self, field: int, item_size: int) -> tuple[int, int]:
        """(position of the first item, number of items)."""
        position = self._field(field)
        if position is None:
            return 0, 0
        start = position + self._read("<I", position)
        count = self._read("<I", start)
        if start + 4 + count * item_size > len(self.data):
            raise DamagedError("a list is longer than the file")
        return start + 4, count

    def numbers(self, field: int, kind: str = "i") -> tuple[float, ...]:
        """A list of numbers; ``kind`` as in the struct module, without the byte order."""
        start, count = self._vector(field, struct.calcsize(kind))
        return struct.unpack_from(f"<{count}{kind}", self.data, start)

    def integers(self, field: int, kind: str = "i") -> tuple[int, ...]:
        """A list of whole numbers."""
        return tuple(int(value) for value in self.numbers(field, kind))

    def bytes(self, field: int) -> bytes:
        """A list of bytes."""
        start, count = self._vector(field, 1)
        return self.data[start : start + count]

    def string(self, field: int) -> str:
        """Text; empty where it is absent."""
        return self.bytes(field).decode("utf-8", "replace")

    def tables(self, field: int) -> list[Table]:
        """A list of tables."""
        start, count = self._vector(field, 4)
        if count > _MAX_ITEMS:
            raise DamagedError("a list has too many items")
        return [Table(self.data, at + self._read("<I", at)) for at in range(start, start + 4 * count, 4)]


def root(data: bytes, identifier: bytes) -> Table:
    """The first table of a file with this identifier.

    Raises:
        DamagedError: it has another, or is too short.
    """
    if len(data) < 8 or data[4:8] != identifier:
        raise DamagedError("the file does not begin as its kind does")
    return Table(data, Table(data, 0)._read("<I", 0))
