"""Writing files so that a reader sees the old content or the new, never half of either."""

from __future__ import annotations

import contextlib
import os
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
    """Write ``text`` as UTF-8 to ``path`` atomically (see :func:`atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` atomically (see :func:`atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_npz(path: str | os.PathLike[str], only: Collection[str] | None = None) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of an ``.npz`` archive, by name. Pickled objects, which could run code, are not read.

    Args:
        path: the file.
        only: names of the arrays to read, those of them that are there; None: all.

    Raises:
        DataError: the file is missing, damaged, or holds something else than plain arrays.
    """
    import numpy as np  # here: what only names files, such as `--help`, does without

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if only is None or name in only}
    except Exception as error:  # zipfile and NumPy raise whatever a damaged file leads to
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"cannot read {path} as an archive of arrays ({reason[0]}).") from None


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
