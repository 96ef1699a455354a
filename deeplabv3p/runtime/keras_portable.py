"""Keras files that Keras releases older than ours open, too.

A ``.keras`` file says of every layer all that the layer can be told, things that the releases before did not know of
included, and those refuse what they do not know. A key that came later and has the value that means "as before" is
left out here: nothing is lost, and later releases take the same value where the key is missing.

The oldest release that opens the files is :data:`OLDEST`. Those before want the one input of a model as a list of one
input, and a file in that form makes every later release warn at each run.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

OLDEST = "3.4"
"""The first Keras release that opens what is written here."""

CONFIG = "config.json"
"""The member of a ``.keras`` archive that describes the model."""

_H5_CONFIG = "model_config"
_PIECE = 1 << 20  # bytes copied at once

_AXES = {"input_axes": None, "output_axes": None}
# Class name → keys that Keras has learned since OLDEST, with the values at which they say nothing new.
_LATER: Mapping[str, Mapping[str, object]] = {
    **dict.fromkeys(("GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform"), _AXES),
    **dict.fromkeys(("LecunNormal", "LecunUniform", "VarianceScaling"), _AXES),
    "BatchNormalization": {"renorm": False, "renorm_clipping": None, "renorm_momentum": 0.99},
    "Dense": {"quantization_config": None},
    "InputLayer": {"ragged": False},
}
# Operations on tensors that had no name then. It is a counter: a model's wiring names the node, not the operation.
_NAMELESS = frozenset({"Concatenate", "Mean", "Pad", "Resize", "Softmax"})
_OPERATIONS = "keras.src.ops."  # where they live; layers of the same names keep theirs


def portable_config(config: Any) -> Any:
    """A model's description (parsed JSON) without the keys that only later releases know and that say nothing new."""
    if isinstance(config, list):
        return [portable_config(item) for item in config]
    if not isinstance(config, dict):
        return config
    kept = {key: portable_config(value) for key, value in config.items()}
    own, kind = kept.get("config"), str(config.get("class_name"))
    if isinstance(own, dict):
        later = _LATER.get(kind, {})
        kept["config"] = own = {key: value for key, value in own.items() if key not in later or later[key] != value}
        if kind in _NAMELESS and str(config.get("module")).startswith(_OPERATIONS):
            own.pop("name", None)
    return kept


def make_portable(path: Path) -> None:
    """Have the ``.keras`` or ``.h5`` file that Keras has just written to ``path`` hold :func:`portable_config`."""
    if path.suffix == ".h5":
        _in_h5(path)
    else:
        rewrite(path, {CONFIG: lambda text: json.dumps(portable_config(json.loads(text))).encode()})


def rewrite(path: Path, changes: Mapping[str, Callable[[bytes], bytes]], *, compress: bool = False) -> None:
    """Write a zip archive again in place, some of its members changed, all or none of it compressed.

    The time of writing is left out: equal models are equal files.
    """
    compression = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with tempfile.TemporaryFile(dir=path.parent) as written:
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(written, "w", compression) as target:
            for name in source.namelist():
                member = zipfile.ZipInfo(name)
                member.compress_type = compression
                with source.open(name) as old, target.open(member, "w", force_zip64=True) as new:
                    if name in changes:
                        new.write(changes[name](old.read()))
                    else:
                        shutil.copyfileobj(old, new, _PIECE)
        written.seek(0)
        with path.open("wb") as file:
            shutil.copyfileobj(written, file, _PIECE)


def _in_h5(path: Path) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs[_H5_CONFIG] = json.dumps(portable_config(json.loads(file.attrs[_H5_CONFIG]))).encode()
