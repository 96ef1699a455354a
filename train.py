"""Train a DeepLabv3+ on a folder of pictures and label maps, with checkpoints, scores while training, and resume."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from common import cli, network_flags, recipe
from deeplabv3p.errors import UsageError
from deeplabv3p.models.registry import MODELS, OUTPUT_STRIDES

EPILOG = """A run is a folder, logs/000, logs/001, …, with best.keras, last.keras, trained_final.keras, state.npz (what
--resume reads), training.csv, TensorBoard events and config.json. Ctrl-C saves and exits; --resume goes on at that
step."""

DECAYS = ("None", "cosine", "exponential", "polynomial", "piecewise_constant")
NOT_YET = {
    "--weighted_type": "weights against class imbalance",
    "--average_type": "averaging of weights",
    "--mixed_precision": "half precision",
    "--gpu_num": "number of GPUs",
    "--model_pruning": "pruning",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = recipe.parse(_parser(), argv)
    if options.loss != "crossentropy":
        raise UsageError(f"--loss {options.loss} is not available yet. Use crossentropy.")
    # Only now: this imports NumPy and OpenCV, and Keras when the data is in order.
    from common import training

    if options.resume is not None:
        return training.resume(
            Path(options.resume) if options.resume else None, options.log_dir, offline=options.offline
        )
    return training.start(options)


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(__doc__ or "", EPILOG)
    parser.add_argument("--config", metavar="FILE", help="recipe: a TOML file of these flags; flags given here win")
    _add_model_flags(parser.add_argument_group("model"))
    _add_data_flags(parser.add_argument_group("data"))
    _add_training_flags(parser.add_argument_group("training"))
    _add_augmentation_flags(parser.add_argument_group("augmentation"))
    _add_run_flags(parser.add_argument_group("run"))
    for flag, what in NOT_YET.items():
        cli.reserve(parser, flag, what)
    return parser


def _add_model_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--model_type", default="mobilenetv2_lite", choices=tuple(MODELS), help="network")
    network_flags.add(group, default_to_published=True)
    shape_help = "height x width in pixels of the training crops and of the model's input (default: 512x512 for most)"
    add("--model_input_shape", type=cli.size_hw, metavar="HxW", help=shape_help)
    stride_help = "input pixels per pixel of the features (default: 16 for most networks)"
    add("--output_stride", type=int, choices=OUTPUT_STRIDES, help=stride_help)
    start_help = (
        "what the backbone starts from: imagenet, none (random), or a file (default: imagenet if there are any)"
    )
    add("--backbone_weights", metavar="imagenet|none|FILE", help=start_help)
    add("--offline", action="store_true", help="never download; say which file is missing")
    weights_help = "whole model, or its weights, to start from; its classes may be others (default: none)"
    add("--weights_path", metavar="FILE", help=weights_help)
    add("--dropout", type=cli.number(0, 0.99), default=0.5, metavar="P", help="dropout probability in the head")
    momentum_help = "share of the old batch-norm statistics that a step keeps, 0 to 1"
    add("--bn_momentum", type=cli.number(0, 0.9999), default=0.99, metavar="M", help=momentum_help)
    add("--bn_sync", action="store_true", help="batch-norm statistics over all devices")
    fused_help = "TensorFlow's fused batch norm while training"
    add("--bn_fused", action=argparse.BooleanOptionalAction, default=True, help=fused_help)


def _add_data_flags(group: argparse._ArgumentGroup) -> None:
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
        default="configs/voc_classes.txt",
        metavar="FILE",
        help="class names, one a line, label 0 first",
    )
    ignore_help = "number in the label files that is neither trained on nor scored, 0 to 65535"
    add("--ignore_index", type=cli.integer(0, 65535), default=255, metavar="LABEL", help=ignore_help)
    add("--threads", type=cli.integer(1, 256), default=2, metavar="N", help="threads that decode and augment")


def _add_training_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--batch_size", type=cli.integer(1), default=16, metavar="N", help="pictures a step")
    add("--optimizer", choices=("adam", "adamw", "rmsprop", "sgd"), default="adam", help="optimizer")
    add("--loss", choices=("crossentropy", "focal"), default="crossentropy", help="loss; focal is not available yet")
    rate_help = "learning rate at the start of a stage, a step's size without unit"
    add("--learning_rate", type=cli.number(1e-12, 100), default=1e-3, metavar="X", help=rate_help)
    add("--decay_type", choices=DECAYS, default="None", help="fall of the learning rate over the steps of a stage")
    decay_help = "decoupled weight decay per unit of learning rate; spares biases and norms"
    add("--weight_decay", type=cli.number(0, 1), default=0.0, metavar="X", help=decay_help)
    add("--transfer_epoch", type=cli.integer(0), default=5, metavar="N", help="epochs of the transfer stage")
    freeze_help = "frozen in the transfer stage: 0 nothing, 1 the backbone, 2 all but the classifier"
    add("--freeze_level", type=int, choices=(0, 1, 2), default=1, help=freeze_help)
    add("--init_epoch", type=cli.integer(0), default=0, metavar="N", help="epochs to count as done")
    add("--total_epoch", type=cli.integer(1), default=150, metavar="N", help="epoch to end with")


def _add_augmentation_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--aug_scale", type=_span, default=(0.5, 2.0), metavar="LOW-HIGH", help="random scale factor (default: 0.5-2)")
    add("--aug_flip", type=cli.number(0, 1), default=0.5, metavar="P", help="probability of a left-right flip")
    add("--aug_brightness", type=cli.number(0, 1), default=0.1, metavar="X", help="± shift, share of the full range")
    add("--aug_contrast", type=cli.number(0, 1), default=0.2, metavar="X", help="± change of contrast, a share")
    add("--aug_saturation", type=cli.number(0, 1), default=0.2, metavar="X", help="± change of saturation, a share")
    add("--aug_hue", type=cli.number(0, 180), default=0.0, metavar="DEG", help="± turn of the hue, degrees")


def _add_run_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    online_help = "score the validation samples while training; off: once, at the end"
    add("--eval_online", action=argparse.BooleanOptionalAction, default=True, help=online_help)
    add("--eval_epoch_interval", type=cli.integer(1), default=10, metavar="N", help="epochs between two such scores")
    keep_help = "keep a file of every new best score, besides best.keras"
    add("--save_eval_checkpoint", action="store_true", help=keep_help)
    add("--log_dir", type=Path, default=Path("logs"), metavar="DIR", help="folder of the run folders")
    resume_help = "go on with a run, with the flags it was started with (default: off; without a value: the newest run)"
    add("--resume", nargs="?", const="", metavar="RUN", help=resume_help)
    add("--seed", type=cli.integer(0, 2**31), default=0, metavar="N", help="seed of weights, order and augmentation")
    repeat_help = "bit-identical results on the same machine, at some cost in speed"
    add("--deterministic", action="store_true", help=repeat_help)


def _span(text: str) -> tuple[float, float]:
    """Argument type ``LOW-HIGH``: ``0.5-2`` → (0.5, 2.0)."""
    low, dash, high = text.partition("-")
    try:
        return float(low), float(high if dash else low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a range; write LOW-HIGH, such as 0.5-2") from None


if __name__ == "__main__":
    cli.run(main)
