"""What is known of each feature network: where its features are, and what its published weights expect."""

from __future__ import annotations

import dataclasses

from deeplabv3p.spec import CAFFE, IMAGENET_STATISTICS, SYMMETRIC, Preprocessing


@dataclasses.dataclass(frozen=True)
class BackboneRecord:
    """A feature network and what its published weights expect.

    ``taps`` names the layer or operation whose output is the feature map of a stride, ``channels`` says how many
    channels it has at alpha 1; the last one is what the head reads. ``preprocessing`` is that of the ImageNet weights
    of ``imagenet_file`` (None: there are none that can be had). ``alphas`` are the width multipliers that those exist
    for. ``paper`` says where the network is from, ``origin`` and ``licence`` are those of the weights.
    """

    name: str
    taps: dict[int, str]
    channels: dict[int, int]
    paper: str
    preprocessing: Preprocessing = SYMMETRIC
    imagenet_file: str | None = None
    alphas: tuple[float, ...] = (1.0,)
    origin: str = "Keras Applications, ImageNet"
    licence: str = "Apache-2.0"


BACKBONES = {
    record.name: record
    for record in (
        BackboneRecord(
            name="mobilenetv2",
            taps={4: "block_2_add", 8: "block_5_add", 16: "block_12_add", 32: "block_16_project_BN"},
            channels={4: 24, 8: 32, 16: 96, 32: 320},
            paper="Sandler et al. 2018, arXiv:1801.04381",
            imagenet_file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224_no_top.h5",
            alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
        ),
        BackboneRecord(
            name="mobilenetv2_slim",
            taps={4: "block_2_add", 8: "block_5_add", 16: "block_12_add", 32: "block_16_project_BN"},
            channels={4: 24, 8: 32, 16: 96, 32: 320},
            paper="Sandler et al. 2018, arXiv:1801.04381; widths of Google's DeepLab",
            imagenet_file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224_no_top.h5",
        ),
        BackboneRecord(
            name="mobilenetv3large",
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
        ),
        BackboneRecord(
            name="mobilenetv3small",
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
        ),
        BackboneRecord(
            name="resnet50",
            taps={4: "conv2_block3_out", 8: "conv3_block4_out", 16: "conv4_block6_out", 32: "conv5_block3_out"},
            channels={4: 256, 8: 512, 16: 1024, 32: 2048},
            paper="He et al. 2015, arXiv:1512.03385",
            preprocessing=CAFFE,
            imagenet_file="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            origin="Keras Applications, ImageNet, from KaimingHe/deep-residual-networks",
            licence="MIT",
        ),
        BackboneRecord(
            name="resnet101",
            taps={4: "conv2_block3_out", 8: "conv3_block4_out", 16: "conv4_block23_out", 32: "conv5_block3_out"},
            channels={4: 256, 8: 512, 16: 1024, 32: 2048},
            paper="He et al. 2015, arXiv:1512.03385",
            preprocessing=CAFFE,
            imagenet_file="resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
            origin="Keras Applications, ImageNet, from KaimingHe/deep-residual-networks",
            licence="MIT",
        ),
        BackboneRecord(
            name="efficientnetv2b0",
            taps={4: "block2b_add", 8: "block3b_add", 16: "block5e_add", 32: "block6h_add"},
            channels={4: 32, 8: 48, 16: 112, 32: 192},
            paper="Tan and Le 2021, arXiv:2104.00298",
            preprocessing=IMAGENET_STATISTICS,
            imagenet_file="efficientnetv2-b0_notop.h5",
        ),
        BackboneRecord(
            name="convnext_tiny",
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
        ),
        BackboneRecord(
            name="xception",
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
        ),
        BackboneRecord(
            name="peleenet",
            taps={4: "transition1_relu", 8: "transition2_relu", 16: "transition3_relu", 32: "transition4_relu"},
            channels={4: 128, 8: 256, 16: 512, 32: 704},
            paper="Wang et al. 2018, arXiv:1804.06882",
            preprocessing=IMAGENET_STATISTICS,
            origin="the authors' PyTorch code, Robert-JunWang/PeleeNet",
            licence="",
        ),
        BackboneRecord(
            name="fast_scnn",
            taps={8: "decoder_refine2_pointwise_relu", 32: "pyramid_project_relu"},
            channels={8: 128, 32: 128},
            paper="Poudel et al. 2019, arXiv:1902.04502",
            origin="",
            licence="",
        ),
        BackboneRecord(
            name="unet",
            taps={1: "decoder_1_conv2_relu", 16: "bridge_conv2_relu"},
            channels={1: 64, 16: 1024},
            paper="Ronneberger et al. 2015, arXiv:1505.04597",
            origin="",
            licence="",
        ),
    )
}
