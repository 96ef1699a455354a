"""The names and shapes of other projects' DeepLabs, written down from their public source, and files under them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

Shapes = dict[str, dict[str, tuple[int, ...]]]  # layer → weight → shape
NORM = ("gamma", "beta", "moving_mean", "moving_variance")

# MobileNetV2: expansion, channels, repeats of the seven stages (Sandler et al. 2018, table 2).
STAGES = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))


def mobilenet_blocks(alpha: float = 1.0) -> Iterator[tuple[int, int, int, int]]:
    """(index, input, expanded, output channels) of each block; widths are not rounded to multiples of 8."""
    index, inputs = 0, int(32 * alpha)
    for expansion, width, repeats in STAGES:
        for _ in range(repeats):
            outputs = int(width * alpha)
            yield index, inputs, inputs * expansion, outputs
            index, inputs = index + 1, outputs


def bonlime_mobilenetv2(classes: int = 21) -> Shapes:
    """``Deeplabv3(backbone="mobilenetv2")`` of keras-deeplab-v3-plus."""
    shapes: Shapes = {"Conv": {"kernel": (3, 3, 3, 32)}, "Conv_BN": _norm(32)}
    for index, inputs, expanded, outputs in mobilenet_blocks():
        prefix = f"expanded_conv_{index}" if index else "expanded_conv"
        if index:
            _convolution(shapes, f"{prefix}_expand", inputs, expanded)
        shapes[f"{prefix}_depthwise"] = {"depthwise_kernel": (3, 3, expanded, 1)}
        shapes[f"{prefix}_depthwise_BN"] = _norm(expanded)
        _convolution(shapes, f"{prefix}_project", expanded, outputs)
    _convolution(shapes, "image_pooling", 320, 256)
    _convolution(shapes, "aspp0", 320, 256)
    _convolution(shapes, "concat_projection", 512, 256)
    shapes["logits_semantic"] = {"kernel": (1, 1, 256, classes), "bias": (classes,)}
    return shapes


def bonlime_xception(classes: int = 21) -> Shapes:
    """``Deeplabv3(backbone="xception")`` of keras-deeplab-v3-plus."""
    shapes: Shapes = {}
    for name, inputs, outputs in (("entry_flow_conv1_1", 3, 32), ("entry_flow_conv1_2", 32, 64)):
        shapes[name] = {"kernel": (3, 3, inputs, outputs)}
        shapes[f"{name}_BN"] = _norm(outputs)
    channels = 64
    blocks = [(f"entry_flow_block{i + 1}", (width,) * 3, True) for i, width in enumerate((128, 256, 728))]
    blocks += [(f"middle_flow_unit_{i + 1}", (728, 728, 728), False) for i in range(16)]
    blocks += [("exit_flow_block1", (728, 1024, 1024), True), ("exit_flow_block2", (1536, 1536, 2048), False)]
    for prefix, widths, projected in blocks:
        if projected:
            _convolution(shapes, f"{prefix}_shortcut", channels, widths[-1])
        for i, width in enumerate(widths):
            _separable(shapes, f"{prefix}_separable_conv{i + 1}", channels, width)
            channels = width
    for name, inputs in (("image_pooling", 2048), ("aspp0", 2048), ("concat_projection", 5 * 256)):
        _convolution(shapes, name, inputs, 256)
    for i in (1, 2, 3):
        _separable(shapes, f"aspp{i}", 2048, 256)
    _convolution(shapes, "feature_projection0", 256, 48)
    _separable(shapes, "decoder_conv0", 256 + 48, 256)
    _separable(shapes, "decoder_conv1", 256, 256)
    shapes["logits_semantic"] = {"kernel": (1, 1, 256, classes), "bias": (classes,)}
    return shapes


def slim_mobilenetv2(alpha: float = 1.0, classes: int = 21) -> dict[str, tuple[int, ...]]:
    """The variables of Google's DeepLab with MobileNetV2, by name."""
    stem = int(32 * alpha)
    shapes = {"MobilenetV2/Conv/weights": (3, 3, 3, stem), **_slim_norm("MobilenetV2/Conv", stem)}
    for index, inputs, expanded, outputs in mobilenet_blocks(alpha):
        scope = f"MobilenetV2/expanded_conv_{index}" if index else "MobilenetV2/expanded_conv"
        if index:
            shapes |= _slim_convolution(f"{scope}/expand", inputs, expanded)
        shapes[f"{scope}/depthwise/depthwise_weights"] = (3, 3, expanded, 1)
        shapes |= _slim_norm(f"{scope}/depthwise", expanded)
        shapes |= _slim_convolution(f"{scope}/project", expanded, outputs)
    for scope, inputs in (("image_pooling", int(320 * alpha)), ("aspp0", int(320 * alpha)), ("concat_projection", 512)):
        shapes |= _slim_convolution(scope, inputs, 256)
    return shapes | {"logits/semantic/weights": (1, 1, 256, classes), "logits/semantic/biases": (classes,)}


def slim_xception(classes: int = 21) -> dict[str, tuple[int, ...]]:
    """The variables of Google's DeepLabv3+ with Xception-65, by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, inputs, outputs in (("conv1_1", 3, 32), ("conv1_2", 32, 64)):
        scope = f"xception_65/entry_flow/{name}"
        shapes |= {f"{scope}/weights": (3, 3, inputs, outputs), **_slim_norm(scope, outputs)}
    units = [(f"entry_flow/block{i + 1}/unit_1", (width,) * 3, True) for i, width in enumerate((128, 256, 728))]
    units += [(f"middle_flow/block1/unit_{i + 1}", (728, 728, 728), False) for i in range(16)]
    units += [("exit_flow/block1/unit_1", (728, 1024, 1024), True)]
    units += [("exit_flow/block2/unit_1", (1536, 1536, 2048), False)]
    channels = 64
    for unit, widths, projected in units:
        scope = f"xception_65/{unit}/xception_module"
        if projected:
            shapes |= _slim_convolution(f"{scope}/shortcut", channels, widths[-1])
        for i, width in enumerate(widths):
            shapes |= _slim_separable(f"{scope}/separable_conv{i + 1}", channels, width)
            channels = width
    for scope, inputs in (("image_pooling", 2048), ("aspp0", 2048), ("concat_projection", 5 * 256)):
        shapes |= _slim_convolution(scope, inputs, 256)
    for i in (1, 2, 3):
        shapes |= _slim_separable(f"aspp{i}", 2048, 256)
    shapes |= _slim_convolution("decoder/feature_projection0", 256, 48)
    shapes |= _slim_separable("decoder/decoder_conv0", 256 + 48, 256)
    shapes |= _slim_separable("decoder/decoder_conv1", 256, 256)
    return shapes | {"logits/semantic/weights": (1, 1, 256, classes), "logits/semantic/biases": (classes,)}


def random_weights(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random values of a sensible size; variances from 1e-4 up, so that an epsilon of 1e-3 in place of 1e-5 shows."""
    if name.endswith("variance"):
        return (10 ** rng.uniform(-4, 0, shape)).astype(np.float32)
    if name.endswith("gamma"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    fan_in = np.prod(shape[:2]) * (shape[2] if shape[-1] > 1 or shape[0] == 1 else 1) if len(shape) == 4 else 100
    return (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)


def write_keras2(path: Path, layers: dict[str, dict[str, np.ndarray]], group: str | None = None) -> None:
    """Weights as Keras 2 writes them to HDF5; ``group`` "model_weights" is the place in a whole model's file."""
    with h5py.File(path, "w") as file:
        root = file.create_group(group) if group else file
        names = ["input_1", *layers]  # a layer without weights has its group, too
        root.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            weights = layers.get(name, {})
            folder = root.create_group(name)
            paths = [weight if "/" in weight else f"{name}/{weight}:0" for weight in weights]
            folder.attrs["weight_names"] = [text.encode() for text in paths]
            for text, value in zip(paths, weights.values(), strict=True):
                folder.create_dataset(text, data=value)


def _norm(channels: int) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(NORM, (channels,))


def _convolution(shapes: Shapes, name: str, inputs: int, outputs: int) -> None:
    shapes[name] = {"kernel": (1, 1, inputs, outputs)}
    shapes[f"{name}_BN"] = _norm(outputs)


def _separable(shapes: Shapes, name: str, inputs: int, outputs: int) -> None:
    shapes[f"{name}_depthwise"] = {"depthwise_kernel": (3, 3, inputs, 1)}
    shapes[f"{name}_depthwise_BN"] = _norm(inputs)
    _convolution(shapes, f"{name}_pointwise", inputs, outputs)


def _slim_norm(scope: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{scope}/BatchNorm/{part}": (channels,) for part in NORM}


def _slim_convolution(scope: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{scope}/weights": (1, 1, inputs, outputs), **_slim_norm(scope, outputs)}


def _slim_separable(scope: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    depthwise = {f"{scope}_depthwise/depthwise_weights": (3, 3, inputs, 1), **_slim_norm(f"{scope}_depthwise", inputs)}
    return depthwise | _slim_convolution(f"{scope}_pointwise", inputs, outputs)
