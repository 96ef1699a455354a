"""The state of a run in one file: weights, optimizer, random generators, position, history. Written atomically.

The file is an .npz of plain arrays and one JSON text: reading it runs no code. ``last.keras`` is for people and tools;
this file is what ``--resume`` reads, so that weights and position can never be from different steps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deeplabv3p import files
from deeplabv3p.errors import DataError

STATE_NAME = "state.npz"


def save_state(path: Path, model: keras.Model, meta: dict[str, Any]) -> None:
    """Write all variables of ``model`` and its optimizer, and ``meta`` (JSON-ready)."""
    arrays = {f"model/{i:04d}": np.asarray(v) for i, v in enumerate(model.variables)}
    arrays |= {f"optimizer/{i:04d}": np.asarray(v) for i, v in enumerate(model.optimizer.variables)}
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    with files.atomic_path(path) as temporary, temporary.open("wb") as out:
        np.savez(out, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the keywords for allow_pickle


def load_state(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a state file: (arrays, meta).

    Raises:
        DataError: it is missing or not a whole state file.
    """
    arrays = files.read_npz(path)
    try:
        meta = dict(json.loads(arrays.pop("meta").tobytes()))
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} is not the state of a run ({type(error).__name__} in its description).") from None
    return arrays, meta


def restore_variables(variables: list[Any], arrays: dict[str, np.ndarray], prefix: str, where: Path) -> None:
    """Assign the arrays under ``prefix`` ("model" or "optimizer") to ``variables``, in order.

    Raises:
        DataError: their number or a shape differs: the state is of another network.
    """
    saved = [arrays[name] for name in sorted(arrays) if name.startswith(prefix + "/")]
    if [a.shape for a in saved] != [tuple(v.shape) for v in variables]:
        raise DataError(f"{where} holds the state of another network ({prefix} variables differ).")
    for variable, array in zip(variables, saved, strict=True):
        variable.assign(array)
