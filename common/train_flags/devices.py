"""On how many devices and hosts."""

from __future__ import annotations

import argparse

from common import cli


def add(group: argparse._ArgumentGroup) -> None:
    """Declare them."""
    add = group.add_argument
    gpu_help = "devices of this machine to train on; --batch_size is for all together"
    add("--gpu_num", type=cli.integer(1, 1024), default=1, metavar="N", help=gpu_help)
    add("--num_processes", type=cli.integer(1, 4096), default=1, metavar="N", help="hosts, one process each (JAX)")
    add("--process_id", type=cli.integer(0, 4095), default=0, metavar="I", help="which of them this is, from 0")
    add("--coordinator", metavar="HOST:PORT", help="address of process 0, the same on every host")
