"""Latency of one network in every runtime, each beside its engine's own loop, interleaved in one run.

A trained network is exported to every format and opened by every runtime, each in a process of its own. In turns each
times, for the same picture:

- bare: the engine's own API in a loop, with the input in place and the output left there. For OpenVINO its own tool,
  benchmark_app, runs as well.
- call: our call of the engine, from tensor to output array.
- whole: from the picture (uint8, of the input's size) to its labels. Of that, prepare: the input tensor; labels:
  upsampling and argmax.

    python benchmarks/runtimes.py --output benchmarks/runtimes.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

from common import cli
from common.facts import machine_facts
from deeplabv3p import files, visualize
from deeplabv3p.data.decode import read_image
from deeplabv3p.errors import DataError, DeeplabError
from deeplabv3p.export.export import Target, export_many, file_name
from deeplabv3p.export.formats import FORMATS, ExportOptions
from deeplabv3p.models.factory import rebuild
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import load_spec
from deeplabv3p.runtime.openvino_import import unreported

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "assets" / "demo.jpg"
MODEL = HERE.parent / "weights" / "camvid_mobilenetv2.keras"
ROWS = ("bare", "call", "whole", "prepare", "labels")
WARMUP = 5
GOAL = 1.25
"""The whole path of the fastest engine takes at most this many times as long as the bare engine."""


def main() -> None:
    options = _parse()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = cv2.resize(read_image(options.image), options.model_input_shape[::-1], interpolation=cv2.INTER_AREA)
        visualize.save_image(folder / "picture.png", image)
        artifacts = export_all(folder, options)
        rows = measure(artifacts, folder, options)
    result = {
        "model": Path(options.model_path).name,
        "size_hw": options.model_input_shape,
        "threads": options.threads,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "rows": rows,
        "machine": machine_facts(),
    }
    if options.output:
        files.write_text(options.output, json.dumps(result, indent=1) + "\n")
    print(table(rows))
    print(verdict(rows))


def export_all(folder: Path, options: argparse.Namespace) -> list[str]:
    """Write the network in every format; returns ``path@runtime`` for each runtime that opens one of the files."""
    path = Path(options.model_path)
    model, spec = rebuild(keras_engine.load_model(path), load_spec(path), size_hw=options.model_input_shape)
    settings = ExportOptions()
    targets = [Target(form, folder / file_name("model", form, settings), settings) for form in options.formats]
    artifacts = []
    for target, outcome in zip(targets, export_many(model, spec, targets), strict=True):
        if isinstance(outcome, DeeplabError):
            print(f"{target.format_name}: {outcome}", file=sys.stderr)
        else:
            runtimes = [name for name in FORMATS[target.format_name].runtimes if name in options.runtimes]
            artifacts += [f"{target.path}@{runtime}" for runtime in runtimes]
    return artifacts


def measure(artifacts: list[str], folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row an artifact: the medians of the rounds' medians, in milliseconds, and every round."""
    rows = []
    with contextlib.ExitStack() as stack:
        children = []
        for artifact in artifacts:
            name, _, runtime = artifact.rpartition("@")
            try:
                child = stack.enter_context(_child(artifact, folder / "picture.png", options.threads))
            except DataError as error:
                print(error, file=sys.stderr)
                continue
            children.append((child, Path(name)))
            form = Path(name).suffix.lstrip(".") or "SavedModel"
            rows.append({"runtime": runtime, "format": form, **child.facts, "rounds": []})
        for _ in range(options.rounds):
            for (child, path), row in zip(children, rows, strict=True):
                turn: dict[str, Any] = {
                    what: child.ask(do="measure", what=what, warmup=WARMUP, seconds=options.seconds)
                    for what in ROWS
                    if what in row["measured"]
                }
                if row["runtime"] == "openvino":
                    turn["benchmark_app"] = benchmark_app(path, options.threads, options.seconds)
                row["rounds"].append(turn)
                print(f"{row['name']} ({path.name}): " + _milliseconds(turn), flush=True)
    for row in rows:
        measured = [key for key in (*ROWS, "benchmark_app") if row["rounds"][0].get(key)]
        row["ms"] = {key: statistics.median(turn[key]["median"] for turn in row["rounds"]) for key in measured}
    return rows


def benchmark_app(path: Path, threads: int, seconds: float) -> dict[str, float] | None:
    """The median latency that OpenVINO's own tool finds; None where it is not installed."""
    tool = shutil.which("benchmark_app", path=str(Path(sys.executable).parent))
    if tool is None or path.suffix != ".xml":
        return None
    command = [tool, "-m", str(path), "-d", "CPU", "-api", "sync", "-hint", "none", "-nthreads", str(threads)]
    command += ["-infer_precision", "f32", "-t", str(max(1, round(seconds)))]
    with unreported():  # the tool imports OpenVINO, which would tell its makers
        done = subprocess.run(command, capture_output=True, text=True, timeout=300 + 10 * seconds)
    found = re.search(r"Median:\s+([\d.]+) ms", done.stdout)
    return {"median": float(found[1])} if found else None


class _Child:
    def __init__(self, process: subprocess.Popen[str], options: dict[str, Any]) -> None:
        self._process = process
        self.facts = self.ask(**options)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one line, wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        # What is not JSON was written by an engine.
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise DataError(f"the process of {request} has ended: its messages are above.")


@contextlib.contextmanager
def _child(artifact: str, image: Path, threads: int) -> Iterator[_Child]:
    command = [sys.executable, str(HERE / "runtime_contestant.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _Child(process, {"artifact": artifact, "image": str(image), "threads": threads})
        finally:
            process.kill()


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, fastest whole path first."""
    head = ["runtime", "file", *ROWS, "benchmark_app", "whole / bare"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for row in sorted(rows, key=lambda row: float(row["ms"]["whole"])):
        cells = [f"{row['ms'][key]:.2f}" if key in row["ms"] else "" for key in (*ROWS, "benchmark_app")]
        ratio = whole_over_bare(row)
        name = f"{row['name']} ({row['device']})"
        lines.append(f"| {' | '.join([name, row['format'], *cells, f'{ratio:.2f}' if ratio else ''])} |")
    return "\n".join(lines)


def whole_over_bare(row: dict[str, Any]) -> float | None:
    """Our whole path by the engine's own figure: that of its tool, else of the bare loop."""
    bare = row["ms"].get("benchmark_app", row["ms"].get("bare"))
    return row["ms"]["whole"] / bare if bare else None


def verdict(rows: list[dict[str, Any]]) -> str:
    """How the fastest engine that has a bare loop meets the goal."""
    known = [row for row in rows if whole_over_bare(row)]
    if not known:
        return "no engine with a bare loop was measured"
    fastest = min(known, key=lambda row: float(row["ms"]["whole"]))
    ratio = whole_over_bare(fastest) or 0.0
    word = "within" if ratio <= GOAL else "above"
    return f"fastest: {fastest['name']}, whole path {ratio:.2f} times the bare engine, {word} the goal of {GOAL}"


def _milliseconds(turn: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value['median']:.2f} ms" for key, value in turn.items() if value)


def _parse() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    runtimes = sorted({runtime for form in FORMATS.values() for runtime in form.runtimes})
    add(
        "--model_path",
        default=str(MODEL),
        metavar="FILE",
        help="Keras model (default: the one in weights/)",
    )
    add("--model_input_shape", type=cli.size_hw, default=(512, 512), metavar="HxW", help="input and picture, pixels")
    add("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), help="what to export (default: all)")
    add("--runtimes", nargs="+", choices=runtimes, default=runtimes, help="what to measure (default: all)")
    add("--threads", type=cli.integer(1), default=2, metavar="N", help="processor threads of each engine")
    add("--rounds", type=cli.integer(1), default=3, metavar="N", help="turns of each runtime")
    add("--seconds", type=cli.number(0), default=3.0, metavar="S", help="time of each measurement in a turn")
    add("--image", type=Path, default=DEMO, metavar="FILE", help="picture (default: that of the demo)")
    add("--output", metavar="FILE", help="JSON file for the result (default: none)")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
