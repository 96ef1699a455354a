r"""What a dense CRF does to the scores of a trained model, for several settings, over the same pictures and classes.

The network runs once a picture; every setting refines the same outputs, as ``eval.py --do_crf`` does. A setting is
written as the flags are, without ``--crf_``: ``iterations=5,bilateral_compat=4``; what it leaves out is the default.

    python benchmarks/crf_choice.py --model_path MODEL --dataset_path VOC2012 --dataset_file VOC2012/val.txt \
        --settings bilateral_compat=4 iterations=5,bilateral_compat=4
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from common import cli, spec_flags
from common.facts import machine_facts
from common.network import agreed_spec, find_artifact
from deeplabv3p import files
from deeplabv3p.data.dataset import Dataset, open_dataset
from deeplabv3p.inference import PLAIN, CrfOptions, InferenceOptions, crf, finish, prepare, run
from deeplabv3p.metrics import Scores, confusion_matrix
from deeplabv3p.runtime import Runtime
from deeplabv3p.runtime.artifact import open_artifact

NONE, DEFAULTS = "none", "defaults"


def main() -> None:
    options = _parse()
    artifact, own_spec = find_artifact(options.model_path, options)
    spec, class_list = agreed_spec(own_spec, options, artifact.path)
    dataset = open_dataset(options.dataset_path, options.dataset_file, class_list, spec.ignore_index)
    part = slice(options.first, None if options.pictures is None else options.first + options.pictures, options.every)
    dataset = dataclasses.replace(dataset, samples=dataset.samples[part])
    ways = {NONE: PLAIN, DEFAULTS: InferenceOptions(crf=CrfOptions())}
    ways |= {text: InferenceOptions(crf=setting) for text, setting in options.settings}
    with closing(open_artifact(artifact, spec=spec)) as runtime:
        found = scores(runtime, dataset, ways)
    result = {
        "model": artifact.path.name,
        "dataset": options.dataset_file,
        "pictures": len(dataset),
        "crf": crf.implementation(),
        "rows": [_row(name, way, found[name]) for name, way in ways.items()],
        "machine": machine_facts(),
    }
    if options.output:
        files.write_text(options.output, json.dumps(result, indent=1) + "\n")
    print(table(result["rows"]))


def scores(runtime: Runtime, dataset: Dataset, ways: dict[str, InferenceOptions]) -> dict[str, Scores]:
    """The scores of each way of finishing the same outputs of the network."""
    count = runtime.spec.num_classes
    confusions = {name: np.zeros((count, count), np.int64) for name in ways}

    def finished(name: str, raw: Any, truth: Any) -> Any:
        return confusion_matrix(truth, finish(runtime.spec, raw, ways[name]), count)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for index in range(len(dataset)):
            image, truth = dataset.load(index)
            raw = run(runtime, prepare(runtime.spec, image))
            counts = pool.map(lambda name, raw=raw, truth=truth: finished(name, raw, truth), ways)
            for name, part in zip(ways, counts, strict=True):
                confusions[name] += part
            if index % 10 == 9:
                print(f"{index + 1} of {len(dataset)} pictures", flush=True)
    return {name: Scores(confusion, dataset.ignored_class) for name, confusion in confusions.items()}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line a setting."""
    head = ["CRF", "mIoU in truth", "classes", "mIoU", "classes", "PA", "classes it helps", "classes it harms"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    plain = np.array(rows[0]["iou"], np.float64)
    for row in rows:
        change = np.array(row["iou"], np.float64) - plain
        cells = [row["setting"], f"{row['miou_in_truth']:.4f}", str(row["classes_in_truth"])]
        cells += [f"{row['miou']:.4f}", str(row["classes_counted"]), f"{row['pa']:.4f}"]
        cells += [str(int(np.sum(change > 0))), str(int(np.sum(change < 0)))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _row(name: str, way: InferenceOptions, found: Scores) -> dict[str, Any]:
    return {
        "setting": name,
        "options": None if way.crf is None else dataclasses.asdict(way.crf),
        "miou": found.miou,
        "miou_in_truth": found.miou_in_truth,
        "classes_counted": found.classes_counted,
        "classes_in_truth": found.classes_in_truth,
        "pa": found.pa,
        "iou": [None if np.isnan(value) else value for value in found.iou.tolist()],
    }


def _setting(text: str) -> tuple[str, CrfOptions]:
    """Argument type: ``iterations=5,bilateral_compat=4``."""
    kinds = {field.name: int if field.name == "iterations" else float for field in dataclasses.fields(CrfOptions)}
    values: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, number = part.partition("=")
        if not equals or name not in kinds:
            raise argparse.ArgumentTypeError(f"'{part}' is not NAME=NUMBER with one of {', '.join(kinds)}")
        values[name] = kinds[name](number)
    return text, CrfOptions(**values)


def _parse() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--model_path", required=True, metavar="FILE", help="model to score, as path[@runtime[:device]]")
    add("--dataset_path", required=True, metavar="DIR", help="dataset folder")
    add("--dataset_file", required=True, metavar="FILE", help="list of its pictures")
    add("--classes_path", metavar="FILE", help="class names (default: the model's own)")
    add("--ignore_index", type=cli.label_or_none, metavar="LABEL", help="number not scored (default: the model's own)")
    add("--model_input_shape", type=cli.size_hw, metavar="HxW", help="input size, for a model that leaves it open")
    add("--settings", nargs="*", type=_setting, default=[], metavar="NAME=X,…", help="settings beside the defaults")
    add("--first", type=cli.integer(0), default=0, metavar="N", help="pictures of the list to leave out at its start")
    add("--pictures", type=cli.integer(1), metavar="N", help="how many places of the list after that (default: all)")
    add("--every", type=cli.integer(1), default=1, metavar="N", help="take every n-th of them")
    add("--output", type=Path, metavar="FILE", help="JSON file for the result (default: none)")
    spec_flags.add(parser)
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
