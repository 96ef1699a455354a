"""Forward pass and training step of every network at 512x512, beside PyTorch, in one run.

Each network is compared with the nearest one of segmentation_models_pytorch, and with a twin of ours in PyTorch, layer
for layer with our weights, where TWINS says so. Every contestant is a process of its own; they take turns, so that a
change of the machine's state meets all of them, and only one runs at a time.

Nothing else must run on the machine. PyTorch's threads wait for each other without giving up the processor: another
process that takes one core makes it several times slower. ``--torch_environment OMP_WAIT_POLICY=PASSIVE`` lets them
sleep, and "cpu_ms" in the result is the time of the processor, which other processes stretch less.

    python benchmarks/models.py --torch_python VENV/bin/python --output benchmarks/models.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.tables import speedups
from common import cli
from common.facts import machine_facts
from deeplabv3p import files
from deeplabv3p.errors import UsageError
from deeplabv3p.models.registry import MODELS

HERE = Path(__file__).resolve().parent

# The nearest network of segmentation_models_pytorch: architecture and encoder. It has no PeleeNet and no Fast-SCNN.
NEAREST = {
    "mobilenetv2": ("DeepLabV3Plus", "mobilenet_v2"),
    "mobilenetv3large": ("DeepLabV3Plus", "timm-mobilenetv3_large_100"),
    "mobilenetv3small": ("DeepLabV3Plus", "timm-mobilenetv3_small_100"),
    "efficientnetv2b0": ("DeepLabV3Plus", "tu-tf_efficientnetv2_b0"),
    "resnet50": ("DeepLabV3Plus", "resnet50"),
    "resnet101": ("DeepLabV3Plus", "resnet101"),
    "xception": ("DeepLabV3Plus", "tu-xception65"),
    "convnext_tiny": ("DeepLabV3Plus", "tu-convnext_tiny"),
    "unet": ("Unet", "vgg19_bn"),
}
TWINS = ("mobilenetv2", "peleenet", "fast_scnn")


class Contestant:
    """A process that holds one network and runs it when it is told."""

    def __init__(self, command: list[str], request: dict[str, Any], log: Path, environment: dict[str, str]) -> None:
        self.log = log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | environment,
            )
        self.times: dict[str, dict[str, list[float]]] = {}
        self.facts = self._ask(request)

    def run(self, what: str, count: int, *, timed: bool) -> None:
        """``count`` times "forward", "train" or, of ours, "train_plain"."""
        answer = self._ask({"do": what, "count": count})
        self.facts["peak_mib"] = answer["peak_mib"]
        if timed:
            times = self.times.setdefault(what, {"seconds": [], "cpu_seconds": []})
            for key, values in times.items():
                values.extend(answer[key])

    def close(self) -> None:
        """End the process: it leaves when there is nothing more to read."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        except (OSError, json.JSONDecodeError):
            self.process.wait()
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise ContestantError(lines[-1] if lines else f"ended with {self.process.returncode}") from None
        return answer


class ContestantError(Exception):
    """A contestant could not be built or run."""


def main() -> None:
    options = _parse()
    names = [name for name in MODELS if name in {*NEAREST, *TWINS}] if options.models == ["all"] else options.models
    for name in names:
        if name not in MODELS:
            raise UsageError(f"unknown model type '{name}'. Known: {', '.join(MODELS)}.")
    began, rows = time.perf_counter(), []
    torch_versions: dict[str, str] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            row = _compare(name, options, Path(folder), torch_versions)
        rows.append(row)
        print(f"{time.perf_counter() - began:6.0f} s  {_line(row)}", flush=True)
    machine = machine_facts()
    from importlib.metadata import version

    machine["versions"] |= {name: version(name) for name in ("keras", "tensorflow")} | torch_versions
    result = {
        "what": f"{cli.size_text(options.model_input_shape)}, float32, 21 classes, output stride 16, AdamW, "
        f"{options.threads} threads each, channels last; {options.rounds} rounds of {options.steps} training steps",
        "torch": {"compiled": options.torch_compile, "environment": dict(options.torch_environment)},
        "seconds": time.perf_counter() - began,
        "machine": machine,
        "rows": rows,
    }
    if options.output:
        files.write_text(options.output, json.dumps(result, indent=1) + "\n")


def _compare(name: str, options: argparse.Namespace, folder: Path, torch_versions: dict[str, str]) -> dict[str, Any]:
    """One network and its rivals. What cannot be built is said in the row and stops nobody else."""
    shared = {"size_hw": list(options.model_input_shape), "threads": options.threads}
    row: dict[str, Any] = {"model": name}
    has_twin = name in TWINS and options.torch_python is not None
    contestants: dict[str, Contestant] = {}

    def enter(kind: str, command: list[str], request: dict[str, Any]) -> Contestant | None:
        environment = {} if kind == "keras" else dict(options.torch_environment)
        try:
            contestants[kind] = Contestant(command, request | shared, folder / f"{kind}.log", environment)
        except ContestantError as error:
            row[kind] = {"error": str(error)}
        return contestants.get(kind)

    def torch(network: list[str] | str) -> tuple[list[str], dict[str, Any]]:
        request = {"network": network, "batch_size": row["batch_size"], "compiled": options.torch_compile}
        return [str(options.torch_python), str(HERE / "contestant_torch.py")], request

    command = [sys.executable, str(HERE / "contestant_keras.py")]
    request = {"model": name, "batch_size": options.batch_size, "max_step_gflops": options.max_step_gflops}
    ours = enter("keras", command, request | {"folder": str(folder) if has_twin else None})
    if ours is None:
        return row
    row["batch_size"] = ours.facts.pop("batch_size")
    if options.torch_python is not None:
        if name in NEAREST:
            enter("torch", *torch(list(NEAREST[name])))
        if has_twin:
            enter("twin", *torch(str(folder)))
    for kind, error in _rounds(contestants, options).items():
        row[kind] = {"error": error}
    for kind, contestant in contestants.items():
        torch_versions |= contestant.facts.pop("versions", {})
        if kind not in row:
            row[kind] = contestant.facts | _figures(contestant, row["batch_size"])
        contestant.close()
    if "torch" in row:
        row["torch"]["network"] = "{}({})".format(*NEAREST[name])
    if has_twin and "error" not in row["twin"] and row["twin"]["parameters"] != row["keras"]["parameters"]:
        raise AssertionError(f"the twin of {name} has {row['twin']['parameters']} parameters, ours {row['keras']}")
    return row


def _rounds(contestants: dict[str, Contestant], options: argparse.Namespace) -> dict[str, str]:
    """Let them take turns; the first turn is to warm up. Returns the errors by contestant."""
    errors: dict[str, str] = {}
    counts = {"train": options.steps, "train_plain": options.steps, "forward": options.forwards}
    turns = [
        (kind, what)
        for kind in contestants
        for what in counts
        if what != "train_plain" or (kind == "keras" and options.plain)
    ]
    for round_ in range(options.rounds + 1):
        for kind, what in turns:
            if kind in errors:
                continue
            try:
                contestants[kind].run(what, counts[what] if round_ else 1, timed=round_ > 0)
            except ContestantError as error:
                errors[kind] = str(error)
    return errors


def _figures(contestant: Contestant, batch_size: int) -> dict[str, Any]:
    """Milliseconds, and milliseconds per GFLOP; the backward pass counts as two forward passes."""
    gflops = contestant.facts["gflops"]
    figures: dict[str, Any] = {}
    for what, times in contestant.times.items():
        work = gflops if what == "forward" else 3 * batch_size * gflops
        milliseconds = [1000 * value for value in times["seconds"]]
        figures[what] = {
            "ms": {"median": statistics.median(milliseconds), "min": min(milliseconds), "max": max(milliseconds)},
            "ms_per_gflop": statistics.median(milliseconds) / work,
            "cpu_ms": 1000 * statistics.median(times["cpu_seconds"]),
            "count": len(milliseconds),
        }
    return figures


def _line(row: dict[str, Any]) -> str:
    parts = [f"{row['model']}, batch {row.get('batch_size')}"]
    for kind in ("keras", "torch", "twin"):
        figures = row.get(kind)
        if figures and "error" in figures:
            parts.append(f"{kind}: {figures['error']}")
        elif figures:
            milliseconds = [f"{figures[what]['ms']['median']:.0f}" for what in ("forward", "train")]
            parts.append(f"{kind}: forward {milliseconds[0]} ms, step {milliseconds[1]} ms")
    parts += [f"{value:.2f} times as fast as {kind}" for kind, value in speedups(row).items()]
    return "; ".join(parts)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, value


def _parse() -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "")
    add = parser.add_argument
    add(
        "--models", nargs="+", default=["all"], metavar="NAME", help="networks, or all that have a rival (default: all)"
    )
    add("--torch_python", type=Path, metavar="FILE", help="an interpreter with torch and segmentation_models_pytorch")
    environment_help = "set for PyTorch, such as OMP_WAIT_POLICY=PASSIVE (default: nothing)"
    add("--torch_environment", type=_setting, nargs="+", default=[], metavar="NAME=VALUE", help=environment_help)
    add("--torch_compile", action="store_true", help="compile the PyTorch networks; needs a C++ compiler")
    add("--plain", action="store_true", help="time plain Keras, without fused layers, as well")
    add("--model_input_shape", type=cli.size_hw, default=(512, 512), metavar="HxW", help="picture in pixels")
    add("--batch_size", type=cli.integer(1), default=4, metavar="N", help="most pictures a training step")
    max_help = "fewer pictures a step, but two, where it would be of more GFLOPs"
    add("--max_step_gflops", type=cli.number(1), default=500.0, metavar="N", help=max_help)
    add("--rounds", type=cli.integer(1), default=2, metavar="N", help="turns of each contestant")
    add("--steps", type=cli.integer(1), default=2, metavar="N", help="timed training steps a turn")
    add("--forwards", type=cli.integer(1), default=4, metavar="N", help="timed forward passes a turn")
    add("--threads", type=cli.integer(1), default=2, metavar="N", help="processor threads of each contestant")
    add("--output", metavar="FILE", help="JSON file for the result (default: none)")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
