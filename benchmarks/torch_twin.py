"""One of our networks in PyTorch, layer for layer with its weights; runs where torch is installed, and nothing of ours.

``network_graph.py`` writes the folder that it is built from. As a program it proves that it is the twin: it prints the
number of parameters and the largest difference of the logits on the pictures of ``pictures.npz``.

    TORCH_PYTHON benchmarks/torch_twin.py FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (as everyone calls it)
from torch import nn

Tensors = list[torch.Tensor]


class Padded(nn.Module):
    """A layer behind the padding that Keras calls "same", which is uneven where the stride leaves a remainder."""

    def __init__(self, pads: list[int], layer: nn.Module) -> None:
        super().__init__()
        self.pads, self.layer = pads, layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(F.pad(x, self.pads))


class Apply(nn.Module):
    """A function of the tensors that the step reads."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self.function(*tensors)


class Twin(nn.Module):
    """Pictures float32 [B, 3, H, W] → logits [B, K, h, w]."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        network = json.loads((folder / "network.json").read_text(encoding="utf-8"))
        self.steps: list[dict[str, Any]] = network["steps"]
        reads = [number for step in self.steps for number in step["reads"]]
        self.last = {number: index for index, step in enumerate(self.steps) for number in step["reads"]}
        with np.load(folder / "weights.npz") as arrays:
            layers = []
            for index, step in enumerate(self.steps):
                own = {key.split("/")[1]: arrays[key] for key in arrays.files if key.startswith(f"{index}/")}
                # As in torchvision: an activation overwrites what nothing else reads.
                layers.append(_layer(step, own, inplace=reads.count(step["reads"][0]) == 1))
        self.layers = nn.ModuleList(layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        values = {0: image}
        for index, (step, layer) in enumerate(zip(self.steps, self.layers, strict=True)):
            values[index + 1] = layer(*(values[number] for number in step["reads"]))
            for number in step["reads"]:
                if self.last[number] == index:
                    values.pop(number, None)
        return values[len(self.steps)]

    def parameter_count(self) -> int:
        """All weights, moving statistics included, as Keras counts them."""
        statistics = sum(b.numel() for b in self.buffers() if b.is_floating_point())
        return statistics + sum(p.numel() for p in self.parameters())


def _layer(step: dict[str, Any], weights: dict[str, np.ndarray], *, inplace: bool) -> nn.Module:
    settings, kind = step["settings"], step["kind"]
    if kind in ("Conv2D", "DepthwiseConv2D"):
        return _convolution(step, weights)
    if kind == "BatchNormalization":
        return _batch_norm(settings, weights)
    if kind in ("MaxPooling2D", "AveragePooling2D"):
        return _pooling(step)
    if kind == "ReLU":
        if settings["max_value"] not in (None, 6.0):
            raise ValueError(f"'{step['name']}' ends at {settings['max_value']}.")
        return nn.ReLU(inplace) if settings["max_value"] is None else nn.ReLU6(inplace)
    if kind == "Dropout":
        return nn.Dropout(settings["rate"])
    return Apply(_function(step))


def _function(step: dict[str, Any]) -> Callable[..., torch.Tensor]:
    """A layer without weights. ``settings`` that are not read here are at the only value that our networks use."""
    settings, size = step["settings"], tuple(step["shapes"]["out"][:2])
    (top, bottom), (left, right) = settings.get("padding", settings.get("cropping", ((0, 0), (0, 0))))
    functions: dict[str, Callable[..., torch.Tensor]] = {
        "ZeroPadding2D": lambda x: F.pad(x, (left, right, top, bottom)),
        "Cropping2D": lambda x: x[:, :, top : top + size[0], left : left + size[1]],
        "Concatenate": lambda *xs: torch.cat(xs, {-1: 1, 1: 2, 2: 3, 3: 1}[settings["axis"]]),
        "Add": lambda *xs: sum(xs[1:], xs[0]),
        "Average": lambda *xs: sum(xs[1:], xs[0]) / len(xs),
        "GlobalAveragePooling2D": lambda x: F.adaptive_avg_pool2d(x, 1),
        "UpSampling2D": lambda x: F.interpolate(x, size=size, mode="nearest"),
        "Resize": lambda x: F.interpolate(x, size=size, mode="bilinear", align_corners=False),
        "Identity": lambda x: x,
    }
    return functions[step["kind"]]


def _pooling(step: dict[str, Any]) -> nn.Module:
    settings = step["settings"]
    left, right, top, bottom = _pads(step, settings["pool_size"], (1, 1))
    options: dict[str, Any] = {"padding": (top, left)}
    if (left, top) != (right, bottom):  # a window over the far border counts what is inside
        options = {"ceil_mode": True}
        if left or top:
            raise ValueError(f"'{step['name']}' pads its pooling unevenly on both sides, which is not known here.")
    if step["kind"] == "MaxPooling2D":
        return nn.MaxPool2d(tuple(settings["pool_size"]), tuple(settings["strides"]), **options)
    return nn.AvgPool2d(tuple(settings["pool_size"]), tuple(settings["strides"]), count_include_pad=False, **options)


def _convolution(step: dict[str, Any], weights: dict[str, np.ndarray]) -> nn.Module:
    settings = step["settings"]
    kernel = weights["kernel"]
    height, width, inputs, outputs = kernel.shape
    groups = settings.get("groups", 1)
    if step["kind"] == "DepthwiseConv2D":
        groups, outputs, inputs = inputs, inputs * outputs, 1
        kernel = kernel.reshape(height, width, 1, outputs)
    pads = _pads(step, (height, width), settings["dilation_rate"])
    even = pads[0] == pads[1] and pads[2] == pads[3]
    layer = nn.Conv2d(
        inputs * groups,
        outputs,
        (height, width),
        stride=tuple(settings["strides"]),
        padding=(pads[2], pads[0]) if even else 0,
        dilation=tuple(settings["dilation_rate"]),
        groups=groups,
        bias="bias" in weights,
    )
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(weights["bias"]))
    return layer if even else Padded(pads, layer)


def _batch_norm(settings: dict[str, Any], weights: dict[str, np.ndarray]) -> nn.Module:
    layer = nn.BatchNorm2d(len(weights["moving_mean"]), eps=settings["epsilon"], momentum=1 - settings["momentum"])
    pairs = {"gamma": layer.weight, "beta": layer.bias}
    pairs |= {"moving_mean": layer.running_mean, "moving_variance": layer.running_var}
    with torch.no_grad():
        for name, tensor in pairs.items():
            tensor.copy_(torch.from_numpy(weights[name]))
    return layer


def _pads(step: dict[str, Any], extent: Any, rate: Any) -> list[int]:
    """left, right, top, bottom, as :func:`torch.nn.functional.pad` wants them."""
    pads: list[int] = []
    if step["settings"]["padding"] == "valid":
        return [0, 0, 0, 0]
    sides = zip(step["shapes"]["in"][:2], extent, step["settings"]["strides"], rate, strict=True)
    for size, kernel, stride, dilation in sides:
        missing = max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
        pads = [missing // 2, missing - missing // 2, *pads]
    return pads


def largest_difference(twin: Twin, folder: Path) -> float:
    """Between the twin's logits and ours on the pictures of ``pictures.npz``."""
    with np.load(folder / "pictures.npz") as file:
        pictures, logits = file["pictures"], file["logits"]
    with torch.no_grad():
        ours = twin.eval()(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())).numpy()
    return float(np.abs(ours.transpose(0, 2, 3, 1) - logits).max())


def main() -> None:
    folder = Path(sys.argv[1])
    twin = Twin(folder)
    result = {"parameters": twin.parameter_count(), "max_abs_difference": largest_difference(twin, folder)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
