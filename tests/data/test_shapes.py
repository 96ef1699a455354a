from __future__ import annotations

import json
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from deeplabv3p.data import scenes, shapes
from deeplabv3p.data.classes import load_classes
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.pixels import IGNORE

SIZE = (96, 128)


def draw(count: int, split: str = "train") -> list[tuple[np.ndarray, np.ndarray]]:
    return [shapes.scene(0, split, index, SIZE) for index in range(count)]


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_scene_depends_on_every_argument_and_on_nothing_else() -> None:
    image, label = shapes.scene(3, "val", 7, SIZE)
    again_image, again_label = shapes.scene(3, "val", 7, SIZE)
    assert image.shape == (*SIZE, 3)
    assert label.shape == SIZE
    assert image.dtype == label.dtype == np.uint8
    assert np.array_equal(image, again_image)
    assert np.array_equal(label, again_label)
    for other in [(4, "val", 7), (3, "test", 7), (3, "val", 8)]:
        assert not np.array_equal(image, shapes.scene(*other, SIZE)[0])


def test_pictures_are_what_they_were() -> None:
    """A change here changes every score published for this dataset: raise the version in shapes.py with it."""
    image, label = shapes.scene(0, "train", 0, (128, 160))
    assert [zlib.crc32(image.tobytes()), zlib.crc32(label.tobytes())] == [4057349627, 3939504944]


def test_labels_are_classes_with_one_ignored_pixel_around_each_object() -> None:
    for _, label in draw(20):
        assert set(np.unique(label)) <= {*range(len(shapes.CLASSES)), IGNORE}
        solid = np.where(label == IGNORE, 0, label)
        near = cv2.dilate((solid > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert (label[near & (solid == 0)] == IGNORE).all()  # nothing but ignore touches an object from outside
        assert near[label == IGNORE].mean() > 0.98  # the few others lie around something a later object hides


def test_every_class_occurs_and_the_cross_is_rare_in_every_split() -> None:
    for split in shapes.SPLITS:
        labels = [label for _, label in draw(36, split)]
        with_cross = [index for index, label in enumerate(labels) if (label == 6).any()]
        assert with_cross == list(range(0, 36, shapes.RARE_EVERY))
        share = np.bincount(np.concatenate(labels, axis=None), minlength=7)[:7] / np.size(labels)
        assert share[0] > 0.5
        assert (share[1:6] > 0.01).all()
        assert 0.001 < share[6] < 0.02


def test_cables_are_thin_and_never_under_three_pixels_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "_draw_shape", lambda *arguments: None)  # it would cut cables
    cables = [label == 5 for _, label in draw(40)]
    cables = [cable.astype(np.uint8) for cable in cables if cable.any()]
    assert len(cables) > 20
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    for cable in cables:
        padded = np.pad(cable, 8, mode="edge")
        assert np.mean(cv2.morphologyEx(padded, cv2.MORPH_OPEN, brush)[padded > 0]) > 0.95  # all but the tips
        depth = cv2.distanceTransform(cable, cv2.DIST_L2, 5)
        assert np.median(depth[depth > 0]) < 2.5  # half of a width of about 5


def test_colour_does_not_tell_the_class() -> None:
    """The mean colours of the classes lie together; the spread within each class is far larger."""
    pixels: dict[int, list[np.ndarray]] = {label: [] for label in range(1, 5)}
    for image, label in draw(60):
        for value, found in pixels.items():
            if (label == value).any():
                found.append(image[label == value].mean(axis=0))
    means = np.array([np.mean(found, axis=0) for found in pixels.values()])
    spread = min(float(np.std(found, axis=0).min()) for found in pixels.values())
    assert np.abs(means - means.mean(axis=0)).max() < 0.8 * spread


def test_generate_writes_a_dataset(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = shapes.generate(
        tmp_path / "set",
        train=4,
        val=2,
        test=1,
        size_hw=SIZE,
        progress=lambda done, total, info=None: seen.append((done, total)),
    )
    assert not result.reused
    assert seen == [(n, 7) for n in range(1, 8)]
    assert result.train_list.read_text().split() == [f"train_{n:05d}" for n in range(4)]
    assert result.val_list.read_text().split() == ["val_00000", "val_00001"]
    assert result.test_list.read_text().split() == ["test_00000"]
    assert load_classes(result.classes_file).classes == shapes.CLASSES
    assert load_classes(result.classes_file).explicit_colors
    image, label = shapes.scene(0, "train", 2, SIZE)
    stored = cv2.imread(str(tmp_path / "set/images/train_00002.jpg"))[..., ::-1]
    assert np.abs(stored.astype(int) - image).mean() < 4
    with Image.open(tmp_path / "set/labels/train_00002.png") as png:
        assert png.mode == "P"
        assert np.array_equal(np.asarray(png), label)
        shown = np.asarray(png.convert("RGB"))
        for value, item in enumerate(shapes.CLASSES):
            assert (shown[label == value] == item.color).all()


def test_the_same_arguments_give_the_same_bytes_and_reuse_them(tmp_path: Path) -> None:
    arguments = {"train": 3, "val": 1, "test": 1, "size_hw": SIZE, "seed": 5}
    shapes.generate(tmp_path / "a", **arguments)
    shapes.generate(tmp_path / "b", **arguments)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    before = (tmp_path / "a/images/train_00000.jpg").stat().st_mtime_ns
    assert shapes.generate(tmp_path / "a", **arguments).reused
    assert (tmp_path / "a/images/train_00000.jpg").stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["missing", "changed", "interrupted"])
def test_a_damaged_set_is_made_again(tmp_path: Path, damage: str) -> None:
    arguments = {"train": 2, "val": 1, "test": 0, "size_hw": SIZE}
    shapes.generate(tmp_path, **arguments)
    whole = files_of(tmp_path)
    if damage == "missing":
        (tmp_path / "labels/val_00000.png").unlink()
    elif damage == "changed":
        (tmp_path / "images/train_00001.jpg").write_bytes(b"")
    else:
        manifest = json.loads((tmp_path / "shapes.json").read_text())
        (tmp_path / "shapes.json").write_text(json.dumps({**manifest, "sha256": ""}))
        (tmp_path / "classes.txt").unlink()
    assert not shapes.generate(tmp_path, **arguments).reused
    assert files_of(tmp_path) == whole


def test_other_arguments_replace_the_set_and_leave_other_files(tmp_path: Path) -> None:
    shapes.generate(tmp_path, train=3, val=1, test=1, size_hw=SIZE)
    (tmp_path / "images/mine.jpg").write_bytes(b"mine")
    (tmp_path / "notes.txt").write_text("mine")
    result = shapes.generate(tmp_path, train=1, val=1, test=0, size_hw=SIZE, seed=1)
    assert not result.reused
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [
        "mine.jpg",
        "train_00000.jpg",
        "val_00000.jpg",
    ]
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["train.txt", "images/train_00000.jpg", "classes.txt", "shapes.json"])
def test_files_of_others_are_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    with pytest.raises(DataError, match=f"{name} already exists"):
        shapes.generate(tmp_path, train=1, val=1, test=1, size_hw=SIZE)
    assert files_of(tmp_path) == {name: b"{}"}


def test_arguments_that_make_no_sense(tmp_path: Path) -> None:
    for arguments in [{"train": -1}, {"train": 0, "val": 0, "test": 0}, {"size_hw": (32, 128)}, {"seed": -1}]:
        with pytest.raises(UsageError):
            shapes.generate(tmp_path / "set", **arguments)
    assert not (tmp_path / "set").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        shapes.generate(tmp_path / "file", train=1, val=0, test=0, size_hw=SIZE)
