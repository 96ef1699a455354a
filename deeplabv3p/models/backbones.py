"""Feature networks. Each function's name is the registry's; each returns its input and its features by stride.

The decoder trusts what is promised here: ``image`` is float32 [B, H, W, 3], ``features[4]`` is float32
[B, ceil(H / 4), ceil(W / 4), C]; ``features[output_stride]`` is what the head reads.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

from deeplabv3p.models import graph
from deeplabv3p.models.backbone_records import BACKBONES
from deeplabv3p.models.dilation import dilate
from deeplabv3p.models.fast_scnn import fast_scnn
from deeplabv3p.models.narrow import narrow
from deeplabv3p.models.peleenet import peleenet
from deeplabv3p.models.unet import unet
from deeplabv3p.models.xception import xception

Features = dict[int, keras.KerasTensor]


def mobilenetv2(size_hw: tuple[int, int], output_stride: int, alpha: float) -> tuple[keras.KerasTensor, Features]:
    """MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) up to its last bottleneck: 320·alpha channels at the output
    stride. The 1280-channel layer behind it belongs to the classifier. ``size_hw``: at least 32 pixels a side."""
    network = keras.applications.MobileNetV2(input_tensor=_image(size_hw), alpha=alpha, include_top=False, weights=None)
    return _dilated("mobilenetv2", _trunk("mobilenetv2", network), output_stride)


def mobilenetv2_slim(size_hw: tuple[int, int], output_stride: int, alpha: float) -> tuple[keras.KerasTensor, Features]:
    """``mobilenetv2`` as Google's DeepLab narrows it: alpha times the channels, not rounded to multiples of 8. At
    alpha 1 it is the same network. Google's expansions are 6 times the rounded widths: equal to these where nothing is
    rounded (0.25, 0.5, 0.75)."""
    network = keras.applications.MobileNetV2(input_tensor=_image(size_hw), include_top=False, weights=None)
    trunk = narrow(_trunk("mobilenetv2_slim", network), alpha, divisor=1)
    return _dilated("mobilenetv2_slim", trunk, output_stride)


def mobilenetv3large(size_hw: tuple[int, int], output_stride: int, alpha: float) -> tuple[keras.KerasTensor, Features]:
    """MobileNetV3 Large (Howard et al. 2019, arXiv:1905.02244) up to its last bottleneck: 160·alpha channels at the
    output stride. The 960-channel layer behind it is left to the classifier, as in ``mobilenetv2``."""
    return _mobilenetv3("mobilenetv3large", keras.applications.MobileNetV3Large, size_hw, output_stride, alpha)


def mobilenetv3small(size_hw: tuple[int, int], output_stride: int, alpha: float) -> tuple[keras.KerasTensor, Features]:
    """MobileNetV3 Small (Howard et al. 2019, arXiv:1905.02244) up to its last bottleneck: 96·alpha channels at the
    output stride."""
    return _mobilenetv3("mobilenetv3small", keras.applications.MobileNetV3Small, size_hw, output_stride, alpha)


def resnet50(size_hw: tuple[int, int], output_stride: int, alpha: float) -> tuple[keras.KerasTensor, Features]:
    """ResNet-50 (He et al. 2015, arXiv:1512.03385), strides in the first 1x1 convolution of a stage, as published:
    2048·alpha channels at the output stride."""
    return _resnet("resnet50", keras.applications.ResNet50, size_hw, output_stride, alpha)


def resnet101(size_hw: tuple[int, int], output_stride: int, alpha: float) -> tuple[keras.KerasTensor, Features]:
    """ResNet-101 (He et al. 2015, arXiv:1512.03385), the backbone of DeepLabv3's paper: 2048·alpha channels."""
    return _resnet("resnet101", keras.applications.ResNet101, size_hw, output_stride, alpha)


def efficientnetv2b0(size_hw: tuple[int, int], output_stride: int, alpha: float) -> tuple[keras.KerasTensor, Features]:
    """EfficientNetV2-B0 (Tan and Le 2021, arXiv:2104.00298) up to its last bottleneck: 192·alpha channels at the output
    stride. While it trains, it drops whole residual branches at random, as published."""
    network = keras.applications.EfficientNetV2B0(
        input_tensor=_image(size_hw), include_top=False, weights=None, include_preprocessing=False
    )
    return _dilated("efficientnetv2b0", narrow(_trunk("efficientnetv2b0", network), alpha), output_stride)


def convnext_tiny(size_hw: tuple[int, int], output_stride: int, alpha: float) -> tuple[keras.KerasTensor, Features]:
    """ConvNeXt-T (Liu et al. 2022, arXiv:2201.03545): the outputs of its stages, 768·alpha channels at the last.

    The layer norm that Keras puts behind the last stage is left out: it was trained on the pooled features of the
    classifier, and the head begins with a normalised convolution of its own.

    Three things differ from ``keras.applications``, none of them in the function at sizes that are multiples of 32.
    Stem and downsampling are layers of the graph, not models in it. Depthwise convolutions are that layer instead of
    grouped convolutions, which TensorFlow runs 30 to 70 times slower on a CPU; the layer scale is a depthwise 1x1
    convolution, because Keras' own layer of that name is not among those that a saved ``.h5`` can hold. And strided
    convolutions pad ("same"), so that no pixel is lost at other sizes. Weights of ``keras.applications`` fit by layer
    name and order; kernels [k, k, 1, C] and scales [C] need to be reshaped to [k, k, C, 1] and [1, 1, C, 1].
    """
    network = keras.applications.ConvNeXtTiny(
        input_tensor=_image(size_hw), include_top=False, weights=None, include_preprocessing=False
    )
    # The tap is a sum without a name: the trunk is cut behind flattening, which names it.
    trunk = _trunk("convnext_tiny", graph.flatten(network, _stock))
    return _dilated("convnext_tiny", narrow(trunk, alpha), output_stride)


Application = Callable[..., keras.Model]


def _mobilenetv3(
    name: str, application: Application, size_hw: tuple[int, int], output_stride: int, alpha: float
) -> tuple[keras.KerasTensor, Features]:
    network = application(
        input_tensor=_image(size_hw), alpha=alpha, include_top=False, weights=None, include_preprocessing=False
    )
    return _dilated(name, graph.flatten(_trunk(name, network), lambda layer: None), output_stride)


def _resnet(
    name: str, application: Application, size_hw: tuple[int, int], output_stride: int, alpha: float
) -> tuple[keras.KerasTensor, Features]:
    network = application(input_tensor=_image(size_hw), include_top=False, weights=None)
    return _dilated(name, narrow(_trunk(name, network), alpha), output_stride)


def _stock(layer: layers.Layer) -> layers.Layer | None:
    """ConvNeXt's layers as others of the same function, see :func:`convnext_tiny`."""
    config = layer.get_config()
    if type(layer).__name__ == "LayerScale":
        start = keras.initializers.Constant(config["init_values"])
        return layers.DepthwiseConv2D(1, depthwise_initializer=start, use_bias=False, name=layer.name)
    if not isinstance(layer, layers.Conv2D):
        return None
    if config["groups"] > 1:
        return layers.DepthwiseConv2D(
            config["kernel_size"], padding="same", depthwise_initializer=config["kernel_initializer"], name=layer.name
        )
    return layers.Conv2D.from_config({**config, "padding": "same"})


def _image(size_hw: tuple[int, int]) -> keras.KerasTensor:
    return keras.Input((*size_hw, 3), name="image")


def _trunk(name: str, network: keras.Model) -> keras.Model:
    """The network up to its deepest tap."""
    taps = BACKBONES[name].taps
    return keras.Model(network.inputs[0], graph.output(network, taps[max(taps)]))


def _dilated(name: str, trunk: keras.Model, output_stride: int) -> tuple[keras.KerasTensor, Features]:
    network = dilate(trunk, output_stride)
    return network.input, _features(network, BACKBONES[name].taps, output_stride)


def _features(network: keras.Model, taps: dict[int, str], output_stride: int) -> Features:
    """Features by stride. Behind the output stride every tap has that stride, and the deepest one counts."""
    features = {stride: graph.output(network, name) for stride, name in taps.items() if stride < output_stride}
    features[output_stride] = graph.output(network, taps[max(taps)])
    return features


Builder = Callable[[tuple[int, int], int, float], tuple[keras.KerasTensor, Features]]


def _written(name: str, network: Callable[[tuple[int, int], int, float], keras.Model]) -> Builder:
    """The builder of a network that is written by hand: its record says where its features are."""

    def build(size_hw: tuple[int, int], output_stride: int, alpha: float) -> tuple[keras.KerasTensor, Features]:
        trunk = network(size_hw, output_stride, alpha)
        return trunk.input, _features(trunk, BACKBONES[name].taps, output_stride)

    return build


BUILDERS: dict[str, Builder] = {
    "mobilenetv2": mobilenetv2,
    "mobilenetv2_slim": mobilenetv2_slim,
    "mobilenetv3large": mobilenetv3large,
    "mobilenetv3small": mobilenetv3small,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "efficientnetv2b0": efficientnetv2b0,
    "convnext_tiny": convnext_tiny,
    "xception": _written("xception", xception),
    "peleenet": _written("peleenet", peleenet),
    "fast_scnn": _written("fast_scnn", fast_scnn),
    "unet": _written("unet", unet),
}
