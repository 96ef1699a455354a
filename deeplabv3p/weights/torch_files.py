"""Weights of torch: a state dict (``.pth``, ``.pt``) read without torch and without running what is pickled in it, or
its arrays as ``.npz``. The network that carries over is MobileNetV2 under torchvision's names."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deeplabv3p.errors import DataError
from deeplabv3p.spec import IMAGENET_STATISTICS
from deeplabv3p.weights import names
from deeplabv3p.weights.source import Array, Source

EPSILON = 1e-5  # of torch's batch norms

_PREFIXES = re.compile(r"^(module\.|model\.|encoder\.|backbone\.)+")  # of wrappers around the network
_WRAPPED = ("state_dict", "model_state_dict", "model", "model_state")  # where training scripts put the state dict
_RESNET = re.compile(r"layer\d+\.\d+\.conv\d\.weight")
# Storage classes by their name in the pickle. bfloat16 is the upper half of a float32.
_STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


def read_state_dict(path: Path) -> dict[str, Array]:
    """Read the tensors of a ``torch.save`` file (the zip format of torch 1.6 and later), by name.

    The pickle in it may name an ordered dict, tensors and their storages. Anything else is refused, and never called.

    Raises:
        DataError: not such a file, damaged, or with other objects than tensors in it; the message names the object.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
            if len(pickles) != 1:
                raise DataError(f"{path} is not a torch file: it holds {len(pickles)} pickles, expected 1.")
            content = _Unpickler(archive, pickles[0].removesuffix("data.pkl"), path).load()
    except DataError:
        raise
    except Exception as error:  # pickle and zipfile raise whatever a damaged file leads to
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{path} is not a readable torch file ({reason[0]}).") from None
    for key in _WRAPPED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = content.items() if isinstance(content, dict) else ()
    result = {str(name): value for name, value in tensors if isinstance(value, np.ndarray)}
    if not result:
        raise DataError(f"{path} holds no tensors by name. Save it with torch.save(model.state_dict(), FILE).")
    return result


def from_arrays(arrays: Mapping[str, Array], path: Path, kind: str) -> Source:
    """Torch tensors by name, as layers of Keras' MobileNetV2.

    Raises:
        DataError: the tensors are of another network.
    """
    arrays = {_PREFIXES.sub("", name): array for name, array in arrays.items()}
    if any(_RESNET.match(name) for name in arrays):
        raise DataError(
            f"{path} holds torch's ResNet, which Keras' cannot take: in a bottleneck torch strides in the 3x3 "
            "convolution, Keras in the 1x1 before it. Use the ImageNet weights of Keras (--backbone_weights imagenet)."
        )
    modules: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        module, _, part = name.rpartition(".")
        modules.setdefault(module, {})[part] = array
    known = names.from_torch_mobilenetv2(modules)
    layers: dict[str, list[Array]] = {}
    epsilons: dict[str, float] = {}
    unused: list[str] = []
    for module, parts in modules.items():
        layer = known.get(module)
        parts.pop("num_batches_tracked", None)
        if "weight" not in parts:
            unused += [f"{module}.{part}".lstrip(".") for part in parts]
            continue
        if {"bias", "running_mean", "running_var"} <= set(parts):
            tensors = [parts[part] for part in ("weight", "bias", "running_mean", "running_var")]
            epsilons[layer or module] = EPSILON
        else:
            tensors = [parts[part] for part in ("weight", "bias") if part in parts]
            if layer is not None:
                tensors[0] = _kernel(tensors[0], layer, path)
        layers[layer or module] = [np.asarray(tensor, np.float32) for tensor in tensors]
    if not set(layers) & set(known.values()):
        raise DataError(
            f"{path} holds none of the networks that torch weights are known for: torchvision's MobileNetV2."
        )
    return Source(path, kind, layers, epsilons, IMAGENET_STATISTICS, tuple(unused))


def _kernel(weight: Array, layer: str, path: Path) -> Array:
    """OIHW → HWIO, and for a depthwise convolution [C, 1, h, w] → [h, w, C, 1]."""
    if weight.ndim != 4:
        raise DataError(f"{path}: the weights of '{layer}' have {weight.ndim} axes, expected a convolution's 4.")
    return weight.transpose(2, 3, 0, 1) if layer.endswith("depthwise") else weight.transpose(2, 3, 1, 0)


class _Unpickler(pickle._Unpickler):
    """Rebuilds tensors as arrays. What the pickle can get hold of is an ordered dict, text, and functions that live as
    long as this object: it can change nothing outside. The unpickler written in Python is the base, because the one in
    C sets aside memory for as many objects as a few bytes of a damaged file say."""

    def __init__(self, archive: zipfile.ZipFile, folder: str, path: Path) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}data.pkl")))
        self._archive, self._folder, self._path = archive, folder, path
        big = f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") == b"big"
        self._order = ">" if big else "<"

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        rebuild: dict[str, Callable[..., Any]] = {
            "_rebuild_tensor_v2": lambda storage, offset, size, stride, *rest: _strided(storage, offset, size, stride),
            "_rebuild_parameter": lambda data, *rest: data,
        }
        if module == "torch._utils" and name in rebuild:
            return rebuild[name]
        raise DataError(
            f"{self._path} is refused: its pickle asks for {module}.{name}, and only plain tensors are read. "
            "Save it with torch.save(model.state_dict(), FILE)."
        )

    def persistent_load(self, pid: Any) -> Array:
        """The numbers of a storage, as one row."""
        _, kind, key, _, count = pid
        info = self._archive.getinfo(f"{self._folder}data/{key}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError("a storage is compressed")
        data = self._archive.read(info)
        if kind == "bfloat16":
            halves = np.frombuffer(data, f"{self._order}u2", count)
            return (halves.astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(data, np.dtype(kind).newbyteorder(self._order), count)


def _strided(storage: Array, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Array:
    """The part of a storage that a tensor is, copied. Strides count numbers, not bytes."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = int(np.prod(size, dtype=object))
    if min((offset, *size, *stride)) < 0 or count > storage.size or (count and last >= storage.size):
        raise ValueError("a tensor reaches beyond its storage")
    if not count:
        return np.zeros(size, storage.dtype)
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps).copy()
