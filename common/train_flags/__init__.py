"""The flags of train.py, a module for each group."""

from __future__ import annotations

import argparse

from common.train_flags import augmentation, data, devices, loss, network, optimization, run


def add(parser: argparse.ArgumentParser) -> None:
    """Declare all of them."""
    for part in (network, data, loss, optimization, augmentation, devices, run):
        part.add(parser.add_argument_group(part.__name__.rpartition(".")[2]))
