"""Write the tables of README.md, docs/models.md and the READMEs here from the JSON files beside this script.

A table stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``; what is between them is replaced.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import options, recipes
from benchmarks.dumps import compared
from common import cli
from deeplabv3p import files

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
PAGES = (
    HERE / "README.md",
    HERE / "gpu" / "README.md",
    HERE.parent / "README.md",
    DOCS / "models.md",
    DOCS / "scaling.md",
    HERE.parent / "inference" / "README.md",
)


def main() -> None:
    cli.Parser(__doc__ or "").parse_args()
    results = {name: HERE / f"{name}.json" for name in MAKERS}
    tables = {name: MAKERS[name](json.loads(file.read_text())) for name, file in results.items() if file.exists()}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name, table in tables.items():
            pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
            text = re.sub(pattern, lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text, flags=re.DOTALL)
        files.write_text(page, text)
        print(f"written: {page}")


def _camvid(result: dict[str, Any]) -> str:
    """Dumps of one network, as ``dumps.py`` scored them; a column for what differs between them."""
    rows = result["rows"]
    splits = [split for split in ("val", "test") if split in rows[0]]
    columns: dict[str, Callable[[dict[str, Any]], str]] = {"input": lambda row: str(row["size_hw"])}
    if len({row.get("output_stride") for row in rows}) > 1:
        columns["output stride"] = lambda row: str(row["output_stride"])
    if any(row.get("flip") for row in rows):
        columns["flip"] = lambda row: "yes" if row.get("flip") else "no"
    head = [*columns, *(f"{split} mIoU" for split in splits), "test PA", *rows[0]["test"]["iou"]]
    lines = []
    for row in rows:
        miou = [f"{compared(row[split]):.4f}" for split in splits]
        iou = [f"{value:.3f}" for value in row["test"]["iou"].values()]
        line = [*(column(row) for column in columns.values()), *miou[:-1], f"**{miou[-1]}**"]
        lines.append([*line, f"{row['test']['pa']:.4f}", *iou])
    return _table(head, lines)


def _train_step(result: dict[str, Any]) -> str:
    rows = []
    for kind, label in (("fused", "fused (default)"), ("plain", "plain Keras (`--no-bn_fused`)")):
        seconds = result["seconds_a_step"][kind]
        spread = f"{seconds['median']:.2f} ({seconds['min']:.2f} to {seconds['max']:.2f}, {seconds['steps']} steps)"
        rows.append([label, spread, f"{result['data_wait_share'][kind]:.1%}"])
    return _table(["batch norm", "seconds a step, median", "waiting for data"], rows) + (
        f"\n\nFused is {result['speedup_of_fused']:.2f} times as fast."
    )


def _input_pipeline(result: dict[str, Any]) -> str:
    rows = []
    for row in result["rows"]:
        rates = [f"{row[name]['images_per_s']['median']:.0f}" for name in ("decode", "pipeline")]
        rows.append([str(row["threads"]), *rates, f"{row['pipeline']['cpu_ms_per_image']:.2f}"])
    return _table(["threads", "decode alone, images/s", "whole pipeline, images/s", "pipeline, CPU ms an image"], rows)


def _memory(result: dict[str, Any]) -> str:
    rows = [[f"{r['pictures']:,}", f"{r['train_mib']:,}", f"{r['eval_mib']:,}"] for r in result["rows"]]
    return _table(["pictures", "train.py, peak MiB", "eval.py, peak MiB"], rows)


# GFLOPs and millions of parameters at 512x512, output stride 16, that the model set which this project follows
# publishes. docs/models.md says why ours differ.
PUBLISHED = {
    "xception": ("102.73", "41.06"),
    "resnet50": ("73.95", "26.72"),
    "mobilenetv3large": ("9.52", "3.51"),
    "peleenet_lite": ("7.64", "2.59"),
    "mobilenetv2_lite": ("5.24", "2.11"),
    "mobilenetv3small_lite": ("1.36", "1.06"),
}


def _model_statistics(result: dict[str, Any]) -> str:
    head = ["`--model_type`", "input", "output stride", "parameters, M", "GMACs", "GFLOPs", "peak activations, MiB"]
    head += ["forward, ms (p10 to p90)", "published: GFLOPs", "published: parameters, M"]
    rows = []
    for row in result["rows"]:
        millions, latency = row["parameters"] / 1e6, row["latency_ms"]
        figures = [f"{millions:.2f}", f"{row['macs'] / 1e9:.2f}", f"{row['flops'] / 1e9:.2f}"]
        figures.append(f"{row['peak_activation_bytes'] / 2**20:.0f}")
        timed = f"{latency['median']:.0f} ({latency['p10']:.0f} to {latency['p90']:.0f})" if latency else ""
        published = PUBLISHED.get(row["name"], ("", ""))
        rows.append([f"`{row['name']}`", row["size_hw"], str(row["output_stride"]), *figures, timed, *published])
    return _table(head, rows)


def _models(result: dict[str, Any]) -> str:
    head = [
        "`--model_type`",
        "batch",
        "GFLOPs",
        "forward, ms",
        "step, ms",
        "PyTorch",
        "GFLOPs",
        "forward, ms",
        "step, ms",
    ]
    head += ["step: times as fast per GFLOP", "twin in PyTorch: step, ms", "times as fast", "than plain Keras"]
    rows = []
    for row in result["rows"]:
        faster = speedups(row)
        cells = [f"`{row['model']}`", str(row.get("batch_size", ""))]
        for kind in ("keras", "torch"):
            cells += [str(row.get(kind, {}).get("network", "none"))] if kind == "torch" else []
            figures = row.get(kind, {})
            if "train" in figures:
                timed = (f"{figures[what]['ms']['median']:.0f} ({figures[what]['ms_per_gflop']:.1f})" for what in STEPS)
                cells += [f"{figures['gflops']:.1f}", *timed]
            else:
                cells += [figures.get("error", ""), "", ""]
        cells.append(f"**{faster['torch']:.2f}**" if "torch" in faster else "")
        cells += (
            [f"{row['twin']['train']['ms']['median']:.0f}", f"**{faster['twin']:.2f}**"]
            if "twin" in faster
            else ["", ""]
        )
        cells.append(f"{faster['plain Keras']:.2f}" if "plain Keras" in faster else "")
        rows.append(cells)
    return _table(head, rows)


STEPS = ("forward", "train")


def speedups(row: dict[str, Any]) -> dict[str, float]:
    """How many times as fast as each rival we are in a training step of ``models.py``: by milliseconds per GFLOP beside
    another network, by milliseconds beside a twin and beside plain Keras."""
    ours, result = row.get("keras", {}), {}
    if "train" not in ours:
        return {}
    if "train" in row.get("torch", {}):
        result["torch"] = row["torch"]["train"]["ms_per_gflop"] / ours["train"]["ms_per_gflop"]
    if "train" in row.get("twin", {}):
        result["twin"] = row["twin"]["train"]["ms"]["median"] / ours["train"]["ms"]["median"]
    if "train_plain" in ours:
        result["plain Keras"] = ours["train_plain"]["ms"]["median"] / ours["train"]["ms"]["median"]
    return result


# Columns of the table of profiles, and the groups of profile_models.py that they add up.
PROFILE_COLUMNS = {
    "convolution": ("convolution, forward", "convolution, gradients"),
    "depthwise": ("depthwise convolution, forward", "depthwise convolution, gradients", "dilation by space to batch"),
    "dense": ("dense",),
    "batch norm": ("batch norm",),
    "fused by XLA": ("fused by XLA",),
    "loss and resizing": ("loss: softmax cross-entropy", "resizing"),
    "optimizer and other arithmetic": ("optimizer and other arithmetic",),
}


def _profiles(result: dict[str, Any]) -> str:
    """Shares of a step by kind of work; then what Keras composes, and what trains instead."""
    known = [row for row in result["rows"] if "groups" in row]
    rows = []
    for row in known:
        shares = [sum(row["groups"].get(group, 0.0) for group in groups) for groups in PROFILE_COLUMNS.values()]
        rest = max(0.0, 1 - sum(shares))
        rows.append([f"`{row['model']}`", f"{row['ms']:.0f}", *(f"{share:.0%}" for share in (*shares, rest))])
    table = _table(["`--model_type`", "step, ms", *PROFILE_COLUMNS, "rest"], rows)
    composed = []
    for kind, kernel in result["composed"].items():
        layers = sum(row["composed_layers"].get(kind, 0) for row in known)
        names = sum(kind in row["composed_layers"] for row in known)
        if names:
            composed.append([kind, f"{layers} in {names} networks", kernel])
    return f"{table}\n\n{_table(['Keras composes', 'layers', 'in training'], composed)}"


def _certificate(result: dict[str, Any]) -> str:
    """A row a file, without what only the report needs."""
    rows = []
    for row in result["rows"]:
        if row["verdict"] == "skipped":
            continue
        interval = ""
        if row["miou_interval"] and row["verdict"] != "reference":
            low, high = (100 * side for side in row["miou_interval"])
            interval = f"{100 * row['miou_difference']:+.2f} ({low:+.2f} to {high:+.2f})"
        first = [
            f"`{row['name']}`",
            row["verdict"],
            _shown(compared(row), ".4f"),
            interval,
            _shown(row["latency"] and row["latency"]["p50"], ".0f"),
            _shown(row["size_bytes"] and row["size_bytes"] / 2**20, ".1f"),
        ]
        rest = [
            f"{row['engine']} ({row['device']})" if row["engine"] else row["runtime"],
            row["precision"],
            # Cut, not rounded: 100 is every pixel.
            _shown(row["agreement"] and math.floor(1e5 * row["agreement"]) / 1e5, ".5f"),
            _shown(row["band_agreement"] and math.floor(1e4 * row["band_agreement"]) / 1e4, ".4f"),
            _shown(row["max_error"], ".2g"),
            _shown(row["peak_memory_bytes"] and row["peak_memory_bytes"] / 2**20, ".0f"),
        ]
        rows.append([*first, *rest])
    head = ["file", "verdict", "mIoU", "difference, points (95 %)", "engine, ms", "MiB"]
    return _table(
        [*head, "engine", "precision", "agreement, %", "at boundaries, %", "max logit error", "peak MiB"], rows
    )


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _device(result: dict[str, Any]) -> str:
    parity = [[f"`{row['file']}`", f"{row['pixels']:,}", f"{row['differing']:,}"] for row in result["parity"]]
    stages = [
        [
            f"`{row['file']}`",
            *(f"{row[stage]:.2f}" for stage in ("prepare", "network", "labels")),
            f"{row['own_share']:.1%}",
            f"{row['peak_mib']:.0f}",
        ]
        for row in result["stages"]
    ]
    labels = [
        [
            f"{row['grid']}x{row['classes']}",
            *(f"{row[f'{way}_ms']:.2f}" for way in ("fused", "plain")),
            f"{row['times_as_fast']:.1f}",
            *(f"{row[f'{way}_peak_mib']:.0f}" for way in ("fused", "plain")),
        ]
        for row in result["labels"]
    ]
    programs = [
        [f"`{row['program']}`", str(row["pictures"]), f"{row['seconds']:.2f}", f"{row['peak_mib']:.0f}"]
        for row in result["programs"]
    ]
    parts = [
        f"`{result['model']}` ({result['classes']} classes). Pixels of 50 pictures of odd sizes, and those that the "
        "runner labels otherwise than `deeplab.py` with the same file:",
        _table(["file", "pixels", "differing"], parity),
        "Milliseconds at 512x512, float32, all cores, medians; *own share* is what preparing and labelling add to the "
        "network's time:",
        _table(["file", "prepare", "network", "labels", "own share", "peak MiB"], stages),
        "From the output to the labels of 512x512 pixels, beside all classes resized and then the argmax:",
        _table(["output", "fused, ms", "plain, ms", "times as fast", "fused, peak MiB", "plain, peak MiB"], labels),
        "From start to end, the model loaded included:",
        _table(["program", "pictures", "seconds", "peak MiB"], programs),
    ]
    return "\n\n".join(parts)


def _runtimes(result: dict[str, Any]) -> str:
    rows = []
    for row in sorted(result["rows"], key=lambda row: float(row["ms"]["whole"])):
        ms = row["ms"]
        bare = ms.get("benchmark_app", ms.get("bare"))
        ratio = "" if bare is None else f"{ms['whole'] / bare:.2f}"
        own = [_shown(ms.get(key), ".1f") for key in ("bare", "benchmark_app", "call", "whole")]
        parts = [f"{ms[key]:.2f}" for key in ("prepare", "labels")]
        rows.append([row["name"], row["format"], *own, ratio, *parts])
    head = [
        "engine",
        "format",
        "bare loop",
        "own tool",
        "our call",
        "whole path",
        "whole / bare",
        "of it prepare",
        "labels",
    ]
    return _table(head, rows)


def _evaluation(result: dict[str, Any]) -> str:
    rows = []
    for row in result["rows"]:
        spent = [f"{row['processor_ms'][part]:.1f}" for part in ("decode", "prepare", "engine", "score")]
        rates = [f"{row['bound_pictures_per_s']:.1f}", f"{row['pictures_per_s']:.1f}", f"{row['share_of_bound']:.0%}"]
        rows.append([row["protocol"].rpartition(", ")[2], str(row["engines"]), *spent, *rates])
    head = [
        "engine",
        "engines",
        "decode",
        "prepare",
        "engine, core-ms",
        "score",
        "bound, pictures/s",
        "reached",
        "share",
    ]
    return _table(head, rows)


def _scaling(result: dict[str, Any]) -> str:
    """What a step moves; then, for each kind of host and link, up to where hosts pay, and what they must decode."""
    counts = ("2", "8", "64")
    rows = []
    for network in result["networks"]:
        sent = [f"{network['sent_bytes'][count] / 1e6:.0f}" for count in counts]
        rows.append([f"`{network['name']}`", f"{network['parameters'] / 1e6:.2f}", str(network["norms"]), *sent])
    moved = _table(["`--model_type`", "parameters, M", "batch norms", *(f"MB, {n} hosts" for n in counts)], rows)
    rows = []
    for kind, runs in result["simulations"].items():
        for run in runs:
            points = {point["hosts"]: point for point in run["points"]}
            last = points[run["pays_up_to"]]
            shares = [f"{points[hosts]['efficiency']:.0%}" for hosts in (2, 8, 32)]
            rate = f"{last['images_per_s']:.3g}"
            cells = [f"**{run['pays_up_to']}**", rate, f"{last['images_per_s_a_host']:.3g}", str(run["fastest_at"])]
            rows.append([kind, f"`{run['network']}`", run["link"], *shares, *cells])
    head = [
        "host",
        "`--model_type`",
        "link",
        "2 hosts",
        "8",
        "32",
        "pays up to",
        "images/s there",
        "a host",
        "fastest at",
    ]
    return f"{moved}\n\n{_table(head, rows)}"


def _gpu(result: dict[str, Any]) -> str:
    """The whole training, then its compiled step alone; both as shares of the chip's peak."""
    head = ["`--model_type`", "device", "images/s", "of the peak", "data wait", "step alone, images/s", "of the peak"]
    head += ["peak MiB", "val mIoU", "test mIoU"]
    rows = []
    for row in result["rows"]:
        if "error" in row:
            rows.append([f"`{row['model']}`", f"failed: {row['error']}", *[""] * 8])
            continue
        alone = row["step_alone"]
        cells = [alone["device"], f"{row['images_per_s']:.0f}", _shown(row["utilisation"], ".1%")]
        cells += [f"{row['data_wait']:.1%}", f"{alone['images_per_s']:.0f}", _shown(alone["utilisation"], ".1%")]
        cells += [_shown(alone["peak_mib"], ",")]
        cells += [f"{score:.4f}" for score in (row["val_miou"], compared(row["test"]))]
        rows.append([f"`{row['model']}`", *cells])
    return _table(head, rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


MAKERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "camvid_mobilenetv2": _camvid,
    "train_step": _train_step,
    "input_pipeline": _input_pipeline,
    "memory": _memory,
    "model_statistics": _model_statistics,
    "models": _models,
    "profiles": _profiles,
    "certify_voc": _certificate,
    "certify_camvid": _certificate,
    "runtimes": _runtimes,
    "device": _device,
    "camvid_mobilenetv2_long": _camvid,
    "camvid_mobilenetv2_trainval": _camvid,
    "evaluation": _evaluation,
    "scaling": _scaling,
    "options": lambda result: options.table(result["rows"]),
    "recipes": lambda result: recipes.table(result["rows"]),
    "gpu/camvid": _gpu,
}

if __name__ == "__main__":
    cli.run(main)
