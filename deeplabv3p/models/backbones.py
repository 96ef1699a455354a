"""Every backbone: one decorated function each, whose name is the registry's.

Keras is imported when one is built, not when this module is read. A network that ``keras.applications`` has is built by
it at its published stride and dilated; the others are written by hand in files of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deeplabv3p.models.backbone import BACKBONES, Backbone, backbone
from deeplabv3p.spec import CAFFE, IMAGENET_STATISTICS

if TYPE_CHECKING:
    import keras

__all__ = ["BACKBONES"]  # filled by the functions below


@backbone(
    taps={4: "block_2_add", 8: "block_5_add", 16: "block_12_add", 32: "block_16_project_BN"},
    channels={4: 24, 8: 32, 16: 96, 32: 320},
    paper="Sandler et al. 2018, arXiv:1801.04381",
    imagenet_file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224_no_top.h5",
    alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
)
def mobilenetv2(own: Backbone, size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
    """MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) up to its last bottleneck: 320·alpha channels at the output
    stride. The 1280-channel layer behind it belongs to the classifier. ``size_hw``: at least 32 pixels a side."""
    return _dilated(own.trunk(_application("MobileNetV2", size_hw, alpha=alpha)), output_stride)


@backbone(
    taps={4: "block_2_add", 8: "block_5_add", 16: "block_12_add", 32: "block_16_project_BN"},
    channels={4: 24, 8: 32, 16: 96, 32: 320},
    paper="Sandler et al. 2018, arXiv:1801.04381; widths of Google's DeepLab",
    imagenet_file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224_no_top.h5",
)
def mobilenetv2_slim(own: Backbone, size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
    """``mobilenetv2`` as Google's DeepLab narrows it: alpha times the channels, not rounded to multiples of 8. At
    alpha 1 it is the same network. Google's expansions are 6 times the rounded widths: equal to these where nothing is
    rounded (0.25, 0.5, 0.75)."""
    return _dilated(own.trunk(_application("MobileNetV2", size_hw)), output_stride, alpha, divisor=1)


@backbone(
    taps={
        4: "expanded_conv_2_add",
        8: "expanded_conv_5_add",
        16: "expanded_conv_11_add",
        32: "expanded_conv_14_add",
    },
    channels={4: 24, 8: 40, 16: 112, 32: 160},
    paper="Howard et al. 2019, arXiv:1905.02244",
    imagenet_file="weights_mobilenet_v3_large_224_{alpha}_float_no_top_v2.h5",
    alphas=(0.75, 1.0),
)
def mobilenetv3large(own: Backbone, size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
    """MobileNetV3 Large (Howard et al. 2019, arXiv:1905.02244) up to its last bottleneck: 160·alpha channels at the
    output stride. The 960-channel layer behind it is left to the classifier, as in ``mobilenetv2``."""
    return _mobilenetv3(own, "MobileNetV3Large", size_hw, output_stride, alpha)


@backbone(
    taps={
        4: "expanded_conv_project_bn",
        8: "expanded_conv_2_add",
        16: "expanded_conv_7_add",
        32: "expanded_conv_10_add",
    },
    channels={4: 16, 8: 24, 16: 48, 32: 96},
    paper="Howard et al. 2019, arXiv:1905.02244",
    imagenet_file="weights_mobilenet_v3_small_224_{alpha}_float_no_top_v2.h5",
    alphas=(0.75, 1.0),
)
def mobilenetv3small(own: Backbone, size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
    """MobileNetV3 Small (Howard et al. 2019, arXiv:1905.02244) up to its last bottleneck: 96·alpha channels at the
    output stride."""
    return _mobilenetv3(own, "MobileNetV3Small", size_hw, output_stride, alpha)


@backbone(
    taps={4: "conv2_block3_out", 8: "conv3_block4_out", 16: "conv4_block6_out", 32: "conv5_block3_out"},
    channels={4: 256, 8: 512, 16: 1024, 32: 2048},
    paper="He et al. 2015, arXiv:1512.03385",
    preprocessing=CAFFE,
    imagenet_file="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    origin="Keras Applications, ImageNet, from KaimingHe/deep-residual-networks",
    licence="MIT",
)
def resnet50(own: Backbone, size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
    """ResNet-50 (He et al. 2015, arXiv:1512.03385), strides in the first 1x1 convolution of a stage, as published:
    2048·alpha channels at the output stride."""
    return _dilated(own.trunk(_application("ResNet50", size_hw)), output_stride, alpha)


@backbone(
    taps={4: "conv2_block3_out", 8: "conv3_block4_out", 16: "conv4_block23_out", 32: "conv5_block3_out"},
    channels={4: 256, 8: 512, 16: 1024, 32: 2048},
    paper="He et al. 2015, arXiv:1512.03385",
    preprocessing=CAFFE,
    imagenet_file="resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
    origin="Keras Applications, ImageNet, from KaimingHe/deep-residual-networks",
    licence="MIT",
)
def resnet101(own: Backbone, size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
    """ResNet-101 (He et al. 2015, arXiv:1512.03385), the backbone of DeepLabv3's paper: 2048·alpha channels."""
    return _dilated(own.trunk(_application("ResNet101", size_hw)), output_stride, alpha)


@backbone(
    taps={4: "block2b_add", 8: "block3b_add", 16: "block5e_add", 32: "block6h_add"},
    channels={4: 32, 8: 48, 16: 112, 32: 192},
    paper="Tan and Le 2021, arXiv:2104.00298",
    preprocessing=IMAGENET_STATISTICS,
    imagenet_file="efficientnetv2-b0_notop.h5",
)
def efficientnetv2b0(own: Backbone, size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
    """EfficientNetV2-B0 (Tan and Le 2021, arXiv:2104.00298) up to its last bottleneck: 192·alpha channels at the output
    stride. While it trains, it drops whole residual branches at random, as published."""
    network = _application("EfficientNetV2B0", size_hw, include_preprocessing=False)
    return _dilated(own.trunk(network), output_stride, alpha)


@backbone(
    taps={
        4: "convnext_tiny_stage_0_block_2_identity_add",
        8: "convnext_tiny_stage_1_block_2_identity_add",
        16: "convnext_tiny_stage_2_block_8_identity_add",
        32: "convnext_tiny_stage_3_block_2_identity_add",
    },
    channels={4: 96, 8: 192, 16: 384, 32: 768},
    paper="Liu et al. 2022, arXiv:2201.03545",
    preprocessing=IMAGENET_STATISTICS,
    imagenet_file="convnext_tiny_notop.h5",
    origin="Keras Applications, ImageNet, from facebookresearch/ConvNeXt",
    licence="MIT",
)
def convnext_tiny(own: Backbone, size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
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
    from deeplabv3p.models import graph

    network = _application("ConvNeXtTiny", size_hw, include_preprocessing=False)
    # The tap is a sum without a name: the trunk is cut behind flattening, which names it.
    return _dilated(own.trunk(graph.flatten(network, _stock)), output_stride, alpha)


@backbone(
    taps={
        4: "entry_flow_block2_separable_conv2_pointwise_BN",
        8: "entry_flow_block2_add",
        16: "middle_flow_unit_16_add",
        32: "exit_flow_block2_separable_conv3_pointwise_relu",
    },
    channels={4: 256, 8: 256, 16: 728, 32: 2048},
    paper="Chen et al. 2018, arXiv:1802.02611",
    origin="whole models only: Google's DeepLab release in bonlime/keras-deeplab-v3-plus",
    licence="MIT",
)
def xception(own: Backbone, size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
    """Xception-65 as modified for DeepLab: 2048·alpha channels at the output stride."""
    from deeplabv3p.models import xception

    return xception.build(size_hw, output_stride, alpha)


@backbone(
    taps={4: "transition1_relu", 8: "transition2_relu", 16: "transition3_relu", 32: "transition4_relu"},
    channels={4: 128, 8: 256, 16: 512, 32: 704},
    paper="Wang et al. 2018, arXiv:1804.06882",
    preprocessing=IMAGENET_STATISTICS,
    origin="the authors' PyTorch code, Robert-JunWang/PeleeNet",
    licence="",
)
def peleenet(own: Backbone, size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
    """PeleeNet: 704·alpha channels at the output stride."""
    from deeplabv3p.models import peleenet

    return peleenet.build(size_hw, output_stride, alpha)


@backbone(
    taps={8: "decoder_refine2_pointwise_relu", 32: "pyramid_project_relu"},
    channels={8: 128, 32: 128},
    paper="Poudel et al. 2019, arXiv:1902.04502",
    origin="",
    licence="",
)
def fast_scnn(own: Backbone, size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
    """Fast-SCNN, a whole network: the stride 8 is what its classifier reads."""
    from deeplabv3p.models import fast_scnn

    return fast_scnn.build(size_hw, alpha)


@backbone(
    taps={1: "decoder_1_conv2_relu", 16: "bridge_conv2_relu"},
    channels={1: 64, 16: 1024},
    paper="Ronneberger et al. 2015, arXiv:1505.04597",
    origin="",
    licence="",
)
def unet(own: Backbone, size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
    """U-Net, a whole network: the stride 1 is what its classifier reads."""
    from deeplabv3p.models import unet

    return unet.build(size_hw, alpha)


def _application(name: str, size_hw: tuple[int, int], **options: Any) -> keras.Model:
    """The feature network of ``keras.applications``, randomly initialised."""
    import keras

    image = keras.Input((*size_hw, 3), name="image")
    return getattr(keras.applications, name)(input_tensor=image, include_top=False, weights=None, **options)


def _mobilenetv3(own: Backbone, name: str, size_hw: tuple[int, int], output_stride: int, alpha: float) -> keras.Model:
    from deeplabv3p.models import graph

    network = _application(name, size_hw, alpha=alpha, include_preprocessing=False)
    return _dilated(graph.flatten(own.trunk(network), lambda layer: None), output_stride)


def _dilated(trunk: keras.Model, output_stride: int, alpha: float = 1.0, divisor: int = 8) -> keras.Model:
    """The trunk at another output stride, and narrowed where Keras has not done so itself."""
    from deeplabv3p.models.dilation import dilate
    from deeplabv3p.models.narrow import narrow

    return dilate(narrow(trunk, alpha, divisor), output_stride)


def _stock(layer: keras.layers.Layer) -> keras.layers.Layer | None:
    """ConvNeXt's layers as others of the same function, see :data:`convnext_tiny`."""
    from keras import initializers, layers

    config = layer.get_config()
    if type(layer).__name__ == "LayerScale":
        start = initializers.Constant(config["init_values"])
        return layers.DepthwiseConv2D(1, depthwise_initializer=start, use_bias=False, name=layer.name)
    if not isinstance(layer, layers.Conv2D):
        return None
    if config["groups"] > 1:
        return layers.DepthwiseConv2D(
            config["kernel_size"], padding="same", depthwise_initializer=config["kernel_initializer"], name=layer.name
        )
    return layers.Conv2D.from_config({**config, "padding": "same"})
