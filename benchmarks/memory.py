"""Peak memory of training and of evaluation for few and for many pictures: it must not grow with their number.

Each figure is the peak resident size of a process of its own that trains, or scores, on that many pictures. They are
hard links to a few, so that the disk is not what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import cli
from common.facts import machine_facts
from deeplabv3p import files
from deeplabv3p.data.shapes import generate

CHILD = """
import resource, sys
sys.path[:0] = [sys.argv[1]]
import train, eval as evaluation
{"train": train.main, "eval": evaluation.main}[sys.argv[2]](sys.argv[3:])
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    options = _parse()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = None
        for count in options.pictures:
            data = _dataset(root / str(count), count)
            argv = ["--dataset_path", str(data), "--dataset_file", str(data / "train.txt")]
            trained = root / f"logs{count}"
            # One epoch each: every picture is decoded once, in training as in evaluation.
            network = ["--model_type", "mobilenetv2", "--alpha", "0.35", "--head_width", "32", "--batch_size", "8"]
            length = ["--transfer_epoch", "0", "--total_epoch", "1", "--model_input_shape", "96x128"]
            fit = [
                "--backbone_weights",
                "none",
                "--val_dataset_file",
                str(data / "val.txt"),
                "--classes_path",
                str(data / "classes.txt"),
            ]
            training = _peak("train", [*argv, *fit, *network, *length, "--log_dir", str(trained)])
            model = model or trained / "000" / "best.keras"
            scoring = _peak("eval", ["--model_path", str(model), *argv, "--output_path", str(root / "result")])
            rows.append({"pictures": count, "train_mib": training, "eval_mib": scoring})
            print(rows[-1], flush=True)
    if options.output:
        files.write_text(options.output, json.dumps({"rows": rows, "machine": machine_facts()}, indent=2) + "\n")


def _dataset(folder: Path, count: int) -> Path:
    """A dataset of ``count`` training pictures, 24 of them different."""
    generate(folder, train=24, val=2, test=0, size_hw=(96, 128))
    names = (folder / "train.txt").read_text().split()
    for index in range(len(names), count):
        name = f"link_{index:06d}"
        for kind, suffix in (("images", ".jpg"), ("labels", ".png")):
            os.link(folder / kind / f"{names[index % 24]}{suffix}", folder / kind / f"{name}{suffix}")
        names.append(name)
    files.write_text(folder / "train.txt", "\n".join(names) + "\n")
    return folder


def _peak(command: str, argv: list[str]) -> int:
    """Run train.py or eval.py in a process of its own; its peak resident size in MiB."""
    root = Path(__file__).resolve().parents[1]
    arguments = [sys.executable, "-c", CHILD, str(root), command, *argv]
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return int(done.stdout.rsplit("PEAK", 1)[1]) // 1024


def _parse() -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "")
    counts_help = "how many pictures to train on and to score (default: 200 2000)"
    parser.add_argument(
        "--pictures", type=cli.integer(24), nargs="+", default=[200, 2000], metavar="N", help=counts_help
    )
    parser.add_argument("--output", metavar="FILE", help="JSON file for the result (default: none)")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
