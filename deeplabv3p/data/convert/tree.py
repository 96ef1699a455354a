"""The files of a source, wherever they are, as one set."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deeplabv3p.data.kinds import IMAGE_SUFFIXES
from deeplabv3p.errors import DataError


@dataclass(frozen=True)
class File:
    """A file of a tree. ``name`` is its path in the tree, with ``/``; ``where`` names it to people; ``path`` is the
    file on the disk where it may be linked to, so not one of an archive."""

    name: str
    where: str
    size: int
    path: Path | None
    _read: Callable[[], bytes]

    def read(self) -> bytes:
        """Its content. Raises DataError."""
        try:
            data = self._read()
        except (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as e:
            raise DataError(f"cannot read {self.where} ({e or type(e).__name__}). Get the file again.") from None
        if len(data) != self.size:
            raise DataError(f"{self.where} has {len(data)} bytes, {self.size} are expected. Get the file again.")
        return data

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> str:
        return str(PurePosixPath(self.name).parent)


class Tree:
    """The files of all sources, by name, sorted. Names begin with that of their source."""

    def __init__(self, files: Sequence[File], notes: list[str]) -> None:
        self.files = {file.name: file for file in sorted(files, key=lambda file: file.name)}
        self.notes = notes
        self._by_base: dict[str, list[File]] = defaultdict(list)
        for file in self.files.values():
            self._by_base[PurePosixPath(file.name).name].append(file)

    def ending(self, tail: str) -> list[File]:
        """The files whose path is ``tail`` or ends with it, by whole parts."""
        parts = PurePosixPath(tail.replace("\\", "/")).parts
        if not parts or ".." in parts:
            return []
        return [f for f in self._by_base.get(parts[-1], []) if PurePosixPath(f.name).parts[-len(parts) :] == parts]

    def documents(self, *suffixes: str) -> list[File]:
        """The files with one of these suffixes, in lower case, those of the same content once: an annotation file is
        often copied beside the pictures, too. What is left out is told in ``notes``.

        Raises:
            DataError: a file that may be a copy cannot be read.
        """
        found = [file for file in self.files.values() if file.suffix.lower() in suffixes]
        by_size: dict[int, list[File]] = defaultdict(list)
        for file in found:
            by_size[file.size].append(file)
        copies: dict[str, File] = {}
        for same in by_size.values():
            first: dict[bytes, File] = {}
            for file in same if len(same) > 1 else ():
                original = first.setdefault(hashlib.sha256(file.read()).digest(), file)
                if original is not file:
                    copies[file.name] = original
        for name, original in copies.items():
            note = f"{self.files[name].where} is a copy of {original.where}: it is read once"
            if note not in self.notes:
                self.notes.append(note)
        return [file for file in found if file.name not in copies]

    def picture(self, near: File, *names: str) -> File:
        """The picture that one of ``names`` means in a file ``near`` it, as :meth:`beside` finds it, the first first.

        Raises:
            DataError: it is missing, is there several times, or is of a kind that training does not read.
        """
        for name in names:
            found = self.beside(near, name)
            if found is not None:
                if found.suffix.lower() not in IMAGE_SUFFIXES:
                    raise DataError(f"its picture {found.where} is of a kind that is not read ({found.suffix or '-'}).")
                return found
        base = PurePosixPath(names[0].replace("\\", "/")).name
        several = self.ending(base) if base else []
        raise DataError(not_one(base, several) if len(several) > 1 else not_one(names[0], ()))

    def one(self, tail: str) -> File | None:
        """The file with this end of its path: the one in the fewest folders; None if there is none."""
        found = self.ending(tail)
        return min(found, key=lambda file: (file.name.count("/"), file.name), default=None)

    def need(self, tail: str, hint: str) -> File:
        """As :meth:`one`; raises DataError with ``hint`` where there is none."""
        found = self.one(tail)
        if found is None:
            raise DataError(f"the sources hold no {tail}. {hint}")
        return found

    def inside(self, folder: str) -> list[File]:
        """The files that are directly in folders whose path ends with ``folder``."""
        parts = PurePosixPath(folder).parts
        return [f for f in self.files.values() if PurePosixPath(f.name).parent.parts[-len(parts) :] == parts]

    def below(self, folder: str) -> list[File]:
        """The files at any depth in the folder of the tree that is called ``folder``, from its root ('.': all)."""
        return [f for f in self.files.values() if folder == "." or f.name.startswith(f"{folder}/")]

    def beside(self, near: File, relative: str) -> File | None:
        """The file that ``relative`` means in ``near``'s folder; else the one with the longest common path that ends
        with it, or has its last name; None if there is none, or several that are as near."""
        relative = relative.replace("\\", "/")
        exact = self.files.get(os.path.normpath(f"{near.parent}/{relative}"))
        if exact is not None:
            return exact
        parts = [part for part in PurePosixPath(relative).parts if part not in {"..", "/"}]
        for tail in dict.fromkeys(("/".join(parts), parts[-1] if parts else "")):
            found = self.ending(tail) if tail else []
            if found:
                ranked = sorted(found, key=lambda file: -_common(file.name, near.name))
                tied = len(ranked) > 1 and _common(ranked[0].name, near.name) == _common(ranked[1].name, near.name)
                return None if tied else ranked[0]
        return None


def not_one(name: str, found: Sequence[File]) -> str:
    """Why the picture called ``name`` cannot be taken, where none or several were ``found``."""
    if not found:
        return f"its picture '{name}' is missing."
    return f"its picture '{name}' is there {len(found)} times: {_listed(found)}."


def _listed(files: Sequence[File]) -> str:
    shown = ", ".join(file.where for file in files[:3])
    return shown + (", …" if len(files) > 3 else "")


def _common(a: str, b: str) -> int:
    count = 0
    for left, right in zip(a.split("/"), b.split("/"), strict=False):
        if left != right:
            break
        count += 1
    return count
