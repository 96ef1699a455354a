"""Feature networks. Each function's name is the registry's; each returns its input and its features by stride.

The decoder trusts what is promised here: ``image`` is float32 [B, H, W, 3], ``features[4]`` is float32
 [B, ceil(H / 4), ceil(W / 4), C]; ``features[output_stride]`` is what the head reads.
"""

from __future__ import annotations

from collections.abc import Callable

import keras

from deeplabv3p.models.dilation import dilate
from deeplabv3p.models.registry import BACKBONES

Features = dict[int, keras.KerasTensor]


def mobilenetv2(size_hw: tuple[int, int], output_stride: int, alpha: float) -> tuple[keras.KerasTensor, Features]:
    """MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) up to its last bottleneck: 320·alpha channels at the output
    stride. The 1280-channel layer behind it belongs to the classifier. ``size_hw``: at least 32 pixels a side."""
    image = keras.Input((*size_hw, 3), name="image")
    network = keras.applications.MobileNetV2(input_tensor=image, alpha=alpha, include_top=False, weights=None)
    taps = BACKBONES["mobilenetv2"].taps
    trunk = dilate(keras.Model(network.inputs[0], network.get_layer(taps[32]).output), output_stride)
    return trunk.input, _features(trunk, taps, output_stride)


def _features(network: keras.Model, taps: dict[int, str], output_stride: int) -> Features:
    """Features by stride. Behind the output stride every tap has that stride, and the deepest one counts."""
    features = {stride: network.get_layer(name).output for stride, name in taps.items() if stride < output_stride}
    features[output_stride] = network.get_layer(taps[max(taps)]).output
    return features


Builder = Callable[[tuple[int, int], int, float], tuple[keras.KerasTensor, Features]]
BUILDERS: dict[str, Builder] = {"mobilenetv2": mobilenetv2}
