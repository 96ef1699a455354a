"""The flags that say what a model file does not say itself, or override what its spec says."""

from __future__ import annotations

import argparse
from typing import get_args

from common import cli
from deeplabv3p.spec import Color, OutputKind, Resize


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags; ``common.network`` reads them. Those that are not given leave the choice to the file."""
    flag = parser.add_argument_group(
        "input and output of the model (default: as its spec or the file says)"
    ).add_argument
    flag("--mean", type=_channels, metavar="X[,X,X]", help="subtracted from pixels 0 to 255 (default: the model's)")
    flag("--std", type=_channels, metavar="X[,X,X]", help="by which pixels are divided then (default: the model's)")
    flag("--color", choices=get_args(Color), help="order of the channels (default: the model's, or RGB)")
    rules = [rule for rule in get_args(Resize) if rule != "window"]
    resize_help = "how a picture gets the input's size (default: the model's, or fit)"
    flag("--resize", choices=rules, help=resize_help)
    flag("--output_kind", choices=get_args(OutputKind), help="what comes out (default: the model's)")
    corners_help = "corner pixels of input and output coincide (default: as in the model's own last resize)"
    flag("--align_corners", action=argparse.BooleanOptionalAction, help=corners_help)
    cli.add_picture_max(flag, "the model's")
    flag("--input_name", metavar="NAME", help="input tensor (default: the model's, or its first)")
    flag("--output_name", metavar="NAME", help="output tensor (default: the model's, or its first)")


def _channels(text: str) -> tuple[float, float, float]:
    """Argument type: a number for all channels, or one for each, separated by commas."""
    values = [cli.number(-1e6, 1e6)(part) for part in text.split(",")]
    if len(values) not in {1, 3}:
        raise argparse.ArgumentTypeError(f"'{text}' is neither one number nor three, such as 123.675,116.28,103.53")
    red, green, blue = values * (3 // len(values))
    return red, green, blue
