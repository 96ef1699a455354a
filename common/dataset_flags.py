"""The flags that name a dataset, for the commands that only look at one."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from common import cli

if TYPE_CHECKING:
    from deeplabv3p.data.classes import ClassList
    from deeplabv3p.data.dataset import Dataset


def add(parser: argparse.ArgumentParser, *, classes_required: bool = True) -> None:
    """Add them. Where a model may tell its classes and ignored label, ``classes_required`` is false."""
    flag = parser.add_argument
    path_help = "dataset folder: images/ and labels/, or VOC's, or of a pair list"
    flag("--dataset_path", required=True, metavar="DIR", help=path_help)
    flag("--dataset_file", required=True, metavar="FILE", help="list of the pictures, one a line")
    classes_help = "class names, one a line, label 0 first"
    ignore_help = f"number in the label files that is no class, 0 to 65535, or {cli.NO_LABEL}"
    if classes_required:
        flag("--classes_path", metavar="FILE", help=f"{classes_help} (default: the dataset's own classes.txt)")
        flag("--ignore_index", type=cli.label_or_none, default=255, metavar="LABEL", help=ignore_help)
        cli.add_picture_max(flag, "65535")
    else:
        own = "(default: the model's own)"
        both = "(default: the dataset's own classes.txt, else the model's)"
        flag("--classes_path", metavar="FILE", help=f"{classes_help} {both}")
        flag("--ignore_index", type=cli.label_or_none, metavar="LABEL", help=f"{ignore_help} {own}")


def open_from(options: argparse.Namespace, classes: ClassList | None = None) -> Dataset:
    """The dataset that the flags name, with ``classes`` of a model where they are given; prints whose classes they are.

    Raises:
        UsageError: nothing says the classes.
        DataError: as :func:`deeplabv3p.data.dataset.open_dataset`.
    """
    from common.classes import described, without_model
    from deeplabv3p.data.classes import load_classes
    from deeplabv3p.data.dataset import open_dataset

    ignored = None if options.ignore_index == cli.NO_LABEL else options.ignore_index
    path = without_model(options.classes_path, options.dataset_path) if classes is None else None
    classes = classes or load_classes(str(path))
    print(described(classes, path, options.dataset_path), flush=True)
    return open_dataset(options.dataset_path, options.dataset_file, classes, ignored, picture_max=options.picture_max)
