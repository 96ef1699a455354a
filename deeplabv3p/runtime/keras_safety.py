"""What a Keras model file holds, read without Keras, so that a file which could run code is refused before it does.

A description is let through only if every object in it is on the list of :mod:`deeplabv3p.runtime.keras_parts`, in the
one spelling that Keras writes. Keras itself resolves many more (``layers.Lambda`` in ``keras``, names registered by a
package, those of its old formats), and none of them is tried here.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from deeplabv3p import archives, documents, files, hdf5
from deeplabv3p.errors import DataError
from deeplabv3p.runtime import keras_parts

KIND = "a Keras model file"
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
_ASSETS = "assets/"  # files of vocabularies, which Keras unpacks

# Layers that hold code or open other files, and the forms in which Keras stores Python functions and TensorFlow types:
# they are named as what they are.
_CODE = frozenset({"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "__lambda__", "__typespec__"})
_VALUES = frozenset({"__keras_tensor__", "__tuple__", "__slice__", "__ellipsis__"})
"""Plain values that Keras stores as if they were objects."""
_MAX_CONFIG = 64 << 20  # bytes; the largest network of keras.applications has 3 MB
_MAX_NUMBER = 1 << 16  # pixels, channels, indices: a larger one asks for more memory than there is
_ANY_NUMBER = frozenset({"seed", "shared_object_id"})


def check_model_file(path: str | os.PathLike[str]) -> None:
    """Refuse a file that could run code when Keras opens it, that reaches for other files, or that is no model.

    Raises:
        DataError: the file is not a Keras model, is damaged, holds weights only, or holds something that is not a plain
            part of Keras.
    """
    path = Path(path)
    if path.suffix == ".keras":
        config = _read_keras(path)
    elif path.suffix == ".h5":
        config = _read_h5(path)
    else:
        raise DataError(f"{path}: Keras models are files that end in .keras or .h5.")
    check_config(config, path)


def check_config(config: dict[str, Any], path: Path) -> None:
    """The same for a model's description (parsed JSON) that is in ``path`` or shall be written there."""
    # Models are opened without compiling them, so Keras never looks at what the training was compiled with. That holds
    # for the whole model alone.
    _refuse_unlisted({key: value for key, value in config.items() if key != "compile_config"}, path)


def _read_keras(path: Path) -> dict[str, Any]:
    members = archives.check_archive(path, KIND)
    text = archives.read_member(path, CONFIG, KIND, limit=_MAX_CONFIG)
    if text is None:
        raise DataError(f"{path} is an archive without a model: {CONFIG} is missing in it.")
    if any(name.startswith(_ASSETS) for name in members):
        raise DataError(
            f"{path} is refused: it holds files for a layer to unpack ({_ASSETS}), as no network here does."
        )
    config = _parse_config(text, path)
    if WEIGHTS in members:
        _check_archived_weights(path)
    return config


def _check_archived_weights(path: Path) -> None:
    import h5py

    size = path.stat().st_size
    data = archives.read_member(path, WEIGHTS, KIND, limit=files.most_bytes(size)) or b""
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            hdf5.check(file, path, len(data))
    except DataError:
        raise
    except Exception as error:  # h5py raises whatever a damaged file leads to
        raise archives.damaged(path, KIND, error) from None


def _read_h5(path: Path) -> dict[str, Any]:
    import h5py

    files.check_regular(path)
    try:
        with h5py.File(path, "r") as file:
            hdf5.check(file, path, path.stat().st_size)
            text = file.attrs.get("model_config")
    except DataError:
        raise
    except Exception as error:  # as above
        raise archives.damaged(path, "an HDF5 file", error) from None
    if text is None:
        raise DataError(
            f"{path} holds weights, not a whole model. Pass --model_type and --classes_path to build the model that "
            "they belong to."
        )
    return _parse_config(text, path)


def _parse_config(text: Any, path: Path) -> dict[str, Any]:
    config = None
    if isinstance(text, (str, bytes)):
        try:
            config = documents.parse_json(text, str(path), foreign=True)
        except DataError as error:
            raise DataError(
                f"{path} is damaged: its model description is not readable ({_reason(error, path)})."
            ) from None
    if not isinstance(config, dict):
        raise DataError(f"{path} is damaged: its model description is not readable.")
    return config


def _reason(error: DataError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ").rstrip(".")


def _refuse_unlisted(config: dict[str, Any], path: Path) -> None:
    # A list of what is left to look at instead of recursion: the depth of the file is not ours.
    left: list[tuple[Any, str, str]] = [(config, "", "the model")]
    while left:
        value, key, owner = left.pop()
        if isinstance(value, dict):
            inner = value.get("config")
            name = inner.get("name") if isinstance(inner, dict) else None
            owner = f"'{documents.shown(name)}'" if isinstance(name, str) else owner
            _check_object(value, path, owner)
            left += [(item, str(name), owner) for name, item in value.items()]
        elif isinstance(value, list):
            left += [(item, key, owner) for item in value]
        else:
            _check_value(value, key, path, owner)


def _check_object(value: dict[str, Any], path: Path, owner: str) -> None:
    """Refuse one dict of the description that is an object of Keras and is not listed; ``owner`` is its layer."""
    if value.get("compile_config"):
        raise DataError(
            f"{path} is refused: {owner} says how it was trained (compile_config). Save the model without it."
        )
    if "class_name" not in value:
        return
    name, module, registered = value["class_name"], value.get("module"), value.get("registered_name")
    for text in (name, registered, value.get("config")):
        if isinstance(text, str) and text.rpartition(">")[2].rpartition(".")[2] in _CODE:
            raise DataError(
                f"{path} is refused: {owner} is a {documents.shown(text)}, which can run code or open other files. "
                "Build the model from plain Keras layers only."
            )
    if name == "function":
        allowed = _is_listed_function(value)
        name = value.get("config")
    elif "module" in value:
        allowed = isinstance(module, str) and isinstance(name, str) and (module, name) in keras_parts.CLASSES
    else:
        allowed = isinstance(name, str) and name in keras_parts.BARE_CLASSES | _VALUES
    # A registered name is looked up first, and may be that of anything; Keras repeats the class's own there.
    if not allowed or registered not in (None, name, value["class_name"]):
        full = f"{module}.{name}" if "module" in value else str(name)
        as_name = "" if registered in (None, name) else f" registered as {documents.shown(str(registered))}"
        raise DataError(
            f"{path} is refused: {owner} needs {documents.shown(full)}{as_name}, which is not a part of Keras "
            "that models are made of. Build the model from plain Keras layers only."
        )


def _is_listed_function(value: dict[str, Any]) -> bool:
    """Keras 3.5 and before gave functions of its own the module ``builtins``."""
    name, module = value.get("config"), value.get("module")
    return isinstance(name, str) and module in ("keras.activations", "builtins") and name in keras_parts.ACTIVATIONS


def _check_value(value: Any, key: str, path: Path, owner: str) -> None:
    """Refuse an activation that is not listed, and numbers that ask for more memory than there is."""
    if key == "activation" and isinstance(value, str) and value not in keras_parts.ACTIVATIONS:
        raise DataError(
            f"{path} is refused: {owner} needs the activation {documents.shown(value)}, which is not one of Keras'."
        )
    if isinstance(value, int) and abs(value) > _MAX_NUMBER and key not in _ANY_NUMBER:
        raise DataError(f"{path} is refused: {owner} has {documents.shown(key)} {value}, more than a network can use.")


def first_line(error: BaseException) -> str:
    """The message of an exception as a part of a sentence."""
    text = str(error).strip().splitlines()
    return text[0][:200].rstrip(".") if text else type(error).__name__
