"""Frozen TensorFlow graphs (``.pb``): the frozen graph as it is."""

from __future__ import annotations

from pathlib import Path

from deeplabv3p.export.formats import Calibration, Exported, ExportOptions
from deeplabv3p.export.freeze import Frozen
from deeplabv3p.files import atomic_path
from deeplabv3p.spec import sidecar_path


def write(frozen: Frozen, path: Path, options: ExportOptions, calibration: Calibration | None = None) -> Exported:
    """Write a GraphDef and its spec beside it. A GraphDef has no place for a spec inside.

    Raises:
        DataError: the location cannot be written.
    """
    del options, calibration  # one precision, nothing to choose
    with atomic_path(sidecar_path(path)) as sidecar, atomic_path(path) as temporary:
        temporary.write_bytes(frozen.graph_def.SerializeToString(deterministic=True))
        sidecar.write_text(frozen.spec.to_json(), encoding="utf-8")
    return Exported(path, frozen.spec)
