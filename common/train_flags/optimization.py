"""Optimizer, schedule and stages."""

from __future__ import annotations

import argparse

from common import cli

DECAYS = ("None", "cosine", "exponential", "polynomial", "piecewise_constant")
AVERAGES = ("None", "ema", "swa", "lookahead")
PRECISIONS = ("float32", "float16", "bfloat16")


def add(group: argparse._ArgumentGroup) -> None:
    """Declare them."""
    add = group.add_argument
    batch_help = (
        "pictures a step; auto: the largest power of two up to 64 that fits into memory (default: 16, of fewer than 80 "
        "pictures 8, 4 or 2, so that an epoch has five steps)"
    )
    add("--batch_size", type=_batch_size, metavar="N|auto", help=batch_help)
    add("--optimizer", choices=("adam", "adamw", "rmsprop", "sgd"), default="adam", help="optimizer")
    rate_help = "learning rate at the start of a stage, a step's size without unit"
    add("--learning_rate", type=cli.number(1e-12, 100), default=1e-3, metavar="X", help=rate_help)
    add("--decay_type", choices=DECAYS, default="None", help="fall of the learning rate over the steps of a stage")
    warmup_help = "epochs over which the learning rate rises at the start of a stage; a fraction is possible"
    add("--warmup_epoch", type=cli.number(0, 1000), default=0.0, metavar="X", help=warmup_help)
    decay_help = "decoupled weight decay per unit of learning rate; spares biases and norms"
    add("--weight_decay", type=cli.number(0, 1), default=0.0, metavar="X", help=decay_help)
    add("--nesterov", action="store_true", help="Nesterov momentum (sgd)")
    add("--clip_norm", type=cli.number(0, 1e6), default=0.0, metavar="X", help="largest norm of the gradients, 0: any")
    accumulate_help = "batches whose gradients are averaged into one update; schedules and epochs count batches"
    add("--accumulate_steps", type=cli.integer(1, 4096), default=1, metavar="N", help=accumulate_help)
    average_help = "averaging of weights; the average is what is scored and saved"
    add("--average_type", choices=AVERAGES, default="None", help=average_help)
    keep_help = "share of the average that an update keeps (ema); the first updates keep less"
    add("--average_decay", type=cli.number(0, 0.999999), default=0.999, metavar="X", help=keep_help)
    precision_help = "compute in half precision: float16 with loss scaling, or bfloat16 (without a value: float16)"
    add(
        "--mixed_precision",
        nargs="?",
        const="float16",
        default="float32",
        choices=PRECISIONS,
        help=precision_help,
    )
    remat_help = "compute activations again in the backward pass: less memory, more time"
    add("--gradient_checkpointing", action="store_true", help=remat_help)
    transfer_help = "epochs of the transfer stage (default: 5, from random weights 0)"
    add("--transfer_epoch", type=cli.integer(0), metavar="N", help=transfer_help)
    freeze_help = "frozen in the transfer stage: 0 nothing, 1 the backbone, 2 all but the classifier"
    add("--freeze_level", type=int, choices=(0, 1, 2), default=1, help=freeze_help)
    add("--init_epoch", type=cli.integer(0), default=0, metavar="N", help="epochs to count as done")
    add("--total_epoch", type=cli.integer(1), default=150, metavar="N", help="epoch to end with")


def _batch_size(text: str) -> int | str:
    """Argument type: a number of pictures, or ``auto``."""
    return text if text == "auto" else cli.integer(1)(text)
