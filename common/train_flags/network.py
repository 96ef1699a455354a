"""Which network, at which size, from which weights."""

from __future__ import annotations

import argparse

from common import cli, network_flags
from deeplabv3p.models.registry import MODELS, OUTPUT_STRIDES


def add(group: argparse._ArgumentGroup) -> None:
    """Declare them."""
    add = group.add_argument
    add("--model_type", default="mobilenetv2_lite", choices=tuple(MODELS), help="network")
    network_flags.add(group, default_to_published=True)
    shape_help = "height x width of the model's input in pixels (default: 512x512 for most networks)"
    add("--model_input_shape", type=cli.size_hw, metavar="HxW", help=shape_help)
    crop_help = "height x width of the training crops in pixels (default: that of the model's input)"
    add("--crop_shape", type=cli.size_hw, metavar="HxW", help=crop_help)
    stride_help = "input pixels per pixel of the features (default: 16 for most networks)"
    add("--output_stride", type=int, choices=OUTPUT_STRIDES, help=stride_help)
    start_help = (
        "what the backbone starts from: imagenet, none (random), or a file (default: imagenet if there are any)"
    )
    add("--backbone_weights", metavar="imagenet|none|FILE", help=start_help)
    add("--offline", action="store_true", help="never download; say which file is missing")
    weights_help = "whole model, or its weights, to start from; its classes may be others (default: none)"
    add("--weights_path", metavar="FILE", help=weights_help)
    add("--dropout", type=cli.number(0, 0.99), default=0.5, metavar="P", help="dropout probability in the head")
    momentum_help = "share of the old batch-norm statistics that a step keeps, 0 to 1"
    add("--bn_momentum", type=cli.number(0, 0.9999), default=0.99, metavar="M", help=momentum_help)
    sync_help = "batch-norm statistics over all devices (default: with more than one; on JAX they always are)"
    add("--bn_sync", action=argparse.BooleanOptionalAction, default=None, help=sync_help)
    fused_help = "TensorFlow's fused batch norm while training"
    add("--bn_fused", action=argparse.BooleanOptionalAction, default=True, help=fused_help)
