from __future__ import annotations

import io
import os
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import chelsea

from deeplabv3p.data.classes import ClassList, default_colors, load_classes
from deeplabv3p.data.dataset import Dataset, Sample, open_dataset, split_dataset
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo

CLASSES = ClassList(
    tuple(ClassInfo(f"c{i}", color) for i, color in enumerate(default_colors(3))), explicit_colors=False
)
PHOTO = chelsea()[:40, :60]
LABEL = (PHOTO[..., 0] % 3).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def make(root: Path, names: list[str], folders: tuple[str, str] = ("images", "labels"), suffix: str = ".png") -> None:
    for name in names:
        save(root / folders[0] / f"{name}{suffix}", PHOTO)
        save(root / folders[1] / f"{name}.png", LABEL)


def write_list(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def error_of(root: Path, list_file: Path | str, ignore: int | None = 255) -> str:
    with pytest.raises(DataError) as error:
        open_dataset(root, list_file, CLASSES, ignore)
    text = str(error.value)
    assert "\n" not in text
    return text


def names_of(dataset: Dataset) -> list[str]:
    return [sample.name for sample in dataset.samples]


@pytest.mark.parametrize("folders", [("images", "labels"), ("JPEGImages", "SegmentationClass")])
def test_the_two_folder_layouts(tmp_path: Path, folders: tuple[str, str]) -> None:
    make(tmp_path, ["b", "a", "unlisted"], folders)
    dataset = open_dataset(tmp_path, write_list(tmp_path / "sets" / "train.txt", ["b", "", "a"]), CLASSES, 255)
    assert names_of(dataset) == ["b", "a"]  # the order of the list
    assert len(dataset) == 2
    assert dataset.classes == CLASSES.classes
    image, label = dataset.load(1)
    np.testing.assert_array_equal(image, PHOTO)
    np.testing.assert_array_equal(label, LABEL)


def test_the_list_may_be_relative_to_the_dataset(tmp_path: Path) -> None:
    make(tmp_path, ["a"])
    write_list(tmp_path / "sets" / "train.txt", ["a"])
    dataset = open_dataset(str(tmp_path), "sets/train.txt", CLASSES, None)
    assert names_of(dataset) == ["a"]
    assert dataset.source == "sets/train.txt"


def test_the_ignore_label_of_the_files_becomes_ignore(tmp_path: Path) -> None:
    make(tmp_path, ["a"])
    dataset = open_dataset(tmp_path, write_list(tmp_path / "l.txt", ["a"]), CLASSES, 0)
    np.testing.assert_array_equal(dataset.load(0)[1], np.where(LABEL == 0, IGNORE, LABEL))


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".PNG", ".bmp", ".webp", ".tif", ".TIFF"])
def test_suffixes_in_any_case(tmp_path: Path, suffix: str) -> None:
    make(tmp_path, ["a"], suffix=suffix)
    dataset = open_dataset(tmp_path, write_list(tmp_path / "l.txt", ["a"]), CLASSES, 255)
    assert dataset.samples[0].image.name == f"a{suffix}"
    assert dataset.load(0)[0].shape == PHOTO.shape


NAMES = ["two words", "Straße café", "写真", "a.b.c", "50%", "-x"]


def test_names_with_blanks_dots_and_any_letters(tmp_path: Path) -> None:
    make(tmp_path, NAMES)
    dataset = open_dataset(tmp_path, write_list(tmp_path / "l.txt", NAMES), CLASSES, 255)
    assert names_of(dataset) == NAMES
    assert dataset.load(1)[0].shape == PHOTO.shape


def test_both_unicode_spellings_of_a_letter_are_one_name(tmp_path: Path) -> None:
    name = "café"
    make(tmp_path, [unicodedata.normalize("NFD", name)])
    dataset = open_dataset(tmp_path, write_list(tmp_path / "l.txt", [unicodedata.normalize("NFC", name)]), CLASSES, 255)
    assert dataset.load(0)[0].shape == PHOTO.shape


@pytest.mark.parametrize("separator", [" ", "\t", "   "])
@pytest.mark.parametrize("absolute", [False, True])
def test_pairs_relative_to_the_dataset_or_absolute(tmp_path: Path, separator: str, absolute: bool) -> None:
    root = tmp_path / "data set"
    make(root, NAMES, ("left", "right"), ".jpg")
    base = f"{root}{os.sep}" if absolute else ""
    lines = [f"{base}left/{name}.jpg{separator}{base}right/{name}.png" for name in NAMES]
    dataset = open_dataset(root, write_list(tmp_path / "lists" / "l.txt", lines), CLASSES, 255)
    assert names_of(dataset) == NAMES
    assert [sample.label.name for sample in dataset.samples] == [f"{name}.png" for name in NAMES]
    assert dataset.load(0)[0].shape == PHOTO.shape


def test_pairs_relative_to_the_list_and_beside_the_folder_layout(tmp_path: Path) -> None:
    make(tmp_path / "lists", ["a"], ("x", "y"))
    make(tmp_path, ["b"])
    lines = ["x/a.png y/a.png", "images/b.png labels/b.png"]
    dataset = open_dataset(tmp_path, write_list(tmp_path / "lists" / "l.txt", lines), CLASSES, 255)
    assert names_of(dataset) == ["a", "b"]


def test_equal_names_in_several_folders_keep_their_folders(tmp_path: Path) -> None:
    lines = []
    for part in ("s1", "s2"):
        make(tmp_path / part, ["0001"], ("i", "l"))
        lines.append(f"{part}/i/0001.png ../{tmp_path.name}/{part}/l/0001.png")
    dataset = open_dataset(tmp_path, write_list(tmp_path / "l.txt", lines), CLASSES, 255)
    assert names_of(dataset) == ["s1/i/0001", "s2/i/0001"]


def test_missing_folder_and_list(tmp_path: Path) -> None:
    make(tmp_path, ["a"])
    assert f"{tmp_path / 'none'} does not exist" in error_of(tmp_path / "none", "l.txt")
    assert "the list none.txt does not exist" in error_of(tmp_path, "none.txt")
    assert "cannot read the list" in error_of(tmp_path, tmp_path)


def test_an_empty_or_binary_list(tmp_path: Path) -> None:
    make(tmp_path, ["a"])
    assert "is empty" in error_of(tmp_path, write_list(tmp_path / "l.txt", ["", "  "]))
    assert "not UTF-8 text" in error_of(tmp_path, tmp_path / "images" / "a.png")


def test_missing_files_are_named_and_counted(tmp_path: Path) -> None:
    make(tmp_path, ["a", "b"])
    text = error_of(tmp_path, write_list(tmp_path / "l.txt", ["a", "x", "y", "z"]))
    assert "l.txt lists 'x', but" in text
    assert "images has no such picture (2 more are missing)" in text
    assert "without suffix" in error_of(tmp_path, write_list(tmp_path / "l.txt", ["a.png"]))
    (tmp_path / "labels" / "b.png").rename(tmp_path / "labels" / "b.jpg")
    text = error_of(tmp_path, write_list(tmp_path / "l.txt", ["a", "b"]))
    assert "lists 'b'" in text
    assert text.endswith("labels has no such label map (.png).")


def test_missing_pairs_are_named_and_counted(tmp_path: Path) -> None:
    make(tmp_path, ["a"], ("x", "y"))
    lines = ["x/a.png y/a.png", "x/b.png y/b.png", "x/a.png y/c.png"]
    text = error_of(tmp_path, write_list(tmp_path / "l.txt", lines))
    assert "lists 'x/b.png y/b.png'" in text
    assert "(1 more is missing)" in text


def test_neither_layout_nor_pairs(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    assert "neither images/ and labels/ nor" in error_of(tmp_path, write_list(tmp_path / "l.txt", ["a"]))


def test_a_name_twice_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, ["a", "b"])
    assert "lists 'b' 2 times" in error_of(tmp_path, write_list(tmp_path / "l.txt", ["a", "b", "b"]))
    lines = ["images/a.png labels/a.png", "images/../images/a.png labels/b.png"]
    assert "2 times" in error_of(tmp_path, write_list(tmp_path / "p.txt", lines))


def test_an_ambiguous_name_is_an_error_only_where_listed(tmp_path: Path) -> None:
    make(tmp_path, ["a", "b"])
    save(tmp_path / "images" / "a.jpg", PHOTO)
    assert "a.jpg and a.png" in error_of(tmp_path, write_list(tmp_path / "l.txt", ["a", "b"]))
    assert len(open_dataset(tmp_path, write_list(tmp_path / "l.txt", ["b"]), CLASSES, 255)) == 1


@pytest.mark.parametrize("ignore", [-1, 65536])
def test_an_impossible_ignore_label(tmp_path: Path, ignore: int) -> None:
    with pytest.raises(UsageError, match=str(ignore)):
        open_dataset(tmp_path, "l.txt", CLASSES, ignore)


def test_a_label_of_another_size_is_named(tmp_path: Path) -> None:
    make(tmp_path, ["a"])
    save(tmp_path / "labels" / "a.png", LABEL.T)
    dataset = open_dataset(tmp_path, write_list(tmp_path / "l.txt", ["a"]), CLASSES, 255)
    with pytest.raises(
        DataError, match=r"a\.png is 40x60 and its label map .*a\.png is 60x40 \(height x width\)"
    ) as error:
        dataset.load(0)
    assert "EXIF" not in str(error.value)


def test_a_label_that_fits_the_unturned_picture_says_so(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "images" / "a.jpg", PHOTO, exif=exif)
    save(tmp_path / "labels" / "a.png", LABEL)
    dataset = open_dataset(tmp_path, write_list(tmp_path / "l.txt", ["a"]), CLASSES, 255)
    with pytest.raises(DataError, match="before its EXIF orientation is applied"):
        dataset.load(0)
    save(tmp_path / "labels" / "a.png", np.rot90(LABEL, -1))
    assert dataset.load(0)[0].shape == (60, 40, 3)


@pytest.mark.parametrize("folder", ["masks", "labels"])
def test_unets_folders_are_a_layout(tmp_path: Path, folder: str) -> None:
    save(tmp_path / "images" / "a.jpg", PHOTO)
    save(tmp_path / folder / "a.png", LABEL)
    dataset = open_dataset(tmp_path, write_list(tmp_path / "l.txt", ["a"]), CLASSES, 255)
    assert dataset.samples[0].label == tmp_path / folder / "a.png"


def test_lists_of_windows(tmp_path: Path) -> None:
    make(tmp_path, ["a", "b c"])
    lines = ["images\\a.png\tlabels\\a.png", "images\\b c.png labels\\b c.png"]
    assert len(open_dataset(tmp_path, write_list(tmp_path / "l.txt", lines), CLASSES, 255)) == 2
    for line in ("C:\\data\\images\\a.png C:\\data\\labels\\a.png", "D:/data/images/a", "D:\\a"):
        assert f"{line[:3]} is a drive" in error_of(tmp_path, write_list(tmp_path / "l.txt", [line]))
    for line in ("images\\a.png", "images/a"):
        assert "without folders and suffix" in error_of(tmp_path, write_list(tmp_path / "l.txt", [line]))


def test_label_maps_without_lists_say_what_makes_lists(tmp_path: Path) -> None:
    make(tmp_path, ["a"])
    write_list(tmp_path / "classes.txt", ["background", "thing"])
    assert f"dataset.py split {tmp_path}" in error_of(tmp_path, tmp_path / "train.txt")
    write_list(tmp_path / "other.txt", ["a"])
    assert "split" not in error_of(tmp_path, tmp_path / "train.txt")


def test_2000_samples_open_in_well_under_a_second(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(LABEL).save(buffer, "PNG")
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for index in range(2000):
            (tmp_path / folder / f"{index}.png").write_bytes(buffer.getvalue())
    names = write_list(tmp_path / "names.txt", [str(index) for index in range(2000)])
    pairs = write_list(tmp_path / "pairs.txt", [f"images/{index}.png labels/{index}.png" for index in range(2000)])
    for path in (names, pairs):
        start = time.thread_time()  # processor time, which a busy machine does not change
        assert len(open_dataset(tmp_path, path, CLASSES, 255)) == 2000
        assert time.thread_time() - start < 0.5


def dataset_of(count: int) -> Dataset:
    samples = tuple(Sample(str(index), Path(f"{index}.jpg"), Path(f"{index}.png")) for index in range(count))
    return Dataset(Path(), samples, CLASSES, 255, "train.txt")


@pytest.mark.parametrize("count", [2, 3, 10, 367])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
def test_a_split_is_disjoint_complete_and_never_empty(count: int, share: float) -> None:
    dataset = dataset_of(count)
    train, val = split_dataset(dataset, share, seed=3)
    assert set(train.samples) | set(val.samples) == set(dataset.samples)
    assert len(train) + len(val) == count
    assert len(val) == min(max(round(count * share), 1), count - 1)
    assert split_dataset(dataset, share, seed=3) == (train, val)


def test_a_split_depends_on_the_seed_and_says_what_it_is() -> None:
    dataset = dataset_of(100)
    train, val = split_dataset(dataset, 0.1, seed=0)
    assert val.samples != split_dataset(dataset, 0.1, seed=1)[1].samples
    assert val.samples != dataset.samples[:10]
    assert val.source == "train.txt (validation part: 10 of 100, seed 0)"
    assert train.source == "train.txt (training part: 90 of 100, seed 0)"


def test_impossible_splits() -> None:
    with pytest.raises(DataError, match="too few"):
        split_dataset(dataset_of(1), 0.1, seed=0)
    for share in (0, 1, -0.1, float("nan")):
        with pytest.raises(UsageError, match="val_split"):
            split_dataset(dataset_of(5), share, seed=0)


def test_camvid(deeplab_data: Path) -> None:
    folder = deeplab_data / "camvid"
    dataset = open_dataset(folder, "train.txt", load_classes(folder / "classes.txt"), 11)
    assert len(dataset) == 367
    for index in range(0, 367, 40):
        image, label = dataset.load(index)
        assert image.shape == (360, 480, 3)
        assert set(np.unique(label)) <= {*range(11), IGNORE}


def test_voc(deeplab_data: Path) -> None:
    folder = deeplab_data / "VOC2012"
    classes = load_classes(Path(__file__).parents[2] / "configs" / "voc_classes.txt")
    dataset = open_dataset(folder, "ImageSets/Segmentation/val.txt", classes, 255)
    assert len(dataset) == 164
    counted = sum(int(np.count_nonzero(dataset.load(index)[1] != IGNORE)) for index in range(len(dataset)))
    assert counted == 27_639_034  # the scored pixels of the reference figures of this subset
