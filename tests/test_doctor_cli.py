from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common import cli
from deeplabv3p.data.shapes import generate

SCRIPT = Path(__file__).parents[1] / "tools" / "dataset_converter" / "doctor.py"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data set"
    generate(folder, train=6, val=6, test=1, size_hw=(64, 80))
    return folder


def run(*arguments: Any) -> int:
    main = runpy.run_path(str(SCRIPT))["main"]
    return cli.exit_code(lambda: main([str(part) for part in arguments]))


def spoil(root: Path) -> None:
    label = np.asarray(Image.open(root / "labels" / "train_00001.png")).copy()
    label[20:30, 20:30] = 99
    Image.fromarray(label).save(root / "labels" / "train_00001.png")
    data = (root / "images" / "val_00002.jpg").read_bytes()
    (root / "images" / "val_00002.jpg").write_bytes(data[: len(data) // 2])


def test_a_sound_dataset_ends_with_0_and_writes_nothing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run(root) == 0
    assert sorted(tmp_path.rglob("*")) == before
    output = capsys.readouterr().out
    assert "lists: test.txt (1), train.txt (6), val.txt (6)" in output
    assert "classes: 7 from" in output
    assert "0 errors" in output


def test_defects_end_with_3_and_are_told_on_the_console_in_json_and_on_a_page(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(root)
    assert run(root, "--output_path", tmp_path / "out") == 3
    output = capsys.readouterr().out
    assert re.search(r"^error +damaged_picture +1 +-$", output, re.M)
    assert "99 (100 pixels); the classes are 0 to 6 and 255 is ignored" in " ".join(output.split())
    assert "2 errors" in output
    assert max(map(len, output.splitlines())) < 250
    found = json.loads((tmp_path / "out" / "doctor.json").read_text(encoding="utf-8"))
    assert found["healthy"] is False
    assert [item["kind"] for item in found["findings"] if item["severity"] == "error"] == [
        "damaged_picture",
        "unknown_values",
    ]
    assert found["findings"][1]["files"] == ["labels/train_00001.png"]
    assert found["findings"][1]["count"] == 1
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Error: numbers that are no class" in page
    assert "data:image/jpeg;base64," in page
    assert "--fix: the sample is left out" in page


def test_the_page_has_examples_of_strange_shapes_and_escapes_names(root: Path, tmp_path: Path) -> None:
    strip = np.zeros((3, 3000), np.uint8)
    strip[1, 1500::40] = 1
    Image.fromarray(strip).save(root / "labels" / "train_00000.png")
    Image.fromarray(np.dstack([strip] * 3)).save(root / "images" / "train_00000.jpg")
    (root / "images" / "<b>&.jpg").write_bytes((root / "images" / "train_00001.jpg").read_bytes())
    assert run(root, "--output_path", tmp_path / "out") == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "images/&lt;b&gt;&amp;.jpg" in page
    assert "at row 1, column 1500" in page


def test_fix_writes_a_copy_and_examines_it(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(root)
    assert run(root, "--fix", tmp_path / "fixed") == 0
    output = capsys.readouterr().out
    assert "images/train_00001.jpg: sample left out: its label map cannot be put right" in output
    assert "val.txt: 1 left-out name removed" in output
    assert f"written: {tmp_path / 'fixed'}, 11 samples, 4 repairs" in output
    assert output.rstrip().splitlines()[-1].startswith("0 errors")
    assert len((tmp_path / "fixed" / "train.txt").read_text().split()) == 5
    assert run(tmp_path / "fixed") == 0


def test_fix_of_a_sound_dataset_writes_nothing(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "--fix", tmp_path / "fixed") == 0
    assert "nothing to repair, nothing written" in capsys.readouterr().out
    assert not (tmp_path / "fixed").exists()


def test_named_lists_classes_and_ignored_label(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes = root.parent / "few.txt"
    classes.write_text("background\ndisc\n")
    assert run(root, "--dataset_file", "val.txt", "--classes_path", classes, "--ignore_index", "none") == 3
    output = capsys.readouterr().out
    assert "lists: val.txt (6)" in output
    assert "classes: 2 from" in output
    assert "nothing is ignored" in output


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["missing"], 3, "does not exist"),
        (["{root}", "--dataset_file", "none.txt"], 3, "none.txt does not exist"),
        (["{root}", "--fix", "{root}/new"], 2, "overlap"),
        (["{root}", "--output_path", "{root}/classes.txt"], 3, "classes.txt"),
        (["{root}", "--ignore_index", "-1"], 2, "ignore_index"),
        ([], 2, "DATASET"),
    ],
)
def test_mistakes_are_one_line(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, text: str
) -> None:
    if "--fix" in arguments:
        spoil(root)
    assert run(*[part.format(root=root) for part in arguments]) == code
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert text in error[0]


def test_names_of_any_bytes_are_printed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if sys.platform != "linux":
        pytest.skip("names are UTF-8 there")
    (root / "images" / "caf\udce9\n.jpg").write_bytes((root / "images" / "train_00001.jpg").read_bytes())
    assert run(root) == 0
    output = capsys.readouterr().out
    output.encode("utf-8")
    assert r"caf\xe9\n.jpg" in output
