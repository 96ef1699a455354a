"""PeleeNet (Wang et al. 2018, arXiv:1804.06882): a small DenseNet of plain convolutions, without depthwise ones.

Layer names follow the authors' PyTorch code, with ``_`` for its dots and ``_bn`` for its ``norm``. Tensors are
[B, h, w, C].
"""

from __future__ import annotations

import keras
from keras import layers

from deeplabv3p.models.blocks import conv, scaled

DEPTHS = (3, 4, 8, 6)  # dense layers of each stage (table 1)
BOTTLENECKS = (1, 2, 4, 4)  # channels of their 1x1 convolutions, in units of half the growth (section 2.1)


def build(size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
    """float32 [B, H, W, 3] → [B, ceil(H / output_stride), ceil(W / output_stride), 704·alpha].

    Each stage ends in a transition: a 1x1 convolution that keeps the number of channels, and 2x2 average pooling (not
    behind the last one). Where the output stride forbids the pooling it averages the same pixels densely, and what
    follows is dilated. The bottleneck's limit to half of its input (section 2.1) never binds at these widths.
    """
    image = keras.Input((*size_hw, 3), name="image")
    growth = scaled(32, alpha)
    x = _stem(image, growth)
    stride, rate = 4, 1
    for stage, (depth, bottleneck) in enumerate(zip(DEPTHS, BOTTLENECKS, strict=True), start=1):
        for layer in range(1, depth + 1):
            x = _dense_layer(x, growth // 2, bottleneck, rate, f"denseblock{stage}_denselayer{layer}")
        x = conv(x, x.shape[-1], f"transition{stage}")
        if stage == len(DEPTHS):
            break
        if stride < output_stride:
            x = layers.AveragePooling2D(2, padding="same", name=f"transition{stage}_pool")(x)
            stride *= 2
        else:
            x = _dense_pool(x, rate, f"transition{stage}_pool")
            rate *= 2
    return keras.Model(image, x)


def _stem(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
    """To stride 4 in two ways, strided convolution and max pooling (figure 3)."""
    x = conv(x, width, "stemblock_stem1", kernel=3, stride=2)
    pooled = layers.MaxPooling2D(2, padding="same", name="stemblock_pool")(x)
    x = conv(x, width // 2, "stemblock_stem2a")
    x = conv(x, width, "stemblock_stem2b", kernel=3, stride=2)
    x = layers.Concatenate(name="stemblock_concat")([pooled, x])
    return conv(x, width, "stemblock_stem3")


def _dense_layer(x: keras.KerasTensor, growth: int, bottleneck: int, rate: int, name: str) -> keras.KerasTensor:
    """Two-way dense layer (figure 2): beside the input, ``growth`` channels that see 3x3 pixels and ``growth`` that
    see 5x5."""
    near = conv(x, growth * bottleneck, f"{name}_branch1a")
    near = conv(near, growth, f"{name}_branch1b", kernel=3, rate=rate)
    far = conv(x, growth * bottleneck, f"{name}_branch2a")
    far = conv(far, growth, f"{name}_branch2b", kernel=3, rate=rate)
    far = conv(far, growth, f"{name}_branch2c", kernel=3, rate=rate)
    return layers.Concatenate(name=f"{name}_concat")([x, near, far])


def _dense_pool(x: keras.KerasTensor, rate: int, name: str) -> keras.KerasTensor:
    """2x2 average pooling at stride 1 between pixels ``rate`` apart, which Keras' pooling cannot do: along each axis
    the mean of the map and of itself ``rate`` pixels further. A pixel without such a neighbour keeps its value, as in
    strided pooling of an odd size, which leaves the padding out of the mean."""
    for axis, letter in ((1, "y"), (2, "x")):
        inside, border = [(0, 0), (0, 0)], [(0, 0), (0, 0)]
        inside[axis - 1] = (rate, 0)
        border[axis - 1] = (x.shape[axis] - rate, 0)
        parts = [
            layers.Cropping2D(inside, name=f"{name}_{letter}_inside")(x),
            layers.Cropping2D(border, name=f"{name}_{letter}_border")(x),
        ]
        neighbours = layers.Concatenate(axis=axis, name=f"{name}_{letter}_neighbours")(parts)
        x = layers.Average(name=f"{name}_{letter}")([x, neighbours])
    return x
