"""Fast-SCNN (Poudel et al. 2019, arXiv:1902.04502): two branches that share their first layers, for large pictures.

A whole network: its logits have stride 8, and what lies behind the encoder is named ``decoder_``. Tensors are
[B, h, w, C].
"""

from __future__ import annotations

import keras
from keras import layers, ops

from deeplabv3p.models.blocks import conv, depthwise, scaled

EXPANSION = 6  # of the bottlenecks (table 1)
STAGES = ((64, 2), (96, 2), (128, 1))  # channels and stride of the three stages of three bottlenecks (table 1)
BINS = (1, 2, 3, 6)  # rows and columns of the pyramid's maps (Zhao et al. 2017, arXiv:1612.01105)
UPSAMPLING = 4  # from the encoder's stride 32 to the 8 of the fusion


def build(size_hw: tuple[int, int], alpha: float) -> keras.Model:
    """float32 [B, H, W, 3] → [B, ceil(H / 8), ceil(W / 8), 128·alpha], what the classifier reads.

    Learning to downsample (section 3.2.1), the global feature extractor (3.2.2), feature fusion (3.2.3) and the
    classifier's two separable convolutions (3.2.4). The auxiliary losses of the paper's training are left out. The
    encoder's output stride is 32 and not to be chosen.
    """
    image = keras.Input((*size_hw, 3), name="image")
    x = conv(image, scaled(32, alpha), "downsample_1", kernel=3, stride=2)
    x = _separable_conv(x, scaled(48, alpha), "downsample_2", stride=2)
    fine = x = _separable_conv(x, scaled(64, alpha), "downsample_3", stride=2)
    for stage, (width, stride) in enumerate(STAGES, start=1):
        for unit in range(1, 4):
            x = _bottleneck(x, scaled(width, alpha), stride if unit == 1 else 1, f"bottleneck{stage}_{unit}")
    width = scaled(128, alpha)
    x = _pyramid_pooling(x, width)
    x = _fusion(fine, x, width)
    x = _separable_conv(x, width, "decoder_refine1")
    x = _separable_conv(x, width, "decoder_refine2")
    return keras.Model(image, x)


def _separable_conv(x: keras.KerasTensor, width: int, name: str, stride: int = 1) -> keras.KerasTensor:
    """Depthwise 3x3 and 1x1 convolution, without a ReLU between them (section 3.2.1)."""
    return conv(depthwise(x, f"{name}_depthwise", stride=stride, relu=False), width, f"{name}_pointwise")


def _bottleneck(x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    """Inverted residual (table 2): expand, depthwise 3x3, project without ReLU; added to its input where it fits."""
    y = conv(x, x.shape[-1] * EXPANSION, f"{name}_expand")
    y = conv(depthwise(y, f"{name}_depthwise", stride=stride), width, f"{name}_project", relu=False)
    return layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and x.shape[-1] == width else y


def _pyramid_pooling(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
    """Means over 1, 2x2, 3x3 and 6x6 parts of the map beside the map itself. The parts of one row are equally large:
    they overlap where the size is no multiple of their number. A map smaller than that has a part a pixel."""
    size_hw = x.shape[1:3]
    maps = [x]
    for bins in BINS:
        counts = [min(bins, size) for size in size_hw]
        strides = [size // count for size, count in zip(size_hw, counts, strict=True)]
        window = [size - (count - 1) * stride for size, count, stride in zip(size_hw, counts, strides, strict=True)]
        pooled = layers.AveragePooling2D(window, strides, name=f"pyramid_{bins}_mean")(x)
        pooled = conv(pooled, width // len(BINS), f"pyramid_{bins}")
        maps.append(ops.image.resize(pooled, size_hw, interpolation="bilinear"))
    return conv(layers.Concatenate(name="pyramid_concat")(maps), width, "pyramid_project")


def _fusion(fine: keras.KerasTensor, coarse: keras.KerasTensor, width: int) -> keras.KerasTensor:
    """The coarse map enlarged to the fine one, a dilated depthwise convolution, a projection of both, their sum
    (table 3)."""
    coarse = ops.image.resize(coarse, fine.shape[1:3], interpolation="bilinear")
    coarse = depthwise(coarse, "decoder_coarse_depthwise", rate=UPSAMPLING)
    coarse = conv(coarse, width, "decoder_coarse", relu=False)
    fine = conv(fine, width, "decoder_fine", relu=False)
    return layers.ReLU(name="decoder_fusion_relu")(layers.Add(name="decoder_fusion")([fine, coarse]))
