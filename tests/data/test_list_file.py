"""Lists that are written are lists that are read: to the same samples, in every layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deeplabv3p.data.classes import ClassList
from deeplabv3p.data.dataset import LAYOUTS, open_dataset, split_dataset
from deeplabv3p.data.list_file import write_list
from deeplabv3p.visualize import save_image

CLASSES = ClassList((), explicit_colors=False)


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def named(root: Path, layout: tuple[str, str]) -> list[str]:
    names = ["plain", "two words", "ünï code", "a.b.c", "2007_000032"]
    for name in names:
        touch(root / layout[0] / f"{name}.jpg")
        touch(root / layout[1] / f"{name}.png")
    return names


def paired(root: Path, images: str, labels: str) -> list[str]:
    lines = []
    for name in ("one", "two words", "ünï", "three"):
        touch(root / images / f"{name}.JPG")
        touch(root / labels / f"{name}_mask.png")
        lines.append(f"{images}/{name}.JPG\t{labels}/{name}_mask.png")
    return lines


def make(kind: str, root: Path) -> list[str]:
    if kind in ("custom", "VOC"):
        return named(root, LAYOUTS[kind == "VOC"])
    if kind == "pairs in a layout's folders":
        return paired(root, "images", "labels")
    if kind == "pairs elsewhere":
        return [line.replace("../", f"{root.parent}/") for line in paired(root, "../other/x", "y")]
    return paired(root, "photos of mine", "masks")


@pytest.mark.parametrize("kind", ["custom", "VOC", "pairs", "pairs in a layout's folders", "pairs elsewhere"])
@pytest.mark.parametrize("relative", [False, True])
def test_both_parts_of_a_split_read_back(kind, relative, tmp_path, monkeypatch):
    root = tmp_path / "data set"
    lines = make(kind, root)
    (root / "all.txt").write_text("\n".join(lines), encoding="utf-8")
    if relative:
        monkeypatch.chdir(tmp_path)
        root = Path("data set")
    whole = open_dataset(root, root / "all.txt", CLASSES, 255)
    (tmp_path / "logs").mkdir()
    for part, name in zip(split_dataset(whole, 0.4, seed=1), ("train.txt", "val.txt"), strict=True):
        write_list(tmp_path / "logs" / name, part)
        assert open_dataset(root, tmp_path / "logs" / name, CLASSES, 255).samples == part.samples


def test_the_list_of_pairs_moves_with_the_data(tmp_path):
    root = tmp_path / "here"
    (tmp_path / "all.txt").write_text("\n".join(make("pairs", root)), encoding="utf-8")
    write_list(tmp_path / "list.txt", open_dataset(root, tmp_path / "all.txt", CLASSES, 255))
    root.rename(tmp_path / "there")
    found = open_dataset(tmp_path / "there", tmp_path / "list.txt", CLASSES, 255)
    assert [sample.name for sample in found.samples] == ["one", "two words", "ünï", "three"]


def test_a_random_part_of_real_files(tmp_path):
    """Files that can be decoded, in the order of the list."""
    for index in range(6):
        save_image(tmp_path / "images" / f"p{index}.png", np.full((4, 4, 3), index, np.uint8))
        save_image(tmp_path / "labels" / f"p{index}.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "all.txt").write_text("p4\np1\np5\n")
    whole = open_dataset(tmp_path, "all.txt", CLASSES, 255)
    write_list(tmp_path / "again.txt", whole)
    assert (tmp_path / "again.txt").read_text() == "p4\np1\np5\n"
