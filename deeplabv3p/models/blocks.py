"""Building blocks of the networks that are written by hand: convolution, batch norm, ReLU, under one way of naming.

Tensors are [B, h, w, C]. A layer called ``name`` has its batch norm in ``name_bn`` and its activation in ``name_relu``.
Strided convolutions pad symmetrically, so that a feature sits on the first pixel of its stride at any size, and a map
of n pixels becomes one of ceil(n / stride).
"""

from __future__ import annotations

import keras
from keras import layers


def scaled(width: int, alpha: float, divisor: int = 8) -> int:
    """``width`` times the width multiplier, to the nearest multiple of ``divisor`` channels, and at least that."""
    return max(divisor, int(width * alpha / divisor + 0.5) * divisor)


def conv(
    x: keras.KerasTensor, width: int, name: str, *, kernel: int = 1, stride: int = 1, rate: int = 1, relu: bool = True
) -> keras.KerasTensor:
    """Convolution to ``width`` channels, batch norm, and ReLU unless told otherwise. ``kernel`` is odd."""
    x, padding = _pad(x, name, kernel, stride)
    x = layers.Conv2D(width, kernel, strides=stride, dilation_rate=rate, padding=padding, use_bias=False, name=name)(x)
    return _norm(x, name, relu)


def depthwise(
    x: keras.KerasTensor, name: str, *, stride: int = 1, rate: int = 1, relu: bool = True
) -> keras.KerasTensor:
    """Depthwise 3x3 convolution, batch norm, and ReLU unless told otherwise."""
    x, padding = _pad(x, name, 3, stride)
    x = layers.DepthwiseConv2D(3, strides=stride, dilation_rate=rate, padding=padding, use_bias=False, name=name)(x)
    return _norm(x, name, relu)


def _pad(x: keras.KerasTensor, name: str, kernel: int, stride: int) -> tuple[keras.KerasTensor, str]:
    """Keras' own "same" pads a strided convolution by the parity of the map; this does not."""
    if stride == 1 or kernel == 1:
        return x, "same"
    return layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x), "valid"


def _norm(x: keras.KerasTensor, name: str, relu: bool) -> keras.KerasTensor:
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x
