"""What the user names, folders, archives and single files, opened as one tree."""

from __future__ import annotations

import hashlib
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deeplabv3p.data.convert.archive import CLUTTER, MAX_FILE_BYTES, MAX_FILES, is_archive, tar_files, zip_files
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError
from deeplabv3p.progress import Progress, silent

_BLOCK = 1 << 20


@contextmanager
def open_tree(sources: Sequence[Path], scratch: Path, progress: Progress = silent) -> Iterator[Tree]:
    """Open folders, archives and single files as one tree.

    Args:
        sources: what the user named.
        scratch: a folder for what has to be unpacked; made when needed, the caller removes it.
        progress: told about bytes of compressed tar files.

    Raises:
        DataError: a source is missing, is damaged, has an unsafe name or breaks a limit.
    """
    found: list[File] = []
    notes: list[str] = []
    seen: set[str] = set()  # files on the disk: a source may lie in another one
    with ExitStack() as stack:
        for number, (source, prefix) in enumerate(zip(sources, _prefixes(sources), strict=True)):
            try:
                if source.is_dir():
                    inside = _folder(source, prefix)
                    new = [file for file in inside if _real(file) not in seen]
                    seen |= {_real(file) for file in new}
                    found += new
                    if twice := len(inside) - len(new):
                        notes.append(f"{twice:,} files of {source} are in another source, too: they are read once")
                elif not is_archive(source):
                    single = _single(source, prefix)
                    if _real(single) not in seen:
                        found.append(single)
                    seen.add(_real(single))
                elif zipfile.is_zipfile(source):
                    found += zip_files(source, prefix, stack, notes)
                else:
                    found += tar_files(source, prefix, scratch / str(number), stack, notes, progress)
            except FileNotFoundError:
                raise DataError(f"the source {source} does not exist.") from None
            except (
                OSError,
                EOFError,
                zlib.error,
                lzma.LZMAError,
                tarfile.TarError,
                zipfile.BadZipFile,
                NotImplementedError,
            ) as error:
                raise DataError(f"cannot read {source} ({error}). Get the file again.") from None
        if len(found) > MAX_FILES:
            raise DataError(f"the sources hold more than {MAX_FILES:,} files. Name the folders that are meant.")
        yield Tree(found, notes)


def fingerprint(sources: Sequence[Path], progress: Progress = silent) -> list[str]:
    """What tells whether sources are the same as the last time: of files in folders name, size and time of change; of
    zip files the index, which has name, size and CRC-32 of every file; of other archives and of single files the
    SHA-256 of all their bytes, ``progress`` being told about these.

    Raises:
        DataError: a source is missing or cannot be read.
    """
    marks = []
    for source, prefix in zip(sources, _prefixes(sources), strict=True):
        try:
            if source.is_dir():
                for path, name in _walk(source):
                    info = path.stat()
                    marks.append(f"{prefix}/{name} {info.st_size} {info.st_mtime_ns}")
                continue
            marks.append(f"{prefix} {source.stat().st_size} {_digest(source, progress)}")
        except FileNotFoundError:
            raise DataError(f"the source {source} does not exist.") from None
        except OSError as error:
            raise DataError(f"cannot read {source}: {error.strerror}.") from None
    return marks


def _digest(source: Path, progress: Progress) -> str:
    """The SHA-256 of a file, or of a zip file's index: what is read of that is held to the CRC-32 in it."""
    digest = hashlib.sha256()
    if is_archive(source) and zipfile.is_zipfile(source):
        try:
            with zipfile.ZipFile(source) as archive:
                for info in archive.infolist():
                    entry = (info.filename, info.file_size, info.CRC, info.external_attr, info.header_offset)
                    digest.update(repr(entry).encode("utf-8", "backslashreplace"))
            return digest.hexdigest()
        except (zipfile.BadZipFile, NotImplementedError, ValueError):  # opening it will tell more
            digest = hashlib.sha256()
    total = source.stat().st_size
    with source.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            progress(file.tell(), total)
    return digest.hexdigest()


def _real(file: File) -> str:
    return os.path.realpath(file.path) if file.path is not None else file.where


def _prefixes(sources: Sequence[Path]) -> list[str]:
    """A name for each source, all different, whatever folder the command runs in."""
    names: list[str] = []
    for source in sources:
        base = source.resolve().name or "source"
        name, number = base, 1
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names.append(name)
    return names


# Folders


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """The files of a folder, sorted. Links to folders are followed, each folder once: people link datasets together."""
    seen: set[str] = set()
    count = 0
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name not in CLUTTER)
        for name in sorted(names):
            path = Path(folder, name)
            if name not in CLUTTER and stat.S_ISREG(path.stat().st_mode if path.exists() else 0):
                yield path, path.relative_to(root).as_posix()
                count += 1
                if count > MAX_FILES:
                    raise DataError(f"{root} holds more than {MAX_FILES:,} files. Name the folder that is meant.")


def _folder(root: Path, prefix: str) -> list[File]:
    return [_on_disk(path, f"{prefix}/{name}") for path, name in _walk(root)]


def _single(path: Path, prefix: str) -> File:
    return _on_disk(path, prefix)


def _on_disk(path: Path, name: str) -> File:
    size = path.stat().st_size

    def read() -> bytes:
        if size > MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {MAX_FILE_BYTES >> 30} GiB")
        return path.read_bytes()

    return File(name, str(path), size, path, read)
