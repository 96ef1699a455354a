from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from planted_dataset import NAMES, append, build, change, cut, names, save, truth

from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.dataset import Dataset, open_dataset
from deeplabv3p.data.doctor import precheck
from deeplabv3p.data.doctor import precheck as package_precheck
from deeplabv3p.errors import DataError


def sets(root: Path, ignore: int | None = 255) -> tuple[Dataset, Dataset]:
    classes = load_classes(root / "classes.txt")
    return tuple(open_dataset(root, root / f"{split}.txt", classes, ignore) for split in NAMES)


def error_of(root: Path) -> str:
    with pytest.raises(DataError) as error:
        precheck(*sets(root))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_sound_dataset_has_no_warnings(tmp_path: Path) -> None:
    assert precheck(*sets(build(tmp_path))) == ()


@pytest.mark.parametrize("count", [2, 3])
def test_masks_of_0_and_255_stop_the_run(tmp_path: Path, count: int) -> None:
    root = build(tmp_path, count)
    change(root, names(), lambda label: np.where(label == 1, 255, 0).astype(np.uint8))
    text = error_of(root)
    assert "only 0 and 255" in text
    assert "--fix" in text


def test_background_with_ignored_seams_in_few_maps_does_not(tmp_path: Path) -> None:
    root = build(tmp_path)

    def background(label: np.ndarray) -> np.ndarray:
        return np.zeros_like(label)

    change(root, names(), background)
    change(root, ["t0"], lambda label: np.where(np.arange(label.shape[1]) == 5, 255, label).astype(np.uint8))
    assert "nothing but 'sky'" in error_of(root)
    change(root, ["t7"], lambda label: label + np.arange(label.size, dtype=np.uint8).reshape(label.shape) % 3)
    assert precheck(*sets(root)) == ()


def test_what_cannot_be_learned_stops_the_run_or_is_told(tmp_path: Path) -> None:
    root = build(tmp_path)
    change(root, names(), lambda label: np.where(label == 1, 0, label).astype(np.uint8))
    assert precheck(*sets(root)) == (f"1 class without a pixel in {root / 'train.txt'}, not to be learned: road.",)
    change(root, names(), lambda label: np.where(np.arange(len(label))[:, None] < 40, 255, label).astype(np.uint8))
    warnings = precheck(*sets(root))
    assert len(warnings) == 2
    assert "% of the pixels in 8 label maps" in warnings[1]


@pytest.mark.parametrize("masks", [False, True])
def test_a_list_of_one_class_stops_the_run(tmp_path: Path, masks: bool) -> None:
    root = build(tmp_path)
    (root / "classes.txt").write_text("object\n")
    change(root, names(), lambda label: np.where(label == 1, 255 if masks else 0, 0).astype(np.uint8))
    text = error_of(root)
    assert "one class, 'object'" in text
    assert ("the maps hold 255" in text) == masks


def test_one_class_in_those_that_there_is_time_for_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = build(tmp_path)
    change(root, names(), np.zeros_like)
    module = __import__(package_precheck.__module__, fromlist=["precheck"])
    monkeypatch.setattr(module, "SECONDS", -1.0)
    (warning,) = precheck(*sets(root))
    assert warning.startswith("the first look at 1 label map of ")


def test_nothing_but_ignored_pixels_stops_the_run(tmp_path: Path) -> None:
    root = build(tmp_path)
    change(root, names(), lambda label: np.full_like(label, 255))
    assert "nothing but ignored" in error_of(root)


def test_sizes_are_compared_in_the_validation_set_too(tmp_path: Path) -> None:
    root = build(tmp_path)
    save(root / "labels" / "v3.png", truth(0)[:-2])
    assert "v3.png is 46x64" in error_of(root)


def test_wrong_values_and_damaged_headers_are_errors_as_ever(tmp_path: Path) -> None:
    root = build(tmp_path)
    change(root, ["t6"], lambda label: np.full_like(label, 9))
    assert "the label 9" in error_of(root)
    cut(root / "images" / "v1.jpg", 0.01)
    assert "v1.jpg" in error_of(root)


def test_pictures_in_both_sets_are_a_warning(tmp_path: Path) -> None:
    root = build(tmp_path)
    append(root / "val.txt", "t1", "t2")
    (warning,) = precheck(*sets(root))
    assert warning.startswith("2 pictures of ")


def test_it_ends_in_time_however_slow_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_set, val_set = sets(build(tmp_path))
    asked = 0
    clock = 0.0

    def slow(path: Path) -> tuple[int, int]:
        nonlocal asked, clock
        asked += 1
        clock += 0.4
        return 48, 64

    module = __import__(package_precheck.__module__, fromlist=["precheck"])
    monkeypatch.setattr(module, "image_size", slow)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock)
    assert precheck(train_set, val_set) == ()
    assert asked == 6  # four sizes are 1.6 s: two samples of the first set, then one of the second


def test_ten_thousand_samples_take_no_longer_than_a_few_hundred(tmp_path: Path) -> None:
    root = build(tmp_path)
    train_set, val_set = sets(root)
    from dataclasses import replace

    many = replace(train_set, samples=train_set.samples * 1250)
    start = time.process_time()
    precheck(many, val_set)
    assert time.process_time() - start < 1.5


def test_tiles_on_both_sides_are_told(tmp_path: Path) -> None:
    root = build(tmp_path)
    for old, new in (("t1", "IMG_1_0"), ("t2", "IMG_1_1"), ("v1", "IMG_1_2")):
        for folder, suffix in (("images", ".jpg"), ("labels", ".png")):
            (root / folder / f"{old}{suffix}").rename(root / folder / f"{new}{suffix}")
        path = root / ("train.txt" if old[0] == "t" else "val.txt")
        path.write_text(path.read_text().replace(old, new))
    (warning,) = precheck(*sets(root))
    assert "1 of 4 pictures" in warning
    assert "IMG_1_2 and IMG_1_0" in warning
    assert f"dataset.py split {root}" in warning
