"""Reading files of others without waiting for ever, and writing files so that a reader sees the old content or the new,
never half of either."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplabv3p.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends well, flush it to disk and rename it over ``path``.

    The temporary name keeps the suffix of ``path``, because Keras and OpenCV choose a format by it. When the block
    fails, the temporary file is removed and ``path`` is as it was.

    Raises:
        DataError: the folder cannot be written, or the disk is full.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix, suffix = f".{target.stem[:80]}.", f".tmp{target.suffix}"
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(target)
        _flush(target.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"cannot write {target}: {reason}. Free some space or choose another folder.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 to ``path`` atomically (see :func:`atomic_path`). Bytes of a file name that are no text
    are written as ``\\udc80``, which JSON reads back."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` atomically (see :func:`atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def check_regular(path: str | os.PathLike[str], *, what: str = "") -> None:
    """Refuse what is there and is no file: a pipe, on which a reader waits for ever, a device, a socket or a folder.

    What is missing, or cannot be looked at, is left to whoever opens it. ``what`` it should be is for the message.

    Raises:
        DataError: the message says what it is.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a path from a list may be anything
    except OSError:
        return
    except ValueError:
        raise DataError(f"{os.fspath(path)!r} is not the name of a file.") from None
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "something else")
        hint = "" if stat.S_ISDIR(mode) else " Write its content to a file first."
        raise DataError(f"cannot read {_named(path, what)}: it is {kind}, not a file.{hint}")


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_bytes(path: str | os.PathLike[str], *, what: str = "", limit: int | None = None) -> bytes:
    """The content of a file.

    Args:
        path: the file; see :func:`check_regular` for what is refused.
        what: what it should be, for messages: ``the class list``.
        limit: the most bytes that make sense.

    Raises:
        DataError: it is missing, no file, longer than ``limit``, cannot be read or does not fit into the memory.
    """
    check_regular(path, what=what)
    named = _named(path, what)
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            content = file.read() if limit is None else file.read(limit + 1)
    except OSError as error:
        raise DataError(f"cannot read {named}: {error.strerror}.") from None
    except MemoryError:
        raise DataError(f"{named} does not fit into the memory.") from None
    if limit is not None and len(content) > limit:
        raise DataError(f"{named} is longer than {limit:,} bytes, which makes no sense for such a file.")
    return content


def _named(path: str | os.PathLike[str], what: str) -> str:
    return f"{what} {os.fspath(path)}".lstrip()


def read_npz(path: str | os.PathLike[str], only: Collection[str] | None = None) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of an ``.npz`` archive, by name. Pickled objects, which could run code, are not read.

    Args:
        path: the file.
        only: names of the arrays to read, those of them that are there; None: all.

    Raises:
        DataError: the file is missing, damaged, or holds something else than plain arrays.
    """
    import numpy as np  # here: what only names files, such as `--help`, does without

    check_regular(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            if sum(member.file_size for member in archive.zip.infolist()) > most_bytes(os.stat(path).st_size):  # noqa: PTH116
                raise ValueError("it unpacks to far more than its size")
            return {name: archive[name] for name in archive.files if only is None or name in only}
    except Exception as error:  # zipfile and NumPy raise whatever a damaged file leads to
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"cannot read {path} as an archive of arrays ({reason[0]}).") from None


def most_bytes(size: int) -> int:
    """The most bytes that a packed file of ``size`` bytes may unpack to. Trained weights shrink to half at best;
    kilobytes that become gigabytes are an attack."""
    return max(_ALWAYS, _RATIO * size)


_ALWAYS = 256 << 20  # bytes that every file may unpack to
_RATIO = 64  # times its own size that a larger one may


def _flush(path: Path) -> None:
    """fsync a file or a folder, so that a rename survives a power cut; folders cannot be opened on Windows."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _read_umask()  # mkstemp makes files private; outputs get the permissions any other new file would have
