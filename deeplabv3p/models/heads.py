"""DeepLab heads: atrous spatial pyramid pooling, its lite form, and the decoder (Chen et al. 2018, arXiv:1802.02611).

Tensors are [B, h, w, C]. Every layer is a stock Keras layer or operation, so saved models load without this package.
The classifier comes before any upsampling to the picture: the scores of the classes are fewer than the features.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from deeplabv3p.models.blocks import conv, depthwise

ASPP_RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
PREFIXES = ("aspp_", "decoder_", "logits")  # layer names of everything that is not the backbone


def aspp(x: keras.KerasTensor, output_stride: int, *, width: int = 256, dropout: float = 0.5) -> keras.KerasTensor:
    """Image pooling, 1x1, and three separable 3x3 convolutions at the rates of ``output_stride``, projected to
    ``width`` channels at the size of ``x``."""
    branches = [_image_pooling(x, width), conv(x, width, "aspp_1x1")]
    for index, rate in enumerate(ASPP_RATES[output_stride], start=1):
        branches.append(_separable_conv(x, width, f"aspp_rate{index}", rate))
    return _project(branches, width, dropout)


def aspp_lite(x: keras.KerasTensor, output_stride: int, *, width: int = 256, dropout: float = 0.5) -> keras.KerasTensor:
    """Image pooling and the 1x1 branch only (the head of Google's mobile DeepLabv3 releases)."""
    del output_stride  # no dilated branch
    return _project([_image_pooling(x, width), conv(x, width, "aspp_1x1")], width, dropout)


def decoder(
    x: keras.KerasTensor, low_level: keras.KerasTensor, *, width: int = 256, low_level_width: int = 48
) -> keras.KerasTensor:
    """Upsample ``x`` to the size of ``low_level`` (stride 4), join both, refine by two separable 3x3 convolutions."""
    low_level = conv(low_level, low_level_width, "decoder_low_level")
    x = ops.image.resize(x, low_level.shape[1:3], interpolation="bilinear")
    x = layers.Concatenate(name="decoder_concat")([x, low_level])
    x = _separable_conv(x, width, "decoder_refine1")
    return _separable_conv(x, width, "decoder_refine2")


def classifier(
    x: keras.KerasTensor, num_classes: int, *, subpixel: int = 1, size_hw: tuple[int, int] | None = None
) -> keras.KerasTensor:
    """A score per class: 1x1 convolution ``logits`` to [B, h, w, K].

    With ``subpixel`` r > 1 it puts out r x r scores a pixel, which are laid side by side and cut to ``size_hw``
    (pixel shuffle, Shi et al. 2016, arXiv:1609.05158). All r x r start equal, so that the untrained network has no
    checkerboard (ICNR, Aitken et al. 2017, arXiv:1707.02937). Half precision may reach it; the scores are float32.
    """
    scores = layers.Conv2D(num_classes * subpixel**2, 1, dtype="float32", name="logits")
    x = scores(x)
    if subpixel == 1:
        return x
    kernel, bias = scores.get_weights()
    scores.set_weights([np.tile(kernel[..., :num_classes], subpixel**2), bias])
    x = ops.nn.depth_to_space(x, subpixel)
    assert size_hw is not None
    surplus = [(0, has - wanted) for has, wanted in zip(x.shape[1:3], size_hw, strict=True)]
    return layers.Cropping2D(surplus, dtype="float32", name="logits_crop")(x) if any(map(any, surplus)) else x


def _image_pooling(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="aspp_pool_mean")(x)
    pooled = conv(pooled, width, "aspp_pool")
    return layers.UpSampling2D(tuple(x.shape[1:3]), name="aspp_pool_broadcast")(pooled)


def _project(branches: list[keras.KerasTensor], width: int, dropout: float) -> keras.KerasTensor:
    x = layers.Concatenate(name="aspp_concat")(branches)
    return layers.Dropout(dropout, name="aspp_dropout")(conv(x, width, "aspp_project"))


def _separable_conv(x: keras.KerasTensor, width: int, name: str, rate: int = 1) -> keras.KerasTensor:
    """Depthwise 3x3 at a dilation rate, then 1x1, each with batch norm and ReLU."""
    return conv(depthwise(x, f"{name}_depthwise", rate=rate), width, f"{name}_pointwise")
