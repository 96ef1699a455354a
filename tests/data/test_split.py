"""Lists for training, validation and test: whole groups, whole shares, the same for the same seed."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deeplabv3p.data.classes import ClassList
from deeplabv3p.data.dataset import open_dataset
from deeplabv3p.data.split import divide, parse_ratio, split_folder, write_lists
from deeplabv3p.errors import DataError, UsageError

NO_CLASSES = ClassList((), explicit_colors=False)
RATIOS = st.lists(st.floats(0.01, 1), min_size=2, max_size=3).map(lambda parts: [p / sum(parts) for p in parts])
GROUPS = st.lists(st.integers(1, 12), min_size=3, max_size=40)


def keys_of(sizes: list[int]) -> dict[str, str]:
    return {f"g{g}_{i}": f"g{g}" for g, size in enumerate(sizes) for i in range(size)}


@given(GROUPS, RATIOS, st.integers(0, 99), st.randoms())
def test_a_division(sizes: list[int], ratio: list[float], seed: int, order: random.Random) -> None:
    keys = keys_of(sizes)
    classes = {name: {order.choice([0, 0, 0, 1, 1, 2, 3]), 0} for name in keys}
    parts = divide(keys, ratio, seed, classes)
    # A partition, in which no group is on two sides and no side is empty.
    assert sorted(name for part in parts for name in part) == sorted(keys)
    assert all(parts)
    sides = [{keys[name] for name in part} for part in parts]
    assert sum(map(len, sides)) == len(set(keys.values()))
    # The ratio is kept within one group.
    for part, share in zip(parts, ratio, strict=True):
        assert abs(len(part) - share * len(keys)) <= max(sizes) + 1e-6
    # Neither the order of files nor another run changes it.
    shuffled = list(keys)
    order.shuffle(shuffled)
    assert divide({name: keys[name] for name in shuffled}, ratio, seed, classes) == parts


def test_single_pictures_are_divided_exactly() -> None:
    keys = {f"{i:03}": f"{i:03}" for i in range(200)}
    assert [len(part) for part in divide(keys, (0.8, 0.1, 0.1))] == [160, 20, 20]
    assert divide(keys, (0.5, 0.5), 1) != divide(keys, (0.5, 0.5), 2)


@given(st.integers(20, 60), st.integers(0, 50), st.integers(3, 6))
def test_rare_classes_are_on_all_sides(count: int, seed: int, rare: int) -> None:
    keys = {f"{i:03}": f"{i:03}" for i in range(count)}
    holders = random.Random(seed).sample(sorted(keys), rare)
    classes = {name: {0, 1} if name in holders else {0} for name in keys}
    parts = divide(keys, (0.8, 0.1, 0.1), seed, classes)
    held = [sum(name in holders for name in part) for part in parts]
    assert min(held) > 0
    assert max(held) == held[0]


def test_two_pictures_of_a_class_are_one_to_learn_from_and_one_to_score() -> None:
    keys = {f"{i:03}": f"{i:03}" for i in range(40)}
    classes = {name: {0, 5} if name in ("003", "004") else {0} for name in keys}
    train, val, _ = divide(keys, (0.8, 0.1, 0.1), 0, classes)
    assert len({"003", "004"} & set(train)) == len({"003", "004"} & set(val)) == 1


def test_too_few_groups() -> None:
    with pytest.raises(DataError, match="2 groups cannot fill 3 lists"):
        divide(keys_of([3, 4]), (0.8, 0.1, 0.1))


@pytest.mark.parametrize(
    ("text", "shares"),
    [("0.8:0.1:0.1", (0.8, 0.1, 0.1)), ("4:1", (0.8, 0.2)), ("1e308:1e308", (0.5, 0.5)), ("90:10:0", (0.9, 0.1))],
)
def test_ratios(text: str, shares: tuple[float, ...]) -> None:
    assert parse_ratio(text) == pytest.approx(shares)


@pytest.mark.parametrize("text", ["", "1", "1:", "0:1", "1:-1", "nan:1", "inf:1", "1:0", "1:1:1:1", "a:b", "0.8,0.2"])
def test_no_ratios(text: str) -> None:
    with pytest.raises(UsageError, match="the ratio is"):
        parse_ratio(text)


def build(root: Path, names: list[str], folders: tuple[str, str] = ("images", "labels")) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(names):
        Image.new("RGB", (6, 4)).save(root / folders[0] / f"{name}.jpg")
        label = np.zeros((4, 6), np.uint8)
        label[0, 0] = place % 3
        Image.fromarray(label).save(root / folders[1] / f"{name}.png")
    return root


TILES = [f"IMG_{p}_{t}" for p in range(12) for t in range(3)]


@pytest.mark.parametrize("folders", [("images", "labels"), ("images", "masks"), ("JPEGImages", "SegmentationClass")])
def test_the_lists_open_as_datasets(tmp_path: Path, folders: tuple[str, str]) -> None:
    root = build(tmp_path / "set", TILES, folders)
    (root / "classes.txt").write_text("a\nb\nc\n")
    split = split_folder(root)
    paths = write_lists(split)
    assert [path.name for path in paths] == ["train.txt", "val.txt", "test.txt"]
    assert all((path.parent == root) == (folders[0] == "images") for path in paths)
    found = [open_dataset(root, path, NO_CLASSES, 255) for path in paths]
    assert sorted(sample.name for dataset in found for sample in dataset.samples) == sorted(TILES)
    photos = Counter(name for dataset in found for name in {s.name.rsplit("_", 1)[0] for s in dataset.samples})
    assert set(photos.values()) == {1}
    # Lists that are there change nothing, nor does the time or the folder.
    copied = tmp_path / "other"
    shutil.copytree(root, copied)
    assert split_folder(copied).lists == split_folder(root).lists == split.lists


def test_lists_are_not_overwritten(tmp_path: Path) -> None:
    root = build(tmp_path, TILES)
    (root / "val.txt").write_text("mine\n")
    three, two = split_folder(root), split_folder(root, (0.5, 0.5))
    with pytest.raises(DataError, match=r"val\.txt exists.*--overwrite"):
        write_lists(three)
    assert (root / "val.txt").read_text() == "mine\n"
    assert not (root / "train.txt").exists()
    write_lists(three, overwrite=True)
    before = {path.name: path.read_bytes() for path in root.glob("*.txt")}
    with pytest.raises(DataError, match=r"test\.txt exists, and the ratio has no share for it"):
        write_lists(two, overwrite=True)
    assert {path.name: path.read_bytes() for path in root.glob("*.txt")} == before


def test_what_cannot_be_in_a_list_is_said(tmp_path: Path) -> None:
    root = build(tmp_path, [*TILES, "alone", " blank"])
    (root / "labels" / "alone.png").unlink()
    (root / "labels" / "IMG_0_0.png").write_bytes(b"damaged")
    split = split_folder(root)
    assert sorted(name for part in split.lists.values() for name in part) == sorted(TILES)
    assert split.unread == 1
    assert [text for text in split.left_out if "without a label map, as images/alone.jpg" in text]
    assert [text for text in split.left_out if "a list cannot hold, as images/ blank.jpg" in text]


@pytest.mark.parametrize(
    ("names", "message"),
    [(None, "neither images/ and labels/"), ([], "holds 0 pictures"), (["a"], "1 pictures.*too few for 3 lists")],
)
def test_folders_without_enough(tmp_path: Path, names: list[str] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_folder(tmp_path if names is None else build(tmp_path, names))


def test_few_groups_name_the_ways_out(tmp_path: Path) -> None:
    root = build(tmp_path, [f"IMG_{p}_{t}" for p in (1, 2) for t in range(9)])
    with pytest.raises(DataError, match=r"18 pictures are 2 groups by name \(IMG_1_0, IMG_1_1, …\), too few for 3"):
        split_folder(root)
    assert [len(part) for part in split_folder(root, (0.5, 0.5)).lists.values()] == [9, 9]
    assert len(split_folder(root, group="none").lists["train"]) in (14, 15)
