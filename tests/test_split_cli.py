"""dataset.py split, and the commands that name it."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import cli
from deeplabv3p.data.convert.state import Conversion
from deeplabv3p.spec import ClassInfo

COMMAND = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "dataset_converter" / "dataset.py"))
PHOTOS = 10
TILES = [f"IMG_{photo}_{tile}" for photo in range(PHOTOS) for tile in range(4)]


def build(root: Path, names: list[str]) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for name in names:
        Image.new("RGB", (6, 4)).save(root / "images" / f"{name}.jpg")
        Image.fromarray(np.eye(4, 6, dtype=np.uint8)).save(root / "masks" / f"{name}.png")
    (root / "classes.txt").write_text("background\nthing\n")
    return root


def run(*arguments: object) -> int:
    return cli.exit_code(lambda: COMMAND["main"]([str(part) for part in arguments]))


def test_split_says_what_it_did_and_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = build(tmp_path / "my set", TILES)
    assert run("split", root) == 0
    out = capsys.readouterr().out
    assert "40 pictures in 10 groups by name (IMG_0_0, IMG_0_1, …)" in out
    counts = [int(number) for number in re.findall(r"\.txt \((\d+)\)", out)]
    assert sum(counts) == len(TILES)
    words = shlex.split(out.splitlines()[-1])
    assert words[:3] == ["next:", "python", "train.py"]
    assert words[words.index("--val_dataset_file") + 1] == str(root / "val.txt")
    assert words[words.index("--classes_path") + 1] == str(root / "classes.txt")
    val = (root / "val.txt").read_text().split()
    assert len(val) == counts[1]
    # The same command again changes nothing; with the flag it writes the same lists.
    assert run("split", root) == 3
    assert "--overwrite" in capsys.readouterr().err
    assert run("split", root, "--overwrite") == 0
    assert (root / "val.txt").read_text().split() == val
    assert run("split", root, "--overwrite", "--seed", 1) == 0
    assert (root / "val.txt").read_text().split() != val


def test_split_of_numbered_pictures_says_what_may_be_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = build(tmp_path, [f"img_{number:04}" for number in range(200, 320)])
    assert run("split", root, "--ratio", "3:1") == 0
    out = capsys.readouterr().out
    assert "120 pictures, each by itself" in out
    assert "120 names are one series (img_0200, …)" in out
    assert not (root / "test.txt").exists()
    pattern = re.search(r"--group (\S+)", out)
    assert pattern
    assert run("split", root, "--ratio", "3:1", "--overwrite", "--group", *shlex.split(pattern[1])) == 0
    assert "in 2 groups by name (img_0200, img_0201, …)" in capsys.readouterr().out
    assert len({name[:-2] for name in (root / "val.txt").read_text().split()}) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--ratio", "1"], 2, "the ratio is '1'"),
        (["--group", "("], 2, "no regular expression"),
        (["--group", "zzz"], 2, "matches no name"),
        (["--group", "^IMG"], 3, "too few for 3 lists"),
        (["--seed", "-1"], 2, "out of range"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = build(tmp_path, TILES)
    before = sorted(root.rglob("*"))
    assert run("split", root, *arguments) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert sorted(root.rglob("*")) == before


def test_no_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("split", tmp_path) == run("split", tmp_path / "gone") == 3
    assert "neither images/ and labels/" in capsys.readouterr().err


def conversion(root: Path, splits: dict[str, int], names: list[str] | None = None) -> Conversion:
    (root / "all.txt").write_text("\n".join(names or ["cat", "dog"]))
    classes = (ClassInfo("background", (0, 0, 0)), ClassInfo("thing", (1, 1, 1)))
    return Conversion(root, classes, splits, (9, 1), 0, (2, 2), (), ())


@pytest.mark.parametrize(
    ("splits", "following"),
    [
        ({"all": 134}, "all.txt --classes"),
        ({"train": 100, "val": 34}, "train.txt --val_dataset_file"),
        ({"train": 1464, "val": 1449}, "train.txt --val_dataset_file"),
        ({"train": 100, "all": 34}, "train.txt --classes"),
        ({"train": 6, "all": 128}, "split --overwrite"),
        ({"train": 6, "val": 128}, "split --overwrite"),
        ({"val": 6, "all": 128}, "split --overwrite"),
        ({"val": 5000}, "split --overwrite"),
        ({"test": 20}, "split --overwrite"),
        ({"test": 20, "val": 20}, "split --overwrite"),
    ],
)
def test_nobody_is_sent_to_a_few_of_what_was_converted(splits: dict[str, int], following: str, tmp_path: Path) -> None:
    last = COMMAND["summary"](conversion(tmp_path, splits))[-1].replace(f"{tmp_path}/", "").replace(f"{tmp_path} ", "")
    assert last.startswith("next: ")
    assert following in last


def test_tiles_without_lists_are_to_be_split_first(tmp_path: Path) -> None:
    *_, note, last = COMMAND["summary"](conversion(tmp_path, {"all": len(TILES)}, TILES))
    assert "IMG_0_0, IMG_0_1" in note
    assert last == f"next: python tools/dataset_converter/dataset.py split {tmp_path}"
