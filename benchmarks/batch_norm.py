"""Do the moving statistics that a training leaves behind fit its weights? Validation mIoU of a run's model as it was
saved, and of the same weights with batch-norm statistics measured again: the plain mean over up to 64 of the run's
training batches, without dropout.

    python benchmarks/batch_norm.py logs/000 logs/001

Data and options are those in the runs' config.json. A difference of more than 0.02 would mean that a training spoils
what it has learned, as stock batch norms do in their first hundreds of steps.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import cli
from common.facts import machine_facts
from deeplabv3p import files
from deeplabv3p.errors import DataError

CHECKPOINTS = ("trained_final", "best", "last")


def main(argv: Sequence[str] | None = None) -> None:
    options = _parse(argv)
    rows = []
    for run in options.runs:
        rows.append(measure(run, options.checkpoint, options.dataset_file))
        print(table(rows[-1:]) if len(rows) == 1 else table(rows[-1:]).splitlines()[-1], flush=True)
    if options.output is not None:
        files.write_text(options.output, json.dumps({"machine": machine_facts(), "rows": rows}, indent=1) + "\n")


def measure(run: Path, checkpoint: str = "last", listed: Path | None = None) -> dict[str, Any]:
    """Both scores of a run's checkpoint on its validation list, or on ``listed``.

    Raises:
        DataError: the run, its checkpoint or its data cannot be read.
    """
    from common.run_options import CONFIG_NAME
    from common.training import make_config, open_datasets, start_keras
    from deeplabv3p.data.dataset import open_dataset
    from deeplabv3p.evaluation.score import evaluate
    from deeplabv3p.models import batchnorm
    from deeplabv3p.runtime.artifact import load_spec
    from deeplabv3p.runtime.keras_engine import KerasRuntime, load_model
    from deeplabv3p.training.stream import Stream

    try:
        values = json.loads((run / CONFIG_NAME).read_text(encoding="utf-8"))["options"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{run} is not the folder of a run: {CONFIG_NAME} is missing or damaged ({error}).") from None
    config = make_config(values)
    train_set, val_set = open_datasets(values)
    if listed is not None:
        val_set = open_dataset(val_set.root, listed, val_set.class_list, val_set.ignore_index)
    start_keras(config)
    path = run / f"{checkpoint}.keras"
    model, spec = load_model(path), load_spec(path)
    runtime = KerasRuntime(model, spec)
    saved = evaluate(runtime, val_set).scores
    stream = Stream(train_set, spec, config)
    batchnorm.reestimate(model, stream.pictures())
    again = evaluate(runtime, val_set).scores
    return {
        "run": run.name,
        "model": spec.model.name,
        "training_pictures": len(train_set),
        "steps": stream.epoch_steps * config.total_epoch,
        "list": val_set.source.rpartition("/")[2],
        "as_saved": saved.miou,
        "reestimated": again.miou,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, a row a run."""
    head = [
        "run",
        "model",
        "training pictures",
        "steps",
        "scored on",
        "mIoU as saved",
        "mIoU re-estimated",
        "difference",
    ]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        scores = [f"{row['as_saved']:.4f}", f"{row['reestimated']:.4f}", f"{row['as_saved'] - row['reestimated']:+.4f}"]
        lines.append(
            [row["run"], f"`{row['model']}`", str(row["training_pictures"]), str(row["steps"]), row["list"], *scores]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="run folders of train.py")
    add("--checkpoint", choices=CHECKPOINTS, default="last", help="which of its models")
    add("--dataset_file", type=Path, metavar="FILE", help="score on this list (default: the run's validation list)")
    add("--output", type=Path, metavar="FILE", help="JSON file for the result (default: none)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
