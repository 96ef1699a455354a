"""Train on CamVid on one GPU: the JAX backend in bfloat16, our own train.py, no TensorFlow, no network.

For each network: images/s of the whole training, the share of the chip's peak that this is, the mIoU at the end, and
the speed of the compiled step alone. A multiply-add counts as two operations, and a step as three forward passes
(``deeplabv3p/models/statistics.py`` counts them).

    python benchmarks/gpu/camvid.py --dataset_path CAMVID --output benchmarks/gpu/camvid.json

--steps N is a short trial anywhere, on a CPU, too: two epochs of N steps, scored on N pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import step_alone

from common import cli, train_flags, training
from common.runs import latest_run
from deeplabv3p import files
from deeplabv3p.csv_text import from_csv
from deeplabv3p.errors import DataError, DeeplabError, UsageError
from deeplabv3p.evaluation import isolation
from deeplabv3p.models.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0}
"""Dense bfloat16 products a second by a part of the device's name, SXM modules, from NVIDIA's data sheets."""
BACKWARD = 2
"""The backward pass costs so many forward passes: a gradient by the input and one by the weights for each product."""
WARM_EPOCHS = 1
"""Epochs at the start that are not timed: they compile."""


def main() -> None:
    options = _parse()
    os.environ["KERAS_BACKEND"] = "jax"  # for the processes that this one starts
    starts = dict(_start(text) for text in options.backbone_weights)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        lists = _short_lists(options, Path(temporary)) if options.steps else {}
        for name in options.models:
            row: dict[str, Any] = {"model": name, "backbone_weights": Path(starts.get(name, "none")).name}
            try:
                row |= measure(name, starts.get(name, "none"), options, lists)
            except (DeeplabError, isolation.CrashError) as error:
                row["error"] = str(error)
            rows.append(row)
            if options.output:
                files.write_text(options.output, json.dumps({"rows": rows}, indent=1) + "\n")
            print(json.dumps(row, indent=1), flush=True)


def measure(name: str, start: str, options: argparse.Namespace, lists: dict[str, Path]) -> dict[str, Any]:
    """Train and score one network, then time its step alone.

    Raises:
        DeeplabError, CrashError: a part of it failed.
    """
    data = options.dataset_path
    lists = {split: data / f"{split}.txt" for split in ("train", "val", "test")} | lists
    flags = _training_flags(name, options)
    argv = [*flags, "--dataset_path", str(data), "--classes_path", str(options.classes_path)]
    argv += ["--dataset_file", str(lists["train"]), "--val_dataset_file", str(lists["val"])]
    argv += ["--backbone_weights", start]
    logs = options.folder / name
    _run("train.py", *argv, "--log_dir", str(logs))
    run = latest_run(logs)
    log = from_csv((run / "training.csv").read_text(encoding="utf-8"))
    scored = ["--dataset_path", str(data), "--dataset_file", str(lists["test"]), "--output_path", str(run / "test")]
    _run("eval.py", "--model_path", str(run / "best.keras"), *scored)
    scores = json.loads((run / "test" / "scores.json").read_text(encoding="utf-8"))

    parser = cli.Parser(None)
    train_flags.add(parser)

    config = training.make_config(vars(parser.parse_args(argv)))
    alone = isolation.call(step_alone.measure, config, len(scores["classes"]), options.steps or 30, on_message=print)
    timed = log[WARM_EPOCHS:] or log
    images_per_s = statistics.median(float(row["images_per_s"]) for row in timed)
    peak = options.peak_tflops or peak_tflops(alone["device"])
    operations = (1 + BACKWARD) * alone["gflops"] / 1e3  # 10^12, a picture
    return {
        "flags": " ".join(flags),
        "epochs": len(log),
        "images_per_s": images_per_s,
        "data_wait": statistics.median(float(row["data_wait"]) for row in timed),
        "utilisation": utilisation(images_per_s, operations, peak),
        "training_s": sum(float(row["seconds"]) for row in log),
        "val_miou": max(float(row["val_miou"]) for row in log if row["val_miou"]),
        "test": {key: scores[key] for key in ("miou", "miou_in_truth", "pa", "pictures")}
        | {"protocol": scores["protocol"]["model"]},
        "tflop_a_picture": operations,
        "peak_tflops": peak,
        "step_alone": alone
        | {
            "images_per_s": options.batch_size / alone["step_s"]["median"],
            "utilisation": utilisation(options.batch_size / alone["step_s"]["median"], operations, peak),
        },
    }


def peak_tflops(device: str) -> float | None:
    """Of a device by the name that JAX gives it; None where it is not known."""
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in device), None)


def utilisation(images_per_s: float, tflop_a_picture: float, peak: float | None) -> float | None:
    """The share of the peak, a fraction; None without a peak."""
    return None if peak is None else images_per_s * tflop_a_picture / peak


def _training_flags(name: str, options: argparse.Namespace) -> list[str]:
    """The flags of train.py but for the files and folders."""
    epochs = WARM_EPOCHS + 1 if options.steps else options.epochs
    every = max(1, epochs // 10)
    data = f"--ignore_index 11 --threads {options.threads} --batch_size {options.batch_size}"
    network = f"--model_type {name} --alpha {options.alpha:g} --output_stride 16 --mixed_precision {options.precision}"
    size = f"--model_input_shape {cli.size_text(options.model_input_shape)}"
    steps = f"--optimizer adamw --weight_decay 1e-2 --learning_rate {options.learning_rate:g} --decay_type polynomial"
    stages = f"--warmup_epoch {min(2, epochs / 2):g} --transfer_epoch 0 --total_epoch {epochs}"
    rest = f"--eval_epoch_interval {every} --board_pictures 0 --bn_momentum 0.98 --aug_scale 0.6-2.2 --seed 1 --offline"
    return " ".join((data, network, size, steps, stages, rest)).split()


def _short_lists(options: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """Lists of the first pictures, for a trial: as many as the steps need, and as many as steps to score."""
    counts = {"train": options.steps * options.batch_size, "val": options.steps, "test": options.steps}
    result = {}
    for split, count in counts.items():
        source = options.dataset_path / f"{split}.txt"
        try:
            names = source.read_text(encoding="utf-8").split()
        except OSError as error:
            raise DataError(f"cannot read {source}: {error.strerror}.") from None
        if len(names) < count:
            raise UsageError(f"{source} has {len(names)} pictures, the trial needs {count}. Lower --steps.")
        result[split] = folder / f"{split}.txt"
        result[split].write_text("\n".join(names[:count]) + "\n", encoding="utf-8")
    return result


def _run(script: str, *argv: str) -> None:
    code = subprocess.run([sys.executable, str(ROOT / script), *argv]).returncode
    if code:
        raise DataError(f"{script} ended with exit code {code}; its messages are above.")


def _start(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if name not in MODELS or not equals:
        raise UsageError(f"--backbone_weights takes NETWORK=FILE, not '{text}'.")
    return name, file


def _parse() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--dataset_path", type=Path, required=True, metavar="DIR", help="CamVid: images/, labels/ and the lists")
    classes = ROOT / "configs" / "camvid_classes.txt"
    add("--classes_path", type=Path, default=classes, metavar="FILE", help="class names (default: CamVid's)")
    add("--models", nargs="+", default=["mobilenetv2", "resnet50"], choices=tuple(MODELS), help="networks")
    add("--alpha", type=cli.number(0.01, 10), default=1.0, metavar="X", help="width multiplier, for a small trial")
    files_help = "what the backbones start from, such as mobilenetv2=FILE (default: random weights)"
    add("--backbone_weights", nargs="+", default=[], metavar="NETWORK=FILE", help=files_help)
    add("--model_input_shape", type=cli.size_hw, default=(360, 480), metavar="HxW", help="crop and input in pixels")
    add("--batch_size", type=cli.integer(1), default=32, metavar="N", help="pictures a step")
    add("--learning_rate", type=cli.number(1e-12, 100), default=2e-3, metavar="X", help="the first")
    add("--precision", choices=("bfloat16", "float32"), default="bfloat16", help="of the step's arithmetic")
    add("--epochs", type=cli.integer(2), default=200, metavar="N", help="length of the training")
    add("--threads", type=cli.integer(1), default=os.cpu_count() or 2, metavar="N", help="threads that decode")
    add("--steps", type=cli.integer(1), default=0, metavar="N", help="a trial of so many steps an epoch; 0: none")
    peak_help = "10^12 dense operations a second of the chip (default: by its name)"
    add("--peak_tflops", type=cli.number(0.001), default=None, metavar="X", help=peak_help)
    add("--folder", type=Path, default=Path("gpu_runs"), metavar="DIR", help="folder of the runs")
    add("--output", metavar="FILE", help="JSON file for the result (default: none)")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
