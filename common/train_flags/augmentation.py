"""How much the training pictures vary."""

from __future__ import annotations

import argparse

from common import cli


def add(group: argparse._ArgumentGroup) -> None:
    """Declare them."""
    add = group.add_argument
    add("--aug_scale", type=_span, default=(0.5, 2.0), metavar="LOW-HIGH", help="random scale factor (default: 0.5-2)")
    add("--aug_flip", type=cli.number(0, 1), default=0.5, metavar="P", help="probability of a left-right flip")
    add("--aug_brightness", type=cli.number(0, 1), default=0.1, metavar="X", help="± shift, share of the full range")
    add("--aug_contrast", type=cli.number(0, 1), default=0.2, metavar="X", help="± change of contrast, a share")
    add("--aug_saturation", type=cli.number(0, 1), default=0.2, metavar="X", help="± change of saturation, a share")
    add("--aug_hue", type=cli.number(0, 180), default=0.0, metavar="DEG", help="± turn of the hue, degrees")


def _span(text: str) -> tuple[float, float]:
    """Argument type ``LOW-HIGH``: ``0.5-2`` → (0.5, 2.0)."""
    low, dash, high = text.partition("-")
    try:
        return float(low), float(high if dash else low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a range; write LOW-HIGH, such as 0.5-2") from None
