"""Latency and throughput of a model in its runtime: the engine alone, and the whole path from picture to labels."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    from common import cli, inference_flags, spec_flags
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None

if TYPE_CHECKING:
    from deeplabv3p.evaluation.benchmark import LatencyStats

DEMO = Path(__file__).resolve().parents[1] / "assets" / "demo.jpg"
WARMUP = 5


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    # Only now: these import NumPy and OpenCV, and the engine when the model is opened.
    from common.facts import machine_facts
    from common.network import find_artifact, with_size
    from deeplabv3p import files
    from deeplabv3p.data.decode import read_image
    from deeplabv3p.evaluation.benchmark import benchmark
    from deeplabv3p.evaluation.score import open_engines
    from deeplabv3p.inference import protocol

    artifact, own_spec = find_artifact(options.model_path, options)
    spec = with_size(own_spec, options.model_input_shape, artifact.path)
    image = read_image(options.image, spec.input.picture_max)
    how = inference_flags.options_from(options, spec)
    workers = options.workers if options.api == "async" else 1
    with contextlib.ExitStack() as opened:
        engines = open_engines(artifact, spec, threads=options.threads, workers=workers)
        for engine in engines:
            opened.callback(engine.close)
        line = protocol(engines[0], how)
        size = cli.size_text((image.shape[0], image.shape[1]))
        print(f"{artifact.path}: {line}\n{options.api}, {len(engines)} at a time, picture {size}", flush=True)
        result = benchmark(engines, image, options=how, warmup=WARMUP, seconds=options.seconds)
    rows = {"engine": figures(result.engine, options.api), "whole_path": figures(result.whole, options.api)}
    if options.output_path:
        content = {
            "model": artifact.path.name,
            "protocol": line,
            "api": options.api,
            "requests": len(engines),
            "threads": options.threads,
            "picture_hw": image.shape[:2],
            "warmup": WARMUP,
            **rows,
            "machine": machine_facts(),
        }
        files.write_text(options.output_path, json.dumps(content, indent=1) + "\n")
    print(table(rows))
    if options.output_path:
        print(f"written: {options.output_path}")


def figures(stats: LatencyStats, api: str) -> dict[str, float]:
    """The statistics and the throughput in pictures a second, as OpenVINO's benchmark_app counts it: sync from the
    median latency, async from the number of runs and the time that all of them took."""
    rate = 1000 / stats.median if api == "sync" else stats.count / stats.duration
    return dataclasses.asdict(stats) | {"throughput": rate}


def table(rows: dict[str, dict[str, float]]) -> str:
    """The rows as lines of text."""
    keys = ("median", "average", "p90", "minimum", "maximum")
    heads = ("median", "avg", "p90", "min", "max")
    lines = [f"{'':12}{'count':>7}{'duration':>10}" + "".join(f"{head:>9}" for head in heads) + f"{'pictures/s':>12}"]
    for name, row in rows.items():
        latencies = "".join(f"{row[key]:9.2f}" for key in keys)
        label = name.replace("_", " ")
        lines.append(f"{label:12}{row['count']:7d}{row['duration']:8.2f} s{latencies}{row['throughput']:12.2f}")
    return "\n".join([*lines, "latencies in milliseconds"])


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__, "Both are measured for --seconds each, after a few runs that do not count.")
    add: Any = parser.add_argument
    add("model_path", metavar="MODEL", help="model of any format, as path[@runtime[:device]]")
    api_help = "sync: one run after the other; async: several at the same time, each in an engine of its own"
    add("--api", choices=("sync", "async"), default="sync", help=api_help)
    add("--seconds", type=cli.number(0, 86400), default=10.0, metavar="S", help="wall time of each measurement")
    threads_help = "CPU threads, of all engines together (default: the engine's own choice; async: all)"
    add("--threads", type=cli.integer(1), metavar="N", help=threads_help)
    workers_help = (
        "with async: how many at the same time (default: one a thread, at most 8; one where they share threads)"
    )
    add("--workers", type=cli.integer(1, 64), metavar="N", help=workers_help)
    add("--image", type=Path, default=DEMO, metavar="FILE", help="picture (default: that of the demo)")
    add("--classes_path", metavar="FILE", help="class names, for a model without a spec (default: the model's own)")
    size_help = "input height x width in pixels, for a model that leaves its size open (default: the picture's)"
    add("--model_input_shape", type=cli.size_hw, metavar="HxW", help=size_help)
    add("--output_path", type=Path, metavar="FILE", help="JSON file for the result (default: none)")
    inference_flags.add(parser)
    spec_flags.add(parser)
    options = parser.parse_args(argv)
    if options.api == "sync" and options.workers is not None:
        parser.error("--workers is for --api async")
    return options


if __name__ == "__main__":
    cli.run(main)
