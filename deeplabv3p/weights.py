"""Weights from files into a model, by layer name, checked: every tensor must find its place with its shape.

Sources: a Keras file (``.keras``, ``.h5``, ``.weights.h5``), ImageNet weights of ``keras.applications``, and
MobileNetV2 weights in torch's names and layout (``.npz``). Formats that can run code when read (pickle) are not read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplabv3p import files
from deeplabv3p.errors import DataError
from deeplabv3p.progress import Progress, silent

Tensors = Mapping[str, list[NDArray[np.float32]]]  # layer name → its weights in the order of ``layer.weights``

TORCH_MEAN = (123.675, 116.28, 103.53)  # 0.485, 0.456, 0.406 of 255: what torch's ImageNet weights were trained with
TORCH_STD = (58.395, 57.12, 57.375)  # 0.229, 0.224, 0.225
TORCH_EPSILON = 1e-5
KERAS_EPSILON = 1e-3

MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a load did: how many layers got weights, which kept their own, and the preprocessing (picture units, RGB)
    that the weights were trained with, where the source says it."""

    layers: int
    skipped: tuple[str, ...] = ()
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


def load_weights(model: Any, path: str | os.PathLike[str], *, other_classes: bool = False) -> Loaded:
    """Load a whole Keras model's weights, or a weights file, into ``model``.

    Args:
        model: the Keras model to fill; every layer with weights must be found in the file with equal shapes.
        path: ``.keras``, ``.h5`` (whole model or weights) or ``.weights.h5``.
        other_classes: keep the classifier (layer ``logits``) as it is when only its class count differs: the start of a
            fine-tuning on other classes.

    Raises:
        DataError: no such file, not such a file, or the weights of another network. The model is then unchanged.
    """
    tensors = _read_keras_file(Path(path))
    return _assign(model, tensors, str(path), skip=("logits",) if other_classes else ())


def load_backbone(model: Any, path: str | os.PathLike[str], *, head_prefixes: tuple[str, ...]) -> Loaded:
    """Load backbone weights from a file into a network.

    Args:
        model: a network of :func:`deeplabv3p.models.factory.build_model`.
        path: ``.npz`` (MobileNetV2 in torch's names and layout) or a Keras file, with or without a head of its own.
        head_prefixes: layers whose names start so are not the backbone and keep their weights.

    Raises:
        DataError: as :func:`load_weights`.
    """
    backbone = {layer.name for layer in model.layers if not layer.name.startswith(head_prefixes)}
    if Path(path).suffix == ".npz":
        loaded = _assign(model, read_torch_mobilenetv2(path), str(path), only=backbone)
        return dataclasses.replace(loaded, mean=TORCH_MEAN, std=TORCH_STD)
    return _assign(model, _read_keras_file(Path(path)), str(path), only=backbone)


def imagenet_path(name: str, folder: str | os.PathLike[str], progress: Progress = silent) -> Path:
    """The local path of a ``keras.applications`` weight file: from ``folder``, Keras' own cache, or downloaded into
    ``folder``. A download that breaks off leaves a ``.part`` file and goes on from there the next time; its SHA-256 is
    verified where ``folder/manifest.json`` has one.

    Raises:
        DataError: it is nowhere and cannot be downloaded, or is not what the manifest says; tells what to do offline.
    """
    target = Path(folder) / name
    entry = _manifest(Path(folder)).get(name, {})
    url, sha256 = entry.get("url", "no address is known"), entry.get("sha256")
    for candidate in (target, Path.home() / ".keras" / "models" / name):
        if candidate.is_file():
            return candidate
    try:
        _download(url, target, sha256, progress)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"ImageNet weights {name} are not in {folder} and cannot be downloaded ({reason}). Put the file there "
            f"({url}), or use --backbone_weights FILE, or --backbone_weights none."
        ) from None
    return target


def read_torch_mobilenetv2(path: str | os.PathLike[str]) -> Tensors:
    """Read MobileNetV2 backbone weights with torchvision's names (``features.N.conv.M.weight``, OIHW) as Keras tensors.

    torch's batch norms were trained with epsilon 1e-5, Keras' layers use 1e-3: gamma absorbs the difference,
    γ' = γ·sqrt((σ² + 1e-3) / (σ² + 1e-5)), so that inference computes the same function.

    Raises:
        DataError: the file is missing, is no .npz, or lacks a tensor.
    """
    arrays = files.read_npz(path)

    def get(key: str) -> NDArray[np.float32]:
        if key not in arrays:
            raise DataError(f"{path}: no tensor '{key}'. Expected MobileNetV2 in torchvision's names.")
        return np.asarray(arrays[key], np.float32)

    def norm(prefix: str) -> list[NDArray[np.float32]]:
        gamma, beta = get(f"{prefix}.weight"), get(f"{prefix}.bias")
        mean, variance = get(f"{prefix}.running_mean"), get(f"{prefix}.running_var")
        return [gamma * np.sqrt((variance + KERAS_EPSILON) / (variance + TORCH_EPSILON)), beta, mean, variance]

    def full(prefix: str) -> list[NDArray[np.float32]]:
        return [get(f"{prefix}.weight").transpose(2, 3, 1, 0)]  # OIHW → HWIO

    def depthwise(prefix: str) -> list[NDArray[np.float32]]:
        return [get(f"{prefix}.weight").transpose(2, 3, 0, 1)]  # [C, 1, h, w] → [h, w, C, 1]

    result = {"Conv1": full("features.0.0"), "bn_Conv1": norm("features.0.1")}
    blocks = sorted({int(m.group(1)) for key in arrays if (m := re.match(r"features\.(\d+)\.conv\.", key))})
    for block in blocks:
        torch_name, keras_name = f"features.{block}.conv", f"block_{block - 1}" if block > 1 else "expanded_conv"
        index = 0
        if block > 1:  # the first block has no expansion
            result[f"{keras_name}_expand"] = full(f"{torch_name}.0")
            result[f"{keras_name}_expand_BN"] = norm(f"{torch_name}.1")
            index = 3  # convolution, norm, ReLU6
        result[f"{keras_name}_depthwise"] = depthwise(f"{torch_name}.{index}")
        result[f"{keras_name}_depthwise_BN"] = norm(f"{torch_name}.{index + 1}")
        result[f"{keras_name}_project"] = full(f"{torch_name}.{index + 3}")
        result[f"{keras_name}_project_BN"] = norm(f"{torch_name}.{index + 4}")
    return result


def _assign(
    model: Any, tensors: Tensors, where: str, *, only: set[str] | None = None, skip: tuple[str, ...] = ()
) -> Loaded:
    """Set the weights of every layer of ``model`` (of those in ``only``, if given). Check all before changing any.
    A layer named in ``skip`` keeps its weights if its shapes differ."""
    wanted = [layer for layer in model.layers if layer.weights and (only is None or layer.name in only)]
    missing = [layer.name for layer in wanted if layer.name not in tensors]
    if missing:
        raise DataError(
            f"{where}: no weights for layer '{missing[0]}'"
            + (f" and {len(missing) - 1} more" if missing[1:] else "")
            + ". The file belongs to another network: check --model_type."
        )
    plan, skipped = [], []
    for layer in wanted:
        new = tensors[layer.name]
        expected, found = [tuple(w.shape) for w in layer.weights], [tuple(w.shape) for w in new]
        if expected == found:
            plan.append((layer, new))
        elif layer.name in skip:
            skipped.append(layer.name)
        else:
            raise DataError(
                f"{where}: layer '{layer.name}' has weights {found}, the network needs {expected}. "
                "The width (--alpha), the number of classes (--classes_path) or the network (--model_type) differs."
            )
    for layer, new in plan:
        layer.set_weights(new)
    return Loaded(len(plan), tuple(skipped))


def _read_keras_file(path: Path) -> Tensors:
    """Layer name → tensors, of a .keras archive or an HDF5 file in Keras 3's or the older layout. Nothing in the file
    is instantiated: only arrays are read."""
    import h5py

    if not path.is_file():
        raise DataError(f"no weights file {path}. Give an existing .keras, .h5 or .npz file.")
    try:
        if path.suffix == ".keras":
            with (
                zipfile.ZipFile(path) as archive,
                archive.open("model.weights.h5") as member,
                h5py.File(member, "r") as file,
            ):
                return _read_h5(file)
        with h5py.File(path, "r") as file:
            return _read_h5(file)
    except (OSError, KeyError, zipfile.BadZipFile, ValueError) as error:
        raise DataError(f"{path} is not a readable Keras model or weights file ({error}).") from None


def _read_h5(file: Any) -> Tensors:
    import h5py

    root = file.get("model_weights", file)
    if "layer_names" in root.attrs:  # Keras 2's layout, which Keras 3 still writes for .h5
        names = [n.decode() if isinstance(n, bytes) else n for n in root.attrs["layer_names"]]
        return {n: [np.asarray(root[n][w]) for w in root[n].attrs["weight_names"]] for n in names}
    # Keras 3's layout: layers/<class>[_<n>]/vars/<i>; the layer's own name is an attribute of the group "vars".
    result: dict[str, list[NDArray[np.float32]]] = {}

    def visit(_: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and "name" in item.attrs and len(item):
            result[str(item.attrs["name"])] = [np.asarray(item[k]) for k in sorted(item, key=int)]

    root.visititems(visit)
    return result


def _manifest(folder: Path) -> dict[str, Any]:
    """The files that can be downloaded into the folder, by name."""
    try:
        return dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def _download(url: str, target: Path, sha256: str | None, progress: Progress) -> None:
    """Fetch ``url`` to ``target`` over a ``.part`` file that a later call continues, and verify it."""
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=20) as response:
        resumed = response.status == 206
        total = int(response.headers.get("Content-Length") or 0) + (start if resumed else 0)
        done = start if resumed else 0
        with part.open("ab" if resumed else "wb") as out:
            while block := response.read(1 << 20):
                out.write(block)
                done += len(block)
                progress(done, total)
    if total and done != total:
        raise OSError(f"the connection ended after {done} of {total} bytes; run the command again to go on")
    if sha256 is not None and hashlib.sha256(part.read_bytes()).hexdigest() != sha256:
        part.unlink()
        raise OSError("what came is not the file that the manifest names: its SHA-256 differs")
    with files.atomic_path(target) as temporary:
        part.replace(temporary)
