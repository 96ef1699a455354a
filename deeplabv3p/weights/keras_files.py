"""Weights from Keras files: ``.keras``, ``.weights.h5``, and ``.h5`` of Keras 3 or 2. Nothing in them is instantiated:
only arrays are read, and the epsilon of batch norms where the file describes its network."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deeplabv3p import archives, documents, files, hdf5
from deeplabv3p.errors import DataError
from deeplabv3p.spec import SYMMETRIC
from deeplabv3p.weights import names
from deeplabv3p.weights.source import Array, Source

_ARCHIVED_WEIGHTS, _ARCHIVED_CONFIG = "model.weights.h5", "config.json"
_KIND = "a Keras model file"


def read_keras_file(path: Path) -> Source:
    """Read a Keras model or its weights, by layer name.

    bonlime's DeepLab and MobileNetV3 under its older names come under our layer names.

    Raises:
        DataError: not such a file, or damaged.
    """
    import h5py

    files.check_regular(path)
    try:
        if zipfile.is_zipfile(path):
            limit = files.most_bytes(path.stat().st_size)
            config = archives.read_member(path, _ARCHIVED_CONFIG, _KIND, limit=limit) or b"null"
            data = archives.read_member(path, _ARCHIVED_WEIGHTS, _KIND, limit=limit)
            if data is None:
                raise DataError(f"{path} is no {_KIND}: {_ARCHIVED_WEIGHTS} is missing in it.")
            with h5py.File(io.BytesIO(data), "r") as file:
                hdf5.check(file, path, len(data))
                layers = _read_keras3(file)
            kind = "Keras 3 model"
        else:
            with h5py.File(path, "r") as file:
                hdf5.check(file, path, path.stat().st_size)
                config = file.attrs.get("model_config", "null")
                root = file.get("model_weights", file)
                old = any(name in root.attrs for name in ("layer_names", "layer_names0"))
                layers = _read_keras2(root) if old else _read_keras3(file)
            kind = "Keras .h5 file" if old else "Keras 3 weights"
        epsilons = dict(_epsilons(_parsed(config)))
    except DataError:
        raise
    except Exception as error:  # h5py raises whatever a damaged file leads to
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{path} is not a readable Keras model or weights file ({reason[0]}).") from None
    return _renamed(path, kind, layers, epsilons)


def _parsed(config: str | bytes) -> Any:
    try:
        return documents.parse_json(config, "its description", foreign=True)
    except DataError as error:
        raise ValueError(str(error).rstrip(".")) from None


def _read_keras2(root: Any) -> dict[str, list[Array]]:
    """Keras 2's layout, which Keras 3 still writes for ``.h5``: a group per layer, its weights in the order of an
    attribute. The group of a nested model lists the weights of all its layers: these are taken apart."""
    result: dict[str, list[Array]] = {}
    for group in map(_text, _attribute(root, "layer_names")):
        weights = [_text(name) for name in _attribute(root[group], "weight_names")]
        owners = ["/".join(name.split("/")[-2:-1]) for name in weights]  # the layer's name is in front of the weight's
        nested = len(set(owners)) > 1
        for name, owner in zip(weights, owners, strict=True):
            result.setdefault(owner if nested else group, []).append(np.asarray(root[group][name]))
    return result


def _attribute(group: Any, name: str) -> list[Any]:
    """A list of names; Keras splits a long one over ``name0``, ``name1``, …"""
    if name in group.attrs:
        return list(group.attrs[name])
    result: list[Any] = []
    index = 0
    while f"{name}{index}" in group.attrs:
        result += list(group.attrs[f"{name}{index}"])
        index += 1
    return result


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_keras3(file: Any) -> dict[str, list[Array]]:
    """Keras 3's layout: ``layers/<class>[_<n>]/vars/<i>``, nested for nested models. The layer's own name is an
    attribute of the group ``vars``. The optimizer and the states of random generators are left out."""
    import h5py

    result: dict[str, list[Array]] = {}

    def visit(path: str, item: Any) -> None:
        parts = path.split("/")
        if not isinstance(item, h5py.Group) or parts[-1] != "vars" or not len(item) or "name" not in item.attrs:
            return
        if "layers" in parts and "seed_generator" not in parts:
            result[_text(item.attrs["name"])] = [np.asarray(item[key]) for key in sorted(item, key=int)]

    file.visititems(visit)
    return result


def _epsilons(config: Any) -> Iterator[tuple[str, float]]:
    """The epsilon of every batch norm in the description of a network, by layer name."""
    left = [config]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            inner = value.get("config")
            if str(value.get("class_name")).endswith("BatchNormalization") and isinstance(inner, dict):
                yield str(inner["name"]), float(inner["epsilon"])
            left += value.values()
        elif isinstance(value, list):
            left += value


def _renamed(path: Path, kind: str, layers: dict[str, list[Array]], epsilons: dict[str, float]) -> Source:
    """The source under our layer names, where its own are known to be others."""
    filled = {name: tensors for name, tensors in layers.items() if tensors}
    if names.is_bonlime(filled):
        known = {name: names.epsilon_of_bonlime(name) for name in filled if name.endswith("_BN")} | epsilons
        return Source(
            path,
            f"{kind} of bonlime's DeepLab",
            {names.from_bonlime(name): tensors for name, tensors in filled.items()},
            {names.from_bonlime(name): epsilon for name, epsilon in known.items()},
            SYMMETRIC,
        )
    if names.is_old_mobilenetv3(filled):
        filled = {names.from_old_mobilenetv3(name): tensors for name, tensors in filled.items()}
        epsilons = {names.from_old_mobilenetv3(name): epsilon for name, epsilon in epsilons.items()}
    return Source(path, kind, filled, epsilons)
