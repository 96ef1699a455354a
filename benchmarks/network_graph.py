"""One of our networks as JSON and arrays, for an interpreter that has no Keras (``torch_twin.py`` builds it again)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

# What of a layer's configuration changes what it computes.
_SETTINGS = {
    "Conv2D": ("strides", "padding", "dilation_rate", "groups"),
    "DepthwiseConv2D": ("strides", "padding", "dilation_rate"),
    "BatchNormalization": ("epsilon", "momentum"),
    "ReLU": ("max_value",),
    "ZeroPadding2D": ("padding",),
    "Cropping2D": ("cropping",),
    "MaxPooling2D": ("pool_size", "strides", "padding"),
    "AveragePooling2D": ("pool_size", "strides", "padding"),
    "GlobalAveragePooling2D": ("keepdims",),
    "UpSampling2D": ("size", "interpolation"),
    "Dropout": ("rate",),
    "Concatenate": ("axis",),
    "Add": (),
    "Average": (),
    "Identity": (),
    "Resize": (),
}


def write(model: keras.Model, folder: Path) -> None:
    """Write ``network.json`` (steps in order, each with what it reads) and ``weights.npz`` into ``folder``.

    Raises:
        ValueError: the network has a layer, or a use of it, that is not known here.
    """
    from deeplabv3p.models.walk import infer, walk

    numbers: dict[int, int] = {}
    steps: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    image = model.inputs[0]
    numbers[id(image)] = 0
    keep = [image]  # a number belongs to an object as long as it lives
    for step in walk(model, [image], infer):
        operation, kind = step.operation, type(step.operation).__name__
        reads = [numbers[id(tensor)] for tensor in step.inputs]
        if kind not in _SETTINGS or (kind in ("Add", "Average") and len(reads) < 2):
            raise ValueError(f"'{step.name}' is a {kind} of {len(reads)} tensors, which has no twin in PyTorch here.")
        config = operation.get_config() if _SETTINGS[kind] else {}
        if config.get("activation", "linear") != "linear":
            raise ValueError(f"'{step.name}' has an activation inside.")
        (output,) = step.outputs
        keep.append(output)
        numbers[id(output)] = len(steps) + 1
        for weight in getattr(operation, "weights", ()):
            arrays[f"{len(steps)}/{weight.name}"] = np.asarray(weight)
        settings = {key: config[key] for key in _SETTINGS[kind]}
        shapes = {"in": step.inputs[0].shape[1:], "out": output.shape[1:]}
        steps.append({"name": step.name, "kind": kind, "reads": reads, "settings": settings, "shapes": shapes})
    (folder / "network.json").write_text(json.dumps({"name": model.name, "steps": steps}), encoding="utf-8")
    np.savez(folder / "weights.npz", **arrays)
