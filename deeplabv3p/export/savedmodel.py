"""TensorFlow SavedModels: a folder with the frozen graph under the signature ``serving_default``.

The graph holds constants and stock operations, no variables and no Python, so opening it runs no code of the model's.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeplabv3p.errors import DataError
from deeplabv3p.export.formats import Calibration, Exported, ExportOptions
from deeplabv3p.export.freeze import Frozen
from deeplabv3p.files import atomic_path
from deeplabv3p.runtime.engine import quiet
from deeplabv3p.spec import sidecar_path

EXTRA_SPEC = Path("assets.extra", "deeplabv3p_spec.json")
"""Where the folder holds its spec; TensorFlow leaves ``assets.extra`` to users."""


def write(frozen: Frozen, path: Path, options: ExportOptions, calibration: Calibration | None = None) -> Exported:
    """Write the folder, its spec inside and beside it. A SavedModel that is there is replaced as a whole.

    Raises:
        DataError: the location cannot be written, or something else than a SavedModel is there.
    """
    del options, calibration  # one precision, nothing to choose
    with atomic_path(sidecar_path(path)) as sidecar, _atomic_folder(path) as temporary:
        _save(frozen, temporary)
        extra = temporary / EXTRA_SPEC
        extra.parent.mkdir()
        for place in (extra, sidecar):
            place.write_text(frozen.spec.to_json(), encoding="utf-8")
    return Exported(path, frozen.spec)


def _save(frozen: Frozen, folder: Path) -> None:
    import tensorflow as tf

    picture, source = frozen.concrete.inputs[0], frozen.graph_def
    names = (f"{frozen.input_name}:0", f"{frozen.output_name}:0")

    def forward(image: Any) -> Any:
        return {
            frozen.output_name: tf.graph_util.import_graph_def(source, {names[0]: image}, [names[1]], name="model")[0]
        }

    signature = tf.TensorSpec(picture.shape, picture.dtype, name=frozen.input_name)
    function = tf.function(forward, input_signature=[signature], autograph=False)
    module = tf.Module()
    with quiet():
        tf.saved_model.save(module, str(folder), signatures=function.get_concrete_function())


@contextlib.contextmanager
def _atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` that takes its place when the block ends well."""
    if path.exists() and not (path / "saved_model.pb").exists():
        raise DataError(f"{path} is there and is no SavedModel, so that it is not replaced. Choose another name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name[:80]}.", suffix=".tmp", dir=path.parent) as outer:
            temporary = Path(outer, "new")
            temporary.mkdir()
            yield temporary
            old = Path(outer, "old")
            if path.exists():
                path.rename(old)
            try:
                temporary.rename(path)
            except OSError:
                if old.exists():
                    old.rename(path)
                raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"cannot write {path}: {reason}. Free some space or choose another folder.") from error
