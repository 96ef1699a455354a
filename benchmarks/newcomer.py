"""What does a first training give? ``train.py`` with the flags it has by default, on 20, 40 and 100 pictures of a list:
minutes and validation mIoU.

    python benchmarks/newcomer.py --dataset_path CAMVID --ignore_index 11 --backbone_weights imagenet|FILE \\
        --folder newcomer --output benchmarks/newcomer.json

The pictures are evenly spaced in train.txt; scores are of the whole val.txt. Flags that this command does not know go
to train.py. Results are written as they come; what the output file holds is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import train
from common import cli
from common.facts import machine_facts
from common.runs import latest_run
from deeplabv3p import files
from deeplabv3p.errors import DataError

COUNTS = (20, 40, 100)

Train = Callable[[list[str]], int]


def main(argv: Sequence[str] | None = None, train: Train = train.main) -> int:
    options = _parse(argv)
    result: dict[str, Any] = {"flags": " ".join(options.more), "rows": []}
    if options.output.exists():
        try:
            result = json.loads(options.output.read_text(encoding="utf-8"))
            done = {row["pictures"] for row in result["rows"]}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{options.output} is damaged ({error}).") from None
    else:
        done = set()
    options.folder.mkdir(parents=True, exist_ok=True)
    for count in options.counts:
        if count in done:
            continue
        listed, logs = options.folder / f"train{count}.txt", options.folder / str(count)
        files.write_text(listed, "\n".join(spaced(options.dataset_path / "train.txt", count)) + "\n")
        code = train([*_flags(options, listed), "--log_dir", str(logs), *options.more])
        if code:
            return code
        result["rows"].append({"pictures": count, **figures(latest_run(logs))})
        result["machine"] = machine_facts()
        files.write_text(options.output, json.dumps(result, indent=1) + "\n")
    print(table(result["rows"]))
    return 0


def spaced(path: Path, count: int) -> list[str]:
    """``count`` lines of a list, evenly spaced, the first included.

    Raises:
        DataError: it cannot be read, or is shorter.
    """
    try:
        lines = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from None
    if len(lines) < count:
        raise DataError(f"{path} names {len(lines)} pictures, fewer than {count}.")
    return [lines[index * len(lines) // count] for index in range(count)]


def figures(run: Path) -> dict[str, Any]:
    """What the folder of a finished run says: its flags, its time and its scores (fractions)."""
    with (run / "training.csv").open(encoding="utf-8", newline="") as file:
        log = list(csv.DictReader(file))
    flags = json.loads((run / "config.json").read_text(encoding="utf-8"))["options"]
    scored = [row for row in log if row["val_miou"]]
    best = max(scored, key=lambda row: float(row["val_miou"]))
    return {
        "batch_size": flags["batch_size"],
        "steps": int(log[-1]["step"]),
        "minutes": sum(float(row["seconds"]) for row in log) / 60,
        "train_miou": float(log[-1]["train_miou"]),
        "best_epoch": int(best["epoch"]),
        "best_miou": float(best["val_miou"]),
        "last_miou": float(scored[-1]["val_miou"]),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, a row a number of pictures."""
    head = ["pictures", "batch", "steps", "minutes", "training mIoU", "validation mIoU, best", "of epoch", "last"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [row["pictures"], row["batch_size"], row["steps"], f"{row['minutes']:.0f}", f"{row['train_miou']:.3f}"]
        lines.append([*map(str, cells), f"{row['best_miou']:.3f}", str(row["best_epoch"]), f"{row['last_miou']:.3f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _flags(options: argparse.Namespace, listed: Path) -> list[str]:
    """Where data and first weights are: nothing that shapes the training."""
    data = options.dataset_path
    return [
        *("--dataset_path", str(data), "--dataset_file", str(listed), "--val_dataset_file", str(data / "val.txt")),
        *("--classes_path", str(data / "classes.txt"), "--ignore_index", str(options.ignore_index)),
        *("--backbone_weights", options.backbone_weights),
    ]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    folder_help = "folder with train.txt, val.txt and classes.txt"
    add("--dataset_path", type=Path, required=True, metavar="DIR", help=folder_help)
    add("--ignore_index", type=cli.integer(0, 65535), default=255, metavar="LABEL", help="as for train.py")
    add("--backbone_weights", default="imagenet", metavar="imagenet|none|FILE", help="as for train.py")
    add("--counts", type=cli.integer(2), nargs="+", default=list(COUNTS), metavar="N", help="how many pictures")
    add("--folder", type=Path, default=Path("newcomer"), metavar="DIR", help="folder of the lists and runs")
    add("--output", type=Path, default=Path("newcomer.json"), metavar="FILE", help="JSON file for the result")
    options, more = parser.parse_known_args(argv)
    options.more = more
    return options


if __name__ == "__main__":
    cli.run(main)
