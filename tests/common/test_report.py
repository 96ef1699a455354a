from __future__ import annotations

import base64
import csv
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from common import report
from common.page import Facts, Figure, Legend, Section, Table, Text, Tiles, render
from deeplabv3p.csv_text import from_csv
from deeplabv3p.data import shapes
from deeplabv3p.data.dataset import Sample
from deeplabv3p.errors import DataError
from deeplabv3p.evaluation.score import Evaluation
from deeplabv3p.metrics import Scores
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo
from eval import score_table

NASTY = '<script>alert("x")</script> & \'"'
CLASSES = (ClassInfo("background", (0, 0, 0)), ClassInfo("road", (128, 64, 128)), ClassInfo("never seen", (1, 2, 3)))
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Checks that tags nest, and collects text, tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def evaluation(confusion: list[list[int]] | None = None, classes: tuple[ClassInfo, ...] = CLASSES) -> Evaluation:
    matrix = np.array(confusion or [[6, 2, 0], [1, 3, 0], [0, 0, 0]], np.int64)
    return Evaluation(Scores(matrix), classes, "mobilenetv2 os16, 64x64 stretch", "lists/val.txt", 4, 2.0, ())


def sample(index: int) -> Sample:
    return Sample(f"street {index}", Path(f"{index}.jpg"), Path(f"{index}.png"))


def add(gallery: report.Gallery, index: int, wrong: float) -> None:
    image, truth = np.full((20, 30, 3), 90, np.uint8), np.zeros((20, 30), np.uint8)
    prediction = truth.copy()
    prediction.reshape(-1)[: round(600 * wrong)] = 1
    gallery.add(sample(index), image, truth, prediction)


def captions(gallery: report.Gallery) -> list[list[str]]:
    return [[b.caption for b in s.blocks if isinstance(b, Figure)] for s in gallery.sections()]


def test_scores_json_and_csv(tmp_path: Path) -> None:
    path = report.write_scores(tmp_path, evaluation())
    scores = json.loads(path.read_text())
    assert path == tmp_path / "scores.json"
    assert scores["pa"] == pytest.approx(9 / 12)
    assert scores["mpa"] == pytest.approx((6 / 8 + 3 / 4) / 2)
    assert scores["miou"] == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert scores["fwiou"] == pytest.approx(8 / 12 * 6 / 9 + 4 / 12 * 3 / 6)
    assert scores["classes"][1] == {"name": "road", "iou": 0.5, "accuracy": 0.75, "pixels": 4, "occurs": "truth"}
    absent = {"name": "never seen", "iou": None, "accuracy": None, "pixels": 0, "occurs": "nowhere"}
    assert scores["classes"][2] == absent
    assert scores["classes_counted"] == 2
    assert scores["confusion_matrix"] == [[6, 2, 0], [1, 3, 0], [0, 0, 0]]
    assert (scores["pictures"], scores["scored_pixels"]) == (4, 12)
    assert scores["protocol"]["model"] == "mobilenetv2 os16, 64x64 stretch"
    assert scores["protocol"]["dataset"] == "lists/val.txt"
    assert {"deeplabv3p", "python", "numpy"} <= set(scores["versions"])
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["background", "road", "never seen"]
    assert float(rows[0]["iou"]) == scores["classes"][0]["iou"]
    assert rows[2] == {"name": "never seen", "iou": "", "accuracy": "", "pixels": "0", "occurs": "nowhere"}


def test_an_ignored_class_is_shown_as_ignored(tmp_path: Path) -> None:
    found = evaluation([[0, 0, 0], [1, 3, 0], [0, 0, 0]])
    found = dataclasses.replace(found, scores=Scores(found.scores.confusion, ignored=0))
    scores = json.loads(report.write_scores(tmp_path, found).read_text())
    assert [item["occurs"] for item in scores["classes"]] == ["ignored", "truth", "nowhere"]
    assert scores["classes"][0]["iou"] is None
    assert scores["miou"] == scores["miou_in_truth"] == 0.75
    page = render("t", report.evaluation_sections(tmp_path, found))
    assert "<td>ignored</td>" in page
    assert "ignored" in score_table(found)


def test_class_names_are_no_formulas(tmp_path: Path) -> None:
    found = evaluation()
    names = ("=1+1", "-road", "@x")
    found = dataclasses.replace(found, classes=tuple(ClassInfo(name, (9, 9, 9)) for name in names))
    report.write_scores(tmp_path, found)
    text = (tmp_path / "scores.csv").read_text()
    assert "\n'=1+1," in text
    assert tuple(row["name"] for row in from_csv(text)) == names


def test_nothing_scored_is_null_and_not_nan(tmp_path: Path) -> None:
    path = report.write_scores(tmp_path, evaluation([[0] * 3] * 3))
    scores = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert [scores[key] for key in ("pa", "mpa", "miou", "fwiou", "classes_counted")] == [None] * 4 + [0]


def test_a_full_report(tmp_path: Path) -> None:
    gallery = report.Gallery(shapes.CLASSES, limit=4)
    for index in range(3):
        image, truth = shapes.scene(0, "val", index, (64, 80))
        gallery.add(sample(index), image, truth, np.where(truth == IGNORE, 0, truth).astype(np.uint8))
    result = evaluation(np.diag(np.arange(1, 8)).tolist(), shapes.CLASSES)
    rows = [{"epoch": 1, "loss": 2.0, "train_miou": 0.1, "val_miou": None, "learning_rate": 0.01}]
    sections = [*report.evaluation_sections(tmp_path, result, gallery), report.curves_section(tmp_path, rows)]
    path = report.write_report(tmp_path, "Demo", [*sections, report.run_section([("Recipe", "demo.toml")])])
    page = Page(path.read_text())
    for text in (
        "Demo",
        "1.0000",
        "28 pixels",
        "mobilenetv2 os16",
        "lists/val.txt",
        "street 2",
        "cable",
        "demo.toml",
        "numpy",
    ):
        assert text in page.text
    assert page.tags.count("img") == 3 + 3
    names = {"mIOU.png", "confusion_matrix.png", "training_curves.png", "report.html"}
    assert {file.name for file in tmp_path.iterdir()} == names
    embedded = [base64.b64decode(value.split(",")[1]) for name, value in page.attributes if name == "src" and value]
    assert (tmp_path / "mIOU.png").read_bytes() in embedded
    assert all(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None for data in embedded)


def test_a_page_needs_nothing_from_elsewhere_and_runs_nothing() -> None:
    figure = Figure(b"\x89PNG", "chart")
    page = Page(text := render("t", [Section("s", (figure,))], "f"))
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert all((value or "").startswith("data:image/") for name, value in page.attributes if name in {"src", "href"})
    assert not re.search(r"https?://|url\(|@import", text)


def test_all_text_is_escaped() -> None:
    item = ClassInfo(NASTY, (1, 2, 3))
    blocks = (
        Text(NASTY),
        Tiles(((NASTY, NASTY),)),
        Facts(((NASTY, NASTY),)),
        Table((NASTY,), ((item, NASTY),)),
        Legend((item,)),
        Figure(b"\xff\xd8", NASTY),
    )
    page = Page(text := render(NASTY, [Section(NASTY, blocks)], NASTY))
    assert "script" not in page.tags
    assert "<script" not in text
    assert page.text.count(NASTY) == 14
    assert ("alt", NASTY) in page.attributes


def test_gallery_keeps_the_worst_and_the_first() -> None:
    gallery = report.Gallery(CLASSES, limit=4)
    for index, wrong in enumerate([0.1, 0.0, 0.5, 0.2, 0.9, 0.3]):
        add(gallery, index, wrong)
    worst, first = captions(gallery)
    assert worst == ["street 4: 10.0 % of the pixels right", "street 2: 50.0 % of the pixels right"]
    assert first == ["street 0: 90.0 % of the pixels right", "street 1: 100.0 % of the pixels right"]


def test_gallery_of_few_pictures_shows_each_once_worst_first() -> None:
    gallery = report.Gallery(CLASSES, limit=4)
    assert gallery.sections() == []
    for index, wrong in enumerate([0.0, 0.2, 0.5]):
        add(gallery, index, wrong)
    assert [[caption[:8] for caption in group] for group in captions(gallery)] == [["street 2", "street 1", "street 0"]]


def test_gallery_leaves_pictures_without_scored_pixels_out() -> None:
    gallery = report.Gallery(CLASSES)
    empty = np.full((4, 4), IGNORE, np.uint8)
    gallery.add(sample(0), np.zeros((4, 4, 3), np.uint8), empty, np.zeros((4, 4), np.uint8))
    assert gallery.sections() == []


def test_gallery_memory_does_not_grow_with_the_pictures() -> None:
    gallery = report.Gallery(CLASSES, limit=4)
    for index in range(40):
        add(gallery, index, index / 40)
    assert sum(len(group) for group in captions(gallery)) == 4
    assert len(gallery._worst) + len(gallery._first) == 6


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (report.write_scores, report.evaluation_sections):
        with pytest.raises(DataError, match="cannot write"):
            write(tmp_path / "file", evaluation())
    with pytest.raises(DataError, match="cannot write"):
        report.write_report(tmp_path / "file", "title", [])
