"""A certificate as files (JSON, CSV, Markdown, a chart, one self-contained HTML page) and as a table on the console."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.facts import machine_facts
from common.page import Facts, Figure, Section, Table, Text, Tiles
from common.report import REPORT_HTML, run_section, write_report
from deeplabv3p import charts, files
from deeplabv3p.csv_text import to_csv
from deeplabv3p.documents import read_json
from deeplabv3p.errors import DataError
from deeplabv3p.evaluation.bisect import Bisection
from deeplabv3p.evaluation.budget import describe
from deeplabv3p.evaluation.certify import Certificate, Figures, Row, Verdict
from deeplabv3p.evaluation.comparison import BAND_PX, LEVEL, RESAMPLES
from deeplabv3p.spec import ClassInfo

CERTIFICATE_JSON, CERTIFICATE_CSV, CERTIFICATE_MD = "certificate.json", "certificate.csv", "certificate.md"
CHART_PNG = "latency_miou_size.png"

_VERDICT, _TEXT_COLUMNS = 1, frozenset({"file", "verdict", "engine", "precision"})

BUSY = 0.1
"""The share of the cores that others may use before latencies are worth nothing."""

_MIB = 2**20
_COLORS = {"pass": (22, 163, 74), "FAIL": (220, 38, 38), "skipped": (202, 138, 4), "reference": (37, 99, 235)}
_STYLES = {"pass": "green", "FAIL": "bold red", "skipped": "yellow italic", "reference": "blue"}

# What decides first: a narrow screen shows the first columns only.
HEADER = (
    "file",
    "verdict",
    "mIoU",
    "mIoU in truth",
    "difference, points",
    "p50 ms",
    "p90 ms",
    "size MiB",
    "engine",
    "precision",
    "agreement %",
    "at boundaries %",
    "max error",
    "mean error",
    "peak MiB",
)


def write_certificate(folder: Path, certificate: Certificate) -> Path:
    """Write everything into ``folder``; returns the path of the HTML page.

    Raises:
        DataError: the folder cannot be written.
    """
    content = to_dict(certificate)
    files.write_text(
        folder / CERTIFICATE_JSON, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )
    files.write_text(folder / CERTIFICATE_CSV, _csv(content["rows"]))
    files.write_text(folder / CERTIFICATE_MD, _markdown(certificate))
    charts.trade_off_chart(folder / CHART_PNG, chart_points([content]))
    return write_report(folder, "Certificate", _sections(folder, certificate))


def to_dict(certificate: Certificate) -> dict[str, Any]:
    """The certificate, ready for JSON. Agreements are percentages, mIoU and its difference fractions, latencies
    milliseconds; null is what was not measured."""
    return {
        "schema_version": 1,
        "dataset": certificate.dataset,
        "pictures": certificate.pictures,
        "threads": certificate.threads,
        "budgets": {name: dict(values) for name, values in certificate.budgets.items()},
        "method": dict(_method()),
        "rows": [_row_dict(row) for row in certificate.rows],
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine_facts(),
    }


def read_certificate(path: Path) -> dict[str, Any]:
    """What :func:`write_certificate` wrote as JSON.

    Raises:
        DataError: the file is missing, is not JSON, no certificate, or one of another version; the message says which.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list) or "schema_version" not in content:
        raise DataError(f"{path} is JSON, but not a certificate. Name a {CERTIFICATE_JSON} that certify.py wrote.")
    if content["schema_version"] != 1:
        version = content["schema_version"]
        raise DataError(f"{path} is a certificate of version {version}, and 1 is read here. Certify the models again.")
    return content


def chart_points(certificates: Sequence[dict[str, Any]]) -> list[charts.TradeOff]:
    """The measured rows as points of the chart: of one certificate coloured by precision, of several by reference."""
    points = []
    for content in certificates:
        for row in content["rows"]:
            if row["latency"] is None or row["miou"] is None or row["size_bytes"] is None:
                continue
            several = len(certificates) > 1
            points.append(
                charts.TradeOff(
                    label=f"{row['runtime']} {row['precision']}",
                    group=content["rows"][0]["name"] if several else row["precision"],
                    latency_ms=row["latency"]["p50"],
                    # Over the same classes for every file; certificates of older versions have one mIoU only.
                    miou=row.get("miou_in_truth", row["miou"]),
                    size_bytes=row["size_bytes"],
                    sound=row["verdict"] in ("pass", "reference"),
                )
            )
    return points


def print_table(certificate: Certificate) -> None:
    """Print the table, then why rows failed or were skipped, and what else is worth knowing."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text as RichText

    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(HEADER):
        table.add_column(name, justify="left" if name in _TEXT_COLUMNS else "right", no_wrap=index > 0, overflow="fold")
    for row in certificate.rows:
        cells = [RichText(cell) for cell in _cells(row)]
        cells[_VERDICT].stylize(_STYLES[row.verdict])
        table.add_row(*cells, style="dim" if row.verdict == "skipped" else None)
    terminal = sys.stdout.isatty()
    # A log is as wide as the table; on a terminal that is too narrow the file names wrap.
    console = Console(file=sys.stdout, width=None if terminal else 240)
    console.print(table)
    for line in remarks(certificate):
        print(line)


def remarks(certificate: Certificate) -> list[str]:
    """What the table has no room for, a line each: reasons, departures, notes, and warnings."""
    lines = []
    for row in certificate.rows:
        name = f"{row.name} ({row.runtime} {row.precision})"
        lines += [f"{row.verdict} {name}: {reason}" for reason in row.reasons]
        if row.bisection is not None:
            lines.append(f"bisect {name}: {describe_bisection(row.bisection)}")
        lines += [f"note {name}: {note}" for note in row.notes]
    lines += _classes_counted(certificate)
    busy = [row.measurement.state.others or 0.0 for row in certificate.rows if row.measurement]
    if busy and max(busy) > BUSY:
        lines.append(
            f"warning: other processes used up to {100 * max(busy):.0f} % of the cores while latencies were taken; "
            "take them again on an idle machine"
        )
    return lines


def _classes_counted(certificate: Certificate) -> list[str]:
    """A line where the set of classes that mIoU is over differs from that of the truth in any row."""
    rows = [(row, row.figures) for row in certificate.rows if row.figures is not None]
    odd = [
        f"{row.name} ({row.runtime}) {figures.classes_counted}"
        for row, figures in rows
        if figures.classes_counted != figures.classes_in_truth
    ]
    if not odd:
        return []
    whole = rows[0][1].classes_in_truth
    return [
        f"classes counted by mIoU: {', '.join(odd)}; in the truth {whole}. Differences are over these {whole} alone"
    ]


def summary(certificate: Certificate) -> str:
    """``5 passed, 1 FAILED, 2 skipped (skipped is not passed)``."""
    passed, failed, skipped = (len(certificate.with_verdict(name)) for name in ("pass", "FAIL", "skipped"))
    text = f"{passed} passed, {failed} FAILED" if failed else f"{passed} passed"
    return f"{text}, {skipped} skipped (skipped is not passed)" if skipped else text


def describe_bisection(found: Bisection) -> str:
    """The departure in a sentence."""
    if found.first is None:
        return f"no layer found; {found.remark}"
    first = found.first
    fused = f" with {', '.join(first.fused)} fused into it" if first.fused else ""
    return (
        f"leaves the reference at layer '{first.layer}', a {first.kind}{fused}: relative error {first.error:.2g}, "
        f"before it {first.before:.2g} (on {found.picture}, by {found.method}; {found.remark})"
    )


def _cells(row: Row) -> list[str]:
    figures, measurement = row.figures or Figures(math.nan, math.nan, 0, 0), row.measurement
    latency = measurement.latency if measurement else None
    peak = measurement.peak_memory if measurement else None
    return [
        row.name,
        row.verdict,
        _number(figures.miou, ".4f"),
        _number(figures.miou_in_truth, ".4f"),
        _difference(figures),
        _number(latency.median if latency else None, ".1f"),
        _number(latency.p90 if latency else None, ".1f"),
        _number(None if row.size is None else row.size / _MIB, ".2f"),
        row.runtime if measurement is None else f"{measurement.runtime} ({measurement.device})",
        row.precision,
        _number(figures.agreement, ".4f"),
        _number(figures.band_agreement, ".4f"),
        _number(figures.max_error, ".3g"),
        _number(figures.mean_error, ".3g"),
        _number(None if peak is None else peak / _MIB, ".0f"),
    ]


def _difference(figures: Figures) -> str:
    if figures.difference is None:
        return "–"
    text = _number(100 * figures.difference, "+.2f")
    if figures.interval is None or math.isnan(figures.interval.low):
        return text
    return f"{text} [{100 * figures.interval.low:+.2f}, {100 * figures.interval.high:+.2f}]"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None or math.isnan(value) else format(value, form)


def _row_dict(row: Row) -> dict[str, Any]:
    figures, measurement, found = row.figures, row.measurement, row.bisection
    error = measurement.error if measurement else None
    interval = figures.interval if figures else None
    content: dict[str, Any] = {
        "name": row.name,
        "runtime": row.runtime,
        "precision": row.precision,
        "verdict": row.verdict,
        "reasons": list(row.reasons),
        "notes": list(row.notes),
        "path": None if row.path is None else str(row.path),
        "size_bytes": row.size,
        "engine": measurement.runtime if measurement else None,
        "device": measurement.device if measurement else None,
        "protocol": measurement.protocol if measurement else None,
        "max_error": _finite(figures.max_error) if figures else None,
        "mean_error": _finite(figures.mean_error) if figures else None,
        "error_pictures": error.pictures if error else 0,
        "agreement": _finite(figures.agreement) if figures else None,
        "band_agreement": _finite(figures.band_agreement) if figures else None,
        "miou": _finite(figures.miou) if figures else None,
        "miou_in_truth": _finite(figures.miou_in_truth) if figures else None,
        "classes_counted": figures.classes_counted if figures else None,
        "classes_in_truth": figures.classes_in_truth if figures else None,
        "miou_difference": _finite(figures.difference) if figures else None,
        "miou_interval": [_finite(interval.low), _finite(interval.high)] if interval else None,
        "latency": None,
        "peak_memory_bytes": measurement.peak_memory if measurement else None,
        "bisection": dataclasses.asdict(found) if found else None,
    }
    if measurement is not None:
        latency = measurement.latency
        content["latency"] = {
            "p50": latency.median,
            "p90": latency.p90,
            "average": latency.average,
            "minimum": latency.minimum,
            "maximum": latency.maximum,
            "count": latency.count,
            "seconds": latency.duration,
            "warmup": measurement.warmup,
            **dataclasses.asdict(measurement.state),
        }
    if found is not None:
        content["bisection"]["steps"] = [
            {**dataclasses.asdict(step), "error": _finite(step.error), "before": _finite(step.before)}
            for step in found.steps
        ]
        if found.first is not None:
            content["bisection"]["first"]["error"] = _finite(found.first.error)
    return content


def _finite(value: float | None) -> float | None:
    """A JSON number; null where it is undefined or infinite (an engine that puts out infinity)."""
    return value if value is not None and math.isfinite(value) else None


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    """One line a file: the JSON's figures, with the latency's under names of their own."""
    flat = []
    for row in rows:
        latency = row["latency"] or {}
        low, high = row["miou_interval"] or (None, None)
        line = {key: value for key, value in row.items() if not isinstance(value, (dict, list)) or key == "reasons"}
        line = {key: value for key, value in line.items() if key not in ("latency", "miou_interval", "bisection")}
        line |= {"reasons": "; ".join(row["reasons"]), "miou_low": low, "miou_high": high}
        line |= {f"latency_{name}": latency.get(name) for name in ("p50", "p90", "count", "warmup", "others")}
        flat.append(line)
    return to_csv(list(flat[0]), flat)


def _markdown(certificate: Certificate) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    table = [line(HEADER), line(["---" if name in _TEXT_COLUMNS else "---:" for name in HEADER])]
    for row in certificate.rows:
        cells = _cells(row)
        cells[_VERDICT] = {"FAIL": "**FAIL**", "skipped": "*skipped*"}.get(row.verdict, row.verdict)
        table.append(line(cells))
    parts = [f"# Certificate: {summary(certificate)}", "\n".join(table)]
    if found := remarks(certificate):
        parts.append("\n".join(f"- {text}" for text in found))
    parts.append("\n".join(f"- {name}: {text}" for name, text in (*_facts(certificate), *_method())))
    parts.append(f"```sh\n{shlex.join(['python', *sys.argv])}\n```")
    return "\n\n".join(parts) + "\n"


def _sections(folder: Path, certificate: Certificate) -> list[Section]:
    titles: dict[Verdict, str] = {"pass": "passed", "FAIL": "failed", "skipped": "skipped, not passed"}
    tiles = Tiles(tuple((str(len(certificate.with_verdict(name))), title) for name, title in titles.items()))
    rows: tuple[tuple[str | ClassInfo, ...], ...] = tuple(
        # A colour and a name, as a class has.
        (row.name, ClassInfo(row.verdict, _COLORS[row.verdict]), *_cells(row)[_VERDICT + 1 :])
        for row in certificate.rows
    )
    sections = [
        Section("Verdict", (tiles, Facts(_facts(certificate)), Table(HEADER, rows))),
        Section("Latency, mIoU, size", (Figure((folder / CHART_PNG).read_bytes(), _CHART_CAPTION, wide=True),)),
    ]
    if found := remarks(certificate):
        sections.append(Section("Remarks", tuple(Text(line) for line in found)))
    for row in certificate.rows:
        if row.bisection is not None and row.bisection.steps:
            sections.append(_bisection_section(row, row.bisection))
    sections.append(Section("Method", (Facts(_method()),)))
    return [*sections, run_section()]


_CHART_CAPTION = (
    "To the left is faster, up is better (mIoU of the classes in the truth), small bubbles are small files; failed "
    "files are hollow"
)


def _bisection_section(row: Row, found: Bisection) -> Section:
    header = ("layer", "operation", "relative error", "before it", "")
    steps = tuple(
        (step.layer, step.kind, f"{step.error:.2g}", f"{step.before:.2g}", "← here" if step == found.first else "")
        for step in found.steps
    )
    title = f"Layers of {row.name} ({row.runtime})"
    return Section(title, (Text(describe_bisection(found)), Table(header, steps)))


def _facts(certificate: Certificate) -> tuple[tuple[str, str], ...]:
    """What was compared with what."""
    reference = certificate.rows[0]
    precisions = dict.fromkeys(row.precision for row in certificate.rows[1:])
    protocol = reference.measurement.protocol if reference.measurement else ""
    return (
        ("Reference", str(reference.path)),
        ("Dataset", f"{certificate.dataset}, {certificate.pictures} pictures"),
        ("Protocol", protocol),
        ("Threads", "each engine's own choice" if certificate.threads is None else str(certificate.threads)),
        *((f"Budget {name}", describe(certificate.budgets[name])) for name in precisions),
    )


def _method() -> tuple[tuple[str, str], ...]:
    return (
        (
            "Agreement",
            "share of all pixels, at the picture's own size, that have the same label as with the reference; at "
            f"boundaries: of the pixels with another of the reference's labels within {BAND_PX} rows and columns",
        ),
        (
            "Logit error",
            "absolute, on the model's own output grid, quantized outputs made real; not given where grids differ",
        ),
        (
            "mIoU",
            "over the classes in the truth or the prediction; in truth: over those in the truth alone, which are the "
            "same for every file",
        ),
        (
            "mIoU difference",
            f"of the mIoU in truth, in points of 100, with the {100 * LEVEL:.0f} % interval of a paired bootstrap over "
            f"pictures, {RESAMPLES} resamples, percentiles, fixed seed, over the same classes in every resample",
        ),
        (
            "Latency",
            "of the engine alone, one picture, each file in a process of its own, after calls to warm up; p50 and p90",
        ),
        ("Peak", "the most memory of that process: Python, engine, model, pictures"),
    )


__all__ = ["REPORT_HTML", "chart_points", "print_table", "read_certificate", "summary", "to_dict", "write_certificate"]
