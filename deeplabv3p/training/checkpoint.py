"""The state of a run in one file: all variables, the position, the log and the spec. Written atomically.

The file is an .npz of plain arrays and one JSON text: reading it runs no code. ``last.keras`` is for people and tools;
this file is what ``--resume`` reads, so that weights and position can never be from different steps.

Its last member is a checksum of all others. A new state is read back before it takes the place of the old one, which is
kept as ``state.previous.npz``: what a disk or a hand damages later costs the steps between the two, not the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplabv3p import documents, files
from deeplabv3p.errors import DataError

STATE_NAME = "state.npz"
PREVIOUS_NAME = "state.previous.npz"
DAMAGED_NAME = "state.damaged.npz"
VERSION = 4

_META, _CHECKSUM = "meta", "checksum"


def save_state(path: Path, groups: Mapping[str, Sequence[Any]], meta: Mapping[str, Any]) -> None:
    """Write Keras variables by group ("model", "optimizer", …), and ``meta`` (JSON-ready).

    Raises:
        DataError: the file cannot be written; the old one stays.
    """
    arrays = {
        f"{group}/{i:05d}": np.asarray(variable)
        for group, variables in groups.items()
        for i, variable in enumerate(variables)
    }
    arrays[_META] = np.frombuffer(json.dumps({"version": VERSION, **meta}).encode(), np.uint8)
    with files.atomic_path(path) as temporary:
        with temporary.open("wb") as out:
            np.savez(out, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the keywords for allow_pickle
        _seal(temporary)
        _check_whole(temporary)
        _keep(path)


def load_state(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a state file: (arrays by ``group/number``, meta).

    Raises:
        DataError: it is missing, not a whole state file, or of another version of this package.
    """
    meta = load_meta(path)
    _check_whole(path)
    arrays = files.read_npz(path)
    return {name: array for name, array in arrays.items() if name not in (_META, _CHECKSUM)}, meta


def recover(run: Path) -> str | None:
    """Put the previous state of a run in the place of the newest one where that is missing or damaged. The damaged file
    stays as ``state.damaged.npz``.

    Returns:
        What was wrong with the newest one, None if nothing was.

    Raises:
        DataError: neither can be read, or the state is of another version of this package.
    """
    path, previous = run / STATE_NAME, run / PREVIOUS_NAME
    try:
        load_state(path)
    except DataError as error:
        try:
            load_state(previous)
        except DataError:
            raise error from None
        with contextlib.suppress(FileNotFoundError):
            path.replace(run / DAMAGED_NAME)
        with files.atomic_path(path) as temporary:
            temporary.write_bytes(previous.read_bytes())
        return str(error)
    return None


def load_meta(path: Path) -> dict[str, Any]:
    """The ``meta`` of a state file alone; raises as :func:`load_state`."""
    return _meta(path, files.read_npz(path, only=(_META,)).get(_META))


def restore_variables(variables: Sequence[Any], arrays: Mapping[str, np.ndarray], group: str, where: Path) -> None:
    """Assign the arrays of a group to ``variables``, in order.

    Raises:
        DataError: their number, a shape or a type differs: the state is of another network.
    """
    saved = [arrays[name] for name in sorted(arrays) if name.startswith(group + "/")]
    wanted = [(tuple(v.shape), np.asarray(v).dtype) for v in variables]
    if [(a.shape, a.dtype) for a in saved] != wanted:
        raise DataError(f"{where} holds the state of another network ({group} variables differ).")
    for variable, array in zip(variables, saved, strict=True):
        variable.assign(array)


def _meta(path: Path, text: np.ndarray | None) -> dict[str, Any]:
    meta = None if text is None else documents.parse_json(text.tobytes(), f"{path}, its description")
    if not isinstance(meta, dict):
        raise DataError(f"{path} is not the state of a run: it has no description.")
    if meta.get("version") != VERSION:
        raise DataError(
            f"{path} was written by another version of this package. Go on with that version, or start a new run with "
            f"--weights_path {path.parent / 'last.keras'}."
        )
    return meta


def _seal(path: Path) -> None:
    """Append the checksum. The archive has a CRC-32 of every member: it is enough to hash those, with the names."""
    with zipfile.ZipFile(path, "a") as archive:
        array = io.BytesIO()
        np.save(array, _checksum(archive))
        archive.writestr(f"{_CHECKSUM}.npy", array.getvalue())


def _checksum(archive: zipfile.ZipFile) -> np.ndarray:
    """uint8 [32]: of the names, sizes and CRC-32 of all members before the checksum itself."""
    members = [[m.filename, m.file_size, m.CRC] for m in archive.infolist() if m.filename != f"{_CHECKSUM}.npy"]
    return np.frombuffer(hashlib.sha256(json.dumps(members).encode()).digest(), np.uint8)


def _check_whole(path: Path) -> None:
    """Raises DataError unless every byte of a state file is as it was written."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            sealed = np.lib.format.read_array(io.BytesIO(archive.read(f"{_CHECKSUM}.npy")), allow_pickle=False)
            whole = damaged is None and np.array_equal(sealed, _checksum(archive))
            what = "its content is not what was written" if damaged is None else f"its part {damaged} is damaged"
    except Exception as error:  # zipfile and NumPy raise whatever a damaged file leads to
        whole, what = False, (str(error).strip().splitlines() or [type(error).__name__])[0]
    if not whole:
        raise DataError(f"{path} is not the whole state of a run ({what}).")


def _keep(path: Path) -> None:
    """Keep the state that is about to be replaced under its second name; ``path`` itself is there all the time."""
    if not path.exists():
        return
    link = path.with_name(f".{PREVIOUS_NAME}.tmp.npz")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links: for a moment there is the previous state alone
        path.replace(path.with_name(PREVIOUS_NAME))
    else:
        link.replace(path.with_name(PREVIOUS_NAME))
