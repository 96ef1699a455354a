"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597), the classic: an encoder and a decoder joined at every size.

A whole network, with logits at the picture's own size, which makes it heavy: at 512x512 it computes about 35 times as
much as DeepLabv3+ on MobileNetV2 (193 against 5.6 billion multiply-accumulates). Tensors are [B, h, w, C].
"""

from __future__ import annotations

import keras
from keras import layers

from deeplabv3p.models.blocks import conv, scaled

WIDTHS = (64, 128, 256, 512)  # of the encoder and, backwards, of the decoder (figure 1)
BRIDGE_WIDTH = 1024


def build(size_hw: tuple[int, int], alpha: float) -> keras.Model:
    """float32 [B, H, W, 3] → [B, H, W, 64·alpha], what the classifier reads.

    As in figure 1, with two changes that later versions share: convolutions pad ("same"), so the output is as large as
    the picture, and have batch norm instead of a bias. Pooling rounds odd sizes up; the way back crops to the map it
    joins. The encoder's output stride is 16 and not to be chosen.
    """
    image = x = keras.Input((*size_hw, 3), name="image")
    skips = []
    for level, width in enumerate(WIDTHS, start=1):
        x = _two_convs(x, scaled(width, alpha), f"encoder_{level}")
        skips.append(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"encoder_{level}_pool")(x)
    x = _two_convs(x, scaled(BRIDGE_WIDTH, alpha), "bridge")
    for level, skip in reversed(list(enumerate(skips, start=1))):
        x = _enlarge(x, skip, f"decoder_{level}")
        x = layers.Concatenate(name=f"decoder_{level}_concat")([skip, x])
        x = _two_convs(x, skip.shape[-1], f"decoder_{level}")
    return keras.Model(image, x)


def _two_convs(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    x = conv(x, width, f"{name}_conv1", kernel=3)
    return conv(x, width, f"{name}_conv2", kernel=3)


def _enlarge(x: keras.KerasTensor, skip: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Transposed 2x2 convolution to twice the size, cut to that of ``skip`` and of as many channels."""
    x = layers.Conv2DTranspose(skip.shape[-1], 2, strides=2, use_bias=False, name=f"{name}_up")(x)
    surplus = [(0, has - wanted) for has, wanted in zip(x.shape[1:3], skip.shape[1:3], strict=True)]
    return layers.Cropping2D(surplus, name=f"{name}_crop")(x) if any(map(any, surplus)) else x
