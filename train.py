"""Train a DeepLabv3+ on a folder of pictures and label maps. ``python train.py --help`` lists the flags."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from common import cli, recipe
from deeplabv3p.errors import DataError, UsageError

CONFIG_NAME = "config.json"


def parser() -> argparse.ArgumentParser:
    """The command line. Names are those of the public model set that this project replaces, where it had them."""
    p = cli.Parser(
        "Train a DeepLabv3+ segmentation model.", "Exit codes: 0 ok, 2 usage, 3 data, 6 diverged, 130 interrupted."
    )
    add = p.add_argument
    add("--config", metavar="FILE", help="recipe, a TOML file of these flags; flags on the line win")

    add("--model_type", default="mobilenetv2_lite", metavar="NAME", help="network: mobilenetv2 or mobilenetv2_lite")
    add("--alpha", type=cli.number(0.1, 4), default=1.0, help="width multiplier of the backbone")
    add("--model_input_shape", type=cli.size_hw, default=(512, 512), metavar="HxW", help="crop, and input, in pixels")
    add("--output_stride", type=int, choices=(8, 16, 32), default=16, help="input pixels per feature pixel")
    add("--backbone_weights", default="imagenet", metavar="imagenet|none|FILE", help="what the backbone starts from")
    add("--weights_path", metavar="FILE", help="model or weights to start from; wins over --backbone_weights")
    add("--dropout", type=cli.number(0, 0.99), default=0.5, help="dropout rate in the head, a fraction")
    add(
        "--bn_momentum",
        type=cli.number(0, 0.9999),
        default=0.99,
        help="share of the old batch-norm statistics a step keeps",
    )
    add("--bn_sync", action="store_true", help="batch-norm statistics over all devices")
    add(
        "--bn_fused",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="TensorFlow's fused batch norm in training",
    )

    add("--dataset_path", type=Path, default=Path("VOC2012"), metavar="DIR", help="dataset folder")
    add(
        "--dataset_file",
        type=Path,
        default=Path("VOC2012/ImageSets/Segmentation/trainval.txt"),
        metavar="FILE",
        help="list of training samples",
    )
    add("--val_dataset_file", type=Path, metavar="FILE", help="list of validation samples")
    add(
        "--val_split",
        type=cli.number(0.001, 0.9),
        default=0.1,
        help="share of the samples to validate on, without --val_dataset_file",
    )
    add(
        "--classes_path", type=Path, default=Path("configs/voc_classes.txt"), metavar="FILE", help="classes, one a line"
    )
    add("--ignore_index", type=cli.integer(0, 65535), default=255, help="label value that counts nowhere")
    add("--threads", type=cli.integer(1, 256), default=2, help="threads that decode and augment")

    add("--batch_size", type=cli.integer(1), default=16, help="pictures a step")
    add("--optimizer", choices=("adam", "adamw", "rmsprop", "sgd"), default="adam", help="optimizer")
    add("--loss", choices=("crossentropy", "focal"), default="crossentropy", help="loss (focal: not available yet)")
    add("--learning_rate", type=cli.number(1e-12, 100), default=1e-3, help="learning rate at the start of a stage")
    add(
        "--decay_type",
        choices=("None", "cosine", "exponential", "polynomial", "piecewise_constant"),
        default="None",
        help="learning-rate decay over the steps of a stage",
    )
    add("--weight_decay", type=cli.number(0, 1), default=0.0, help="decoupled weight decay, spares biases and norms")
    add("--transfer_epoch", type=cli.integer(0), default=5, help="epochs of the transfer stage")
    add(
        "--freeze_level",
        type=int,
        choices=(0, 1, 2),
        default=1,
        help="frozen in the transfer stage: 0 nothing, 1 backbone, 2 all but the classifier",
    )
    add("--init_epoch", type=cli.integer(0), default=0, help="epoch to start counting at")
    add("--total_epoch", type=cli.integer(1), default=150, help="epoch to stop after")

    add("--aug_scale", type=span, default=(0.5, 2.0), metavar="LOW-HIGH", help="random scale factor")
    add("--aug_flip", type=cli.number(0, 1), default=0.5, help="probability of a left-right flip")
    add("--aug_brightness", type=cli.number(0, 1), default=0.1, help="brightness shift, up to this share of the range")
    add("--aug_contrast", type=cli.number(0, 1), default=0.2, help="contrast change, up to this share")
    add("--aug_saturation", type=cli.number(0, 1), default=0.2, help="saturation change, up to this share")
    add("--aug_hue", type=cli.number(0, 180), default=0.0, help="hue turn, up to this many degrees")

    add(
        "--eval_online",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="score the validation set while training; off: once, at the end",
    )
    add("--eval_epoch_interval", type=cli.integer(1), default=10, help="epochs between two such scores")
    add("--save_eval_checkpoint", action="store_true", help="keep a file of every new best score, not only best.keras")
    add("--log_dir", type=Path, default=Path("logs"), metavar="DIR", help="folder of run folders 000, 001, …")
    add(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="go on with a run folder (the newest without a value); other flags are then those of the run",
    )
    add("--seed", type=cli.integer(0, 2**31), default=0, help="seed of weights, order and augmentation")
    add("--deterministic", action="store_true", help="bit-identical results on the same machine, at some cost in speed")
    for flag, what in (
        ("--weighted_type", "class balance"),
        ("--average_type", "weight averaging"),
        ("--mixed_precision", "half precision"),
        ("--gpu_num", "number of devices"),
        ("--model_pruning", "pruning"),
    ):
        cli.reserve(p, flag, what)
    return p


def span(text: str) -> tuple[float, float]:
    """Argument type ``LOW-HIGH``: ``0.5-2`` → (0.5, 2.0)."""
    low, dash, high = text.partition("-")
    try:
        return float(low), float(high if dash else low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a range; write LOW-HIGH, such as 0.5-2") from None


def main(argv: Sequence[str] | None = None) -> int:
    args = recipe.parse(parser(), argv)
    if args.loss != "crossentropy":
        raise UsageError(f"--loss {args.loss} is not available yet. Use crossentropy.")
    options, run = _options(args)
    print(f"run folder {run}", flush=True)

    # Keras is slow to import and reads its settings once: only now.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from common import training

    return training.run(options, run, resume=args.resume is not None)


def _options(args: argparse.Namespace) -> tuple[dict[str, object], Path]:
    """The options of a new run, saved in its new folder, or those of the run to resume."""
    from common.runs import latest_run, new_run_folder
    from deeplabv3p import files

    if args.resume is not None:
        run = Path(args.resume) if args.resume else latest_run(args.log_dir)
        try:
            return json.loads((run / CONFIG_NAME).read_text(encoding="utf-8")), run
        except (OSError, ValueError) as error:
            raise DataError(f"cannot resume {run}: its {CONFIG_NAME} is missing or damaged ({error}).") from None
    options = {
        k: str(v) if isinstance(v, Path) else v
        for k, v in vars(args).items()
        if k not in ("config", "resume", "log_dir")
    }
    run = new_run_folder(args.log_dir)
    command = shlex.join(["python", *sys.orig_argv[1:]])
    files.write_text(run / CONFIG_NAME, json.dumps(options | {"command": command}, indent=2) + "\n")
    return options, run


if __name__ == "__main__":
    cli.run(main)
