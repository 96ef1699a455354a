"""What is scored, kept and repeated."""

from __future__ import annotations

import argparse
from pathlib import Path

from common import cli


def add(group: argparse._ArgumentGroup) -> None:
    """Declare them."""
    add = group.add_argument
    online_help = "score the validation samples while training; off: once, at the end"
    add("--eval_online", action=argparse.BooleanOptionalAction, default=True, help=online_help)
    add("--eval_epoch_interval", type=cli.integer(1), default=10, metavar="N", help="epochs between two such scores")
    keep_help = "keep a file of every new best score, besides best.keras"
    add("--save_eval_checkpoint", action="store_true", help=keep_help)
    top_help = "best checkpoints to keep under names of their own"
    add("--keep_top", type=cli.integer(0, 1000), default=0, metavar="N", help=top_help)
    plateau_help = "evaluations without a better score until the learning rate falls; 0: never"
    add("--plateau_patience", type=cli.integer(0), default=0, metavar="N", help=plateau_help)
    factor_help = "what the learning rate is multiplied by then"
    add("--plateau_factor", type=cli.number(0.001, 0.999), default=0.5, metavar="X", help=factor_help)
    stop_help = "evaluations without a better score until the run ends; 0: never"
    add("--early_stop_patience", type=cli.integer(0), default=0, metavar="N", help=stop_help)
    board_help = "validation pictures whose predictions go into the TensorBoard log; 0: no pictures, nor the confusion"
    add("--board_pictures", type=cli.integer(0, 64), default=4, metavar="N", help=board_help)
    steps_help = "steps between two states for --resume, besides each epoch's; 0: not by steps"
    add("--save_steps", type=cli.integer(0), default=0, metavar="N", help=steps_help)
    minutes_help = "minutes between two such states, more where writing takes over 1%% of the time; 0: not by time"
    add("--save_minutes", type=cli.number(0, 1e6), default=0.5, metavar="X", help=minutes_help)
    add("--log_dir", type=Path, default=Path("logs"), metavar="DIR", help="folder of the run folders")
    resume_help = "go on with a run, with the flags it was started with (default: off; without a value: the newest run)"
    add("--resume", nargs="?", const="", metavar="RUN", help=resume_help)
    verify_help = "compare all content of the data with that of the run (default: parts of each file)"
    add("--verify_data", action="store_true", help=verify_help)
    add("--seed", type=cli.integer(0, 2**31), default=0, metavar="N", help="seed of weights, order and augmentation")
    repeat_help = "bit-identical results on the same machine, at some cost in speed"
    add("--deterministic", action="store_true", help=repeat_help)
