"""Xception-65 as modified for DeepLab: aligned, deeper, strided separable convolutions instead of max pooling.

Chen et al. 2018, arXiv:1802.02611, section 3.2 and figure 4. Layer names are those of the public Keras port of Google's
release (bonlime/keras-deeplab-v3-plus), whose weights therefore load by name. Tensors are [B, h, w, C].
"""

from __future__ import annotations

from typing import Literal

import keras
from keras import layers

from deeplabv3p.models.blocks import scaled
from deeplabv3p.models.dilation import dilate

MIDDLE_UNITS = 16

Shortcut = Literal["conv", "sum", "none"]


def build(size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
    """float32 [B, H, W, 3] → [B, ceil(H / output_stride), ceil(W / output_stride), 2048·alpha].

    Written at stride 32; :func:`dilate` gives the release's rates at 16 (exit flow 1, 2) and 8 (middle flow 2, exit
    flow 2, 4). The first convolution pads as Keras' "same" does, all others symmetrically.
    """
    image = keras.Input((*size_hw, 3), name="image")
    x = _entry_conv(image, scaled(32, alpha), "entry_flow_conv1_1", stride=2)
    x = _entry_conv(x, scaled(64, alpha), "entry_flow_conv1_2")
    for index, width in enumerate((128, 256, 728), start=1):
        x = _block(x, (scaled(width, alpha),) * 3, f"entry_flow_block{index}", "conv", stride=2)
    for index in range(1, MIDDLE_UNITS + 1):
        x = _block(x, (scaled(728, alpha),) * 3, f"middle_flow_unit_{index}", "sum")
    widths = (scaled(728, alpha), scaled(1024, alpha), scaled(1024, alpha))
    x = _block(x, widths, "exit_flow_block1", "conv", stride=2)
    widths = (scaled(1536, alpha), scaled(1536, alpha), scaled(2048, alpha))
    x = _block(x, widths, "exit_flow_block2", "none", relu_behind=True)
    return dilate(keras.Model(image, x), output_stride)


def _entry_conv(x: keras.KerasTensor, width: int, name: str, stride: int = 1) -> keras.KerasTensor:
    x = layers.Conv2D(width, 3, strides=stride, padding="same", use_bias=False, name=name)(x)
    return layers.ReLU(name=f"{name}_relu")(_norm(x, name))


def _block(
    x: keras.KerasTensor,
    widths: tuple[int, ...],
    name: str,
    shortcut: Shortcut,
    *,
    stride: int = 1,
    relu_behind: bool = False,
) -> keras.KerasTensor:
    """Three separable convolutions, the last one strided, and a way past them: projected, as it is, or none."""
    y = x
    for index, width in enumerate(widths, start=1):
        own_stride = stride if index == len(widths) else 1
        y = _separable_conv(y, width, f"{name}_separable_conv{index}", own_stride, relu_behind)
    if shortcut == "none":
        return y
    if shortcut == "conv":
        x = layers.Conv2D(widths[-1], 1, strides=stride, use_bias=False, name=f"{name}_shortcut")(x)
        x = _norm(x, f"{name}_shortcut")
    return layers.Add(name=f"{name}_add")([y, x])


def _separable_conv(x: keras.KerasTensor, width: int, name: str, stride: int, relu_behind: bool) -> keras.KerasTensor:
    """Depthwise 3x3 and 1x1, each with batch norm. ReLU comes once in front of both, or behind each of them."""
    if not relu_behind:
        x = layers.ReLU(name=f"{name}_relu")(x)
    if stride > 1:  # symmetric at any size, where "same" would pad by the parity of the map
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    padding = "valid" if stride > 1 else "same"
    x = layers.DepthwiseConv2D(3, strides=stride, padding=padding, use_bias=False, name=f"{name}_depthwise")(x)
    x = _norm(x, f"{name}_depthwise")
    if relu_behind:
        x = layers.ReLU(name=f"{name}_depthwise_relu")(x)
    x = layers.Conv2D(width, 1, use_bias=False, name=f"{name}_pointwise")(x)
    x = _norm(x, f"{name}_pointwise")
    return layers.ReLU(name=f"{name}_pointwise_relu")(x) if relu_behind else x


def _norm(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.BatchNormalization(epsilon=1e-3, name=f"{name}_BN")(x)
