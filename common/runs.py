"""Where results go: numbered run folders, and output folders checked before any work is done."""

from __future__ import annotations

import os
from pathlib import Path

from deeplabv3p.errors import DataError


def new_run_folder(parent: str | os.PathLike[str] = "logs") -> Path:
    """Make and return the next run folder: ``logs/000``, ``logs/001``, … Two processes never get the same one.

    The number is one above the highest there, so that a deleted run does not give its number to a later one.

    Raises:
        DataError: the folder cannot be made.
    """
    folder = Path(parent)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        number = max(_runs(folder), default=-1)
        while True:
            number += 1
            run = folder / f"{number:03}"
            try:
                run.mkdir()
            except FileExistsError:  # another process was faster, or a file has the name
                continue
            return run
    except OSError as error:
        raise DataError(
            f"cannot make a run folder in {folder}: {error.strerror}. Choose a folder that can be written."
        ) from None


def latest_run(parent: str | os.PathLike[str] = "logs") -> Path:
    """The run folder with the highest number.

    Raises:
        DataError: there is no run folder in ``parent``.
    """
    folder = Path(parent)
    try:
        runs = _runs(folder)
    except OSError:
        runs = {}
    if not runs:
        raise DataError(f"no run found in {folder}. Train first, or name the run's folder.")
    return runs[max(runs)]


def check_output_folder(path: str | os.PathLike[str]) -> Path:
    """Check that results can be written to the folder ``path``, before any work; nothing is created.

    Raises:
        DataError: ``path``, or a folder above it, is a file or may not be written.
    """
    folder = Path(path)
    existing = folder.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise DataError(f"cannot write to the folder {folder}: {existing} is a file. Choose another output path.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise DataError(f"cannot write to the folder {folder}: {existing} is read-only. Choose another output path.")
    return folder


def _runs(folder: Path) -> dict[int, Path]:
    """The run folders in ``folder`` by number."""
    return {int(p.name): p for p in folder.iterdir() if p.name.isascii() and p.name.isdigit() and p.is_dir()}
