"""Train a DeepLabv3+ on a folder of pictures and label maps, with checkpoints, scores while training, and resume."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from common import cli, recipe, train_flags

EPILOG = """A run is a folder, logs/000, logs/001, …, with best.keras, last.keras, trained_final.keras, state.npz (what
--resume reads), training.csv, TensorBoard events, config.json, train.log, and train.txt and val.txt, which list its
pictures. Ctrl-C saves and exits; --resume goes on at that step. What may change with it: --total_epoch,
--early_stop_patience, --threads, devices, what is scored, kept and logged, and where the same data lies."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options, given = recipe.parse_given(_parser(), argv)
    # Only now: this imports NumPy and OpenCV, and Keras when the data is in order.
    from common import training

    if options.resume is not None:
        return training.resume(options, given)
    return training.start(options)


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(__doc__ or "", EPILOG)
    parser.add_argument("--config", metavar="FILE", help="recipe: a TOML file of these flags; flags given here win")
    train_flags.add(parser)
    cli.reserve(parser, "--model_pruning", "pruning")
    return parser


if __name__ == "__main__":
    cli.run(main)
