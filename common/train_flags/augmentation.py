"""How much the training pictures vary."""

from __future__ import annotations

import argparse

from common import cli


def add(group: argparse._ArgumentGroup) -> None:
    """Declare them."""
    add = group.add_argument
    share, degrees = cli.number(0, 1), cli.number(0, 180)
    add("--aug_scale", type=_span, default=(0.5, 2.0), metavar="LOW-HIGH", help="random scale factor (default: 0.5-2)")
    add("--aug_zoom", type=cli.number(0, 0.9), default=0.0, metavar="X", help="± change of height and width, apart")
    rotate_help = "± turn of the picture, degrees; what is beyond it is ignored"
    add("--aug_rotate", type=degrees, default=0.0, metavar="DEG", help=rotate_help)
    add("--aug_flip", type=share, default=0.5, metavar="P", help="probability of a left-right flip")
    add("--aug_flip_vertical", type=share, default=0.0, metavar="P", help="probability of an upside-down flip")
    add("--aug_brightness", type=share, default=0.1, metavar="X", help="± shift, share of the full range")
    add("--aug_contrast", type=share, default=0.2, metavar="X", help="± change of contrast, a share")
    add("--aug_saturation", type=share, default=0.2, metavar="X", help="± change of saturation (chroma), a share")
    add("--aug_hue", type=degrees, default=0.0, metavar="DEG", help="± turn of the hue, degrees")
    add("--aug_sharpness", type=share, default=0.0, metavar="X", help="± change of sharpness, a share")
    add("--aug_greyscale", type=share, default=0.0, metavar="P", help="probability of a grey picture")
    add("--aug_blur", type=share, default=0.0, metavar="P", help="probability of a Gaussian blur")
    add("--aug_clahe", type=share, default=0.0, metavar="P", help="probability of a local equalisation (CLAHE)")
    grid_help = "probability of GridMask, which takes a lattice of squares out of picture and label"
    add("--aug_gridmask", type=share, default=0.0, metavar="P", help=grid_help)
    distance_help = "distance from square to square, share of the crop's shorter side (default: 0.15-0.5)"
    add("--aug_gridmask_d", type=_span, default=(0.15, 0.5), metavar="LOW-HIGH", help=distance_help)
    ratio_help = "share of that distance that is kept between squares"
    add("--aug_gridmask_ratio", type=cli.number(0.01, 0.99), default=0.5, metavar="R", help=ratio_help)
    add("--aug_gridmask_angle", type=cli.number(0, 45), default=45.0, metavar="DEG", help="± turn of the lattice")
    ramp_help = "epochs over which the probability of GridMask grows from 0; 0: it does not"
    add("--aug_gridmask_ramp", type=cli.integer(0), default=0, metavar="N", help=ramp_help)
    crop_help = "probability that the crop is laid on a rare class of the picture"
    add("--aug_class_crop", type=share, default=0.0, metavar="P", help=crop_help)
    paste_help = "probability that a rare class is copied from another picture"
    add("--aug_copy_paste", type=share, default=0.0, metavar="P", help=paste_help)
    mix_help = "probability that a rectangle comes from another picture"
    add("--aug_cutmix", type=share, default=0.0, metavar="P", help=mix_help)


def _span(text: str) -> tuple[float, float]:
    """Argument type ``LOW-HIGH``: ``0.5-2`` → (0.5, 2.0)."""
    low, dash, high = text.partition("-")
    try:
        return float(low), float(high if dash else low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a range; write LOW-HIGH, such as 0.5-2") from None
