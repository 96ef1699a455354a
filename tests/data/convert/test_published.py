"""Published datasets, built small in their exact structure, from archives and from folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from built_sets import (
    SIZE,
    as_json,
    class_names,
    encode,
    labels_of,
    opened,
    palette_png,
    photo,
    regions,
    run,
    to_folder,
    to_tar,
    to_zip,
)

from deeplabv3p.data.classes import ClassList, default_colors, load_classes
from deeplabv3p.data.convert import tables
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo

CONFIGS = Path(__file__).parents[3] / "configs"


# PASCAL VOC and SBD


def mat_file(label: np.ndarray, tmp_path: Path, variable: str = "GTcls") -> bytes:
    """As SBD's are: a struct with sparse boundaries in a cell, compressed."""
    boundaries = np.empty((20, 1), object)
    for index in range(20):
        boundaries[index, 0] = scipy.sparse.csc_matrix(np.eye(3, dtype=bool))
    content = {"Boundaries": boundaries, "Segmentation": label, "CategoriesPresent": np.array([[1.0], [15.0]])}
    scipy.io.savemat(tmp_path / "one.mat", {variable: content}, do_compression=True)
    return (tmp_path / "one.mat").read_bytes()


VOC_TRAIN, VOC_VAL = ["2007_000032", "2007_000039"], ["2007_000033", "2007_000042"]
SBD_TRAIN, SBD_VAL = ["2008_000002", "2007_000033", "2007_000032"], ["2008_000008", "2007_000042"]


def voc(tmp_path: Path) -> tuple[dict[str, bytes | str], dict[str, bytes | str], dict[str, np.ndarray]]:
    """The content of the two archives, and the label maps by name: VOC's, then SBD's of the others."""
    base, sbd_base = "VOCdevkit/VOC2012", "benchmark_RELEASE/dataset"
    colors = np.array(default_colors(256))
    labels: dict[str, np.ndarray] = {}
    first: dict[str, bytes | str] = {
        f"{base}/ImageSets/Segmentation/train.txt": "".join(f"{n}\n" for n in VOC_TRAIN),
        f"{base}/ImageSets/Segmentation/val.txt": "".join(f"{n}\n" for n in VOC_VAL),
        f"{base}/ImageSets/Main/train.txt": "2007_000027\n",
    }
    second: dict[str, bytes | str] = {
        f"{sbd_base}/train.txt": "".join(f"{n}\n" for n in SBD_TRAIN),
        f"{sbd_base}/val.txt": "".join(f"{n}\n" for n in SBD_VAL),
    }
    for seed, name in enumerate(dict.fromkeys([*VOC_TRAIN, *VOC_VAL, *SBD_TRAIN, *SBD_VAL])):
        first[f"{base}/JPEGImages/{name}.jpg"] = encode(photo(seed), ".jpg")
        labels[name] = regions(21, seed=seed)
        if name in VOC_TRAIN + VOC_VAL:
            labels[name][0] = 255
            first[f"{base}/SegmentationClass/{name}.png"] = palette_png(labels[name], colors)
            first[f"{base}/SegmentationObject/{name}.png"] = palette_png(regions(3), colors)
    for seed, name in enumerate(dict.fromkeys([*SBD_TRAIN, *SBD_VAL])):
        own = labels[name] if name.startswith("2008") else regions(21, seed=100 + seed)
        second[f"{sbd_base}/cls/{name}.mat"] = mat_file(own, tmp_path)
        second[f"{sbd_base}/inst/{name}.mat"] = mat_file(regions(5), tmp_path, "GTinst")
        second[f"{sbd_base}/img/{name}.jpg"] = encode(photo(seed), ".jpg")
    return first, second, labels


@pytest.mark.parametrize("packed", [True, False])
def test_voc_and_sbd_without_the_validation_pictures(tmp_path, packed):
    first, second, labels = voc(tmp_path)
    if packed:
        sources = [to_tar(tmp_path / "VOCtrainval.tar", first), to_tar(tmp_path / "benchmark.tgz", second, "w:gz")]
    else:
        sources = [to_folder(tmp_path / "voc", first), to_folder(tmp_path / "sbd", second)]
    result = run("voc_augment", sources, tmp_path / "out")
    assert result.splits == {"train": 4, "val": 2}
    train, val = labels_of(result, "train"), labels_of(result, "val")
    assert sorted(train) == [*VOC_TRAIN, "2008_000002", "2008_000008"]
    assert list(val) == VOC_VAL
    for name, label in {**train, **val}.items():
        np.testing.assert_array_equal(label, labels[name], name)
    assert result.notes[0] == "2 pictures of VOC val stand in SBD's lists and are left out of train"
    assert result.classes == load_classes(CONFIGS / "voc_classes.txt").classes
    picture = "VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg"
    assert (result.root / "images" / "2007_000032.jpg").read_bytes() == first[picture]
    assert not (result.root / ".unpacked").exists()


def test_voc_alone_and_a_void_boundary_for_sbd(tmp_path):
    first, second, labels = voc(tmp_path)
    sources = [to_folder(tmp_path / "voc", first), to_folder(tmp_path / "sbd", second)]
    alone = run("voc_augment", sources[0], tmp_path / "alone")
    assert alone.splits == {"train": 2, "val": 2}
    assert "no SBD" in alone.notes[0]
    label = labels_of(run("voc_augment", sources, tmp_path / "void", void_width=1), "train")["2008_000002"]
    truth = labels["2008_000002"]
    down, right = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    down[:-1] = truth[:-1] != truth[1:]
    right[:, :-1] = truth[:, :-1] != truth[:, 1:]
    assert (label[down] == IGNORE).all()
    assert (label[1:][down[:-1]] == IGNORE).all()
    assert (label[right] == IGNORE).all()
    np.testing.assert_array_equal(label[label != IGNORE], truth[label != IGNORE])
    assert (label[1:3, 1:3] == truth[1:3, 1:3]).all()  # the inside of a block of 4 stays


def test_voc_needs_its_lists(tmp_path):
    with pytest.raises(DataError, match=r"hold no ImageSets/Segmentation/train\.txt"):
        run("voc_augment", to_folder(tmp_path / "x", {"a.txt": "x"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_real_voc(deeplab_data, tmp_path):
    """A subset of VOC goes through unchanged: every label map as it is read where it lies."""
    root = deeplab_data / "VOC2012"
    few = tmp_path / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass"):
        (few / name).mkdir(parents=True)
    names = {
        split: (root / f"ImageSets/Segmentation/{split}.txt").read_text().split()[:12] for split in ("train", "val")
    }
    to_folder(few, {f"ImageSets/Segmentation/{split}.txt": "\n".join(some) for split, some in names.items()})
    for name in (*names["train"], *names["val"]):
        (few / "JPEGImages" / f"{name}.jpg").symlink_to(root / "JPEGImages" / f"{name}.jpg")
        (few / "SegmentationClass" / f"{name}.png").symlink_to(root / "SegmentationClass" / f"{name}.png")
    result = run("voc_augment", few, tmp_path / "out")
    assert result.splits == {"train": 12, "val": 12}
    from PIL import Image

    for name, label in labels_of(result, "val").items():
        np.testing.assert_array_equal(label, np.asarray(Image.open(root / "SegmentationClass" / f"{name}.png")))


# COCO


def rle(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, outside first."""
    flat, counts, value, count = mask.T.ravel(), [], False, 0
    for pixel in flat:
        if bool(pixel) != value:
            counts.append(count)
            value, count = bool(pixel), 0
        count += 1
    return [*counts, count]


def compress(counts: list[int]) -> str:
    """As COCO writes run lengths into a text."""
    out = ""
    for index, count in enumerate(counts):
        number = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits = number & 31
            number >>= 5
            more = number != -1 if bits & 16 else number != 0
            out += chr((bits | 32 if more else bits) + 48)
    return out


def box(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def coco_sources(tmp_path: Path) -> list[Path]:
    crowd = np.zeros(SIZE, bool)
    crowd[:, 20:] = True
    ring = np.zeros(SIZE, bool)
    ring[2:10, 2:10] = True
    ring[4:8, 4:8] = False
    categories = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
    images = [{"id": 7, "file_name": "000000000007.jpg", "height": 24, "width": 32}]
    annotations = [
        {"image_id": 7, "category_id": 1, "iscrowd": 0, "segmentation": [box(0, 0, 8, 4), box(0, 12, 8, 16)]},
        {"image_id": 7, "category_id": 18, "iscrowd": 0, "segmentation": [box(4, 0, 12, 4)]},
        {"image_id": 7, "category_id": 90, "iscrowd": 0, "segmentation": {"size": [24, 32], "counts": rle(ring)}},
        {"image_id": 7, "category_id": 18, "iscrowd": 0, "segmentation": [box(18, 20, 24, 24)]},
        {
            "image_id": 7,
            "category_id": 1,
            "iscrowd": 1,
            "segmentation": {"size": [24, 32], "counts": compress(rle(crowd))},
        },
    ]
    val = {"images": images, "annotations": annotations, "categories": categories}
    empty = {"id": 3, "file_name": "000000000003.jpg", "height": 24, "width": 32}
    train = {"images": [empty], "annotations": [], "categories": categories}
    jsons = {
        "annotations/instances_val2017.json": as_json(val),
        "annotations/instances_train2017.json": as_json(train),
        "annotations/captions_val2017.json": as_json({"images": [], "annotations": []}),
    }
    return [
        to_zip(tmp_path / "annotations_trainval2017.zip", jsons),
        to_zip(tmp_path / "val2017.zip", {"val2017/000000000007.jpg": encode(photo(7), ".jpg")}),
        to_zip(tmp_path / "train2017.zip", {"train2017/000000000003.jpg": encode(photo(3), ".jpg")}),
    ]


def coco_truth() -> np.ndarray:
    truth = np.zeros(SIZE, np.uint8)  # 1 person, 2 dog, 3 toothbrush: by id, not in the order of the file
    truth[:, 20:] = 1  # the crowd lies below all
    truth[0:4, 0:8] = 1
    truth[12:16, 0:8] = 1
    truth[0:4, 4:12] = 2
    truth[2:10, 2:4] = truth[2:10, 8:10] = truth[2:4, 2:10] = truth[8:10, 2:10] = 3
    truth[20:24, 18:24] = 2
    return truth


def test_coco_instances(tmp_path):
    result = run("mscoco2017", coco_sources(tmp_path), tmp_path / "out", order="file")
    assert class_names(result) == ["background", "person", "dog", "toothbrush"]
    np.testing.assert_array_equal(labels_of(result, "val")["000000000007"], coco_truth())
    assert not labels_of(result, "train")["000000000003"].any()
    assert any("1 pictures have no annotation" in note for note in result.notes)


def test_coco_chosen_classes(tmp_path):
    chosen = ClassList((ClassInfo("dog", (9, 9, 9)),), explicit_colors=True)
    sources = coco_sources(tmp_path)
    with pytest.raises(DataError, match=r"'person', 'toothbrush', which the class file does not name"):
        run("mscoco2017", sources, tmp_path / "out", classes=chosen)
    truth = coco_truth()
    result = run("mscoco2017", sources, tmp_path / "a", classes=chosen, others="unlabelled", order="file")
    assert class_names(result) == ["background", "dog"]
    np.testing.assert_array_equal(labels_of(result, "val")["000000000007"], np.where(truth == 2, 1, 0))
    how = {"others": "ignore", "unlabelled": "ignore", "order": "file"}
    result = run("mscoco2017", sources, tmp_path / "b", classes=chosen, **how)
    assert class_names(result) == ["dog"]
    np.testing.assert_array_equal(labels_of(result, "val")["000000000007"], np.where(truth == 2, 0, 255))
    result = run("mscoco2017", sources, tmp_path / "c", min_pixels=100)
    assert result.splits == {"val": 1}
    assert "only 0 annotated pixels" in result.skipped[0].reason


def test_coco_stuff(tmp_path):
    """Number n is category n + 1; categories that were never annotated have no label, so labels are closer together."""
    label = np.full(SIZE, 255, np.uint8)
    label[:8], label[8:16], label[16:20] = 0, 181, 12  # person, wood, stop sign
    maps = {
        "val2017/000000000007.png": encode(label),
        "train2017/000000000003.png": encode(np.full(SIZE, 11, np.uint8)),
    }
    pictures = {f"val2017/{7:012}.jpg": encode(photo(7), ".jpg"), f"train2017/{3:012}.jpg": encode(photo(3), ".jpg")}
    sources = [to_zip(tmp_path / "stuff.zip", maps), to_zip(tmp_path / "pictures.zip", pictures)]
    result = run("mscoco2017", sources, tmp_path / "out", annotation="stuff")
    names = class_names(result)
    assert len(names) == 171
    assert (names[0], names[11], names[170]) == ("person", "stop sign", "wood")
    got = labels_of(result, "val")["000000000007"]
    assert [int(got[row, 0]) for row in (0, 8, 16, 23)] == [0, 170, 11, 255]
    assert "number 11" in result.skipped[0].reason  # street sign, which COCO-Stuff does not have


# ADE20K, Cityscapes, CamVid, human parsing


def test_ade20k(tmp_path):
    names = [f"thing {i}" for i in range(1, 151)]
    names[14], names[58] = "door, double door", "door, screen door"
    rows = "".join(f"{i}\t0.1576\t11664\t1172\t{name}\n" for i, name in enumerate(names, 1))
    label = np.repeat(np.arange(0, 151, 6, dtype=np.uint8)[:24], 32).reshape(SIZE)
    base = "ADEChallengeData2016"
    content: dict[str, bytes | str] = {f"{base}/objectInfo150.txt": f"Idx\tRatio\tTrain\tVal\tName\n{rows}"}
    for folder, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        content[f"{base}/images/{folder}/{name}.jpg"] = encode(photo(1), ".jpg")
        content[f"{base}/annotations/{folder}/{name}.png"] = encode(label)
    content[f"{base}/images/training/ADE_train_00000002.jpg"] = encode(photo(2), ".jpg")
    result = run("ade20k", to_zip(tmp_path / "ADEChallengeData2016.zip", content), tmp_path / "out")
    assert result.splits == {"train": 1, "val": 1}
    np.testing.assert_array_equal(labels_of(result, "val")["ADE_val_00000001"], label - 1)  # 0 becomes 255
    assert len(result.classes) == 150
    assert class_names(result)[13:15] == ["thing 14", "door, double door"]
    assert result.skipped[0].reason == "its label map is missing"


def test_cityscapes(tmp_path):
    label = np.repeat(np.arange(24, dtype=np.uint8), 32).reshape(SIZE)
    label[0] = 255  # a license plate, -1
    label[1] = 33
    images, labels = {}, {}
    for split, city in (("train", "aachen"), ("val", "munster"), ("test", "berlin")):
        stem = f"{split}/{city}/{city}_000000_000019"
        images[f"leftImg8bit/{stem}_leftImg8bit.png"] = encode(photo(1))
        labels[f"gtFine/{stem}_gtFine_labelIds.png"] = encode(label)
        labels[f"gtFine/{stem}_gtFine_color.png"] = encode(photo(2))
        labels[f"gtFine/{stem}_gtFine_instanceIds.png"] = encode(label.astype(np.uint16) * 1000)
        labels[f"gtFine/{stem}_gtFine_polygons.json"] = "{}"
    sources = [to_zip(tmp_path / "leftImg8bit.zip", images), to_zip(tmp_path / "gtFine.zip", labels)]
    result = run("cityscapes", sources, tmp_path / "out")
    assert result.splits == {"train": 1, "val": 1}
    assert result.classes == load_classes(CONFIGS / "cityscapes_classes.txt").classes
    got = labels_of(result, "val")["munster_000000_000019"][:, 0].tolist()
    ignored = 255
    truth = [
        ignored,
        18,
        *[ignored] * 5,
        0,
        1,
        ignored,
        ignored,
        2,
        3,
        4,
        ignored,
        ignored,
        ignored,
        5,
        ignored,
        6,
        7,
        8,
        9,
        10,
    ]
    assert got == truth
    assert (result.root / "images" / "munster_000000_000019.png").read_bytes() == encode(photo(1))
    assert "1 test pictures" in result.notes[0]


CAMVID_LABEL = np.repeat(np.arange(32, dtype=np.uint8), 24).reshape(32, 24).T  # a column for each of the 32 classes


def camvid_sources(tmp_path: Path) -> list[Path]:
    colors = np.array(list(tables.CAMVID_COLORS.values()), np.uint8)
    images, labels = {}, {}
    for name in ("0001TP_006690", "0001TP_010380", "0006R0_f00930", "0016E5_07959", "0016E5_08640", "Seq05VD_f00000"):
        images[f"701_StillsRaw_full/{name}.png"] = encode(photo(1))
        labels[f"{name}_L.png"] = encode(colors[CAMVID_LABEL])
    return [to_zip(tmp_path / "701_StillsRaw_full.zip", images), to_zip(tmp_path / "LabeledApproved_full.zip", labels)]


def test_camvid_11_and_12(tmp_path):
    sources = camvid_sources(tmp_path)
    result = run("camvid", sources, tmp_path / "out")
    assert result.splits == {"train": 3, "test": 2, "val": 1}
    assert result.classes == load_classes(CONFIGS / "camvid_classes.txt").classes
    by_name = dict(zip(tables.CAMVID_COLORS, labels_of(result, "val")["0016E5_07959"][0], strict=True))
    names = class_names(result)
    grouped = {"Bridge": "Building", "LaneMkgsDriv": "Road", "TrafficLight": "SignSymbol", "Child": "Pedestrian"}
    for name, group in grouped.items():
        assert names[by_name[name]] == group
    assert by_name["Void"] == 255
    twelve = run("camvid", sources, tmp_path / "twelve", class_number=12)
    assert class_names(twelve)[11] == "Void"
    assert labels_of(twelve, "val")["0016E5_07959"][0, 30] == 11


def test_camvid_by_a_class_file(tmp_path):
    chosen = ClassList((ClassInfo("tree", (1, 1, 1)), ClassInfo("Road", (2, 2, 2))), explicit_colors=True)
    result = run("camvid", camvid_sources(tmp_path), tmp_path / "out", classes=chosen)
    row = dict(zip(tables.CAMVID_COLORS, labels_of(result, "val")["0016E5_07959"][0], strict=True))
    assert {name: int(label) for name, label in row.items() if label != 255} == {"Tree": 0, "Road": 1}
    wrong = ClassList((ClassInfo("trees", (1, 1, 1)),), explicit_colors=True)
    with pytest.raises(DataError, match="no class 'trees'"):
        run("camvid", camvid_sources(tmp_path), tmp_path / "other", classes=wrong)


def test_camvids_split_is_that_of_the_lists(deeplab_data):
    for split, count in (("train", 367), ("val", 101), ("test", 233)):
        names = (deeplab_data / "camvid" / f"{split}.txt").read_text().split()
        assert len(names) == count
        assert {tables.camvid_split(name) for name in names} == {split}


@pytest.mark.parametrize("name", ["cihp", "atr"])
def test_human_parsing(tmp_path, name):
    count = 20 if name == "cihp" else 18
    cihp, atr = "instance-level_human_parsing/instance-level_human_parsing", "ICCV15_fashion_dataset(ATR)/humanparsing"
    label = regions(count)
    label[0, 0] = count - 1
    content = {
        f"{cihp}/Training/Images/0000006.jpg": encode(photo(1), ".jpg"),
        f"{cihp}/Training/Category_ids/0000006.png": encode(label),
        f"{cihp}/Training/Human_ids/0000006.png": encode(regions(3)),
        f"{cihp}/Validation/Images/0000008.jpg": encode(photo(2), ".jpg"),
        f"{cihp}/Validation/Category_ids/0000008.png": encode(label),
        f"{cihp}/Testing/Images/0000009.jpg": encode(photo(2), ".jpg"),
        f"{atr}/JPEGImages/997_1.jpg": encode(photo(3), ".jpg"),
        f"{atr}/SegmentationClassAug/997_1.png": encode(label),
    }
    result = run(name, to_zip(tmp_path / "instance-level-human-parsing.zip", content), tmp_path / "out")
    assert result.splits == ({"train": 1, "val": 1} if name == "cihp" else {"all": 1})
    assert len(result.classes) == count
    split, picture = ("val", "0000008") if name == "cihp" else ("all", "997_1")
    np.testing.assert_array_equal(labels_of(result, split)[picture], label)
    label[3, 3] = count  # one more than there are
    content[f"{cihp}/Validation/Category_ids/0000008.png"] = content[f"{atr}/SegmentationClassAug/997_1.png"] = encode(
        label
    )
    archive = to_zip(tmp_path / "wrong.zip", content)
    if name == "cihp":
        assert f"holds the number {count}" in run(name, archive, tmp_path / "b").skipped[0].reason
    else:
        with pytest.raises(DataError, match=f"no picture could be converted.*holds the number {count}"):
            run(name, archive, tmp_path / "b")


def test_penn_fudan(tmp_path):
    masks = regions(4, seed=3)
    content = {
        "PennFudanPed/PNGImages/FudanPed00001.png": encode(photo(1)),
        "PennFudanPed/PedMasks/FudanPed00001_mask.png": encode(masks),
        "PennFudanPed/Annotation/FudanPed00001.txt": "x",
        "PennFudanPed/readme.txt": "x",
    }
    result = run(
        "penn_fudan", to_zip(tmp_path / "PennFudanPed.zip", content), tmp_path / "out", class_name="pedestrian"
    )
    assert class_names(result) == ["background", "pedestrian"]
    np.testing.assert_array_equal(labels_of(result, "all")["FudanPed00001"], masks > 0)
    assert len(opened(result, "all")) == 1
