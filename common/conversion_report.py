"""What a conversion tells at its end: a table of the files; then of each what goes in and out, and how to run it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.conversion_check import Agreement, Checked
from common.pretrained import shown
from deeplabv3p.export.formats import Exported, ExportOptions
from deeplabv3p.spec import InputSpec, ModelSpec, OutputSpec

_HEAD = ("file", "precision", "MB", "runtime", "max error", "agreement")


def report(model: Any, written: Sequence[Exported], options: Sequence[ExportOptions], checks: Sequence[Checked]) -> str:
    """The text. ``checks`` is empty where nothing was compared."""
    rows = []
    for index, (exported, how) in enumerate(zip(written, options, strict=True)):
        check = checks[index] if checks else None
        rows.append((exported.path.name, how.precision, f"{size_mb(exported.path):.2f}", *_check_cells(check)))
    lines = _table(_HEAD, rows)
    for index, (exported, how) in enumerate(zip(written, options, strict=True)):
        lines += ["", str(shown(exported.path.absolute())), *_facts(model, exported, how)]
        check = checks[index] if checks else None
        if check is not None and not isinstance(check, Agreement):
            lines.append(f"  check   skipped: {check}")
    return "\n".join(lines)


def size_mb(path: Path) -> float:
    """The size of a model in megabytes: all files of a folder, and with an .xml its weights."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6
    weights = path.with_suffix(".bin")
    extra = weights.stat().st_size if path.suffix == ".xml" and weights.is_file() else 0
    return (path.stat().st_size + extra) / 1e6


def _check_cells(check: Checked | None) -> tuple[str, str, str]:
    if isinstance(check, Agreement):
        error = "-" if check.max_error is None else f"{check.max_error:.2g}"
        return check.runtime, error, f"{100 * check.agreement:.2f} %"
    return ("skipped" if check else "not checked"), "-", "-"


def _facts(model: Any, exported: Exported, how: ExportOptions) -> list[str]:
    spec = exported.spec
    lines = [f"  input   {_tensor(spec.input, _shape(how.batch, spec.input.size_hw, 3, spec.input.layout))}"]
    kind = "" if spec.output.name == spec.output.kind else f", {spec.output.kind}"
    lines.append(f"  output  {_tensor(spec.output, _output_shape(model, spec, how))}{kind}")
    lines += [f"  note    {note}" for note in exported.notes]
    path = shlex.quote(shown(exported.path.absolute()))
    return [*lines, f"  run     python deeplab.py --model_path {path} --image PICTURE"]


def _tensor(spec: InputSpec | OutputSpec, shape: str) -> str:
    kind = f" {spec.dtype}" if isinstance(spec, InputSpec) else ""
    scale = "" if spec.scale is None else f", scale {spec.scale:.6g}, zero point {spec.zero_point}"
    return f"{spec.name}{kind} {shape} {spec.layout}{scale}"


def _output_shape(model: Any, spec: ModelSpec, how: ExportOptions) -> str:
    if how.output_size == "input":
        size_hw = spec.input.size_hw
    else:
        height, width = model.outputs[0].shape[1:3]
        size_hw = (height, width) if height and width else None
    if spec.output.kind == "labels":
        return _shape(how.batch, size_hw, None, "NHWC")
    return _shape(how.batch, size_hw, spec.num_classes, spec.output.layout)


def _shape(batch: int | None, size_hw: tuple[int, int] | None, channels: int | None, layout: str) -> str:
    area = ["?", "?"] if size_hw is None else [str(side) for side in size_hw]
    last = [] if channels is None else [str(channels)]
    sides = [*last, *area] if layout == "NCHW" else [*area, *last]
    return f"[{', '.join(['?' if batch is None else str(batch), *sides])}]"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
