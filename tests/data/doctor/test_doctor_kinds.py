"""Every kind of defect is planted in a sound dataset and found, alone, with its files; a sound one is called sound."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable
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
    only,
    photo,
    plain_classes,
    save,
    truth,
)

from common.doctor_report import diagnosis_text
from deeplabv3p.data.doctor import KINDS
from deeplabv3p.data.doctor import record as record_module
from deeplabv3p.errors import DataError, UsageError

TURNED = Image.Exif()
TURNED[0x0112] = 6


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build(tmp_path / "data")


def test_a_sound_dataset_has_no_findings(root: Path) -> None:
    diagnosis = examine(root)
    assert diagnosis.findings == ()
    assert diagnosis.healthy
    assert len(diagnosis.records) == 12
    assert diagnosis.summary == "0 errors, 0 warnings, 0 notes"


def test_the_shapes_dataset_is_sound(tmp_path: Path) -> None:
    from deeplabv3p.data.shapes import generate

    generate(tmp_path, train=12, val=6, test=0, size_hw=(64, 80))
    (tmp_path / "test.txt").unlink()  # of no pictures: an empty list
    assert kinds(examine(tmp_path), "error", "warning") == set()


# --- each planter spoils the dataset and returns the files that the finding must name, and how many are fixable


def plant_damaged_picture(root: Path) -> tuple[list[str], int]:
    cut(root / "images" / "t1.jpg")
    (root / "images" / "t2.jpg").write_bytes(b"")
    return ["images/t1.jpg", "images/t2.jpg"], 0


def plant_damaged_label(root: Path) -> tuple[list[str], int]:
    cut(root / "labels" / "v0.png")
    (root / "labels" / "t3.png").write_text("no picture")
    return ["labels/t3.png", "labels/v0.png"], 0


def plant_size_differs(root: Path) -> tuple[list[str], int]:
    save(root / "labels" / "t4.png", truth(4)[:-1])
    return ["images/t4.jpg"], 0


def plant_exif_label(root: Path) -> tuple[list[str], int]:
    save(root / "images" / "t5.jpg", photo(5), exif=TURNED)
    return ["images/t5.jpg"], 1


def plant_exif_turned(root: Path) -> tuple[list[str], int]:
    save(root / "images" / "t5.jpg", photo(5), exif=TURNED)
    save(root / "labels" / "t5.png", np.ascontiguousarray(truth(5).T))
    return ["images/t5.jpg"], 0


def plant_exif_unclear(root: Path) -> tuple[list[str], int]:
    upside_down = Image.Exif()
    upside_down[0x0112] = 3
    save(root / "images" / "t5.jpg", photo(5), exif=upside_down)
    return ["images/t5.jpg"], 0


def plant_mask_0_255(root: Path) -> tuple[list[str], int]:
    change(root, names(), lambda label: np.where(label == 1, 255, 0).astype(np.uint8))
    return [f"labels/{name}.png" for name in names()], 0  # of three classes


def plant_jpeg_label(root: Path) -> tuple[list[str], int]:
    for name in ("t0", "t1"):
        label = truth(int(name[1]))
        save(root / "labels" / f"{name}.png", colored(label), format="JPEG", quality=98, subsampling=0)
    save(root / "labels" / "t2.png", truth(2), format="JPEG")  # of numbers: they are mixed for ever
    return ["labels/t0.png", "labels/t1.png", "labels/t2.png"], 2


def plant_smeared_label(root: Path) -> tuple[list[str], int]:
    small = Image.fromarray(truth(6) * 60).resize((32, 24), Image.Resampling.BILINEAR)
    save(root / "labels" / "t6.png", np.asarray(small.resize(SIZE[::-1], Image.Resampling.BILINEAR)))
    return ["labels/t6.png"], 0


def plant_label_format(root: Path) -> tuple[list[str], int]:
    save(root / "labels" / "t0.png", truth(0), format="TIFF")
    (root / "labels" / "t1.png").unlink()
    save(root / "labels" / "t1.bmp", truth(1))
    return ["labels/t0.png", "labels/t1.bmp"], 2


def plant_rgb_label(root: Path) -> tuple[list[str], int]:
    change(root, names(), colored)
    plain_classes(root)
    return [f"labels/{name}.png" for name in names()], 0


def plant_rgb_read(root: Path) -> tuple[list[str], int]:
    change(root, names(), colored)
    return [f"labels/{name}.png" for name in names()], 12


def plant_grey_as_rgb(root: Path) -> tuple[list[str], int]:
    change(root, ["t0", "v1"], lambda label: np.dstack([label] * 3))
    plain_classes(root)
    return ["labels/t0.png", "labels/v1.png"], 2


def plant_unknown_colors(root: Path) -> tuple[list[str], int]:
    pixels = colored(truth(2))
    pixels[10:20, 10:20] = (1, 2, 3)
    save(root / "labels" / "t2.png", pixels)
    return ["labels/t2.png"], 0


def plant_off_by_one(root: Path) -> tuple[list[str], int]:
    change(root, names(), lambda label: np.where(label == 255, 255, label + 1).astype(np.uint8))
    return [f"labels/{name}.png" for name in names()], 0


def plant_unknown_values(root: Path) -> tuple[list[str], int]:
    def spoil(label: np.ndarray) -> np.ndarray:
        label = label.copy()
        label[3:7, 3:7] = 77
        return label

    change(root, ["t2", "v2"], spoil)
    return ["labels/t2.png", "labels/v2.png"], 0


def plant_ambiguous_depth(root: Path) -> tuple[list[str], int]:
    Image.fromarray(truth(3) == 1).save(root / "labels" / "t3.png")
    return ["labels/t3.png"], 0


def plant_wrong_suffix(root: Path) -> tuple[list[str], int]:
    save(root / "images" / "t0.jpg", photo(0), format="PNG")
    return ["images/t0.jpg"], 1


def plant_unseen_suffix(root: Path) -> tuple[list[str], int]:
    (root / "images" / "t0.jpg").rename(root / "images" / "t0.jfif")
    (root / "labels" / "t1.png").rename(root / "labels" / "t1.jpg")
    return ["images/t0.jfif", "labels/t1.jpg"], 2


def plant_unknown_names(root: Path) -> tuple[list[str], int]:
    append(root / "train.txt", "nobody", "niemand über")
    return ["nobody", "niemand über"], 2


def plant_name_spelling(root: Path) -> tuple[list[str], int]:
    text = (root / "train.txt").read_text()
    (root / "train.txt").write_text(text.replace("t1\n", "T1\n").replace("t2\n", "t2.jpg\n"))
    return ["T1", "t2.jpg"], 2


def plant_case_of_label(root: Path) -> tuple[list[str], int]:
    (root / "labels" / "t1.png").rename(root / "labels" / "T1.png")
    return ["t1"], 1


def plant_repeated_names(root: Path) -> tuple[list[str], int]:
    append(root / "val.txt", "v0")
    return ["v0"], 1


def plant_listed_unpaired(root: Path) -> tuple[list[str], int]:
    (root / "labels" / "t7.png").unlink()
    return ["t7"], 1


def plant_ambiguous_name(root: Path) -> tuple[list[str], int]:
    save(root / "images" / "v1.png", photo(9))
    return ["images/v1.jpg", "images/v1.png"], 0


def plant_list_empty(root: Path) -> tuple[list[str], int]:
    (root / "test.txt").write_text("\n \n")
    return ["test.txt"], 0


def plant_list_unreadable(root: Path) -> tuple[list[str], int]:
    (root / "test.txt").write_bytes(b"\xff\xfe\x00t\x000")
    return ["test.txt"], 0


def plant_in_two_lists(root: Path) -> tuple[list[str], int]:
    append(root / "val.txt", "t3")
    return ["images/t3.jpg"], 0


def plant_copies_across(root: Path) -> tuple[list[str], int]:
    shutil.copy(root / "images" / "t0.jpg", root / "images" / "v0.jpg")
    scaled = Image.fromarray(photo(1)).resize((128, 96), Image.Resampling.BICUBIC)
    save(root / "images" / "v1.jpg", np.asarray(scaled), quality=40)
    save(root / "labels" / "v1.png", truth(1, size_hw=(96, 128)))
    return ["images/v0.jpg ~ images/t0.jpg", "images/v1.jpg ~ images/t1.jpg"], 0


def plant_group_across(root: Path) -> tuple[list[str], int]:
    for old, new in (("t1", "IMG_1_0"), ("t2", "IMG_1_1"), ("v1", "IMG_1_2"), ("v2", "IMG_2_0")):
        for folder, suffix in (("images", ".jpg"), ("labels", ".png")):
            (root / folder / f"{old}{suffix}").rename(root / folder / f"{new}{suffix}")
        path = root / ("train.txt" if old[0] == "t" else "val.txt")
        path.write_text(path.read_text().replace(old, new))
    return ["images/IMG_1_2.jpg ~ images/IMG_1_0.jpg"], 0


def plant_alike_across(root: Path) -> tuple[list[str], int]:
    wide = photo(40, (48, 400))
    save(root / "images" / "t0.jpg", wide[:, :64])
    save(root / "images" / "v0.jpg", wide[:, 5:69])
    return ["images/v0.jpg ~ images/t0.jpg"], 0


def plant_copies_within(root: Path) -> tuple[list[str], int]:
    shutil.copy(root / "images" / "t0.jpg", root / "images" / "t6.jpg")
    return ["images/t6.jpg = images/t0.jpg"], 0


def plant_class_empty(root: Path) -> tuple[list[str], int]:
    append(root / "classes.txt", "unicorn 1 2 3")
    return ["unicorn"], 0


def plant_class_not_trained(root: Path) -> tuple[list[str], int]:
    change(root, NAMES["train"], lambda label: np.where(label == 2, 1, label).astype(np.uint8))
    return ["car"], 0


def plant_mostly_ignored(root: Path) -> tuple[list[str], int]:
    def spoil(label: np.ndarray) -> np.ndarray:
        label = label.copy()
        label[: SIZE[0] // 2 + 1] = 255
        return label

    change(root, names(), spoil)
    return [], 0


def plant_all_ignored(root: Path) -> tuple[list[str], int]:
    change(root, ["t3"], lambda label: np.full_like(label, 255))
    return ["labels/t3.png"], 0


def plant_tiny_regions(root: Path) -> tuple[list[str], int]:
    def spoil(label: np.ndarray) -> np.ndarray:
        label = np.zeros_like(label)
        label[:, 30:] = 1
        label[5, 5] = 1
        label[20, 10:14] = 2
        return label

    change(root, ["t0"], spoil)
    return ["labels/t0.png"], 0


def plant_without_label(root: Path) -> tuple[list[str], int]:
    save(root / "images" / "lonely.jpg", photo(50))
    return ["images/lonely.jpg"], 0


def plant_without_picture(root: Path) -> tuple[list[str], int]:
    save(root / "labels" / "lonely.png", truth(1))
    return ["labels/lonely.png"], 0


def plant_unlisted(root: Path) -> tuple[list[str], int]:
    save(root / "images" / "extra.jpg", photo(51))
    save(root / "labels" / "extra.png", truth(1))
    return ["images/extra.jpg"], 0


def plant_case_clash(root: Path) -> tuple[list[str], int]:
    save(root / "images" / "T3.jpg", photo(60))
    save(root / "labels" / "T3.png", truth(60))
    append(root / "train.txt", "T3")
    return ["images/T3.jpg", "images/t3.jpg", "labels/T3.png", "labels/t3.png"], 0


def plant_odd_name(root: Path) -> tuple[list[str], int]:
    save(root / "images" / "line\nbreak.jpg", photo(61))
    save(root / "labels" / "line\nbreak.png", truth(61))
    (root / "images" / os.fsdecode(b"caf\xe9.jpg")).write_bytes((root / "images" / "t0.jpg").read_bytes())
    return [r"images/caf\xe9.jpg", r"images/line\nbreak.jpg", r"labels/line\nbreak.png"], 0


def plant_unread_kind(root: Path) -> tuple[list[str], int]:
    for name in ("x.heic", "y.CR2"):
        (root / "images" / name).write_bytes(b"no picture that is known here")
    return ["images/x.heic", "images/y.CR2"], 0


def plant_unicode_spelling(root: Path) -> tuple[list[str], int]:
    name = unicodedata.normalize("NFD", "café")
    save(root / "images" / f"{name}.jpg", photo(62))
    save(root / "labels" / f"{name}.png", truth(62))
    append(root / "train.txt", unicodedata.normalize("NFC", name))
    return [f"images/{name}.jpg", f"labels/{name}.png"], 0


def plant_palette_read(root: Path) -> tuple[list[str], int]:
    for name in names():
        path = root / "labels" / f"{name}.png"
        Image.fromarray(colored(np.asarray(Image.open(path)))).quantize(16, dither=Image.Dither.NONE).save(path)
    return [f"labels/{name}.png" for name in names()], 12


def plant_palettes_unclear(root: Path) -> tuple[list[str], int]:
    for name in names():  # the colours of two classes change places, and a third colour is of no class
        path = root / "labels" / f"{name}.png"
        picture = Image.fromarray(np.asarray(Image.open(path)))
        picture.putpalette([128, 64, 128, 128, 128, 128, 1, 2, 3, *[224] * 759])
        picture.save(path)
    return ["labels/t0.png"], 0


def plant_grey_steps(root: Path) -> tuple[list[str], int]:
    plain_classes(root)
    change(root, names(), lambda label: np.array([0, 127, 254])[np.where(label == 255, 0, label)].astype(np.uint8))
    return [f"labels/{name}.png" for name in names()], 12


def plant_one_class_list(root: Path) -> tuple[list[str], int]:
    (root / "classes.txt").write_text("object\n")
    change(root, names(), lambda label: np.where(label == 1, 255, 0).astype(np.uint8))
    return ["object"], 0


def plant_one_class_only(root: Path) -> tuple[list[str], int]:
    change(root, names(), lambda label: np.where(label == 255, 255, 1).astype(np.uint8))
    return [f"labels/{name}.png" for name in NAMES["train"]], 0


def plant_nothing_labelled(root: Path) -> tuple[list[str], int]:
    change(root, NAMES["train"], lambda label: np.full_like(label, 255))
    return [f"labels/{name}.png" for name in NAMES["train"]], 0


def plant_no_lists(root: Path) -> tuple[list[str], int]:
    (root / "train.txt").unlink()
    (root / "val.txt").unlink()
    return [], 0


def plant_no_classes(root: Path) -> tuple[list[str], int]:
    (root / "classes.txt").unlink()
    return [], 0


PLANTERS: dict[str, Callable[[Path], tuple[list[str], int]]] = {
    name.removeprefix("plant_"): value for name, value in list(globals().items()) if name.startswith("plant_")
}
# Planters of a kind that has two ways to come about, and findings that come along with the planted one, rightly.
OTHER_NAME = {"unseen_suffix": "wrong_suffix", "case_of_label": "name_spelling"}
ALONG = {
    "odd_name": {"unlisted", "without_label"},
    "listed_unpaired": {"without_label"},
    "mask_0_255": set(),
    "unknown_values": {"tiny_regions"},
    "one_class_list": {"mask_0_255"},
    "one_class_only": {"class_empty"},
    "nothing_labelled": {"all_ignored", "mostly_ignored", "class_not_trained"},
}


@pytest.mark.parametrize("planter", PLANTERS)
def test_each_defect_is_found_alone_with_its_files(root: Path, planter: str) -> None:
    files, fixable = PLANTERS[planter](root)
    diagnosis = examine(root)
    kind = OTHER_NAME.get(planter, planter)
    finding = only(diagnosis, kind)
    assert sorted(finding.files) == sorted(files)
    assert finding.fixable == fixable
    assert finding.severity == ("error" if planter == "unseen_suffix" else KINDS[kind].severity)
    assert "\n" not in finding.message
    assert kinds(diagnosis) - {kind} <= ALONG.get(planter, set())
    assert diagnosis.healthy == (finding.severity != "error")


@pytest.mark.parametrize("planter", PLANTERS)
def test_few_files_are_all_named_on_the_console(root: Path, planter: str) -> None:
    PLANTERS[planter](root)
    diagnosis = examine(root)
    text = " ".join(diagnosis_text(diagnosis).split())
    assert diagnosis.findings
    for item in diagnosis.findings:
        named = item.files if item.count <= 10 else item.files[:3]
        assert [name for name in named if " ".join(name.split()) not in text] == []


def test_a_picture_too_large_for_the_memory_is_not_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_module, "MAX_PIXELS", SIZE[0] * SIZE[1])
    save(root / "images" / "t0.jpg", photo(0, (200, 300)))
    assert only(examine(root), "huge").files == ("images/t0.jpg",)


def test_every_kind_is_planted() -> None:
    planted = {OTHER_NAME.get(name, name) for name in PLANTERS}
    elsewhere = {"huge", "some_masks_0_255", "dark_range", "beyond_white"}  # two in tests/data/test_depth.py
    assert planted | elsewhere == set(KINDS)


def test_masks_of_0_and_255_among_others(tmp_path: Path) -> None:
    root = build(tmp_path, count=2)
    change(root, ["t1"], lambda label: np.where(label == 1, 255, 0).astype(np.uint8))
    assert only(examine(root), "some_masks_0_255").files == ("labels/t1.png",)
    assert only(examine(root), "some_masks_0_255").severity == "warning"


@pytest.mark.parametrize("ignore", [None, 255, 11])
def test_masks_of_0_and_255_whatever_is_ignored(tmp_path: Path, ignore: int | None) -> None:
    root = build(tmp_path, count=2)
    change(root, names(), lambda label: np.where(label == 1, 255, 0).astype(np.uint8))
    finding = only(examine(root, ignore_index=ignore), "mask_0_255")
    assert finding.count == finding.fixable == 12


def test_one_stray_number_behind_the_last_class_is_no_shifted_numbering(root: Path) -> None:
    def slip(label: np.ndarray) -> np.ndarray:
        label = label.copy()
        label[0, 0] = 3
        return label

    change(root, ["t0"], slip)
    assert "unknown_values" in kinds(examine(root))
    assert "off_by_one" not in kinds(examine(root))


def test_the_example_of_a_wrong_number_says_where_it_is(root: Path) -> None:
    plant_unknown_values(root)
    example = only(examine(root), "unknown_values").examples[0]
    assert example.box == (3, 3, 7, 7)
    assert example.pictures == (root / "images" / "t2.jpg",)
    assert example.labels == (root / "labels" / "t2.png",)


def test_a_number_used_as_no_label_is_told_to_be_ignored(root: Path) -> None:
    change(root, names(), lambda label: np.where(label == 255, 3, label).astype(np.uint8))
    assert "--ignore_index 3" in only(examine(root), "off_by_one").message
    assert examine(root, ignore_index=3).findings == ()


def test_lists_that_put_others_together_are_no_leak(root: Path) -> None:
    (root / "trainval.txt").write_text((root / "train.txt").read_text() + (root / "val.txt").read_text())
    assert examine(root).findings == ()
    (root / "train.txt").write_text("\n".join(names()))  # now val is a part of train
    (root / "trainval.txt").unlink()
    assert only(examine(root), "in_two_lists").count == 4


def test_look_alikes_over_most_of_a_list_are_a_warning(root: Path) -> None:
    for place in range(3):  # of the 4 pictures of val
        wide = photo(40 + place, (48, 400))
        save(root / "images" / f"t{place}.jpg", wide[:, :64])
        save(root / "images" / f"v{place}.jpg", wide[:, 5:69])
        found = only(examine(root), "alike_across")
        assert found.count == place + 1
        assert found.severity == ("warning" if place == 2 else "note")
    assert "most of val.txt" in found.message


def test_folders_of_pairs_are_videos_of_their_own(tmp_path: Path) -> None:
    lines = []
    for place, name in enumerate(("a/frame_0", "a/frame_1", "b/frame_0", "b/c1_0", "a/c1_0", "a/c1_1")):
        save(tmp_path / "p" / f"{name}.jpg", photo(place))
        save(tmp_path / "m" / f"{name}.png", truth(place))
        lines.append(f"p/{name}.jpg m/{name}.png")
    (tmp_path / "train.txt").write_text("\n".join(lines[::2]))
    (tmp_path / "val.txt").write_text("\n".join(lines[1::2]))
    assert only(examine(tmp_path), "group_across").files == ("p/a/c1_1.jpg ~ p/a/c1_0.jpg",)


def test_other_text_files_are_no_lists(root: Path) -> None:
    (root / "README.txt").write_text("Taken in spring.\nOne class a colour.\n")
    (root / "notes").mkdir()
    (root / "notes" / "todo.txt").write_text("nothing\n")
    assert examine(root).findings == ()
    assert [item.name for item in examine(root).inventory.lists] == ["train.txt", "val.txt"]


def test_the_voc_layout_and_its_lists(tmp_path: Path) -> None:
    root = build(tmp_path, folders=("JPEGImages", "SegmentationClass"))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split in NAMES:
        (root / f"{split}.txt").rename(lists / f"{split}.txt")
    (root / "ImageSets" / "Main").mkdir()
    (root / "ImageSets" / "Main" / "cat_train.txt").write_text("t0 -1\nt1 1\n")
    diagnosis = examine(root)
    assert diagnosis.findings == ()
    assert len(diagnosis.records) == 12


def test_lists_of_pairs(tmp_path: Path) -> None:
    root = build(tmp_path, folders=("left side", "right"))
    for split, members in NAMES.items():
        lines = [f"left side/{name}.jpg right/{name}.png" for name in members]
        (root / f"{split}.txt").write_text("\n".join(lines))
    assert examine(root).findings == ()
    assert len(examine(root).records) == 12
    append(root / "val.txt", "\nleft side/x.jpg right/x.png")
    assert only(examine(root), "unknown_names").files == ("left side/x.jpg right/x.png",)


def test_named_lists_are_the_only_ones_and_the_first_is_for_training(root: Path) -> None:
    change(root, NAMES["val"], lambda label: np.where(label == 2, 1, label).astype(np.uint8))
    cut(root / "labels" / "t0.png")
    diagnosis = examine(root, lists=["val.txt"])
    assert [item.name for item in diagnosis.inventory.lists] == ["val.txt"]
    assert kinds(diagnosis) == {"class_empty", "unlisted"}


def test_label_names_with_an_ending_are_recognised(root: Path) -> None:
    for name in names():
        (root / "labels" / f"{name}.png").rename(root / "labels" / f"{name}_mask.png")
    diagnosis = examine(root)
    assert not diagnosis.healthy
    assert "'_mask'" in only(diagnosis, "without_picture").message


def test_the_worst_comes_first(root: Path) -> None:
    plant_unlisted(root)
    plant_class_empty(root)
    plant_damaged_label(root)
    append(root / "train.txt", "nobody")
    found = [item.kind for item in examine(root).findings]
    # With label maps that cannot be read nothing is said about classes.
    assert found == ["unknown_names", "damaged_label", "unlisted"]


def test_progress_and_threads_change_nothing(root: Path) -> None:
    plant_jpeg_label(root)
    told: list[tuple[int, int]] = []
    first = examine(root, threads=1, progress=lambda done, total, info=None: told.append((done, total)))
    second = examine(root, threads=4)
    assert told == [(done, 12) for done in range(1, 13)]
    assert first.findings == second.findings
    assert first.records == second.records


def test_16_bit_and_palette_labels_are_sound(root: Path) -> None:
    save(root / "labels" / "t0.png", truth(0).astype(np.uint16))
    palette = Image.fromarray(truth(1))
    palette.putpalette(list(range(256)) * 3)
    palette.save(root / "labels" / "t1.png")
    assert examine(root).findings == ()
    save(root / "labels" / "t0.png", np.full(SIZE, 4000, np.uint16))
    assert "4000" in only(examine(root), "unknown_values").message


def test_a_smeared_mask_of_two_classes_is_told_from_an_exact_one(tmp_path: Path) -> None:
    root = build(tmp_path, count=2)
    for seed, name in enumerate(names()):
        save(root / "labels" / f"{name}.png", as_jpeg(np.where(truth(seed, 2) == 1, 255, 0).astype(np.uint8), 75))
    assert only(examine(root), "smeared_label").count == 12


@pytest.mark.parametrize(
    ("spoil", "error", "text"),
    [
        (lambda root: {"dataset_path": root / "none"}, DataError, "does not exist"),
        (lambda root: {"lists": ["none.txt"]}, DataError, "none.txt does not exist"),
        (lambda root: {"classes_path": root / "none.txt"}, DataError, "class list"),
        (lambda root: {"ignore_index": 70000}, UsageError, "70000"),
        (lambda root: {"threads": 0}, UsageError, "threads"),
        (lambda root: {"dataset_path": root / "images"}, DataError, "holds neither"),
    ],
)
def test_what_cannot_be_examined_is_an_error(
    root: Path, spoil: Callable[[Path], dict[str, object]], error: type[Exception], text: str
) -> None:
    options = {"dataset_path": root, **spoil(root)}
    with pytest.raises(error, match=text):
        examine(options.pop("dataset_path"), **options)


def test_empty_folders_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        examine(tmp_path)
