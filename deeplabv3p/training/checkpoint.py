"""The state of a run in one file: all variables, the position, the log and the spec. Written atomically.

The file is an .npz of plain arrays and one JSON text: reading it runs no code. ``last.keras`` is for people and tools;
this file is what ``--resume`` reads, so that weights and position can never be from different steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplabv3p import files
from deeplabv3p.errors import DataError

STATE_NAME = "state.npz"
VERSION = 3

_META = "meta"


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
    with files.atomic_path(path) as temporary, temporary.open("wb") as out:
        np.savez(out, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the keywords for allow_pickle


def load_state(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a state file: (arrays by ``group/number``, meta).

    Raises:
        DataError: it is missing, not a whole state file, or of another version of this package.
    """
    arrays = files.read_npz(path)
    return arrays, _meta(path, arrays.pop(_META, None))


def load_meta(path: Path) -> dict[str, Any]:
    """The ``meta`` of a state file alone; raises as :func:`load_state`."""
    return _meta(path, files.read_npz(path, only=(_META,)).get(_META))


def restore_variables(variables: Sequence[Any], arrays: Mapping[str, np.ndarray], group: str, where: Path) -> None:
    """Assign the arrays of a group to ``variables``, in order.

    Raises:
        DataError: their number or a shape differs: the state is of another network.
    """
    saved = [arrays[name] for name in sorted(arrays) if name.startswith(group + "/")]
    if [a.shape for a in saved] != [tuple(v.shape) for v in variables]:
        raise DataError(f"{where} holds the state of another network ({group} variables differ).")
    for variable, array in zip(variables, saved, strict=True):
        variable.assign(array)


def _meta(path: Path, text: np.ndarray | None) -> dict[str, Any]:
    try:
        if text is None:
            raise ValueError("none")
        meta = dict(json.loads(text.tobytes()))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is not the state of a run ({type(error).__name__} in its description).") from None
    if meta.get("version") != VERSION:
        raise DataError(
            f"{path} was written by another version of this package. Go on with that version, or start a new run with "
            f"--weights_path {path.parent / 'last.keras'}."
        )
    return meta
