"""What networks cost: parameters, multiply-adds, peak activation memory, and the time of a forward pass here."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from deeplabv3p.errors import BudgetError, UsageError
from deeplabv3p.models.registry import MODELS, OUTPUT_STRIDES, ModelName

if TYPE_CHECKING:
    from deeplabv3p.models.statistics import LayerStatistics, Statistics
    from deeplabv3p.spec import ModelSpec

EPILOG = """A MAC is one multiply-add; FLOPs are 2 MACs; batch norms count as folded and element-wise operations as
nothing. Peak activations are the most bytes of float32 tensors that the graph needs at once for one picture.
deeplabv3p/models/statistics.py has the definitions in full, docs/models.md compares with published figures."""

CLASSES = 21  # of the registry's records, as PASCAL VOC
MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Network:
    """A network to count. ``spec`` is None where a file comes without one; ``size_hw`` where it is in the model."""

    name: str
    model: Any
    spec: ModelSpec | None
    size_hw: tuple[int, int] | None


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    from deeplabv3p.runtime import keras_engine

    keras = keras_engine.import_keras()
    if options.threads is not None:
        keras_engine.set_threads(keras, options.threads)
    if options.check:
        check(_names(options))
        return
    from common.facts import machine_facts
    from deeplabv3p.models.statistics import count

    print(_promise(options), flush=True)
    rows: list[dict[str, Any]] = []
    for network in _networks(options):
        statistics = count(network.model, network.size_hw)
        row = _row(network, statistics)
        if options.latency:
            row["latency_ms"] = _latency(network, options.warmup, options.runs)
        if options.per_layer:
            row["layers"] = [dataclasses.asdict(layer) for layer in statistics.layers]
            print(_layer_table(statistics.layers))
        if not rows:
            print(_HEAD)
        print(_line(row), flush=True)
        rows.append(row)
    if options.json:
        from deeplabv3p import files

        latency = {"warmup": options.warmup, "runs": options.runs, "threads": options.threads}
        result = {"rows": rows, "latency": latency if options.latency else None, "machine": machine_facts()}
        files.write_text(options.json, json.dumps(result, indent=1) + "\n")
        print(f"written: {options.json}")


def check(names: Sequence[ModelName]) -> None:
    """Compare the parameters and MACs in the registry with the count; print each count as a record has it.

    Raises:
        BudgetError: a record says something else.
    """
    from deeplabv3p.models.factory import build_model
    from deeplabv3p.models.statistics import count

    wrong = []
    for name in names:
        record = name.record
        statistics = count(build_model(name, num_classes=CLASSES, size_hw=record.size_hw))
        counted = (statistics.parameters, statistics.macs)
        agrees = counted == (record.parameters, record.macs)
        said = "agrees" if agrees else f"the record says {record.parameters:_}, {record.macs:_}"
        print(f"{name}: parameters={counted[0]:_}, macs={counted[1]:_}  # {said}", flush=True)
        if not agrees:
            wrong.append(str(name))
    if wrong:
        raise BudgetError(
            f"records that differ from the count: {', '.join(wrong)}. Correct deeplabv3p/models/registry.py."
        )


def _networks(options: argparse.Namespace) -> Iterator[Network]:
    """Builds or opens one network after the other, so that only one is in memory."""
    if options.model_path is not None:
        yield _open(options)
        return
    from deeplabv3p.models import factory
    from deeplabv3p.runtime.keras_engine import import_keras
    from deeplabv3p.spec import ClassInfo

    classes = tuple(ClassInfo(f"class {index}", (0, 0, 0)) for index in range(options.num_classes or CLASSES))
    for name in _names(options):
        record = name.record
        size_hw = options.model_input_shape or record.size_hw
        stride = options.output_stride or record.output_stride
        if options.all and stride not in record.output_strides:
            print(f"{name}: left out, it cannot be built at output stride {stride}")
            continue
        model = factory.build_model(name, num_classes=len(classes), size_hw=size_hw, output_stride=stride)
        spec = factory.model_spec(name, size_hw=size_hw, output_stride=stride, classes=classes)
        yield Network(str(name), model, spec, size_hw)
        del model
        import_keras().utils.clear_session(free_memory=False)
        gc.collect()


def _open(options: argparse.Namespace) -> Network:
    from deeplabv3p.runtime.artifact import find_spec
    from deeplabv3p.runtime.keras_engine import load_model

    path: Path = options.model_path
    model, spec = load_model(path), find_spec(path)
    if options.latency and spec is None:
        raise UsageError(f"{path} comes without a spec and cannot be run. --no-latency counts it without running it.")
    return Network(path.name, model, spec, options.model_input_shape)


def _names(options: argparse.Namespace) -> list[ModelName]:
    names = [ModelName.parse(options.model_type)] if options.model_type else [ModelName(name) for name in MODELS]
    return names if options.alpha is None else [dataclasses.replace(name, alpha=options.alpha) for name in names]


def _row(network: Network, statistics: Statistics) -> dict[str, Any]:
    height, width = network.size_hw or tuple(network.model.inputs[0].shape[1:3])
    return {
        "name": network.name,
        "size_hw": f"{height}x{width}",
        "output_stride": network.spec.model.output_stride if network.spec else None,
        "num_classes": network.spec.num_classes if network.spec else None,
        "parameters": statistics.parameters,
        "moving_statistics": statistics.moving_statistics,
        "macs": statistics.macs,
        "flops": statistics.flops,
        "peak_activation_bytes": statistics.peak_activation_bytes,
        "peak_layer": statistics.peak_layer,
        "latency_ms": None,
    }


def _latency(network: Network, warmup: int, runs: int) -> dict[str, float]:
    """Milliseconds of the compiled forward pass of one picture, as inference runs it."""
    import numpy as np

    from deeplabv3p.runtime.keras_engine import KerasRuntime

    assert network.spec is not None
    runtime = KerasRuntime(network.model, network.spec)
    shape = [side or 1 for side in network.model.inputs[0].shape]
    if network.size_hw is not None:
        axis = shape.index(3, 1) == 1  # [B, 3, H, W] or [B, H, W, 3]
        shape[1 + axis : 3 + axis] = network.size_hw
    batch = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    times = []
    for _ in range(warmup + runs):
        begin = time.perf_counter()
        runtime.run(batch)
        times.append(1000 * (time.perf_counter() - begin))
    runtime.close()
    low, median, high = np.percentile(times[warmup:], [10, 50, 90]).tolist()
    return {"median": median, "p10": low, "p90": high}


def _promise(options: argparse.Namespace) -> str:
    """What will be done, in a line."""
    if not options.latency:
        return "counted for one picture; nothing is run"
    threads = f"{options.threads} threads" if options.threads else "as many threads as the engine takes"
    runs = f"{options.warmup} runs to warm up, {options.runs} timed"
    return f"counted for one picture; forward pass in float32, compiled, batch 1, {threads}, {runs}"


_COLUMNS = "{:28} {:>9} {:>6} {:>12} {:>9} {:>9} {:>9}  {}"
_HEAD = _COLUMNS.format(
    "network", "input", "stride", "parameters", "GMACs", "GFLOPs", "peak MiB", "ms, median (p10 to p90)"
)


def _line(row: dict[str, Any]) -> str:
    latency = row["latency_ms"]
    timed = f"{latency['median']:.1f} ({latency['p10']:.1f} to {latency['p90']:.1f})" if latency else "-"
    counts = [f"{row['parameters']:,}", f"{row['macs'] / 1e9:.3f}", f"{row['flops'] / 1e9:.3f}"]
    peak = f"{row['peak_activation_bytes'] / MIB:.1f}"
    return _COLUMNS.format(row["name"], row["size_hw"], row["output_stride"] or "-", *counts, peak, timed)


def _layer_table(rows: Sequence[LayerStatistics]) -> str:
    width = max(len(row.name) for row in rows)
    lines = [f"{'layer':{width}} {'kind':20} {'output':>16} {'parameters':>11} {'MMACs':>10} {'live MiB':>9}"]
    for row in rows:
        shape = "x".join(map(str, row.output_shape))
        figures = f"{row.parameters:11,} {row.macs / 1e6:10.3f} {row.live_bytes / MIB:9.2f}"
        lines.append(f"{row.name:{width}} {row.kind:20} {shape:>16} {figures}")
    return "\n".join(lines)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__, EPILOG)
    what = parser.add_argument_group("what to count (one of them)").add_mutually_exclusive_group(required=True)
    name_help = f"network, with options if wanted (mobilenetv2:width=64): {', '.join(MODELS)}"
    what.add_argument("--model_type", metavar="NAME", help=f"{name_help} (default: none)")
    what.add_argument("--all", action="store_true", help="every network of the registry")
    what.add_argument("--model_path", type=Path, metavar="FILE", help="a .keras or .h5 model (default: none)")
    add = parser.add_argument
    size_help = "input height x width in pixels (default: the network's usual one, or the file's own)"
    add("--model_input_shape", type=cli.size_hw, metavar="HxW", help=size_help)
    stride_help = "input pixels per feature pixel (default: the network's usual one)"
    add("--output_stride", type=int, choices=OUTPUT_STRIDES, help=stride_help)
    add("--num_classes", type=cli.integer(1, 255), metavar="N", help=f"classes (default: {CLASSES})")
    add("--alpha", type=cli.number(0.1, 4), metavar="X", help="width multiplier (default: as the name says, else 1)")
    add("--latency", action=argparse.BooleanOptionalAction, default=True, help="time the forward pass")
    add("--runs", type=cli.integer(1), default=20, metavar="N", help="timed runs of each network")
    add("--warmup", type=cli.integer(0), default=5, metavar="N", help="runs before them that are not timed")
    add("--threads", type=cli.integer(1), metavar="N", help="CPU threads of the engine (default: its own choice)")
    add("--per_layer", action="store_true", help="a line for each layer, too")
    add("--json", type=Path, metavar="FILE", help="write the figures, with machine and versions (default: none)")
    check_help = "compare the registry's own figures with the count, at the usual size, instead"
    add("--check", action="store_true", help=check_help)
    options = parser.parse_args(argv)
    given = [f"--{name}" for name in ("output_stride", "num_classes", "alpha") if getattr(options, name) is not None]
    if options.model_path is not None and (given or options.check):
        raise UsageError(f"{(given or ['--check'])[0]} is for networks by name; {options.model_path} is as it is.")
    if options.check and (given or options.model_input_shape or ":" in (options.model_type or "")):
        raise UsageError("--check counts networks as the registry has them: give a plain name, or --all, and no more.")
    return options


if __name__ == "__main__":
    cli.run(main)
