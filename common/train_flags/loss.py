"""Which loss, and how classes are balanced."""

from __future__ import annotations

import argparse

from common import cli

WEIGHTED = ("None", "adaptive", "balanced")


def add(group: argparse._ArgumentGroup) -> None:
    """Declare them."""
    add = group.add_argument
    loss_help = "a loss, or a sum such as ce+0.5*dice of crossentropy (ce), focal, dice, lovasz, ohem, boundary"
    add("--loss", default="crossentropy", metavar="SUM", help=loss_help)
    weighted_help = "class weights against imbalance: of each picture (adaptive) or of the whole dataset (balanced)"
    add("--weighted_type", choices=WEIGHTED, default="None", help=weighted_help)
    smoothing_help = "share of the target spread over all classes"
    add("--label_smoothing", type=cli.number(0, 0.9), default=0.0, metavar="X", help=smoothing_help)
    add("--focal_alpha", type=cli.number(0, 1e3), default=0.25, metavar="X", help="factor of the focal loss")
    add("--focal_gamma", type=cli.number(0, 20), default=2.0, metavar="X", help="exponent of the focal loss")
    ohem_help = "share of the pixels, the hardest, that ohem averages over"
    add("--ohem_fraction", type=cli.number(0.001, 1), default=0.25, metavar="X", help=ohem_help)
    weight_help = "factor of the pixels near a boundary in the boundary loss"
    add("--boundary_weight", type=cli.number(1, 1e3), default=5.0, metavar="X", help=weight_help)
    add("--boundary_width", type=cli.integer(1, 64), default=3, metavar="PX", help="how near, in label pixels")
