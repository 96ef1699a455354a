"""Members of zip archives from others, which ``.keras``, ``.npz``, torch's and some ``.tflite`` files are.

A few kilobytes can unpack to gigabytes. So a member is read only if what it says it unpacks to is within reason, and no
more than that is unpacked.
"""

from __future__ import annotations

import os
import zipfile

from deeplabv3p import files
from deeplabv3p.errors import DataError

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def check_archive(path: str | os.PathLike[str], kind: str) -> list[str]:
    """The names of the members of an archive that may be unpacked as a whole.

    ``kind`` is what the file should be, for messages: ``a Keras model file``.

    Raises:
        DataError: it is missing, damaged, encrypted, packed in a way that is not read here, or unpacks to far more than
            its size.
    """
    files.check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = os.stat(path).st_size  # noqa: PTH116
    except Exception as error:  # zipfile raises whatever a damaged file leads to
        raise damaged(path, kind, error) from None
    for member in members:
        _check_member(member, path, kind)
    if sum(member.file_size for member in members) > files.most_bytes(size):
        raise DataError(f"{path} is refused: it unpacks to far more than its size, as no {_noun(kind)} does.")
    return [member.filename for member in members]


def read_member(path: str | os.PathLike[str], name: str, kind: str, *, limit: int) -> bytes | None:
    """The content of one member, None where there is none of that name; arguments and errors as of
    :func:`check_archive`, and ``limit`` is the most bytes that make sense."""
    files.check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if name not in archive.namelist():
                return None
            member = archive.getinfo(name)
            _check_member(member, path, kind)
            if member.file_size > limit:
                raise DataError(f"{path} is refused: {name} in it is longer than {limit:,} bytes.")
            with archive.open(member) as file:
                return file.read(limit)
    except DataError:
        raise
    except Exception as error:  # as above
        raise damaged(path, kind, error) from None


def damaged(path: str | os.PathLike[str], kind: str, error: BaseException) -> DataError:
    """The error for an archive that could not be read."""
    said = str(error).strip().splitlines()
    reason = said[0][:200].rstrip(".") if said else type(error).__name__
    return DataError(f"{path} is not {kind}, or it is damaged or cut short ({reason}).")


def _check_member(member: zipfile.ZipInfo, path: str | os.PathLike[str], kind: str) -> None:
    if member.flag_bits & 1:
        raise DataError(f"{path} is refused: {_shown(member)} in it is encrypted. Save it without a password.")
    if member.compress_type not in _METHODS:
        raise DataError(f"{path} is refused: {_shown(member)} in it is packed by a method that no {_noun(kind)} uses.")


def _shown(member: zipfile.ZipInfo) -> str:
    return member.filename if member.filename.isprintable() and len(member.filename) < 100 else "a member"


def _noun(kind: str) -> str:
    return kind.removeprefix("a ").removeprefix("an ")
