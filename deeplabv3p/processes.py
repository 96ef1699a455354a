"""Other processes of the project: the one place that starts any.

``python -m`` and ``python -c`` take the current folder for a folder of modules, and that is where people unpack models
of others: a ``json.py`` there would run. So Python processes are started with ``-P``, and are told to find what this
process finds, the current folder left out. No shell is used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
ProcessError, TimeoutExpired = subprocess.SubprocessError, subprocess.TimeoutExpired

_ROOT = Path(__file__).resolve().parents[1]  # where the package itself lives


def run_module(module: str, arguments: Sequence[str] = (), **options: Any) -> subprocess.CompletedProcess[bytes]:
    """The result of ``python -m module arguments`` in a process that imports nothing from the current folder.

    ``options`` are those of :func:`subprocess.run` but ``env``. Raises what that raises.
    """
    return subprocess.run(_command(module, arguments), env=python_environment(), **options)


def start_module(module: str, arguments: Sequence[str] = (), **options: Any) -> subprocess.Popen[bytes]:
    """The same without waiting for it: options and errors of :class:`subprocess.Popen`."""
    return subprocess.Popen(_command(module, arguments), env=python_environment(), **options)


def run_tool(name: str, arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    """The result of a program of the search path, such as ``git``. One in the current folder is not taken.

    ``options`` are those of :func:`subprocess.run`.

    Raises:
        FileNotFoundError: there is none.
        subprocess.SubprocessError: as :func:`subprocess.run`.
    """
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = shutil.which(name, path=os.pathsep.join(_without_current_folder(folders)))
    if found is None or _is_current_folder(Path(found).parent):  # Windows looks in the current folder by itself
        raise FileNotFoundError(f"there is no program '{name}'")
    return subprocess.run([found, *arguments], **options)


def python_environment() -> Mapping[str, str]:
    """The environment of a Python process that finds the modules that this one finds, but those of the current folder.

    What such a process starts itself does not look there either.
    """
    folders = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), *sys.path]
    path = os.pathsep.join(dict.fromkeys(_without_current_folder(folders)))
    return os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def _command(module: str, arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", "-m", module, *arguments]


def _without_current_folder(folders: Iterable[str]) -> list[str]:
    """The folders as absolute paths, without the empty ones, which mean the current folder, and without that itself
    unless this package lives there."""
    kept = [folder for folder in folders if folder and os.pathsep not in folder]
    try:
        whole = [os.path.abspath(folder) for folder in kept]  # noqa: PTH100 - links stay as they are
    except FileNotFoundError:  # the current folder is gone, and what is relative to it
        whole = [folder for folder in kept if Path(folder).is_absolute()]
    return [folder for folder in whole if not _is_current_folder(Path(folder)) or _is_root(Path(folder))]


def _is_current_folder(folder: Path) -> bool:
    try:
        return folder.samefile(".")
    except OSError:  # one of the two is not there
        return False


def _is_root(folder: Path) -> bool:
    try:
        return folder.samefile(_ROOT)
    except OSError:
        return False
