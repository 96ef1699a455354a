"""How much of the processor an evaluation uses: the cost of each part alone, and the pictures/s of all together.

Decoding, preparing, the engine and scoring are measured one after the other, in processor milliseconds a
picture. Their sum bounds what any evaluation can do: threads / sum. Then the same pictures go through ``evaluate``; its
share of that bound is the result. Rounds alternate between the two.

    python benchmarks/evaluation.py model.tflite --dataset_path CAMVID --dataset_file CAMVID/val.txt
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Iterator
from typing import Any

from common import cli
from common.facts import machine_facts
from common.network import agreed_spec, find_artifact
from deeplabv3p import files
from deeplabv3p.data.dataset import Dataset, open_dataset
from deeplabv3p.evaluation.score import evaluate, open_engines
from deeplabv3p.inference import finish, prepare, protocol, run
from deeplabv3p.metrics import Scores, confusion_matrix
from deeplabv3p.runtime import Runtime

PARTS = ("decode", "prepare", "engine", "score")


def main() -> None:
    options = _parse()
    result = {"rows": [measure(text, options) for text in options.model_path], "machine": machine_facts()}
    if options.output:
        files.write_text(options.output, json.dumps(result, indent=1) + "\n")


def measure(text: str, options: argparse.Namespace) -> dict[str, Any]:
    """What one model's evaluation costs, and reaches."""
    artifact, own_spec = find_artifact(text)
    spec, class_list = agreed_spec(own_spec, options, artifact.path)
    dataset = open_dataset(
        options.dataset_path,
        options.dataset_file,
        class_list,
        spec.ignore_index,
        picture_max=spec.input.picture_max,
    )
    dataset = dataclasses.replace(dataset, samples=dataset.samples[: options.pictures])
    costs, rounds = [], []
    engines = open_engines(artifact, spec, threads=options.threads, workers=options.workers)
    with contextlib.ExitStack() as opened:
        for engine in engines:
            opened.callback(engine.close)
        how = protocol(engines[0])
        print(f"{how}; {dataset.source}, {len(dataset)} pictures", flush=True)
        for turn in range(options.rounds + 1):
            cost, together = measure_parts(engines[0], dataset), measure_pipeline(engines, dataset)
            if turn:  # the first reads the files from the disk and lets the engines settle
                costs.append(cost)
                rounds.append(together)
    parts = {part: statistics.median(item[part] for item in costs) for part in PARTS}
    bound = 1000 * options.threads / sum(parts.values())
    rate = statistics.median(item["pictures_per_s"] for item in rounds)
    print(f"processor ms a picture: {', '.join(f'{part} {spent:.2f}' for part, spent in parts.items())}")
    print(f"bound: {options.threads} threads / {sum(parts.values()):.2f} ms = {bound:.1f} pictures/s")
    print(f"{len(engines)} engines at work: {rate:.1f} pictures/s, {rate / bound:.1%} of the bound", flush=True)
    return {
        "model": artifact.path.name,
        "protocol": how,
        "dataset": dataset.source,
        "pictures": len(dataset),
        "threads": options.threads,
        "engines": len(engines),
        "processor_ms": parts,
        "bound_pictures_per_s": bound,
        "pictures_per_s": rate,
        "share_of_bound": rate / bound,
        "rounds": rounds,
    }


def measure_parts(runtime: Runtime, dataset: Dataset) -> dict[str, float]:
    """Processor milliseconds a picture of each part, all threads together, nothing at the same time."""
    spent = dict.fromkeys(PARTS, 0.0)

    @contextlib.contextmanager
    def clock(part: str) -> Iterator[None]:
        before = time.process_time()
        yield
        spent[part] += time.process_time() - before

    spec = runtime.spec
    for index in range(len(dataset)):
        with clock("decode"):
            image, truth = dataset.load(index)
        with clock("prepare"):
            prepared = prepare(spec, image)
        with clock("engine"):
            raw = run(runtime, prepared)
        with clock("score"):
            Scores(confusion_matrix(truth, finish(spec, raw), spec.num_classes), dataset.ignored_class)
    return {part: 1000 * seconds / len(dataset) for part, seconds in spent.items()}


def measure_pipeline(engines: tuple[Runtime, ...], dataset: Dataset) -> dict[str, float]:
    """Pictures a second of wall time, and processor milliseconds a picture, of a whole evaluation."""
    before = time.process_time()
    evaluation = evaluate(engines[0], dataset, workers=engines[1:])
    spent = time.process_time() - before
    return {
        "pictures_per_s": len(dataset) / evaluation.seconds,
        "processor_ms": 1000 * spent / len(dataset),
        "miou": evaluation.scores.miou,
        "miou_in_truth": evaluation.scores.miou_in_truth,
    }


def _parse() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("model_path", nargs="+", metavar="MODEL", help="models to score, as path[@runtime[:device]]")
    add("--dataset_path", required=True, metavar="DIR", help="dataset folder")
    add("--dataset_file", required=True, metavar="FILE", help="list of its pictures")
    add("--classes_path", metavar="FILE", help="class names (default: the model's own)")
    add("--model_input_shape", type=cli.size_hw, metavar="HxW", help="input size, for a model that leaves it open")
    add("--pictures", type=cli.integer(1), default=100, metavar="N", help="the first of the list")
    add("--threads", type=cli.integer(1), default=os.cpu_count(), metavar="N", help="processor threads to use")
    add("--workers", type=cli.integer(1), metavar="N", help="engines that share them (default: one a thread)")
    add("--rounds", type=cli.integer(1), default=3, metavar="N", help="measured rounds, after one that is not")
    add("--output", metavar="FILE", help="JSON file for the result (default: none)")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
