"""What a Keras model file holds, read without Keras, so that a file which could run code is refused before it does."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

from deeplabv3p.errors import DataError

# Layers that hold code or open other files, and the forms in which Keras stores Python functions and TensorFlow types.
_REFUSED_CLASSES = frozenset(
    {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "__lambda__", "__typespec__"}
)
# A model is made of these parts of Keras. Others (keras.utils, keras.saving) hold functions that read, write and
# download files, which a config could name as an activation.
_KERAS_PARTS = frozenset(
    {"layers", "models", "ops", "activations", "initializers", "regularizers", "constraints", "dtype_policies"}
)


def check_model_file(path: str | os.PathLike[str]) -> None:
    """Refuse a file that could run code when Keras opens it, or that is no model.

    Raises:
        DataError: the file is not a Keras model, is damaged, holds weights only, or holds something that is not a plain
            part of Keras.
    """
    path = Path(path)
    if path.suffix == ".keras":
        config = _read_keras_config(path)
    elif path.suffix == ".h5":
        config = _read_h5_config(path)
    else:
        raise DataError(f"{path}: Keras models are files that end in .keras or .h5.")
    check_config(config, path)


def check_config(config: dict[str, Any], path: Path) -> None:
    """The same for a model's description (parsed JSON) that is in ``path`` or shall be written there."""
    # Models are opened without compiling them, so Keras never looks at what the training was compiled with.
    _refuse_unsafe({key: value for key, value in config.items() if key != "compile_config"}, path)


def _read_keras_config(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read("config.json")
    except KeyError:
        raise DataError(f"{path} is an archive without a model: config.json is missing in it.") from None
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} is not a Keras model file, or it is cut short ({first_line(error)}).") from None
    return _parse_config(text, path)


def _read_h5_config(path: Path) -> dict[str, Any]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path} is not an HDF5 file, or it is cut short ({first_line(error)}).") from None
    if text is None:
        raise DataError(
            f"{path} holds weights, not a whole model. Pass --model_type and --classes_path to build the model that "
            "they belong to."
        )
    return _parse_config(text, path)


def _parse_config(text: str | bytes, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise DataError(f"{path} is damaged: its model description is not readable.")
    return config


def _refuse_unsafe(config: dict[str, Any], path: Path) -> None:
    # A list of what is left to look at instead of recursion: the depth of the file is not ours.
    left: list[tuple[Any, str]] = [(config, "the model")]
    while left:
        value, owner = left.pop()
        if isinstance(value, dict):
            inner = value.get("config")
            name = inner.get("name") if isinstance(inner, dict) else None
            owner = f"'{name}'" if isinstance(name, str) else owner
            _refuse_unsafe_object(value, path, owner)
        if isinstance(value, (dict, list)):
            left += [(item, owner) for item in (value.values() if isinstance(value, dict) else value)]


def _refuse_unsafe_object(value: dict[str, Any], path: Path, owner: str) -> None:
    """Refuse one dict of the description by its class and module; ``owner`` is the layer it belongs to."""
    # A class is looked up by its registered name as well, with the package in front: "package>Name".
    for key in ("class_name", "registered_name"):
        if str(value.get(key)).rpartition(">")[2] in _REFUSED_CLASSES:
            raise DataError(
                f"{path} is refused: {owner} is a {value[key]}, which can run code or open other files. "
                "Build the model from plain Keras layers only."
            )
    module = value.get("module")
    if module is not None and not _is_keras_part(module):
        raise DataError(
            f"{path} is refused: {owner} needs {module}.{value.get('class_name')}, which is not a part of Keras "
            "that models are made of. Build the model from plain Keras layers only."
        )


def _is_keras_part(module: Any) -> bool:
    package, *parts = str(module).split(".")
    if parts[:1] == ["src"]:
        parts = parts[1:]
    return package == "keras" and (not parts or parts[0] in _KERAS_PARTS)


def first_line(error: BaseException) -> str:
    """The message of an exception as a part of a sentence."""
    text = str(error).strip().splitlines()
    return text[0][:200].rstrip(".") if text else type(error).__name__
