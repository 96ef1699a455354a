"""Which recipe helps on CamVid: the same network, first weights, seed and steps, trained in several ways.

Each recipe is ``configs/camvid_mobilenetv2.toml`` with some flags changed. Its best checkpoint (chosen on the
validation list) and its last one are scored on both lists. Flags that this command does not know go to train.py, for
all recipes.

    python benchmarks/recipes.py --dataset_path CAMVID --epochs 20 --folder recipes --output benchmarks/recipes.json \\
        --backbone_weights imagenet|FILE

Results are written as they come. After an interruption (Ctrl-C, a kill, a power cut) the same command with --resume
goes on inside the epoch where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import train
from benchmarks.dumps import compared, score
from common import cli
from common.facts import machine_facts
from common.runs import latest_run
from deeplabv3p import files
from deeplabv3p.csv_text import from_csv
from deeplabv3p.errors import DataError, DivergedError, UsageError

ROOT = Path(__file__).resolve().parents[1]
RECIPES = {
    "plain": "",
    "weighted": "--weighted_type balanced",
    "lovasz": "--loss ce+lovasz",
    "ohem": "--loss ohem",
    # The usual 0.999 remembers a thousand steps, more than this budget has.
    "ema": "--average_type ema --average_decay 0.99",
}
SPLITS = ("val", "test")

Train = Callable[[list[str]], int]
Score = Callable[[Path, Path, str, Path], dict[str, Any]]


def main() -> int:
    options = _parse()
    settings = _settings(options)
    rows = _start_rows(options, settings)
    result = run_recipes(options, settings, rows, train.main, score)
    print(table(rows))
    return result


def run_recipes(
    options: argparse.Namespace, settings: dict[str, Any], rows: list[dict[str, Any]], train: Train, score: Score
) -> int:
    """Train and score what is not in ``rows`` yet; returns the exit code. ``rows`` grows, and so does the JSON file."""
    done = {row["recipe"] for row in rows}
    for name in settings["recipes"]:
        if name in done:
            continue
        print(f"== {name}: {RECIPES[name] or 'the recipe as it is'}", flush=True)
        row: dict[str, Any] = {"recipe": name, "flags": RECIPES[name]}
        try:
            code = train_recipe(options.folder / name, [*settings["train"], *RECIPES[name].split()], train)
        except DivergedError as error:
            row["error"] = str(error)
        else:
            if code:
                return code
            row |= _scored(latest_run(options.folder / name), options.dataset_path, score)
        rows.append(row)
        files.write_text(options.output, json.dumps(_result(options, rows), indent=1) + "\n")
    return 0


def train_recipe(logs: Path, argv: list[str], train: Train) -> int:
    """Train in a run folder of ``logs``: a new one, or go on in the one that is there; returns the exit code."""
    try:
        run = latest_run(logs)
    except DataError:
        run = None
    if run is None or not (run / "state.npz").is_file():  # nothing yet, or stopped before the first step
        return train([*argv, "--log_dir", str(logs)])
    if (run / "trained_final.keras").is_file():  # trained, but not scored
        return 0
    return train(["--resume", str(run)])


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row a recipe, its scores at the best epoch and at the last one."""
    head = ["recipe", "flags", "best epoch"]
    head += [f"{kind}: {split} mIoU" for kind in ("best", "last") for split in SPLITS]
    lines = [[*head, "training, min"], ["---"] * (len(head) + 1)]
    for row in rows:
        flags = f"`{row['flags']}`" if row["flags"] else ""
        if "error" in row:
            lines.append([row["recipe"], flags, f"failed: {row['error']}", *[""] * 5])
            continue
        scores = [f"{compared(row[kind][split]):.4f}" for kind in ("best", "last") for split in SPLITS]
        lines.append([row["recipe"], flags, str(row["best_epoch"]), *scores, f"{row['seconds'] / 60:.0f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _scored(run: Path, dataset: Path, score: Score) -> dict[str, Any]:
    """The scores of a run that has ended, and what its log says."""
    log = from_csv((run / "training.csv").read_text(encoding="utf-8"))
    # best.keras is chosen over the classes in the truth; logs of older versions have one mIoU only.
    column = "val_miou_in_truth" if "val_miou_in_truth" in log[0] else "val_miou"
    best = max((row for row in log if row[column]), key=lambda row: float(row[column]))
    scores = {
        kind: {split: score(run / f"{kind}.keras", dataset, split, run / f"{kind}_{split}") for split in SPLITS}
        for kind in ("best", "last")
    }
    return {
        "epochs": int(log[-1]["epoch"]),
        "steps": int(log[-1]["step"]),
        "seconds": sum(float(row["seconds"]) for row in log),
        "best_epoch": int(best["epoch"]),
        **scores,
    }


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What decides the figures; a run goes on only with the same."""
    data = options.dataset_path
    argv = ["--config", str(options.config), "--dataset_path", str(data), "--dataset_file", str(data / "train.txt")]
    argv += ["--val_dataset_file", str(data / "val.txt"), "--backbone_weights", options.backbone_weights]
    argv += ["--total_epoch", str(options.epochs), *options.more]
    return {"recipes": options.recipes, "train": argv}


def _start_rows(options: argparse.Namespace, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows there are; none without --resume.

    Raises:
        UsageError: there are results that this command would overwrite, or they are of other settings.
        DataError: the results cannot be read.
    """
    plan = options.folder / "settings.json"
    if not options.resume:
        if plan.exists() or options.output.exists():
            there = plan.parent if plan.exists() else options.output
            raise UsageError(f"{there} holds results. Go on with --resume, or choose another folder and file.")
        options.folder.mkdir(parents=True, exist_ok=True)
        files.write_text(plan, json.dumps(settings, indent=1) + "\n")
        return []
    try:
        before = json.loads(plan.read_text(encoding="utf-8"))
        rows = json.loads(options.output.read_text(encoding="utf-8"))["rows"] if options.output.exists() else []
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"cannot go on in {options.folder}: its settings or results are damaged ({error}).") from None
    if before != settings:
        raise UsageError(f"{options.folder} was started with other flags: {before['recipes']}, {before['train']}.")
    return list(rows)


def _result(options: argparse.Namespace, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The file's content: no folders of this machine."""
    return {
        "config": options.config.name,
        "backbone_weights": Path(options.backbone_weights).name,
        "epochs": options.epochs,
        "more_flags": " ".join(options.more),
        "machine": machine_facts(),
        "rows": rows,
    }


def _parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--dataset_path", type=Path, required=True, metavar="DIR", help="folder with train.txt, val.txt and test.txt")
    config = ROOT / "configs" / "camvid_mobilenetv2.toml"
    add("--config", type=Path, default=config, metavar="FILE", help="what all have in common (default: CamVid's)")
    start_help = "what the backbone starts from: imagenet, none, or a file"
    add("--backbone_weights", default="imagenet", metavar="imagenet|none|FILE", help=start_help)
    add("--recipes", nargs="+", choices=tuple(RECIPES), default=list(RECIPES), help="which (default: all)")
    add("--epochs", type=cli.integer(1), default=20, metavar="N", help="budget of each recipe")
    add("--folder", type=Path, default=Path("recipes"), metavar="DIR", help="folder of the runs")
    add("--output", type=Path, default=Path("recipes.json"), metavar="FILE", help="JSON file for the result")
    add("--resume", action="store_true", help="go on with what the folder and the file hold")
    options, more = parser.parse_known_args(argv)
    options.more = more
    return options


if __name__ == "__main__":
    cli.run(main)
