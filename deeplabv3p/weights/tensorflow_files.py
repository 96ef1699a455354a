"""Weights under the names of TF-slim, as in Google's DeepLab releases: frozen graph, checkpoint, or ``.npz``.

Batch norms come with statistics, or folded: the kernel times a scale, and an offset. A folded one becomes mean 0,
variance 1, gamma = scale and beta = offset with epsilon 0, which is exactly the function; it says nothing about the
statistics that training wants. TensorFlow is imported to parse a file; nothing of the file is run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deeplabv3p import files
from deeplabv3p.errors import DataError
from deeplabv3p.spec import SYMMETRIC
from deeplabv3p.weights import names
from deeplabv3p.weights.source import Array, Source

# The end of a tensor's name, and what the tensor is to the layer that the rest of the name says.
_PARTS = {
    "weights": "kernel",
    "depthwise_weights": "kernel",
    "Conv2D/merged_input": "kernel",
    "biases": "bias",
    "BatchNorm/gamma": "gamma",
    "BatchNorm/beta": "beta",
    "BatchNorm/moving_mean": "mean",
    "BatchNorm/moving_variance": "variance",
    "BatchNorm/FusedBatchNorm/Scaled": "scale",
    "BatchNorm/FusedBatchNorm/Offset": "offset",
}
_TRAINING_STATE = re.compile(
    r"(^|/)(Momentum|Adam(_\d+)?|RMSProp(_\d+)?|ExponentialMovingAverage|global_step|beta[12]_power)$"
)
_MIN_WEIGHTS = 8  # numbers in a constant; shorter ones of unknown name are sizes and picture means
_MAX_NODES = 1 << 17  # operations; the largest networks have some thousands
_MAX_WEIGHTS = 1 << 28  # numbers in a constant; a small file can claim any size
_NORM_OPS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


def read_frozen_graph(path: Path) -> Source:
    """Read the constants of a frozen TensorFlow graph (``.pb``).

    Raises:
        DataError: it is no graph, is not frozen, or has other names than TF-slim's.
    """
    graph = _parse_graph(path)
    tensors: dict[str, Array] = {}
    epsilons = {}
    for node in graph.node:
        if node.op in _NORM_OPS:
            epsilons[node.name.rpartition("/BatchNorm/")[0]] = float(node.attr["epsilon"].f)
        elif node.op == "Const":
            array = _constant(node, path)
            if array is not None:
                tensors[node.name] = array
    return _source("frozen graph", tensors, path, epsilons)


def read_checkpoint(prefix: Path) -> Source:
    """Read a TensorFlow checkpoint: ``prefix.index`` and its ``prefix.data-*``. The optimizer's state is left out.

    Raises:
        DataError: a file is missing or damaged, or the names are not TF-slim's.
    """
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        wanted = [name for name in reader.get_variable_to_shape_map() if not _TRAINING_STATE.search(name)]
        tensors = {name: np.asarray(reader.get_tensor(name)) for name in wanted}
    except Exception as error:  # TensorFlow raises whatever a damaged file leads to
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{prefix} is not a readable TensorFlow checkpoint ({reason[0]}).") from None
    return _source("TF checkpoint", tensors, prefix, {})


def read_slim_arrays(arrays: Mapping[str, Array], path: Path) -> Source:
    """The weights of a graph or checkpoint as arrays, by tensor name with ``|`` for ``/``.

    Raises:
        DataError: the names are not TF-slim's.
    """
    return _source("arrays of a TF graph", {name.replace("|", "/"): array for name, array in arrays.items()}, path, {})


def _parse_graph(path: Path) -> Any:
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(files.read_bytes(path))
    except DataError:
        raise
    except Exception as error:  # protobuf has its own exception classes, which depend on how it was built
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{path} is not a frozen TensorFlow graph ({reason[0]}).") from None
    if len(graph.node) > _MAX_NODES:
        raise DataError(f"{path} is not a frozen TensorFlow graph: it has {len(graph.node):,} operations.")
    return graph


def _constant(node: Any, path: Path) -> Array | None:
    """The value of a constant, None unless it is of floating point."""
    import tensorflow as tf

    tensor = node.attr["value"].tensor
    if tensor.dtype not in (tf.float32.as_datatype_enum, tf.float64.as_datatype_enum, tf.float16.as_datatype_enum):
        return None
    try:
        if math.prod(dim.size for dim in tensor.tensor_shape.dim) > _MAX_WEIGHTS:
            raise ValueError("a constant is too large")
        return np.asarray(tf.make_ndarray(tensor), np.float32)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: the constant '{node.name}' is damaged ({error}).") from None


def _split(name: str) -> tuple[str, str] | None:
    """(scope of the layer, what the tensor is to it), None for a tensor that is no weight."""
    for end, part in _PARTS.items():
        if name.endswith(f"/{end}"):
            return name.removesuffix(f"/{end}"), part
    return None


def _source(kind: str, tensors: Mapping[str, Array], path: Path, epsilons: Mapping[str, float]) -> Source:
    """Put the tensors together to layers under our names. ``epsilons`` go by scope; those of DeepLab are known.
    Constants that are no weights, such as sizes, are left out; what could be a weight of unknown name is ``unused``."""
    scopes: dict[str, dict[str, Array]] = {}
    unused = []
    for name, array in tensors.items():
        place = _split(name)
        if place is None:
            if array.dtype.kind == "f" and array.ndim > 0 and array.size >= _MIN_WEIGHTS:
                unused.append(name)
        else:
            scopes.setdefault(place[0], {})[place[1]] = array
    layers: dict[str, list[Array]] = {}
    norm_epsilons: dict[str, float] = {}
    folded = 0
    for scope, parts in scopes.items():
        name = names.slim_to_bonlime(scope)
        if "kernel" in parts:
            layers[names.from_bonlime(name)] = [parts[part] for part in ("kernel", "bias") if part in parts]
        norm = names.from_bonlime(f"{name}_BN")
        if {"gamma", "beta", "mean", "variance"} <= set(parts):
            layers[norm] = [parts[part] for part in ("gamma", "beta", "mean", "variance")]
            norm_epsilons[norm] = epsilons.get(scope, names.epsilon_of_bonlime(f"{name}_BN"))
        elif "offset" in parts:
            offset = parts["offset"]
            one = np.ones_like(offset)
            layers[norm] = [parts.get("scale", one), offset, np.zeros_like(offset), one]
            norm_epsilons[norm] = 0.0
            folded += 1
        elif parts.keys() - {"kernel", "bias"}:
            unused.append(f"{scope}/BatchNorm")
    if not layers:
        raise DataError(
            f"{path} holds no weights under the names of TF-slim. Is it a frozen graph of Google's DeepLab?"
        )
    kind += ", batch norms folded" if folded else ""
    return Source(path, kind, layers, norm_epsilons, SYMMETRIC, tuple(unused))
