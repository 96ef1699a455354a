"""A certificate as files and as a table, from rows that were made up."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from common import certificate as report
from deeplabv3p.charts import TradeOff, pareto_front, trade_off_chart
from deeplabv3p.errors import DataError
from deeplabv3p.evaluation.benchmark import LatencyStats
from deeplabv3p.evaluation.bisect import Bisection
from deeplabv3p.evaluation.budget import parse_budgets
from deeplabv3p.evaluation.certify import Certificate, Figures, Row
from deeplabv3p.evaluation.comparison import Interval, LogitError, Share
from deeplabv3p.evaluation.departure import LayerError
from deeplabv3p.evaluation.measurement import MachineState, Measurement

MEASUREMENT = Measurement(
    runtime="litert 2.3",
    device="cpu",
    protocol="tiny os4, 32x48 stretch, litert 2.3 (cpu)",
    parts=np.ones((2, 3, 3), np.int64),
    error=LogitError(0.5, 10.0, 100, 2),
    everywhere=Share(999, 1000),
    band=Share(95, 100),
    worst=1,
    latency=LatencyStats(20, 1.0, 12.25, 13.0, 20.5, 11.0, 30.0),
    warmup=5,
    state=MachineState(0.5, 1.5, 0.01),
    peak_memory=100 * 2**20,
)
FIGURES = Figures(0.8, 0.85, 3, 2, 99.9, 95.0, 0.5, 0.1, -0.0123, Interval(-0.02, -0.001))
FIRST = LayerError("block_1_expand", "Conv2D", 0.34, 0.02, ("pad (ZeroPadding2D)",))
STEPS = (LayerError("Conv1", "Conv2D", 0.02, 0.0), FIRST, LayerError("logits", "Conv2D", math.inf, 0.34))
SCORES = Figures(0.8623, 0.8623, 2, 2)
REFERENCE = Row("m.keras", "keras", "f32", "reference", path=Path("m.keras"), size=11 * 2**20, figures=SCORES)
REFERENCE = dataclasses.replace(REFERENCE, measurement=dataclasses.replace(MEASUREMENT, error=None, everywhere=None))
ROWS = (
    REFERENCE,
    Row("m.tflite", "tflite", "f32", "pass", (), ("a | note",), True, Path("m.tflite"), 2**20, FIGURES, MEASUREMENT),
    Row(
        "m_int8.tflite",
        "tflite",
        "int8",
        "FAIL",
        ("mIoU drop 1.23 points, over 1 points",),
        path=Path("m_int8.tflite"),
        size=3 * 2**20,
        figures=dataclasses.replace(FIGURES, max_error=math.inf),
        measurement=MEASUREMENT,
        bisection=Bisection("tensors inside", "p.png", 0.2, STEPS, FIRST, "3 of 3 layers were found"),
    ),
    Row("m.mnn", "mnn", "f32", "skipped", ("MNN is not installed",), asked=True),
)
CERTIFICATE = Certificate(ROWS, "val.txt", 2, parse_budgets(None), 2)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    page = report.write_certificate(tmp_path, CERTIFICATE)
    assert page == tmp_path / "report.html"
    return tmp_path


def test_the_json_holds_every_figure_and_nothing_that_json_has_not(written: Path) -> None:
    content = json.loads((written / "certificate.json").read_text(), parse_constant=pytest.fail)
    assert content == report.read_certificate(written / "certificate.json")
    reference, sound, bad, skipped = content["rows"]
    assert reference["miou_difference"] is None
    assert sound["latency"]["p50"] == 12.25
    assert (sound["latency"]["warmup"], sound["latency"]["others"], content["threads"]) == (5, 0.01, 2)
    assert (sound["max_error"], sound["mean_error"], sound["error_pictures"]) == (0.5, 0.1, 2)
    assert (sound["agreement"], sound["band_agreement"], sound["miou"]) == (99.9, 95.0, 0.8)
    assert (sound["miou_in_truth"], sound["classes_counted"], sound["classes_in_truth"]) == (0.85, 3, 2)
    assert sound["miou_interval"] == [-0.02, -0.001]
    assert (sound["size_bytes"], sound["peak_memory_bytes"]) == (2**20, 100 * 2**20)
    assert bad["max_error"] is None, "infinity is no JSON"
    assert bad["bisection"]["first"] == {
        "layer": "block_1_expand",
        "kind": "Conv2D",
        "error": 0.34,
        "before": 0.02,
        "fused": ["pad (ZeroPadding2D)"],
    }
    assert bad["bisection"]["steps"][2]["error"] is None
    assert (skipped["verdict"], skipped["latency"], skipped["reasons"]) == ("skipped", None, ["MNN is not installed"])
    assert content["budgets"]["f32"] == {"agreement": 99.9}
    assert {"command", "machine", "method", "dataset", "pictures"} <= content.keys()


def test_the_csv_has_a_line_a_file(written: Path) -> None:
    with (written / "certificate.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["reference", "pass", "FAIL", "skipped"]
    assert (rows[1]["latency_p50"], rows[1]["miou_low"], rows[1]["agreement"]) == ("12.25", "-0.02", "99.9")
    assert rows[2]["reasons"] == "mIoU drop 1.23 points, over 1 points"
    assert rows[3]["miou"] == ""


def test_the_markdown_table_is_one_and_says_what_is_not_passed(written: Path) -> None:
    text = (written / "certificate.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(ROWS)
    assert {line.replace("\\|", "").count("|") for line in table} == {len(report.HEADER) + 1}
    assert "**FAIL**" in table[4]
    assert "*skipped*" in table[5]
    assert "-1.23 [-2.00, -0.10]" in table[3]
    assert "Certificate: 1 passed, 1 FAILED, 1 skipped (skipped is not passed)" in text
    fused = "'block_1_expand', a Conv2D with pad (ZeroPadding2D) fused into it"
    assert f"leaves the reference at layer {fused}: relative error 0.34, before it 0.02" in text


def test_the_page_stands_alone_and_shows_verdicts_in_colours(written: Path) -> None:
    page = (written / "report.html").read_text()
    assert "http:" not in page
    assert "https:" not in page
    assert page.count("data:image/png;base64,") == 1
    for verdict, color in (("pass", "22,163,74"), ("FAIL", "220,38,38"), ("skipped", "202,138,4")):
        assert f'<i style="background:rgb({color})"></i>{verdict}' in page
    assert "← here" in page
    assert "skipped, not passed" in page
    assert "agreement at least 99.9 %" in page


def test_the_console_shows_the_table_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_table(CERTIFICATE)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].split()[0] == "file"
    assert lines[2].split()[1] == "pass"
    assert "99.9000" in lines[2]
    assert "FAIL m_int8.tflite (tflite int8): mIoU drop 1.23 points, over 1 points" in lines
    assert "skipped m.mnn (mnn f32): MNN is not installed" in lines
    assert "note m.tflite (tflite f32): a | note" in lines
    assert "warning" not in out
    assert "classes counted by mIoU: m.tflite (tflite) 3, m_int8.tflite (tflite) 3; in the truth 2." in out


def test_what_decides_stands_first() -> None:
    """A page of 1,300 pixels shows about eight columns."""
    first = ("file", "verdict", "mIoU", "mIoU in truth", "difference, points", "p50 ms")
    assert report.HEADER[: len(first)] == first
    cells = report._cells(ROWS[1])
    assert cells[1:6] == ["pass", "0.8000", "0.8500", "-1.23 [-2.00, -0.10]", "12.2"]
    assert len(cells) == len(report.HEADER)


def test_a_busy_machine_is_warned_of() -> None:
    busy = dataclasses.replace(MEASUREMENT, state=MachineState(3, 3, 0.42))
    rows = (ROWS[0], dataclasses.replace(ROWS[1], measurement=busy))
    (warning,) = [
        line for line in report.remarks(dataclasses.replace(CERTIFICATE, rows=rows)) if line.startswith("warning")
    ]
    assert "42 %" in warning


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    for text, why in (
        ("", "not valid JSON"),
        ("{}", "JSON, but not a certificate"),
        ("[1]", "JSON, but not a certificate"),
        ('{"schema_version": 1, "rows": 3}', "JSON, but not a certificate"),
        ('{"schema_version": 2, "rows": []}', "of version 2, and 1 is read"),
    ):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(DataError, match=why):
            report.read_certificate(tmp_path / "c.json")
    with pytest.raises(DataError, match="No such file"):
        report.read_certificate(tmp_path / "none.json")


def test_chart_points_are_grouped_by_precision_or_by_model(written: Path) -> None:
    content = report.read_certificate(written / "certificate.json")
    assert [point.group for point in report.chart_points([content])] == ["f32", "f32", "int8"]
    assert [point.sound for point in report.chart_points([content])] == [True, True, False]
    other = json.loads(json.dumps(content))
    other["rows"][0]["name"] = "other.keras"
    assert {point.group for point in report.chart_points([content, other])} == {"m.keras", "other.keras"}


def point(latency: float, miou: float, size: int, sound: bool = True) -> TradeOff:
    return TradeOff("p", "f32", latency, miou, size, sound)


def test_the_front_holds_what_nothing_beats_in_all_three() -> None:
    points = [
        point(30, 0.80, 100),  # the best mIoU
        point(10, 0.70, 100),  # the fastest
        point(30, 0.75, 50),  # the smallest
        point(31, 0.80, 100),  # beaten by the first
        point(10, 0.70, 100),  # the same as the second: neither beats the other
        point(1, 0.99, 1, sound=False),  # failed
    ]
    assert pareto_front(points) == [1, 4, 0, 2]
    assert pareto_front([]) == []


def test_the_chart_shows_each_group_in_a_colour_of_its_own(tmp_path: Path) -> None:
    points = [dataclasses.replace(point(10 + 9 * i, 0.5 + i / 50, 100 + i), group=f"g{i % 3}") for i in range(9)]
    trade_off_chart(tmp_path / "c.png", points)
    picture = cv2.imread(str(tmp_path / "c.png"))
    assert picture.shape[1] > 800
    colors = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
    assert {(235, 99, 37), (12, 88, 234), (74, 163, 22)} <= colors, "the legend's own, not blended with the grid"
    trade_off_chart(tmp_path / "empty.png", [])
    assert (tmp_path / "empty.png").exists()
