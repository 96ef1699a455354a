"""The flags that change a network of the registry, shared by train.py and deeplab.py."""

from __future__ import annotations

import argparse

from common import cli
from deeplabv3p.models.registry import HEADS, SUBPIXEL_FACTORS

NAMES = ("alpha", "head_width", "head", "decoder", "subpixel")
"""The flags, without their dashes."""

_PUBLISHED = {"alpha": 1.0, "head_width": 256, "subpixel": 1}


def add(group: argparse._ArgumentGroup, *, default_to_published: bool) -> None:
    """Add the flags. Those that are not given are those of the network as published, or else null, where what a model
    file says comes first."""
    published = _PUBLISHED if default_to_published else dict.fromkeys(_PUBLISHED)
    flag = group.add_argument
    alpha_help = "width multiplier, 1 as published (default: 1)"
    flag("--alpha", type=cli.number(0.1, 4), default=published["alpha"], metavar="X", help=alpha_help)
    width_help = "channels of the head's convolutions (default: 256)"
    flag("--head_width", type=cli.integer(8, 4096), default=published["head_width"], metavar="N", help=width_help)
    flag("--head", choices=HEADS, help="aspp, aspp_lite (pooling and 1x1) or none (default: the network's)")
    decoder_help = "DeepLabv3+'s decoder, with logits at stride 4 (default: as the network has it)"
    flag("--decoder", action=argparse.BooleanOptionalAction, help=decoder_help)
    subpixel_help = "factor by which the classifier enlarges its output, pixel shuffle (default: 1, not at all)"
    flag("--subpixel", type=int, choices=SUBPIXEL_FACTORS, default=published["subpixel"], help=subpixel_help)
