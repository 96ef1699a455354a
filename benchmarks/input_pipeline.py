"""How many images/s the input makes: decoding alone, and the whole training pipeline, with the usual augmentation and
with all there is, for several thread counts.

    python benchmarks/input_pipeline.py --dataset_path data/camvid --dataset_file train.txt \\
        --classes_path configs/camvid_classes.txt --ignore_index 11 --size 360x480 --output result.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

from common import cli
from common.facts import machine_facts, processor
from deeplabv3p import files
from deeplabv3p.data.augment import Augmentation
from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.dataset import Dataset, open_dataset
from deeplabv3p.data.pipeline import batches, steps_per_epoch
from deeplabv3p.spec import SYMMETRIC

Counts = Generator[int, None, None]

REPEATS = 3
USUAL = Augmentation(brightness=0.1, contrast=0.1, saturation=0.1, hue=5)
EVERYTHING = Augmentation(
    brightness=0.1,
    contrast=0.1,
    saturation=0.1,
    hue=5,
    flip_vertical=0.5,
    rotate=10,
    zoom=0.1,
    sharpness=0.5,
    greyscale=0.2,
    blur=0.5,
    clahe=0.2,
    gridmask=0.5,
    class_crop=0.5,
    copy_paste=0.5,
    cutmix=0.5,
)


def main() -> None:
    arguments = parse()
    dataset = open_dataset(
        arguments.dataset_path, arguments.dataset_file, load_classes(arguments.classes_path), arguments.ignore_index
    )
    height, width = arguments.size
    print(f"{len(dataset)} pictures, crops {height}x{width}, batch {arguments.batch_size}: {processor()}")
    rows = []
    for threads in arguments.threads:
        row: dict[str, object] = {"threads": threads}
        for name, stream in (
            ("decode", decoded(dataset, threads)),
            ("pipeline", piped(dataset, arguments.size, arguments.batch_size, threads, USUAL)),
            ("all augmentations", piped(dataset, arguments.size, arguments.batch_size, threads, EVERYTHING)),
        ):
            rates, cost = measure(stream, arguments.seconds)
            low, middle, high = min(rates), statistics.median(rates), max(rates)
            row[name] = {"images_per_s": {"min": low, "median": middle, "max": high}, "cpu_ms_per_image": cost}
            print(
                f"{threads} threads, {name:17s}: {middle:5.0f} images/s ({low:.0f}-{high:.0f}), {cost:.2f} CPU ms/image"
            )
        rows.append(row)
    if arguments.output:
        settings: dict[str, object] = {
            "size_hw": arguments.size,
            "batch_size": arguments.batch_size,
            "seconds": arguments.seconds,
        }
        settings["all augmentations"] = dataclasses.asdict(EVERYTHING)
        result = {
            "dataset": dataset.source,
            "pictures": len(dataset),
            "settings": settings,
        }
        result |= {"repeats": REPEATS, "machine": machine_facts(), "rows": rows}
        files.write_text(arguments.output, json.dumps(result, indent=2) + "\n")
        print(f"written: {arguments.output}")


def decoded(dataset: Dataset, threads: int) -> Counts:
    """Read pictures and label maps in threads, a few ahead; yields how many images came."""
    indexes = cycle(range(len(dataset)))
    with ThreadPoolExecutor(threads) as pool:
        pending = [pool.submit(dataset.load, index) for index in islice(indexes, 4 * threads)]
        while True:
            pending.pop(0).result()
            pending.append(pool.submit(dataset.load, next(indexes)))
            yield 1


def piped(
    dataset: Dataset, size_hw: tuple[int, int], batch_size: int, threads: int, augmentation: Augmentation
) -> Counts:
    """Batches as training gets them; yields how many images came."""
    iterator = batches(
        dataset,
        size_hw=size_hw,
        batch_size=batch_size,
        preprocessing=SYMMETRIC,
        augmentation=augmentation,
        seed=0,
        steps_per_epoch=steps_per_epoch(len(dataset), batch_size),
        epochs=10**6,
        threads=threads,
        prefetch=2 * threads,
    )
    try:
        for images, _ in iterator:
            yield len(images)
    finally:
        iterator.close()


def measure(stream: Counts, seconds: float) -> tuple[list[float], float]:
    """Images/s of each repeat, and the processor time an image takes, after a warm-up of a second."""
    until = time.perf_counter() + min(1.0, seconds)
    while time.perf_counter() < until:
        next(stream)
    rates, total, cpu = [], 0, time.process_time()
    for _ in range(REPEATS):
        start, count = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < seconds / REPEATS:
            count += next(stream)
        rates.append(count / elapsed)
        total += count
    cost = 1e3 * (time.process_time() - cpu) / total
    stream.close()
    return rates, cost


def parse() -> argparse.Namespace:
    parser = cli.Parser(
        "Measure how many images/s decoding alone and the whole training pipeline make, as usual and with all it can."
    )
    parser.add_argument("--dataset_path", required=True, help="folder of the dataset")
    parser.add_argument("--dataset_file", required=True, help="list of its pictures")
    parser.add_argument("--classes_path", required=True, help="class list")
    parser.add_argument("--ignore_index", type=cli.integer(0, 65535), default=255, help="label that counts for nothing")
    parser.add_argument("--size", type=cli.size_hw, default=(360, 480), help="crop, HxW in pixels")
    parser.add_argument("--batch_size", type=cli.integer(1), default=8, help="images a batch")
    parser.add_argument("--threads", type=cli.integer(1), nargs="+", default=[1, 2, 4], help="thread counts to try")
    parser.add_argument("--seconds", type=cli.number(0.1), default=9.0, help=f"seconds for {REPEATS} repeats")
    parser.add_argument("--output", help="JSON file to write")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
