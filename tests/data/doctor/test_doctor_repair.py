from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted_dataset import (
    NAMES,
    SIZE,
    append,
    as_jpeg,
    build,
    change,
    colored,
    cut,
    examine,
    kinds,
    names,
    photo,
    plain_classes,
    save,
    truth,
)

from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.dataset import Dataset, open_dataset
from deeplabv3p.data.doctor import Repairs, repair
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.pixels import IGNORE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build(tmp_path / "data")


def fixed(root: Path, ignore: int | None = 255) -> tuple[Path, Repairs]:
    """The repaired copy, which has to be healthy; the original has to be as it was."""
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    diagnosis = examine(root, ignore_index=ignore)
    target = root.parent / "new" / "copy"
    repairs = repair(diagnosis, target)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    again = examine(target, ignore_index=ignore)
    assert again.healthy, again.findings
    assert len(again.records) == repairs.samples
    actions = json.loads((target / "repairs.json").read_text(encoding="utf-8"))
    assert [(action["file"], action["what"]) for action in actions] == [(a.file, a.what) for a in repairs.actions]
    assert sorted(path.name for path in target.parent.iterdir()) == ["copy"]  # no temporary folder is left
    return target, repairs


def opened(root: Path, split: str, ignore: int | None = 255) -> Dataset:
    return open_dataset(root, root / f"{split}.txt", load_classes(root / "classes.txt"), ignore)


def label_of(root: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(root / "labels" / f"{name}.png"))


def what(repairs: Repairs, file: str) -> list[str]:
    return [action.what for action in repairs.actions if action.file == file]


def test_masks_of_0_and_255_become_0_and_1(tmp_path: Path) -> None:
    root = build(tmp_path / "data", count=2)
    change(root, names(), lambda label: np.where(label == 1, 255, 0).astype(np.uint8))
    target, repairs = fixed(root)
    for seed, name in enumerate(names()):
        np.testing.assert_array_equal(label_of(target, name), truth(seed, 2) == 1)
    assert what(repairs, "labels/v3.png") == ["255 became 1"]
    assert (target / "images" / "t0.jpg").read_bytes() == (root / "images" / "t0.jpg").read_bytes()
    assert (target / "train.txt").read_text() == (root / "train.txt").read_text()


@pytest.mark.parametrize("bits", [1, 8])
def test_black_and_white_masks_without_a_class_list_get_one(tmp_path: Path, bits: int) -> None:
    root = build(tmp_path / "data", count=2, folders=("images", "masks"))
    (root / "classes.txt").unlink()
    for seed, name in enumerate(names()):
        mask = Image.fromarray(np.where(truth(seed, 2) == 1, 255, 0).astype(np.uint8))
        mask.convert("1" if bits == 1 else "L").save(root / "masks" / f"{name}.png")
    target, repairs = fixed(root)
    assert what(repairs, "classes.txt") == ["written for two classes: give them the names that you want"]
    for index, name in enumerate(NAMES["train"]):
        label = opened(target, "train").load(index)[1]
        np.testing.assert_array_equal(label, truth(names().index(name), 2) == 1)


@pytest.mark.parametrize(
    ("count", "greys", "ignored"),
    [
        (3, (0, 127, 255), None),
        (3, (0, 128, 255), None),
        (3, (0, 100, 200), 255),
        (2, (0, 200), 255),
        (2, (0, 128), 255),
    ],
)
def test_greys_in_even_steps_become_numbers(
    tmp_path: Path, count: int, greys: tuple[int, ...], ignored: int | None
) -> None:
    root = build(tmp_path / "data", count)
    plain_classes(root)
    table = np.zeros(256, np.uint8)
    table[: len(greys)], table[255] = greys, ignored or 0
    change(root, names(), lambda label: table[label])
    target, _ = fixed(root)
    for seed, name in enumerate(names()):
        expected = truth(seed, count)
        np.testing.assert_array_equal(
            label_of(target, name), expected if ignored else np.where(expected == 255, 0, expected)
        )


def test_greys_that_are_not_as_many_as_classes_are_left_alone(root: Path) -> None:
    plain_classes(root)
    change(root, names(), lambda label: np.array([0, 60, 200])[np.minimum(label, 2)].astype(np.uint8))
    assert "grey_steps" not in kinds(examine(root))
    with pytest.raises(DataError, match="cannot be repaired"):
        repair(examine(root), root.parent / "copy")


def test_palettes_of_an_optimiser_become_numbers(root: Path) -> None:
    for seed, name in enumerate(names()):
        path = root / "labels" / f"{name}.png"
        picture = Image.fromarray(colored(np.asarray(Image.open(path))))
        picture.quantize(4 + seed % 2, dither=Image.Dither.NONE).save(path)
    before = opened(root, "train")
    target, repairs = fixed(root)
    for index in range(len(before)):
        np.testing.assert_array_equal(before.load(index)[1], truth(index))
        np.testing.assert_array_equal(opened(target, "train").load(index)[1], truth(index))
    assert what(repairs, "labels/t0.png") == ["class colours became class numbers"]


@pytest.mark.parametrize("ignore", [255, 7, 0])
def test_colours_become_numbers_and_the_ignored_number_stays(root: Path, ignore: int) -> None:
    change(root, names(), colored)
    target, _ = fixed(root, ignore)
    before, after = opened(root, "train", ignore), opened(target, "train", ignore)
    for index in range(len(before)):
        np.testing.assert_array_equal(after.load(index)[1], before.load(index)[1])
    assert label_of(target, "t0").ndim == 2
    assert ignore in label_of(target, "t0")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_label_maps_are_turned_as_exif_turns_the_picture(root: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    # The label map is where the picture is bright: after the repair it has to be so again.
    bright = photo(3)
    save(root / "images" / "t3.jpg", bright, exif=exif, quality=98)
    save(root / "labels" / "t3.png", (bright.mean(axis=2) > 128).astype(np.uint8))
    target, repairs = fixed(root)
    image, label = opened(target, "train").load(3)
    assert image.shape[:2] == SIZE[::-1]
    assert np.mean((image.mean(axis=2) > 128) == label) > 0.97
    assert what(repairs, "labels/t3.png") == [f"turned as EXIF turns the picture (orientation {orientation})"]


def test_jpeg_masks_get_the_nearest_colours_and_doubt_is_ignored(root: Path) -> None:
    for seed, name in enumerate(names()[:3]):
        save(root / "labels" / f"{name}.png", colored(truth(seed)), format="JPEG", quality=95, subsampling=0)
    target, _ = fixed(root)
    for seed, name in enumerate(names()[:3]):
        label, expected = label_of(target, name), truth(seed)
        sure = label != IGNORE
        np.testing.assert_array_equal(label[sure], expected[sure])
        assert np.mean(sure) > 0.85


def test_smeared_masks_of_two_classes_are_cut_in_the_middle_of_doubt(tmp_path: Path) -> None:
    root = build(tmp_path / "data", count=2)
    for seed, name in enumerate(names()):
        save(root / "labels" / f"{name}.png", as_jpeg(np.where(truth(seed, 2) == 1, 255, 0).astype(np.uint8)))
    target, _ = fixed(root)
    for seed, name in enumerate(names()):
        label = label_of(target, name)
        sure = label != IGNORE
        np.testing.assert_array_equal(label[sure], (truth(seed, 2) == 1)[sure])
        assert np.mean(sure) > 0.95


def test_jpeg_of_small_numbers_is_left_out_not_taken_for_black(tmp_path: Path) -> None:
    root = build(tmp_path / "data", count=2)
    plain_classes(root)
    label = np.zeros(SIZE, np.uint8)
    label[:, 40:] = 1
    label[:8] = 255
    save(root / "labels" / "t0.png", label, format="JPEG", quality=100)
    target, repairs = fixed(root)
    assert not (target / "labels" / "t0.png").exists()
    assert "sample left out" in what(repairs, "images/t0.jpg")[0]


def test_names_suffixes_lists_and_unpaired_files(root: Path) -> None:
    save(root / "images" / "t0.jpg", photo(0), format="PNG")  # a PNG called .jpg
    (root / "images" / "t1.jpg").rename(root / "images" / "t1.jfif")
    (root / "labels" / "t2.png").rename(root / "labels" / "T2.png")
    (root / "labels" / "t3.png").unlink()
    cut(root / "images" / "t4.jpg")
    save(root / "labels" / "lonely.png", truth(0))
    append(root / "train.txt", "nobody", "t5", "V0.jpg")
    target, repairs = fixed(root)
    assert sorted(path.name for path in (target / "images").iterdir()) == sorted(
        ["t0.png", "t1.jpg", *(f"{name}.jpg" for name in ("t2", "t5", "t6", "t7", *NAMES["val"]))]
    )
    assert (target / "train.txt").read_text().split() == ["t0", "t1", "t2", "t5", "t6", "t7", "v0"]
    assert sorted(path.stem for path in (target / "labels").iterdir()) == sorted(
        {"t0", "t1", "t2", "t5", "t6", "t7", *NAMES["val"]}
    )
    assert len(opened(target, "train")) == 7
    assert what(repairs, "train.txt") == [
        "1 unknown name removed",
        "1 repeated name removed",
        "1 misspelled name corrected",
        "2 left-out names removed",
    ]
    assert what(repairs, "images/t0.jpg") == ["suffix .png, as its content"]
    assert what(repairs, "images/t3.jpg") == ["sample left out: it has no label map"]
    assert "truncated" in what(repairs, "images/t4.jpg")[0]


def test_other_formats_and_equal_channels(root: Path) -> None:
    plain_classes(root)
    save(root / "labels" / "t0.png", truth(0), format="TIFF")
    (root / "labels" / "t1.png").unlink()
    save(root / "labels" / "t1.bmp", truth(1))
    change(root, ["t2"], lambda label: np.dstack([label] * 3))
    (root / "labels" / "t3.png").rename(root / "labels" / "t3.jpg")
    target, _ = fixed(root)
    for seed in range(4):
        np.testing.assert_array_equal(label_of(target, f"t{seed}"), truth(seed))


def test_lists_of_pairs_become_folders(tmp_path: Path) -> None:
    root = build(tmp_path / "data", folders=("a/img", "b"))
    save(root / "c" / "t0.jpg", photo(70))
    lines = [f"a/img/{name}.jpg b/{name}.png" for name in NAMES["train"]]
    (root / "train.txt").write_text("\n".join([*lines, "c/t0.jpg b/t0.png", "a/img/x.jpg b/x.png"]))
    (root / "val.txt").write_text("\n".join(f"a/img/{name}.jpg b/{name}.png" for name in NAMES["val"]))
    target, repairs = fixed(root)
    assert repairs.samples == 13
    assert len(opened(target, "train")) == 9
    np.testing.assert_array_equal(opened(target, "train").load(0)[1], truth(0))


def test_names_that_differ_in_case_alone_or_cannot_be_listed_are_renamed(root: Path) -> None:
    save(root / "images" / "T3.jpg", photo(60))
    save(root / "labels" / "T3.png", truth(60))
    append(root / "train.txt", "T3")
    target, _ = fixed(root)
    assert "case_clash" not in kinds(examine(target))
    assert {"t3", "T3_2"} < set((target / "train.txt").read_text().split())


def test_too_little_left_writes_nothing(root: Path) -> None:
    change(root, names(), lambda label: np.where(label == 255, 255, label + 1).astype(np.uint8))
    with pytest.raises(DataError, match=r"12 of 12 samples cannot be repaired without guessing.*starts? at 1"):
        repair(examine(root), root.parent / "new")
    assert sorted(path.name for path in root.parent.iterdir()) == ["data"]


def test_the_copy_lies_beside_the_dataset_in_a_new_folder(root: Path, tmp_path: Path) -> None:
    diagnosis = examine(root)
    for target in (root, root / "new", tmp_path):
        with pytest.raises(UsageError, match="overlap"):
            repair(diagnosis, target)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    with pytest.raises(DataError, match="already exists"):
        repair(diagnosis, taken)
    (taken / "file").unlink()
    assert repair(diagnosis, taken).samples == 12  # an empty folder is as good as none


def test_a_failure_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnosis = examine(root)
    copied = 0

    def full(source: Path, target: Path) -> None:
        nonlocal copied
        copied += 1
        if copied > 5:
            raise OSError(28, "No space left on device")
        Path(target).write_bytes(Path(source).read_bytes())

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(DataError, match="No space left"):
        repair(diagnosis, root.parent / "new")
    assert sorted(path.name for path in root.parent.iterdir()) == ["data"]
