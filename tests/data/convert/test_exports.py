"""Exports of label tools and people's own folders, built as the tools write them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from built_sets import (
    SIZE,
    as_json,
    class_names,
    encode,
    labels_of,
    palette_png,
    photo,
    regions,
    run,
    to_folder,
    to_zip,
)
from PIL import Image

from deeplabv3p.data.classes import ClassList, default_colors
from deeplabv3p.data.convert.raster import fill_polygon
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.spec import ClassInfo

HEIGHT, WIDTH = SIZE
RED_BLUE = ClassList((ClassInfo("red", (255, 0, 0)), ClassInfo("blue", (0, 0, 255))), explicit_colors=True)


def named(*names: str) -> ClassList:
    return ClassList(
        tuple(ClassInfo(n, c) for n, c in zip(names, default_colors(len(names)), strict=True)), explicit_colors=False
    )


def block(top: int, bottom: int, left: int, right: int) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def painted(*parts: tuple[tuple[int, int, int, int], int], ground: int = 0) -> np.ndarray:
    label = np.full(SIZE, ground, np.uint8)
    for (top, bottom, left, right), value in parts:
        label[top:bottom, left:right] = value
    return label


# labelme


def shape(label: str, points: list, kind: str | None = "polygon", **more: object) -> dict:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def labelme(shapes: list, image: str = "a.jpg", data: bytes | None = None, size: tuple[int, int] = SIZE) -> str:
    return as_json(
        {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": image,
            "imageData": base64.b64encode(data).decode() if data else None,
            "imageHeight": size[0],
            "imageWidth": size[1],
        }
    )


def test_labelme_shapes_in_their_order(tmp_path):
    shapes = [
        shape("road", block(0, 8, 0, 16)),
        shape("car", [[4, 4], [12, 12]], "rectangle"),
        shape("road", block(16, 24, 0, 4), None),  # files of old versions have no type
        shape("__ignore__", block(0, 2, 0, 2)),
        shape("_background_", block(0, 2, 14, 16)),
    ]
    root = to_folder(tmp_path / "in", {"a.json": labelme(shapes), "a.jpg": encode(photo(), ".jpg"), "other.json": "{}"})
    result = run("labelme", root, tmp_path / "out")
    assert class_names(result) == ["background", "car", "road"]
    truth = painted(
        ((0, 8, 0, 16), 2), ((4, 12, 4, 12), 1), ((16, 24, 0, 4), 2), ((0, 2, 0, 2), 255), ((0, 2, 14, 16), 0)
    )
    np.testing.assert_array_equal(labels_of(result, "all")["a"], truth)
    assert "not of labelme" in result.skipped[0].reason
    assert (result.root / "images" / "a.jpg").read_bytes() == encode(photo(), ".jpg")


def test_labelme_lines_points_circles_and_masks(tmp_path):
    mask = np.zeros((4, 6), bool)
    mask[1:3, 1:5] = True
    png = base64.b64encode(encode(mask)).decode()
    shapes = [
        shape("line", [[2, 20.5], [30, 20.5]], "line"),
        shape("strip", [[2.5, 1.5], [2.5, 9.5], [9.5, 9.5]], "linestrip"),
        shape("point", [[20.5, 4.5]], "point"),
        shape("circle", [[20, 12], [20, 16]], "circle"),
        shape("mask", [[25, 2], [30, 5]], "mask", mask=png),
    ]
    root = to_folder(tmp_path / "in", {"a.json": labelme(shapes), "a.jpg": encode(photo(), ".jpg")})
    result = run("labelme", root, tmp_path / "out", thickness=3)
    assert class_names(result) == ["background", "circle", "line", "mask", "point", "strip"]
    label = labels_of(result, "all")["a"]
    assert sorted(np.unique(np.nonzero(label == 2)[0])) == [19, 20, 21]
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    along = [(2.5, 1.5 + step / 64) for step in range(513)] + [(2.5 + step / 64, 9.5) for step in range(449)]
    away = np.min([np.hypot(x - at, y - down) for at, down in along], axis=0)
    np.testing.assert_array_equal(label == 5, away <= 1.5)
    np.testing.assert_array_equal(label == 4, painted(((3, 6, 19, 22), 1)) > 0)  # a disc 3 pixels across is a block
    np.testing.assert_array_equal(label == 1, (x - 20) ** 2 + (y - 12) ** 2 < 16)
    np.testing.assert_array_equal(label[2:6, 25:31] == 3, mask)
    with pytest.raises(DataError, match=r"of 5 annotations 5 are not used: 5 shapes that are not polygons"):
        run("labelme", root, tmp_path / "only", polygon_only=True)
    to_folder(root, {"a.json": labelme([*shapes, shape("line", block(0, 4, 0, 4))])})
    only = run("labelme", root, tmp_path / "only", polygon_only=True)
    np.testing.assert_array_equal(labels_of(only, "all")["a"], painted(((0, 4, 0, 4), 1)))
    assert "5 of 6 annotations are not used: 5 shapes that are not polygons" in only.warnings[0]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_labelme_with_the_picture_inside(tmp_path, suffix):
    data = encode(photo(), suffix)
    root = to_folder(tmp_path / "in", {"x y.json": labelme([shape("a", block(0, 4, 0, 4))], "gone.jpg", data)})
    result = run("labelme", root, tmp_path / "out")
    assert (result.root / "images" / f"x y{suffix}").read_bytes() == data
    np.testing.assert_array_equal(labels_of(result, "all")["x y"], painted(((0, 4, 0, 4), 1)))


def test_labelme_pictures_elsewhere_and_splits_by_folder(tmp_path):
    one = labelme([shape("a", block(0, 4, 0, 4))], "..\\..\\pictures\\a.jpg")
    content = {
        "train/json/a.json": one,
        "val/json/a.json": one.replace("pictures", "other"),
        "pictures/a.jpg": encode(photo(1), ".jpg"),
        "other/a.jpg": encode(photo(2), ".jpg"),
    }
    result = run("labelme", to_folder(tmp_path / "in", content), tmp_path / "out")
    assert result.splits == {"train": 1, "val": 1}
    assert (result.root / "images" / "a.jpg").read_bytes() == content["pictures/a.jpg"]
    assert (result.root / "images" / "a_2.jpg").read_bytes() == content["other/a.jpg"]


def test_labelme_lists_and_names_that_are_missing(tmp_path):
    root = to_folder(
        tmp_path / "in", {"a.json": labelme([shape("cat", block(0, 4, 0, 4))]), "a.jpg": encode(photo(), ".jpg")}
    )
    result = run("labelme", root, tmp_path / "out", classes=named("__ignore__", "_background_", "dog", "cat"))
    assert class_names(result) == ["_background_", "dog", "cat"]
    assert labels_of(result, "all")["a"].max() == 2
    result = run("labelme", root, tmp_path / "front", classes=named("dog", "cat"))
    assert class_names(result) == ["background", "dog", "cat"]
    assert "no background" in result.notes[0]
    result = run("labelme", root, tmp_path / "ignored", classes=named("dog", "cat"), unlabelled="ignore")
    assert sorted(np.unique(labels_of(result, "all")["a"])) == [1, 255]
    with pytest.raises(DataError, match="'cat', which the class file does not name"):
        run("labelme", root, tmp_path / "no", classes=named("dog"))
    assert not (tmp_path / "no").exists()


BAD_LABELME = {
    "not valid JSON": "{",
    "imageData": labelme([], "gone.jpg"),
    "'label' is missing": labelme([{"points": []}]),
    "'imageHeight' is missing": labelme([]).replace("imageHeight", "height"),
    "shape of type 'star'": labelme([shape("a", [[0, 0]], "star")]),
    "at least 3 are needed": labelme([shape("a", [[0, 0], [1, 1]])]),
    "not pairs of numbers": labelme([shape("a", [[0, 0], [1, "x"], [2, 2]])]),
    "far outside": labelme([shape("a", [[0, 0], [1e9, 1], [2, 2]])]),
    "was annotated as 1000000x1000000": labelme([], size=(1000000, 1000000)),
    "was annotated as 25x32": labelme([], size=(25, 32)),
    "is not base64": labelme([shape("a", [[0, 0], [1, 1]], "mask", mask="%%%")]),
}


@pytest.mark.parametrize("reason", BAD_LABELME)
def test_labelme_files_that_lie_are_left_out(tmp_path, reason):
    good = labelme([shape("a", block(0, 4, 0, 4))])
    content = {"bad.json": BAD_LABELME[reason], "good.json": good, "a.jpg": encode(photo(), ".jpg")}
    result = run("labelme", to_folder(tmp_path / "in", content), tmp_path / "out")
    assert list(labels_of(result, "all")) == ["good"]
    assert len(result.skipped) == 1
    assert reason in result.skipped[0].reason
    state = json.loads((result.root / "dataset.json").read_text())
    assert reason in state["skipped"][0]["reason"]


# CVAT


def cvat_xml(shapes: str, name: str = "a.jpg", subset: str = "") -> str:
    labels = "".join(f"<label><name>{n}</name><color>#fff</color></label>" for n in ("road", "car"))
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task><labels>'
        f'{labels}</labels></task></meta><image id="0" name="{name}" {subset} width="{WIDTH}" height="{HEIGHT}">'
        f'{shapes}<tag label="road" source="manual"/></image></annotations>'
    )


POLYGON = '<polygon label="{}" occluded="0" points="{}" z_order="{}"></polygon>'
CVAT_SHAPES = (
    POLYGON.format("car", "0.00,0.00;8.00,0.00;8.00,8.00;0.00,8.00", 1)
    + POLYGON.format("road", "4,4;16,4;16,12;4,12", 0)  # below, though it comes later
    + '<mask label="road" rle="1, 2, 2, 1" left="20" top="2" width="3" height="2" z_order="0"></mask>'
    + '<box label="car" xtl="20" ytl="16" xbr="24" ybr="20" z_order="0"></box>'
    + '<cuboid label="car" xtl1="1"></cuboid>'
)
CVAT_TRUTH = painted(((4, 12, 4, 16), 1), ((0, 8, 0, 8), 2))
CVAT_TRUTH[2, 21:23] = CVAT_TRUTH[3, 22] = 1


def test_cvat_for_images(tmp_path):
    content = {
        "annotations.xml": cvat_xml(CVAT_SHAPES, subset='subset="Train"'),
        "images/Train/a.jpg": encode(photo(), ".jpg"),
    }
    archive = to_zip(tmp_path / "export.zip", content)
    result = run("cvat", archive, tmp_path / "out")
    assert class_names(result) == ["background", "road", "car"]
    assert result.splits == {"train": 1}
    np.testing.assert_array_equal(labels_of(result, "train")["a"], CVAT_TRUTH)
    assert result.notes == (
        "2 of 5 annotations are not used: 1 boxes (--boxes fills them), 1 shapes of the kind 'cuboid'",
    )
    boxed = labels_of(run("cvat", archive, tmp_path / "boxed", boxes=True), "train")["a"]
    np.testing.assert_array_equal(boxed, np.where(painted(((16, 20, 20, 24), 1)) > 0, 2, CVAT_TRUTH))


def test_cvat_turned_boxes_ellipses_and_lines(tmp_path):
    shapes = (
        '<box label="car" xtl="4" ytl="10" xbr="12" ybr="14" rotation="90"/>'
        '<ellipse label="road" cx="24" cy="12" rx="3" ry="6"/>'
        '<polyline label="road" points="0.5,0.5;30.5,0.5"/><points label="car" points="0.5,22.5;30.5,22.5"/>'
    )
    root = to_folder(tmp_path / "in", {"annotations.xml": cvat_xml(shapes), "elsewhere/a.jpg": encode(photo(), ".jpg")})
    label = labels_of(run("cvat", root, tmp_path / "out", boxes=True, thickness=1), "all")["a"]
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    truth = painted(((8, 16, 6, 10), 2))
    ellipse = ((x - 24) / 3) ** 2 + ((y - 12) / 6) ** 2 < 1
    truth[ellipse] = 1
    truth[0, 0:31] = 1
    truth[22, 0] = truth[22, 30] = 2
    assert (label != truth).sum() <= 2  # an ellipse is a polygon of 256 corners


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (cvat_xml("").replace("<annotations>", '<!DOCTYPE x [<!ENTITY a "aa">]><annotations>', 1), "document type"),
        (cvat_xml("<polygon"), "not valid XML"),
        ("<other/>", "neither labelmap.txt nor an XML file of CVAT"),
        ("<annotations><track id='0'/></annotations>", "this is CVAT for video"),
        (cvat_xml('<mask label="road" rle="9,99" left="0" top="0" width="3" height="2"/>'), "runs of 108 pixels"),
        (cvat_xml('<mask label="road" rle="1" left="30" top="0" width="3" height="2"/>'), "reaches out of its picture"),
        (cvat_xml('<mask label="road" rle="1" left="0" top="0" width="3"/>'), "has no number 'height'"),
        (cvat_xml(POLYGON.format("road", "1,1;2", 0)), "not pairs of numbers"),
    ],
)
def test_cvat_files_that_lie(tmp_path, text, reason):
    root = to_folder(tmp_path / "in", {"annotations.xml": text, "a.jpg": encode(photo(), ".jpg")})
    with pytest.raises(DataError, match=reason):
        run("cvat", root, tmp_path / "out")


@pytest.mark.parametrize("rgb", [True, False])
def test_cvat_segmentation_masks(tmp_path, rgb):
    truth = painted(((0, 8, 0, 8), 1), ((8, 16, 8, 16), 2))
    colors = np.zeros((256, 3), np.uint8)
    colors[1], colors[2] = (250, 50, 83), (61, 245, 61)
    # CVAT orders classes as it likes, background anywhere
    labelmap = "# label:color_rgb:parts:actions\nroad:250,50,83::\nbackground:0,0,0::\na:b:61,245,61::\n"
    content = {
        "labelmap.txt": labelmap,
        "ImageSets/Segmentation/default.txt": "sub/one\n",
        "SegmentationClass/sub/one.png": encode(colors[truth]) if rgb else palette_png(truth, colors),
        "SegmentationObject/sub/one.png": encode(photo()),
        "JPEGImages/sub/one.jpg": encode(photo(), ".jpg"),
    }
    result = run("cvat", to_zip(tmp_path / "export.zip", content), tmp_path / "out")
    assert [(item.name, item.color) for item in result.classes] == [
        ("background", (0, 0, 0)),
        ("road", (250, 50, 83)),
        ("a:b", (61, 245, 61)),
    ]
    np.testing.assert_array_equal(labels_of(result, "all")["sub_one"], truth)
    content["labelmap.txt"] = labelmap.replace("250,50,83", "250,50,84")
    with pytest.raises(DataError, match=r"holds the colour 250 50 83 in 64 pixels"):
        run("cvat", to_zip(tmp_path / "wrong.zip", content), tmp_path / "wrong")
    content["labelmap.txt"] = "road;1;2;3\n"
    with pytest.raises(DataError, match="is not name:red,green,blue:parts:actions"):
        run("cvat", to_zip(tmp_path / "bad.zip", content), tmp_path / "bad")


# Label Studio


def brush(mask: np.ndarray) -> list[int]:
    """As Label Studio's editor writes one: bits of runs and of single values."""
    values = np.repeat((mask.ravel() * 255).astype(int), 4).tolist()
    bits = f"{len(values):032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    place = 0
    while place < len(values):
        run_length = 1
        while place + run_length < len(values) and values[place + run_length] == values[place]:
            run_length += 1
        if run_length >= 3:
            bits += f"1{3:02b}{run_length - 1:016b}{values[place]:08b}"
        else:
            bits += f"0{0:02b}{run_length - 1:03b}" + "".join(f"{v:08b}" for v in values[place : place + run_length])
        place += run_length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def result_item(kind: str, value: dict, label: str) -> dict:
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {"type": kind, "value": {**value, kind: [label]}, "from_name": "label", "to_name": "image", **size}


def task(image: str, results: list, **more: object) -> dict:
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": results, "was_cancelled": False, **more}]}


def percent(top: int, bottom: int, left: int, right: int) -> list[list[float]]:
    return [[x * 100 / WIDTH, y * 100 / HEIGHT] for x, y in block(top, bottom, left, right)]


def test_label_studio(tmp_path):
    mask = regions(2, seed=5) > 0
    polygon = result_item("polygonlabels", {"points": percent(0, 8, 0, 8)}, "Roof")
    painted_by_hand = result_item("brushlabels", {"format": "rle", "rle": brush(mask)}, "Tree")
    square = result_item("rectanglelabels", {"x": 50, "y": 50, "width": 25, "height": 25, "rotation": 0}, "Roof")
    relation = {"type": "relation", "from_id": "a", "to_id": "b"}
    tasks = [
        task("/data/upload/3/0a1b2c3d-my%20photo.jpg", [painted_by_hand, polygon, square, relation]),
        task("/data/local-files/?d=set/b.png", []),
        task("s3://bucket/c.jpg", [polygon], was_cancelled=True),
    ]
    content = {
        "project.json": as_json(tasks),
        "pictures/my photo.jpg": encode(photo(), ".jpg"),
        "pictures/set/b.png": encode(photo(1)),
    }
    root = to_folder(tmp_path / "in", content)
    result = run("labelstudio", root, tmp_path / "out")
    assert class_names(result) == ["background", "Roof", "Tree"]
    truth = np.where(mask, 2, 0)
    truth[0:8, 0:8] = 1
    labels = labels_of(result, "all")
    np.testing.assert_array_equal(labels["my photo"], truth)
    assert not labels["b"].any()
    assert "no annotation that was finished" in result.skipped[0].reason
    truth[12:18, 16:24] = 1
    np.testing.assert_array_equal(
        labels_of(run("labelstudio", root, tmp_path / "b", boxes=True), "all")["my photo"], truth
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rle": [1, 2, 3]}, "cut off"),
        ({"rle": brush(np.zeros((9, 9), bool))}, "of 324 values, 24x32x4 are expected"),
        ({"rle": "abc"}, "no list of bytes"),
        ({"points": percent(0, 8, 0, 8)[:2]}, "at least 3 are needed"),
    ],
)
def test_label_studio_brushes_that_lie(tmp_path, change, reason):
    item = result_item("brushlabels", change, "Tree")
    root = to_folder(tmp_path / "in", {"p.json": as_json([task("/a.jpg", [item])]), "a.jpg": encode(photo(), ".jpg")})
    with pytest.raises(DataError, match=reason):
        run("labelstudio", root, tmp_path / "out")


# Folders and lists


@pytest.mark.parametrize("split_first", [True, False])
def test_rgb_masks(tmp_path, split_first):
    colors = np.array([(255, 0, 0), (0, 0, 255), (224, 224, 192)], np.uint8)
    index = regions(3)
    place = "{split}/{kind}/{name}" if split_first else "{kind}/{split}/{name}"
    content = {}
    for seed, split in enumerate(("train", "val")):
        content[place.format(split=split, kind="img", name="a.jpg")] = encode(photo(seed), ".jpg")
        content[place.format(split=split, kind="ann", name="a_mask.png")] = encode(colors[index])
    content[place.format(split="val", kind="img", name="b.jpg")] = encode(photo(), ".jpg")
    root = to_folder(tmp_path / "in", content)
    how = {"images": "img", "labels": "ann", "label_suffix": "_mask", "classes": RED_BLUE}
    result = run("rgb_masks", root, tmp_path / "out", **how)
    assert result.splits == {"train": 1, "val": 1}
    np.testing.assert_array_equal(labels_of(result, "train")["a"], np.where(index == 2, 255, index))
    assert "label map is missing" in result.skipped[0].reason


def test_rgb_masks_with_other_colours(tmp_path):
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[:] = (255, 0, 0)
    mask[0, 0] = (254, 0, 0)
    root = to_folder(tmp_path / "in", {"images/a.jpg": encode(photo(), ".jpg"), "labels/a.png": encode(mask)})
    with pytest.raises(DataError, match="colour 254 0 0 in 1 pixels, which no class has"):
        run("rgb_masks", root, tmp_path / "out", classes=RED_BLUE)
    label = labels_of(run("rgb_masks", root, tmp_path / "b", classes=RED_BLUE, others="ignore"), "all")["a"]
    assert label[0, 0] == 255
    assert not label[1:].any()
    with pytest.raises(UsageError, match="need a class file with colours"):
        run("rgb_masks", root, tmp_path / "c")
    to_folder(root, {"labels/a.png": encode(photo(), ".jpg")})
    with pytest.raises(DataError, match="stored as JPEG"):
        run("rgb_masks", root, tmp_path / "d", classes=RED_BLUE)


def test_rgb_masks_are_the_inverse_of_colours(deeplab_data, tmp_path):
    """CamVid's real label maps, drawn in colours, come back number by number."""
    from deeplabv3p import visualize
    from deeplabv3p.data.classes import load_classes

    classes = load_classes(Path(__file__).parents[3] / "configs" / "camvid_classes.txt")
    names = (deeplab_data / "camvid" / "val.txt").read_text().split()[:4]
    content, truth = {}, {}
    for name in names:
        label = np.asarray(Image.open(deeplab_data / "camvid" / "labels" / f"{name}.png"))
        truth[name] = np.where(label == 11, 255, label)
        content[f"images/{name}.jpg"] = (deeplab_data / "camvid" / "images" / f"{name}.jpg").read_bytes()
        content[f"labels/{name}.png"] = encode(visualize.colorize(truth[name].astype(np.uint8), classes.classes))
    result = run("rgb_masks", to_folder(tmp_path / "in", content), tmp_path / "out", classes=classes)
    for name, label in labels_of(result, "all").items():
        np.testing.assert_array_equal(label, truth[name])


def test_paddleseg(tmp_path):
    label = regions(3)
    label[0] = 255
    content = {
        "labels.txt": "road\ncar\nsky\n",
        "train.txt": "images/a b.jpg labels/a b.png\n\nimages/gone.jpg labels/gone.png\n",
        "val_list.txt": "images/c.jpg\tlabels/c.png\n",
        "test.txt": "images/d.jpg\n",
        **{f"images/{name}.jpg": encode(photo(), ".jpg") for name in ("a b", "c", "d")},
        **{f"labels/{name}.png": palette_png(label, np.array(default_colors(256))) for name in ("a b", "c")},
    }
    result = run("paddleseg", to_folder(tmp_path / "in", content), tmp_path / "out")
    assert class_names(result) == ["road", "car", "sky"]
    assert result.splits == {"train": 1, "val": 1}
    np.testing.assert_array_equal(labels_of(result, "train")["a b"], label)
    assert "no two such files" in result.skipped[0].reason
    assert "1 pictures without label map" in result.notes[0]
    wide = ClassList((ClassInfo("only", (1, 2, 3)),), explicit_colors=True)
    with pytest.raises(DataError, match="holds the number 1 "):
        run("paddleseg", tmp_path / "in", tmp_path / "b", classes=wide)


def test_numbers_under_palettes_of_an_optimiser_are_refused(tmp_path):
    one, other = np.array([(9, 8, 7), (1, 200, 3)]), np.array([(1, 200, 3), (9, 8, 7)])
    content = {
        "labels.txt": "road\ncar\n",
        "train.txt": "images/a.jpg labels/a.png\nimages/c.jpg labels/c.png\n",
        **{f"images/{name}.jpg": encode(photo(), ".jpg") for name in "ac"},
        **{f"labels/{name}.png": palette_png(regions(2), colors) for name, colors in (("a", one), ("c", other))},
    }
    with pytest.raises(DataError, match=r"labels/c\.png have palettes in different orders.*rgb_masks"):
        run("paddleseg", to_folder(tmp_path / "in", content), tmp_path / "out")


def yolo_line(number: int, points: list[list[float]]) -> str:
    return f"{number} " + " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in points) + "\n"


@pytest.mark.parametrize(
    "names",
    [
        "names:\n  0: person\n  1: traffic light  # two words\n",
        "names:\n- person\n- 'traffic light'\nnc: 2\n",
        'names: ["person", "traffic light"]\n',
        "names: {0: person, 1: traffic light}\n",
        "names: ['person',\n        'traffic light']\n",
    ],
)
def test_yolo(tmp_path, names):
    content = {
        "data.yaml": f"path: ../data  # root\ntrain: images/train\nval: images/val\n{names}\nroboflow:\n  project: x\n",
        "images/train/a.jpg": encode(photo(), ".jpg"),
        "labels/train/a.txt": yolo_line(1, block(0, 8, 0, 8)) + yolo_line(0, block(4, 12, 4, 12)),
        "images/val/images b.png": encode(photo(1)),
    }
    result = run("yolo", to_folder(tmp_path / "in", content), tmp_path / "out")
    assert class_names(result) == ["background", "person", "traffic light"]
    np.testing.assert_array_equal(labels_of(result, "train")["a"], painted(((0, 8, 0, 8), 2), ((4, 12, 4, 12), 1)))
    assert not labels_of(result, "val")["images b"].any()
    assert "1 pictures have no label file" in result.notes[0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.1 0.1\n", "line 1 is a box"),
        ("2 0 0 1 0 1 1\n", "begins with '2', but the classes are 0 to 1"),
        ("0 0 0 100 0 100 100\n", "outside of 0 to 1"),
        ("0 0 0 1 0\n0 0 0 1 x 1 1\n", "box"),
        ("0 0 0 1 x 1 1\n", "not pairs of numbers"),
        ("0 0 0 1 0 1\n", "not pairs of numbers"),
    ],
)
def test_yolo_lines_that_lie(tmp_path, line, reason):
    content = {"data.yaml": "names: [a, b]\n", "images/a.jpg": encode(photo(), ".jpg"), "labels/a.txt": line}
    with pytest.raises(DataError, match=reason):
        run("yolo", to_folder(tmp_path / "in", content), tmp_path / "out")


def test_yolo_names_in_a_form_that_is_not_known(tmp_path):
    content = {"images/a.jpg": encode(photo(), ".jpg"), "labels/a.txt": yolo_line(0, block(0, 8, 0, 8))}
    for number, names in enumerate(["names: &x\n  - {a: b}\n", "names:\n  0: a\n  2: b\n", "names: []\n"]):
        root = to_folder(tmp_path / f"in{number}", {**content, "data.yaml": names})
        with pytest.raises(DataError, match="'names'"):
            run("yolo", root, tmp_path / "out")
    root = to_folder(tmp_path / "without", content)
    result = run("yolo", root, tmp_path / "out", classes=named("thing"))
    expected = np.zeros(SIZE, np.uint8)
    fill_polygon(expected, block(0, 8, 0, 8), 1)
    np.testing.assert_array_equal(labels_of(result, "all")["a"], expected)
