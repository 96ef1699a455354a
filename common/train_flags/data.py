"""Which pictures and labels."""

from __future__ import annotations

import argparse

from common import cli


def add(group: argparse._ArgumentGroup) -> None:
    """Declare them."""
    add = group.add_argument
    add("--dataset_path", default="VOC2012/", metavar="DIR", help="dataset folder: images/ and labels/, or VOC's")
    train_list = "VOC2012/ImageSets/Segmentation/trainval.txt"
    add("--dataset_file", default=train_list, metavar="FILE", help="list of the samples to train on")
    val_help = "list of the samples to validate on (default: --val_split of the training samples)"
    add("--val_dataset_file", metavar="FILE", help=val_help)
    split_help = "share of the samples to validate on, without --val_dataset_file"
    add("--val_split", type=cli.number(0.001, 0.9), default=0.1, metavar="X", help=split_help)
    add(
        "--classes_path",
        metavar="FILE",
        help="class names, one a line, label 0 first (default: the dataset's own classes.txt; VOC's for VOC's layout)",
    )
    ignore_help = "number in the label files that is neither trained on nor scored, 0 to 65535"
    add("--ignore_index", type=cli.integer(0, 65535), default=255, metavar="LABEL", help=ignore_help)
    cli.add_picture_max(add, "65535")
    add("--threads", type=cli.integer(1, 256), default=2, metavar="N", help="threads that decode and augment")
