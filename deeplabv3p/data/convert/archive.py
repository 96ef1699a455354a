"""Archives as files of a tree. Nothing of them is trusted: not their names, their links, their sizes.

Zip files and plain tar files are read in place. Compressed tar files cannot be: they are unpacked into a folder of the
caller's under numbers, so that no name from the archive reaches the disk.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from deeplabv3p.data.convert.tree import File
from deeplabv3p.errors import DataError
from deeplabv3p.progress import Progress

MAX_FILES = 1_000_000
"""Files of an archive. COCO-Stuff, the largest here, has 123,287."""
MAX_BYTES = 256 << 30
"""Bytes of an archive, unpacked."""
MAX_FILE_BYTES = 4 << 30
"""Bytes of a file, unpacked, because it is read at once. COCO's largest JSON has 0.5 GB."""
MAX_RATIO = 200
"""Unpacked bytes a packed byte, beyond RATIO_FROM. Pictures have 1, JSON about 5, label maps as PNG 1 to 3."""
RATIO_FROM = 256 << 20

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
CLUTTER = {"__MACOSX", ".DS_Store", "Thumbs.db", "@eaDir"}
"""What systems leave in folders and archives."""

_BLOCK = 1 << 20


def is_archive(path: Path) -> bool:
    """Whether a file's name says that it is an archive."""
    return path.name.lower().endswith(ARCHIVES)


def _safe_name(name: str, archive: Path) -> str | None:
    """The name of a member as a relative path; None for what no dataset means. Names that lead outside are refused."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or (path.parts and path.parts[0].endswith(":")):
        raise DataError(f"{archive} holds the name '{name}', which leads out of the archive: it is refused.")
    if not path.parts or CLUTTER & set(path.parts) or path.name.startswith("._"):
        return None
    return str(path)


class _Limits:
    """Counts what an archive would unpack to."""

    def __init__(self, archive: Path) -> None:
        self._archive, self._packed = archive, max(1, archive.stat().st_size)
        self._files = self._bytes = 0

    def add(self, name: str, size: int) -> None:
        self._files += 1
        self._bytes += size
        reason = None
        if self._files > MAX_FILES:
            reason = f"more than {MAX_FILES:,} files"
        elif size > MAX_FILE_BYTES:
            reason = f"'{name}' with {size:,} bytes, more than {MAX_FILE_BYTES >> 30} GiB"
        elif self._bytes > MAX_BYTES:
            reason = f"more than {MAX_BYTES >> 30} GiB"
        elif self._bytes > max(RATIO_FROM, MAX_RATIO * self._packed):
            reason = f"more than {MAX_RATIO} times its own size"
        if reason is not None:
            raise DataError(f"{self._archive} unpacks to {reason}: it is refused. Unpack it yourself if you trust it.")


def zip_files(path: Path, prefix: str, stack: ExitStack, notes: list[str]) -> list[File]:
    """The files of a zip file, read in place while ``stack`` is open. Raises DataError, or what zipfile raises."""
    archive = stack.enter_context(zipfile.ZipFile(path))
    limits, found, links = _Limits(path), [], 0
    for info in archive.infolist():
        mode = info.external_attr >> 16
        if info.is_dir():
            continue
        if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
            links += 1
            continue
        limits.add(info.filename, info.file_size)
        name = _safe_name(info.filename, path)
        if name is not None:
            found.append(File(f"{prefix}/{name}", f"{path}:{name}", info.file_size, None, _zip_reader(archive, info)))
    _note_links(path, links, notes)
    return found


def _zip_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        with archive.open(info) as stream:
            return stream.read(info.file_size + 1)  # one more than it says, so that a lie shows

    return read


def tar_files(
    path: Path, prefix: str, scratch: Path, stack: ExitStack, notes: list[str], progress: Progress
) -> list[File]:
    """The files of a tar file: of a plain one in place while ``stack`` is open, of a compressed one unpacked into
    ``scratch`` while ``progress`` is told about bytes. Raises DataError, or what tarfile raises."""
    raw = stack.enter_context(path.open("rb"))
    start = raw.read(6)
    raw.seek(0)
    for signature, unpack in _PACKED:
        if start.startswith(signature):
            packed = _Packed(path, stack.enter_context(unpack(raw)))
            return _unpack(path, prefix, packed, scratch, notes, lambda: progress(raw.tell(), path.stat().st_size))
    return _read_in_place(path, prefix, raw, notes)


def _read_in_place(path: Path, prefix: str, raw: BinaryIO, notes: list[str]) -> list[File]:
    limits, found, links = _Limits(path), [], 0
    total, lock = path.stat().st_size, threading.Lock()
    with tarfile.open(path, "r:") as tar:
        while (info := tar.next()) is not None:
            if not _is_file(info):
                links += not info.isdir()
                continue
            limits.add(info.name, info.size)
            if info.offset_data + info.size > total:
                raise DataError(f"{path} is truncated: {info.name} is not complete. Get the file again.")
            name = _safe_name(info.name, path)
            if name is not None:
                reader = _slice_reader(raw, lock, info.offset_data, info.size)
                found.append(File(f"{prefix}/{name}", f"{path}:{name}", info.size, None, reader))
        raw.seek(tar.offset)
        if raw.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes any end for the end
            raise DataError(f"{path} is truncated or damaged: its end is missing. Get the file again.")
    _note_links(path, links, notes)
    return found


def _unpack(
    path: Path, prefix: str, packed: _Packed, scratch: Path, notes: list[str], progress: Callable[[], None]
) -> list[File]:
    limits, links = _Limits(path), 0
    found: list[File] = []
    # Gone through once from the front: going back in a compressed file means to unpack it again.
    with tarfile.open(fileobj=cast(Any, packed), mode="r|") as tar:
        while (info := tar.next()) is not None:
            packed.budget = _HEADERS
            if not _is_file(info):
                links += not info.isdir()
                continue
            limits.add(info.name, info.size)
            packed.budget += info.size
            name = _safe_name(info.name, path)
            stream = tar.extractfile(info)
            if name is None or stream is None:
                continue
            scratch.mkdir(parents=True, exist_ok=True)
            target = scratch / str(len(found))
            with target.open("wb") as out:
                while block := stream.read(_BLOCK):
                    out.write(block)
            found.append(File(f"{prefix}/{name}", f"{path}:{name}", info.size, None, target.read_bytes))
            progress()
    while packed.read(_BLOCK):  # what is cut off or damaged shows at the end of the compressed data
        pass
    _note_links(path, links, notes)
    return found


class _Packed:
    """A compressed stream that gives at most ``budget`` more bytes: headers could be as large as they like, too."""

    def __init__(self, path: Path, stream: Any) -> None:
        self._path, self._stream, self.budget = path, stream, _HEADERS

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        self.budget -= len(data)
        if self.budget < 0:
            raise DataError(f"{self._path} unpacks to more than its headers say: it is refused.")
        return data


_HEADERS = 8 << 20
"""Bytes between two files of a compressed tar file, and behind the last."""
_PACKED: tuple[tuple[bytes, Callable[[BinaryIO], Any]], ...] = (
    (b"\x1f\x8b", lambda raw: gzip.GzipFile(fileobj=raw)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\0", lzma.LZMAFile),
)


def _is_file(info: tarfile.TarInfo) -> bool:
    return info.isreg() and not info.issparse()


def _slice_reader(raw: BinaryIO, lock: threading.Lock, offset: int, size: int) -> Callable[[], bytes]:
    def read() -> bytes:
        with lock:  # threads share the position in the file
            raw.seek(offset)
            return raw.read(size)

    return read


def _note_links(path: Path, links: int, notes: list[str]) -> None:
    if links:
        notes.append(f"{path.name}: {links} links or special files are not followed")
