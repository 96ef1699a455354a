"""The one matrix that is wanted of a MATLAB file: ``GTcls.Segmentation`` of SBD.

SciPy reads these files, too; it is 100 MB for one matrix of bytes and would be the only reason for that dependency.
This reader knows numeric matrices in structs, of version 5, and refuses everything else; tests hold it against SciPy's.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import DataError

MAX_BYTES = 256 << 20
"""Bytes of a file, unpacked; SBD's have less than 1 MiB."""

_MATRIX, _COMPRESSED = 14, 15
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_STRUCT = 2
_NUMERIC = range(6, 16)  # mxDOUBLE_CLASS to mxUINT64_CLASS
_COMPLEX = 0x08


class _DamagedError(Exception):
    """The text says what is wrong."""


@dataclass
class _Reader:
    """Elements one after the other: a tag with type and size, the data, and padding to 8 bytes."""

    data: bytes
    order: str
    place: int = 0

    def element(self) -> tuple[int, bytes]:
        if self.place + 8 > len(self.data):
            raise _DamagedError("it ends inside an element")
        kind, size = struct.unpack_from(f"{self.order}II", self.data, self.place)
        if kind >> 16:  # the short form: up to 4 bytes within the tag
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise _DamagedError("a short element is too long")
            begin = self.place + 4
            self.place += 8
        else:
            begin = self.place + 8
            # Compressed elements are not padded.
            self.place = begin + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if begin + size > len(self.data):
            raise _DamagedError("it ends inside an element")
        return kind, self.data[begin : begin + size]

    def numbers(self) -> npt.NDArray[np.generic]:
        kind, data = self.element()
        if kind not in _DTYPES:
            raise _DamagedError(f"an element of type {kind} where numbers are expected")
        dtype = np.dtype(self.order + _DTYPES[kind])
        if len(data) % dtype.itemsize:
            raise _DamagedError("a number is cut off")
        return np.frombuffer(data, dtype)

    @property
    def at_end(self) -> bool:
        return self.place >= len(self.data)


def read_field(data: bytes, variable: str, field: str, where: str) -> npt.NDArray[np.generic]:
    """The numeric matrix ``variable.field`` of a MATLAB 5 file, [rows, columns], with its own dtype.

    Args:
        data: the file.
        variable, field: such as ``GTcls`` and ``Segmentation``.
        where: the file, for people.

    Raises:
        DataError: it is no such file, is damaged, or has no such matrix.
    """
    try:
        order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
        if order is None or len(data) < 136:
            raise _DamagedError("it is no MATLAB 5 file")
        for matrix in _matrices(_Reader(data, order, 128)):
            found = _find(matrix, variable, field)
            if found is not None:
                return found
        raise _DamagedError(f"it has no {variable}.{field}")
    except (_DamagedError, struct.error, zlib.error, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"cannot read {where} as a label map ({error}). Get the file again.") from None


def _matrices(reader: _Reader) -> Iterator[_Reader]:
    while not reader.at_end:
        kind, data = reader.element()
        if kind == _COMPRESSED:
            unpack = zlib.decompressobj()
            data = unpack.decompress(data, MAX_BYTES)
            if not unpack.eof:
                raise _DamagedError(f"it is cut off, or unpacks to more than {MAX_BYTES >> 20} MiB")
            kind, data = _Reader(data, reader.order).element()
        if kind == _MATRIX:
            yield _Reader(data, reader.order)


@dataclass
class _Head:
    kind: int
    flags: int
    shape: tuple[int, ...]
    name: str


def _head(reader: _Reader) -> _Head:
    flags = reader.numbers()
    shape: npt.NDArray[Any] = reader.numbers()
    _, name = reader.element()
    if len(flags) < 1 or flags.dtype.kind != "u" or shape.dtype.kind != "i" or len(shape) < 2 or (shape < 0).any():
        raise _DamagedError("a matrix has no head")
    word = int(flags[0])
    return _Head(word & 0xFF, word >> 8 & 0xFF, tuple(int(side) for side in shape), name.decode("ascii"))


def _find(reader: _Reader, variable: str, field: str) -> npt.NDArray[np.generic] | None:
    """The field, if this matrix is the struct."""
    head = _head(reader)
    if head.name != variable or head.kind != _STRUCT:
        return None
    if head.shape != (1, 1):
        raise _DamagedError(f"{variable} is not one struct")
    length = int(reader.numbers()[0])
    _, names = reader.element()
    if not 1 <= length <= 64:
        raise _DamagedError("its field names are damaged")
    fields = [names[at : at + length].split(b"\0")[0].decode("ascii") for at in range(0, len(names), length)]
    for name in fields:
        kind, data = reader.element()
        if name == field:
            if kind != _MATRIX:
                raise _DamagedError(f"{variable}.{field} is no matrix")
            return _numeric(_Reader(data, reader.order))
    return None


def _numeric(reader: _Reader) -> npt.NDArray[np.generic]:
    head = _head(reader)
    if head.kind not in _NUMERIC or head.flags & _COMPLEX or len(head.shape) != 2:
        raise _DamagedError("the matrix is not of real numbers with two dimensions")
    values = reader.numbers()
    if len(values) != head.shape[0] * head.shape[1]:
        raise _DamagedError("the matrix is not complete")
    return values.reshape(head.shape, order="F")
