"""Seconds a training step, fused against plain Keras batch norm in one run, and the share of time waiting for data.

The two kinds alternate in rounds, so that a change of the machine's state meets both. Data comes through the real
pipeline from generated pictures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import cli
from common.facts import machine_facts
from deeplabv3p.runtime import keras_engine


def main() -> None:
    options = _parse()
    keras = keras_engine.import_keras()
    from deeplabv3p.data.augment import Augmentation
    from deeplabv3p.data.classes import load_classes
    from deeplabv3p.data.dataset import open_dataset
    from deeplabv3p.data.pipeline import batches
    from deeplabv3p.data.shapes import generate
    from deeplabv3p.losses.make import LossSum
    from deeplabv3p.models import batchnorm, factory
    from deeplabv3p.spec import SYMMETRIC
    from deeplabv3p.training.meter import Feed, StreamingMeanIoU

    size_hw, batch_size = options.model_input_shape, options.batch_size
    steps = options.rounds * options.steps + options.warmup
    stock = factory.build_model(options.model_type, num_classes=21, size_hw=size_hw)
    kinds = {"fused": True, "plain": False}
    models = {kind: batchnorm.for_training(stock, fused=fused) for kind, fused in kinds.items()}
    for model in models.values():
        model.compile("adamw", loss=LossSum(), metrics=[StreamingMeanIoU(21)], jit_compile=False)

    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    waits: dict[str, list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        shapes = generate(folder, train=64, val=0, test=0, size_hw=(360, 480))
        dataset = open_dataset(shapes.root, shapes.train_list, load_classes(shapes.classes_file), 255)

        def feed(start: int) -> Feed:
            iterator = batches(
                dataset,
                size_hw=size_hw,
                batch_size=batch_size,
                preprocessing=SYMMETRIC,
                augmentation=Augmentation(brightness=0.1, contrast=0.2, saturation=0.2),
                seed=0,
                steps_per_epoch=steps,
                epochs=1,
                start_step=start,
                threads=2,
            )
            return Feed(iterator)

        class Timer(keras.callbacks.Callback):  # type: ignore[misc]
            """Times the steps of one fit, without its first, which may trace and fill the pipeline."""

            def __init__(self, kind: str, source: Feed) -> None:
                super().__init__()
                self.kind, self.source = kind, source

            def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
                self.began = time.perf_counter()

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                wait = self.source.waited(self.began)
                if batch >= options.warmup:
                    seconds[self.kind].append(time.perf_counter() - self.began)
                    waits[self.kind].append(wait)

        for round_ in range(options.rounds):
            for kind, model in models.items():
                source = feed(round_ * options.steps)
                count = options.steps + options.warmup
                timer = Timer(kind, source)
                model.fit(iter(source), steps_per_epoch=count, epochs=1, verbose=0, callbacks=[timer])
            print(f"round {round_ + 1} of {options.rounds}", flush=True)

    median = {kind: statistics.median(values) for kind, values in seconds.items()}
    result = {
        "what": f"{options.model_type}, {cli.size_text(size_hw)}, batch {batch_size}, output stride 16, f32, adamw",
        "seconds_a_step": {k: _spread(v) for k, v in seconds.items()},
        "speedup_of_fused": median["plain"] / median["fused"],
        "data_wait_share": {k: sum(waits[k]) / sum(seconds[k]) for k in kinds},
        "machine": machine_facts(),
    }
    print(json.dumps(result, indent=2))
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "steps": len(values)}


def _parse() -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "")
    add = parser.add_argument
    add("--model_type", default="mobilenetv2", metavar="NAME", help="network")
    add("--model_input_shape", type=cli.size_hw, default=(512, 512), metavar="HxW", help="crop in pixels")
    add("--batch_size", type=cli.integer(1), default=8, metavar="N", help="pictures a step")
    add("--rounds", type=cli.integer(1), default=3, metavar="N", help="turns of each kind")
    add("--steps", type=cli.integer(1), default=8, metavar="N", help="timed steps a turn")
    add("--warmup", type=cli.integer(1), default=2, metavar="N", help="steps before them that are not timed")
    add("--output", metavar="FILE", help="JSON file for the result (default: none)")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
