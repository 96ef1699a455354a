"""From what a user names to picture files, and from picture names to the names of their results."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from deeplabv3p.data.doctor.inventory import content_format
from deeplabv3p.data.kinds import IMAGE_SUFFIXES, is_other_kind, kinds_text
from deeplabv3p.errors import DataError, UsageError


def find_pictures(names: Sequence[str], results: Path | None = None) -> list[Path]:
    """The picture files that ``names`` mean, each once, in the order given.

    A name is a file, a folder (its pictures, by suffix, sorted, without its subfolders), or a pattern such as
    ``holiday/**/*.jpg`` (its pictures, sorted).

    Raises:
        DataError: a name means no picture.
        UsageError: a name is empty, or a folder or pattern takes pictures from ``results``, where results will be
            written: the next run would take those for pictures.
    """
    found: dict[Path, None] = {}
    for name in names:
        if not name.strip():
            raise UsageError("the name of a picture is empty.")
        path = Path(name)
        paths = [path] if path.is_file() else _pictures_in(name)
        if not paths:
            where = "the folder holds no picture" if path.is_dir() else "there is no such file, folder or pattern match"
            others = kinds_text(_left_aside(name))
            but = f", but {others}. Convert them" if others else ""
            raise DataError(f"no picture found for '{name}': {where}{but}.")
        if results is not None and paths != [path] and results.resolve() in {p.parent.resolve() for p in paths}:
            raise UsageError(f"'{name}' takes pictures from {results}, where the results go. Choose another --output.")
        found.update(dict.fromkeys(paths))
    return list(found)


def left_aside(names: Sequence[str]) -> str:
    """What the folders and patterns among ``names`` hold that is a picture, but is not looked for: ``3 files of kinds
    that are not read: .heic 2, .gif 1``. "" where there is nothing."""
    return kinds_text(dict.fromkeys(path for name in names if not Path(name).is_file() for path in _left_aside(name)))


def _pictures_in(name: str) -> list[Path]:
    return sorted(p for p in _inside(name) if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def _left_aside(name: str) -> list[Path]:
    """Pictures of other kinds, by their suffix or their first bytes."""
    rest = (p for p in _inside(name) if p.suffix.lower() not in IMAGE_SUFFIXES and p.is_file())
    return [p for p in rest if is_other_kind(p) or content_format(p)]


def _inside(name: str) -> Iterable[Path]:
    path = Path(name)
    # Path.glob takes no absolute pattern.
    return path.iterdir() if path.is_dir() else map(Path, glob.glob(name, recursive=True))  # noqa: PTH207


class ResultNames:
    """Gives each picture a name for its results: no two the same, none outside the output folder."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def unique(self, name: str) -> str:
        """``name`` as a relative path with ``/``, without ``..``; ``_2``, ``_3``, … is appended if it is taken.

        Upper and lower case count as the same, as on Windows and macOS.
        """
        path = PurePosixPath(name.replace("\\", "/").replace(":", "_"))
        parts = [part for part in path.parts if part not in {path.root, ".."}]
        base = "/".join(parts) or "picture"
        candidate, number = base, 1
        while candidate.casefold() in self._used:
            number += 1
            candidate = f"{base}_{number}"
        self._used.add(candidate.casefold())
        return candidate
