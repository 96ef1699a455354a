"""What each option of train.py costs on this machine: seconds a step and peak memory, with it and without it.

Every row is a short training by the library's fit in a process of its own, on generated pictures of 480x360, and
differs from the plain row by the flags, or the environment variable, that it names. The plain row is measured first and
last: what lies between the two is the noise. A row that cannot run says why, and the table goes on.

    python benchmarks/options.py --output benchmarks/options.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks import option_cost
from common import cli
from common.facts import machine_facts
from deeplabv3p import files
from deeplabv3p.data.shapes import generate
from deeplabv3p.errors import DeeplabError, UsageError
from deeplabv3p.evaluation import isolation

PLAIN = "plain"
ENVIRONMENT = "environment"
NO_AUGMENTATION = "--aug_scale 1-1 --aug_flip 0 --aug_brightness 0 --aug_contrast 0 --aug_saturation 0"
ALL_AUGMENTATIONS = (
    "--aug_zoom 0.1 --aug_rotate 10 --aug_flip_vertical 0.5 --aug_hue 10 --aug_sharpness 0.5 --aug_greyscale 0.5 "
    "--aug_blur 0.5 --aug_clahe 0.5 --aug_gridmask 0.5 --aug_class_crop 0.5 --aug_copy_paste 0.5 --aug_cutmix 0.5"
)
# By name: what it belongs to, and its flags. Of the group ENVIRONMENT: a variable and its value.
ROWS: dict[str, tuple[str, str]] = {
    PLAIN: ("", ""),
    "focal": ("loss", "--loss focal"),
    "dice": ("loss", "--loss dice"),
    "lovasz": ("loss", "--loss lovasz"),
    "ohem": ("loss", "--loss ohem"),
    "boundary": ("loss", "--loss boundary"),
    "sum": ("loss", "--loss ce+0.5*dice"),
    "adaptive": ("loss", "--weighted_type adaptive"),
    "balanced": ("loss", "--weighted_type balanced"),
    "smoothing": ("loss", "--label_smoothing 0.1"),
    "adam": ("optimizer", "--optimizer adam"),
    "rmsprop": ("optimizer", "--optimizer rmsprop"),
    "sgd": ("optimizer", "--optimizer sgd --nesterov"),
    "clip": ("optimizer", "--clip_norm 1"),
    "accumulate": ("optimizer", "--accumulate_steps 4"),
    "ema": ("averaging", "--average_type ema"),
    "swa": ("averaging", "--average_type swa"),
    "lookahead": ("averaging", "--average_type lookahead"),
    "bfloat16": ("precision", "--mixed_precision bfloat16"),
    "float16": ("precision", "--mixed_precision float16"),
    "checkpointing": ("memory", "--gradient_checkpointing"),
    "bn_sync": ("batch norm", "--bn_sync"),
    "bn_plain": ("batch norm", "--no-bn_fused"),
    "no_augmentation": ("input", NO_AUGMENTATION),
    "all_augmentations": ("input", ALL_AUGMENTATIONS),
    "save_steps": ("safety", "--save_steps 1"),
    "deterministic": ("safety", "--deterministic"),
    "no_onednn": (ENVIRONMENT, "TF_ENABLE_ONEDNN_OPTS=0"),
    "huge_pages": (ENVIRONMENT, "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"),
}
LONG = 44
"""A row with more characters of flags goes by its name."""

Measure = Callable[[list[str]], dict[str, Any]]
Row = dict[str, Any]


def main() -> None:
    options = _parse()
    unknown = sorted(set(options.rows) - set(ROWS))
    if unknown:
        raise UsageError(f"there is no row '{unknown[0]}'. There are {', '.join(ROWS)}.")
    with tempfile.TemporaryDirectory() as folder:
        shapes = generate(folder, train=options.pictures, val=1, test=0, size_hw=(360, 480))
        base = [*_base(options), "--dataset_path", str(shapes.root), "--dataset_file", str(shapes.train_list)]
        base += ["--val_dataset_file", str(shapes.root / "val.txt"), "--classes_path", str(shapes.classes_file)]

        def measure(flags: list[str]) -> Row:
            row: Row = isolation.call(option_cost.measure, [*base, *flags], options.steps, options.row_seconds)
            return row

        rows: list[Row] = []
        for row in measure_rows(_order(options.rows), measure):
            rows.append(row)
            if options.output:  # after every row: an interrupted table keeps what it has
                files.write_text(options.output, json.dumps(_result(options, rows), indent=1) + "\n")
    print(table(rows))


def measure_rows(names: Iterable[str], measure: Measure) -> Iterable[Row]:
    """A row for each name: what ``measure`` returns for its flags, or the ``error`` that it ended with."""
    for name in names:
        group, flags = ROWS[name]
        began = time.perf_counter()
        row: Row = {"name": name, "group": group, "flags": flags}
        try:
            name_value = [flags.split("=", 1)] if group == ENVIRONMENT else []
            with unittest.mock.patch.dict(os.environ, name_value):
                row |= measure([] if name_value else flags.split())
        except (DeeplabError, isolation.CrashError) as error:
            row["error"] = str(error)
        print(f"{name}: {_line(row)} ({time.perf_counter() - began:.0f} s in all)", flush=True)
        yield row


def table(rows: list[Row]) -> str:
    """Markdown: every row beside the plain one."""
    plain = [row for row in rows if row["name"] == PLAIN and "error" not in row]
    step = statistics.median(row["step_s"]["median"] for row in plain) if plain else None
    peak = statistics.median(row["peak_mib"] or 0 for row in plain) if plain else None
    lines = [["option", "s/step", "mean", "times plain", "peak MiB", "more than plain", "data wait"]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        title = f"`{row['flags']}`" if 0 < len(row["flags"]) <= LONG else row["name"].replace("_", " ")
        if "error" in row:
            lines.append([title, f"failed: {row['error']}".replace("|", "\\|"), *[""] * 5])
            continue
        times = row["step_s"]
        cells = [f"{times['median']:.3f}", f"{times['mean']:.3f}"]
        cells.append(f"{times['median'] / step:.2f}" if step else "")
        cells.append(f"{row['peak_mib']:,}" if row["peak_mib"] else "")
        cells.append(f"{row['peak_mib'] - peak:+,.0f}" if row["peak_mib"] and peak else "")
        cells.append("" if row["data_wait"] is None else f"{row['data_wait']:.1%}")
        lines.append([title, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _order(names: list[str]) -> list[str]:
    """The rows to measure, in the table's order, the plain one first and last."""
    chosen = [name for name in ROWS if name in names and name != PLAIN]
    return [PLAIN, *chosen, PLAIN]


def _base(options: argparse.Namespace) -> list[str]:
    """What all rows have in common. Nothing is saved or scored but what a row is about."""
    size = cli.size_text(options.model_input_shape)
    network = f"--model_type {options.model_type} --alpha {options.alpha} --backbone_weights none --output_stride 16"
    steps = f"--model_input_shape {size} --batch_size {options.batch_size} --threads 2 --transfer_epoch 0"
    quiet = "--total_epoch 3 --no-eval_online --save_minutes 0 --board_pictures 0"
    return f"{network} {steps} {quiet} --optimizer adamw --weight_decay 1e-2".split()


def _result(options: argparse.Namespace, rows: list[Row]) -> dict[str, Any]:
    size = cli.size_text(options.model_input_shape)
    what = f"{options.model_type}, alpha {options.alpha:g}, {size}, batch {options.batch_size}, float32, adamw"
    return {
        "what": f"{what}, {option_cost.EPOCHS - 1} epoch of {options.steps} steps after one to warm up",
        "rows": rows,
        "machine": machine_facts(),
    }


def _line(row: Row) -> str:
    if "error" in row:
        return f"failed: {row['error']}"
    wait = "" if row["data_wait"] is None else f", data wait {row['data_wait']:.1%}"
    return f"{row['step_s']['median']:.3f} s a step, peak {row['peak_mib']} MiB{wait}"


def _parse() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--rows", nargs="+", default=list(ROWS), metavar="NAME", help="rows to measure (default: all)")
    add("--model_type", default="mobilenetv2", metavar="NAME", help="network")
    add("--alpha", type=cli.number(0.01, 10), default=1.0, metavar="X", help="its width multiplier")
    add("--model_input_shape", type=cli.size_hw, default=(256, 256), metavar="HxW", help="crop in pixels")
    add("--batch_size", type=cli.integer(1), default=4, metavar="N", help="pictures a step")
    add("--steps", type=cli.integer(3), default=8, metavar="N", help="steps of an epoch, of which one is measured")
    add("--pictures", type=cli.integer(1), default=24, metavar="N", help="different pictures")
    add("--row_seconds", type=cli.number(1), default=60.0, metavar="S", help="a row stops so long after its first step")
    add("--output", metavar="FILE", help="JSON file for the result, written after every row (default: none)")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
