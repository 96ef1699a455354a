"""What becomes of annotations, in every reader: nothing left, most dropped, covered, read twice, alike in name."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from built_sets import SIZE, as_json, class_names, encode, labels_of, photo, run, to_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplabv3p.data.convert.coco import read_annotations
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.run import convert
from deeplabv3p.data.convert.sources import open_tree
from deeplabv3p.data.convert.tally import Tally
from deeplabv3p.errors import DataError

HEIGHT, WIDTH = SIZE
Part = tuple[int, int, int, int]


def outline(top: int, bottom: int, left: int, right: int) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def coco(
    annotations: list[dict], names: tuple[str, ...] = ("wall", "window"), pictures: int = 1, **more: object
) -> str:
    images = [{"id": n, "file_name": f"p{n}.jpg", "height": HEIGHT, "width": WIDTH} for n in range(pictures)]
    listed = [{"id": n, "name": name, "supercategory": ""} for n, name in enumerate(names, 1)]
    numbered = [{"id": n, "image_id": 0, "iscrowd": 0, **item} for n, item in enumerate(annotations)]
    return as_json({"images": images, "annotations": numbered, "categories": listed, **more})


def drawn(category: int, *part: int, **more: object) -> dict:
    return {"category_id": category, "segmentation": [outline(*part)], **more}


def jpg(seed: int = 0) -> bytes:
    return encode(photo(seed), ".jpg")


def pictures(count: int, folder: str = "") -> dict[str, bytes | str]:
    return {f"{folder}p{n}.jpg": jpg(n) for n in range(count)}


# Nothing left, and little


BOX = {"category_id": 1, "bbox": [0, 0, 9, 9]}
LABELME = '{{"shapes": [{}], "imagePath": "p0.jpg", "imageHeight": 24, "imageWidth": 32}}'
RECTANGLE = '{"label": "a", "points": [[0, 0], [9, 9]], "shape_type": "rectangle"}'
CVAT = (
    "<annotations><meta><task><labels><label><name>car</name></label><label><name>night</name></label></labels></task>"
    '</meta><image id="0" name="p0.jpg" width="32" height="24">{}</image></annotations>'
)
STUDIO_SIZE = {"original_width": 32, "original_height": 24}
STUDIO = {"value": {"x": 0, "y": 0, "width": 9, "height": 9, "rectanglelabels": ["a"]}, **STUDIO_SIZE}
VIA_BOX = {"name": "rect", "x": 0, "y": 0, "width": 9, "height": 9}
NOTHING: dict[str, tuple[str, dict[str, bytes | str], dict, str]] = {
    "coco, empty": ("mscoco2017", {"a.json": coco([{**BOX, "segmentation": []}])}, {}, "1 boxes without an outline"),
    "coco, empty parts": ("mscoco2017", {"a.json": coco([{**BOX, "segmentation": [[]]}])}, {}, "without an outline"),
    "coco, none": ("mscoco2017", {"a.json": coco([BOX] * 3)}, {}, "of 3 annotations 3 are not used"),
    "coco, null": ("mscoco2017", {"a.json": coco([{**BOX, "segmentation": None}])}, {}, "without an outline"),
    "coco, two points": (
        "mscoco2017",
        {"a.json": coco([{**BOX, "segmentation": [[0, 0, 9, 9]]}])},
        {},
        "1 polygons of fewer than 3 points",
    ),
    "coco, no annotations": ("mscoco2017", {"a.json": coco([])}, {}, "no annotation with a class"),
    "coco, of other pictures": ("mscoco2017", {"a.json": coco([drawn(1, 0, 9, 0, 9, image_id=7)])}, {}, "not list"),
    "coco, outside": ("mscoco2017", {"a.json": coco([drawn(1, 90, 99, 90, 99)])}, {}, "1 shapes that cover no pixel"),
    "coco, thin": ("mscoco2017", {"a.json": coco([drawn(1, 0, 9, 4, 4)])}, {}, "thinner than a pixel"),
    "coco, an empty mask": (
        "mscoco2017",
        {"a.json": coco([{**BOX, "segmentation": {"size": [24, 32], "counts": [768]}}])},
        {},
        "cover no pixel",
    ),
    "labelme, filtered": ("labelme", {"p0.json": LABELME.format(RECTANGLE)}, {"polygon_only": True}, "not polygons"),
    "labelme, no shapes": ("labelme", {"p0.json": LABELME.format("")}, {}, "no annotation with a class"),
    "labelme, background": (
        "labelme",
        {"p0.json": LABELME.format(RECTANGLE.replace('"a"', '"_background_"'))},
        {},
        "nothing but background",
    ),
    "cvat, boxes": (
        "cvat",
        {"annotations.xml": CVAT.format('<box label="car" xtl="0" ytl="0" xbr="9" ybr="9"/><tag label="night"/>')},
        {},
        r"1 boxes \(--boxes fills them\)",
    ),
    "cvat, tags": ("cvat", {"annotations.xml": CVAT.format('<tag label="night"/>')}, {}, "no annotation with a class"),
    "label studio, boxes": (
        "labelstudio",
        {"a.json": as_json([{"data": {"image": "p0.jpg"}, "annotations": [{"result": [STUDIO]}]}])},
        {},
        "1 boxes and ellipses",
    ),
    "via, boxes": (
        "via",
        {
            "via.json": as_json(
                {
                    "p0.jpg1": {
                        "filename": "p0.jpg",
                        "size": 1,
                        "regions": [{"shape_attributes": VIA_BOX, "region_attributes": {"name": "car"}}],
                        "file_attributes": {},
                    }
                }
            )
        },
        {},
        r"1 boxes \(--boxes",
    ),
    "yolo, empty files": (
        "yolo",
        {"data.yaml": "names: [a]", "images/p0.jpg": jpg(), "labels/p0.txt": ""},
        {},
        "nothing but background",
    ),
    "roboflow, zeros": (
        "roboflow",
        {
            "_classes.csv": "Pixel Value, Class\n0, background\n1, car\n",
            "p0_mask.png": encode(np.zeros(SIZE, np.uint8)),
        },
        {},
        "nothing but background",
    ),
    "penn_fudan, zeros": (
        "penn_fudan",
        {"PNGImages/p0.png": encode(photo()), "PedMasks/p0_mask.png": encode(np.zeros(SIZE, np.uint8))},
        {},
        "nothing but background",
    ),
    "paddleseg, zeros": (
        "paddleseg",
        {"labels.txt": "background\na\n", "train.txt": "p0.jpg m.png\n", "m.png": encode(np.zeros(SIZE, np.uint8))},
        {},
        "nothing but background",
    ),
}


@pytest.mark.parametrize("case", NOTHING)
def test_a_dataset_of_nothing_is_an_error(tmp_path, case):
    """It says what was found and why nothing came of it; there are no lists, so nothing to train on."""
    kind, content, how, reason = NOTHING[case]
    root = to_folder(tmp_path / "in", {**pictures(1), **content})
    with pytest.raises(DataError, match=reason) as error:
        run(kind, root, tmp_path / "out", **how)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "out").glob("*.txt")) or not (tmp_path / "out" / "all.txt").exists()


def test_what_is_most_dropped_is_a_warning_and_little_is_a_note(tmp_path):
    most = coco([drawn(1, 0, 9, 0, 9), drawn(2, 10, 20, 10, 20), *[BOX] * 8])
    result = run("mscoco2017", to_folder(tmp_path / "a", {"a.json": most, **pictures(1)}), tmp_path / "out")
    assert result.warnings == (
        "8 of 10 annotations are not used: 8 boxes without an outline ('segmentation' is empty)",
    )
    few = coco([drawn(1, 0, 9, 0, 9), drawn(2, 10, 20, 10, 20), BOX])
    result = run("mscoco2017", to_folder(tmp_path / "b", {"a.json": few, **pictures(1)}), tmp_path / "few")
    assert result.warnings == ()
    assert any("1 of 3 annotations are not used" in note for note in result.notes)
    again = run("mscoco2017", tmp_path / "b", tmp_path / "few")
    assert again.reused
    assert again.notes == result.notes


def test_outlines_that_are_all_boxes_are_said(tmp_path):
    text = coco([drawn(1, 0, 9, 0, 9), drawn(2, 10, 20, 10, 20)])
    result = run("mscoco2017", to_folder(tmp_path / "in", {"a.json": text, **pictures(1)}), tmp_path / "out")
    assert "2 of 2 outlines are upright boxes: is this a dataset of boxes?" in result.notes
    text = coco([drawn(1, 0, 9, 0, 9), {"category_id": 2, "segmentation": [[10, 10, 20, 10, 20, 20]]}])
    result = run("mscoco2017", to_folder(tmp_path / "b", {"a.json": text, **pictures(1)}), tmp_path / "none")
    assert not any("upright boxes" in note for note in result.notes)


KINDS = (
    drawn(1, 0, 9, 0, 9),
    drawn(2, 4, 20, 4, 20),
    BOX,
    {**BOX, "segmentation": []},
    {**BOX, "segmentation": [[1, 1, 2, 2]]},
    drawn(1, 90, 99, 0, 9),
    drawn(1, 0, 9, 4, 4),
    drawn(2, 0, 9, 0, 9, image_id=99),
    {"category_id": 2, "segmentation": {"size": [24, 32], "counts": [768]}},
    {"category_id": 2, "segmentation": {"size": [24, 32], "counts": [0, 100, 668]}},
)


@settings(max_examples=40)
@given(
    chosen=st.lists(st.sampled_from(KINDS), max_size=6), order=st.sampled_from(["area", "file"]), strict=st.booleans()
)
def test_no_conversion_ends_well_with_nothing_but_background(tmp_path_factory, chosen, order, strict):
    """Whatever the annotations are: either a pixel has a class and each annotation is accounted for, or it is an
    error and there is no list."""
    folder = tmp_path_factory.mktemp("any")
    root = to_folder(folder / "in", {"a.json": coco(list(chosen)), **pictures(1)})
    how = {"order": order, "min_pixels": 90 if strict else 0}
    try:
        result = run("mscoco2017", root, folder / "out", **how)
    except DataError:
        assert not (folder / "out" / "all.txt").exists()
        return
    assert labels_of(result, "all")["p0"].any()
    counts = json.loads((folder / "out" / "dataset.json").read_text())["annotations"]
    assert sum(counts["used"].values()) + sum(counts["dropped"].values()) == len(chosen)


def test_a_conversion_that_fails_leaves_no_list_of_an_earlier_one(tmp_path):
    root = to_folder(tmp_path / "in", {"a.json": coco([drawn(1, 0, 9, 0, 9)]), **pictures(1)})
    run("mscoco2017", root, tmp_path / "out")
    to_folder(root, {"a.json": coco([drawn(1, 90, 99, 0, 9)])})
    with pytest.raises(DataError, match="nothing but background"):
        convert("mscoco2017", [root], tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "all.txt").exists()


def test_empty_classes_one_class_and_blank_pictures_are_warnings(tmp_path):
    one = coco([drawn(1, 0, HEIGHT, 0, WIDTH)], pictures=10)
    result = run("mscoco2017", to_folder(tmp_path / "a", {"a.json": one, **pictures(10)}), tmp_path / "out")
    text = " ".join(result.warnings)
    assert "9 of 10 pictures have nothing but background" in text
    assert "1 of 3 classes have no pixel, a model cannot learn them: window" in text
    whole = coco([drawn(1, 0, HEIGHT, 0, WIDTH)], names=("wall",))
    result = run("mscoco2017", to_folder(tmp_path / "b", {"a.json": whole, **pictures(1)}), tmp_path / "whole")
    assert any("one class only: every pixel that counts is 'wall'" in warning for warning in result.warnings)


def test_most_pictures_left_out_is_a_warning(tmp_path):
    text = coco([drawn(1, 0, 9, 0, 9)], pictures=5)
    result = run("mscoco2017", to_folder(tmp_path / "in", {"a.json": text, **pictures(1)}), tmp_path / "out")
    assert any("4 of 5 pictures are left out" in warning for warning in result.warnings)
    assert {item.reason for item in result.skipped} == {f"its picture 'p{n}.jpg' is missing." for n in range(1, 5)}


def test_the_counts_survive_a_kill(tmp_path, monkeypatch):
    """What a conversion that was cut off has done is not drawn again; its counts come from the journal."""
    import os

    annotations = [drawn(1, 0, 9, 0, 9, image_id=n) for n in range(6)] + [
        drawn(2, 90, 99, 0, 9, image_id=n) for n in range(6)
    ]
    root = to_folder(tmp_path / "in", {"a.json": coco(annotations, pictures=6), **pictures(6)})
    whole = run("mscoco2017", root, tmp_path / "whole")

    def stop(done: int, total: int, info: object = None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        convert("mscoco2017", [root], tmp_path / "out", progress=stop)
    result = run("mscoco2017", root, tmp_path / "out")
    assert result.resumed == 3
    assert (tmp_path / "out" / "dataset.json").read_bytes() == (tmp_path / "whole" / "dataset.json").read_bytes()
    assert whole.notes == result.notes


def test_a_tally_reads_back():
    tally = Tally()
    tally.used["a"] += 2
    tally.dropped["boxes"] += 1
    assert Tally.from_json(tally.as_json()) == tally
    for wrong in (None, [], {}, {"used": {}, "dropped": {}, "covered": {"a": "b"}}):
        with pytest.raises(ValueError, match="holds no counts"):
            Tally.from_json(wrong)


# What lies on top


def facade(windows_first: bool = True) -> list[dict]:
    windows = [drawn(2, 4 + 8 * row, 8 + 8 * row, 4 + 6 * n, 8 + 6 * n) for n in range(4) for row in range(2)]
    wall = [drawn(1, 2, 22, 2, 30)]
    return windows + wall if windows_first else wall + windows


def test_smaller_shapes_lie_on_larger_ones_where_there_is_no_order(tmp_path):
    root = to_folder(tmp_path / "in", {"a.json": coco(facade()), **pictures(1)})
    result = run("mscoco2017", root, tmp_path / "out")
    label = labels_of(result, "all")["p0"]
    assert (label == 2).sum() == 8 * 16
    assert not any("cover" in text for text in (*result.notes, *result.warnings))
    by_file = run("mscoco2017", root, tmp_path / "file", order="file")
    assert (labels_of(by_file, "all")["p0"] == 2).sum() == 0
    assert any("8 of 8 'window'; --order says which shapes lie on top" in text for text in by_file.warnings)


def test_shapes_of_one_class_do_not_cover_each_other(tmp_path):
    text = coco([drawn(1, 4, 8, 4, 8), drawn(1, 2, 22, 2, 30), drawn(2, 0, 2, 0, 2)])
    result = run(
        "mscoco2017", to_folder(tmp_path / "in", {"a.json": text, **pictures(1)}), tmp_path / "o", order="file"
    )
    assert not any("cover" in text for text in (*result.notes, *result.warnings))


def polygon_cvat(label: str, part: Part, z: int) -> str:
    numbers = outline(*part)
    points = ";".join(f"{numbers[at]},{numbers[at + 1]}" for at in range(0, 8, 2))
    return f'<polygon label="{label}" points="{points}" z_order="{z}"/>'


SMALL, LARGE = (4, 12, 4, 12), (0, 20, 0, 20)


def in_every_format(small_first: bool) -> dict[str, dict[str, bytes | str]]:
    """A small 'window' and a large 'wall' in the formats that have shapes."""
    parts = [("window", SMALL), ("wall", LARGE)] if small_first else [("wall", LARGE), ("window", SMALL)]

    def points(part: Part) -> list[list[float]]:
        numbers = outline(*part)
        return [[numbers[at], numbers[at + 1]] for at in range(0, 8, 2)]

    numbers = {"wall": 1, "window": 2}
    shapes = [{"label": name, "points": points(part), "shape_type": "polygon"} for name, part in parts]
    percent = [
        {
            "value": {"points": [[x / 0.32, y / 0.24] for x, y in points(part)], "polygonlabels": [name]},
            **STUDIO_SIZE,
        }
        for name, part in parts
    ]
    regions = [
        {
            "shape_attributes": {
                "name": "polygon",
                "all_points_x": [x for x, _ in points(part)],
                "all_points_y": [y for _, y in points(part)],
            },
            "region_attributes": {"name": name},
        }
        for name, part in parts
    ]
    lines = [f"{numbers[name] - 1} " + " ".join(f"{x / 32} {y / 24}" for x, y in points(part)) for name, part in parts]
    objects = [
        {"classTitle": name, "geometryType": "polygon", "points": {"exterior": points(part), "interior": []}}
        for name, part in parts
    ]
    return {
        "mscoco2017": {"a.json": coco([drawn(numbers[name], *part) for name, part in parts]), "p0.jpg": jpg()},
        "labelme": {
            "p0.json": as_json({"shapes": shapes, "imagePath": "p0.jpg", "imageHeight": 24, "imageWidth": 32}),
            "p0.jpg": jpg(),
        },
        "cvat": {
            "annotations.xml": CVAT.format("".join(polygon_cvat(name, part, 0) for name, part in parts)),
            "p0.jpg": jpg(),
        },
        "labelstudio": {
            "a.json": as_json([{"data": {"image": "p0.jpg"}, "annotations": [{"result": percent}]}]),
            "p0.jpg": jpg(),
        },
        "via": {"via.json": as_json({"p0": {"filename": "p0.jpg", "regions": regions}}), "p0.jpg": jpg()},
        "yolo": {
            "data.yaml": "names: [wall, window]",
            "labels/p0.txt": "\n".join(lines),
            "images/p0.jpg": jpg(),
        },
        "supervisely": {
            "meta.json": as_json({"classes": [{"title": "wall"}, {"title": "window"}]}),
            "ds/ann/p0.jpg.json": as_json({"size": {"height": 24, "width": 32}, "objects": objects, "tags": []}),
            "ds/img/p0.jpg": jpg(),
        },
    }


@pytest.mark.parametrize("kind", in_every_format(True))
def test_each_format_has_its_order_and_counts_what_is_covered(tmp_path, kind):
    root = to_folder(tmp_path / "in", in_every_format(small_first=True)[kind])
    own = {"labelme": "file", "cvat": "file", "supervisely": "file"}.get(kind, "area")
    for order in ("area", "file"):
        result = run(kind, root, tmp_path / order, order=order)
        label = labels_of(result, next(iter(result.splits)))["p0"]
        window = class_names(result).index("window")
        assert (label == window).sum() == (64 if order == "area" else 0)
        covered = any("1 of 1 'window'" in warning for warning in result.warnings)
        assert covered == (order == "file")
        if order == own:
            default = run(kind, root, tmp_path / "default")
            np.testing.assert_array_equal(labels_of(default, next(iter(default.splits)))["p0"], label)


def test_cvats_order_of_depth_comes_before_area(tmp_path):
    shapes = polygon_cvat("car", SMALL, 0) + polygon_cvat("night", LARGE, 1)
    root = to_folder(tmp_path / "in", {"annotations.xml": CVAT.format(shapes), **pictures(1)})
    for order in ("area", "file"):
        result = run("cvat", root, tmp_path / order, order=order)
        assert (labels_of(result, "all")["p0"] == 1).sum() == 0
        assert any("1 of 1 'car'" in warning for warning in result.warnings)


PARTS = st.tuples(st.integers(0, 22), st.integers(1, 24), st.integers(0, 30), st.integers(1, 32), st.integers(1, 3))


@settings(max_examples=40)
@given(parts=st.lists(PARTS, min_size=1, max_size=12), seed=st.integers(0, 1 << 30))
def test_the_order_of_the_file_means_nothing_by_area(tmp_path_factory, parts, seed):
    """Any subset, in any order, gives the same map, as long as no two areas are equal."""
    by_area = {}
    for top, bottom, left, right, category in parts:
        part = (top, top + bottom, left, left + right)
        area = (min(part[1], HEIGHT) - top) * (min(part[3], WIDTH) - left)
        by_area[area] = drawn(category, *part)
    annotations = list(by_area.values())
    shuffled = random.Random(seed).sample(annotations, len(annotations))
    labels = []
    folder = tmp_path_factory.mktemp("coco")
    for number, order in enumerate((annotations, shuffled)):
        root = to_folder(folder / str(number), {"a.json": coco(order, names=("a", "b", "c"))})
        with open_tree([root], folder / "scratch") as tree:
            _, found, _, drawable = read_annotations(tree, Options(order="area"))
            labels.append(found[0].draw(SIZE).label)
        assert drawable == len(annotations)
    np.testing.assert_array_equal(*labels)
    expected = np.zeros(SIZE, np.uint8)
    for _, item in sorted(by_area.items(), reverse=True):
        x0, y0, _, _, x1, y1, _, _ = item["segmentation"][0]
        expected[y0:y1, x0:x1] = item["category_id"]
    np.testing.assert_array_equal(labels[0], expected)


# Read twice


def everywhere() -> dict[str, dict[str, bytes | str]]:
    """Every format with its annotations beside the pictures and once more in a folder of their own."""
    built = in_every_format(small_first=False)
    found = {}
    for kind in ("mscoco2017", "labelme", "cvat", "labelstudio", "via"):
        [(name, text)] = [item for item in built[kind].items() if not item[0].endswith(".jpg")]
        found[kind] = {"pictures/p0.jpg": jpg(), f"pictures/{name}": text, f"annotations/{name}": text}
    return found


@pytest.mark.parametrize("kind", everywhere())
def test_annotations_that_also_lie_beside_the_pictures_are_read_once(tmp_path, kind):
    root = to_folder(tmp_path / "in", everywhere()[kind])
    result = run(kind, root, tmp_path / "out")
    assert result.splits == {"all": 1}
    assert any("read once" in note or "taken once" in note for note in result.notes)
    # A source in another one is the same files again.
    both = run(kind, [root, root / "pictures"], tmp_path / "both")
    assert both.splits == {"all": 1}
    assert not any("annotations are not used" in note for note in both.notes)


def test_one_picture_in_two_files_that_differ_is_refused(tmp_path):
    content = {"a.json": coco([drawn(1, 0, 9, 0, 9)]), "b.json": coco([drawn(2, 0, 9, 0, 9)]), **pictures(1)}
    with pytest.raises(DataError, match=r"p0.jpg is annotated in .*a\.json and in .*b\.json, differently"):
        run("mscoco2017", to_folder(tmp_path / "in", content), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    twice = coco([drawn(1, 0, 9, 0, 9)]).replace(
        '"images": [', '"images": [{"id": 5, "file_name": "p0.jpg", "height": 24, "width": 32}, '
    )
    with pytest.raises(DataError, match=r"annotated twice in .*a\.json, differently"):
        run("mscoco2017", to_folder(tmp_path / "same", {"a.json": twice, **pictures(1)}), tmp_path / "out")


def test_a_picture_in_two_lists_stays_held_out(tmp_path):
    label = encode(np.tile(np.uint8([0, 1]), (24, 16)))
    content = {
        "labels.txt": "background\na\n",
        "train.txt": "p0.jpg p0.png\np1.jpg p1.png\n",
        "val.txt": "p1.jpg p1.png\n",
        "trainval.txt": "p0.jpg p0.png\np1.jpg p1.png\n",
        "p0.png": label,
        "p1.png": label,
        **pictures(2),
    }
    result = run("paddleseg", to_folder(tmp_path / "in", content), tmp_path / "out")
    assert result.splits == {"train": 1, "val": 1}
    assert list(labels_of(result, "val")) == ["p1"]
    assert any("1 pictures are in several lists" in warning for warning in result.warnings)


def test_a_picture_and_its_labels_that_were_copied_are_one_sample(tmp_path):
    shapes = '{"label": "a", "points": [[0, 0], [9, 0], [9, 9]]}'
    text = LABELME.format(shapes)
    content = {f"{folder}/{name}": data for folder in "xy" for name, data in (("p0.json", text), ("p0.jpg", jpg()))}
    result = run("labelme", to_folder(tmp_path / "in", content), tmp_path / "out")
    assert result.splits == {"all": 1}
    # The same name and labels, but another picture: two samples.
    result = run("labelme", to_folder(tmp_path / "in", {"y/p0.jpg": jpg(1)}), tmp_path / "two")
    assert result.splits == {"all": 2}


@settings(max_examples=25)
@given(places=st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=8))
def test_no_sample_twice_whatever_is_copied_where(tmp_path_factory, places):
    """Pictures and labels copied all over: each content is in one list, once, under a name of its own."""
    folder = tmp_path_factory.mktemp("copies")
    content: dict[str, bytes | str] = {}
    for place, picture, split in places:
        base = f"{place}/{('train', 'val')[split]}"
        content[f"{base}/p0.jpg"] = jpg(picture)
        content[f"{base}/p0.json"] = LABELME.format('{"label": "a", "points": [[0, 0], [9, 0], [9, 9]]}')
    different = {data for name, data in content.items() if name.endswith(".jpg")}
    result = run("labelme", to_folder(folder / "in", content), folder / "out")
    names = [name for split in result.splits for name in (folder / "out" / f"{split}.txt").read_text().split()]
    assert len(names) == len(set(names)) == len(different)
    written = [path.read_bytes() for path in sorted((folder / "out" / "images").iterdir())]
    assert len(written) == len(set(written)) == len(different)


# Names


def test_categories_of_one_name_are_said(tmp_path):
    text = coco([drawn(1, 0, 9, 0, 9), drawn(2, 10, 20, 10, 20)], names=("car", "car"))
    result = run("mscoco2017", to_folder(tmp_path / "in", {"a.json": text, **pictures(1)}), tmp_path / "out")
    assert class_names(result) == ["background", "car"]
    assert "the categories 1, 2 are all called 'car': they are one class" in result.notes


def test_blanks_and_case_in_names_are_said(tmp_path):
    text = coco([drawn(n, 0, 4 * n, 0, 4 * n) for n in (1, 2, 3)], names=("car", " car ", "Car"))
    result = run("mscoco2017", to_folder(tmp_path / "in", {"a.json": text, **pictures(1)}), tmp_path / "out")
    assert class_names(result) == ["background", "car", "Car"]
    assert "'car' and ' car ' differ only in blanks: they are one class, 'car'" in result.notes
    assert "'car' and 'Car' differ only in upper and lower case: they are 2 classes" in result.notes


def test_tags_and_labels_that_are_only_boxes_are_no_classes(tmp_path):
    text = CVAT.format(polygon_cvat("car", SMALL, 0) + '<tag label="night"/>')
    result = run("cvat", to_folder(tmp_path / "a", {"annotations.xml": text, **pictures(1)}), tmp_path / "cvat")
    assert class_names(result) == ["background", "car"]
    assert any("no shape that can be drawn: 'night'" in note for note in result.notes)
    boxed = coco([drawn(1, 0, 9, 0, 9), {**BOX, "category_id": 2, "segmentation": []}])
    result = run("mscoco2017", to_folder(tmp_path / "b", {"a.json": boxed, **pictures(1)}), tmp_path / "coco")
    assert class_names(result) == ["background", "wall"]
    assert any("none of their annotations has an outline: 'window'" in note for note in result.notes)


def test_roboflows_first_category_is_no_class(tmp_path):
    text = coco([drawn(2, 0, 9, 0, 9)], names=("parts", "bolt")).replace(
        '"name": "bolt", "supercategory": ""', '"name": "bolt", "supercategory": "parts"'
    )
    result = run("mscoco2017", to_folder(tmp_path / "in", {"a.json": text, **pictures(1)}), tmp_path / "out")
    assert class_names(result) == ["background", "bolt"]
    assert any("only stand above others" in note for note in result.notes)


def test_background_that_was_drawn_is_a_class_where_the_rest_is_ignored(tmp_path):
    text = coco([drawn(1, 0, 9, 0, 9), drawn(2, 10, 20, 0, 9)], names=("Background", "car"))
    root = to_folder(tmp_path / "in", {"a.json": text, **pictures(1)})
    result = run("mscoco2017", root, tmp_path / "out", unlabelled="ignore")
    label = labels_of(result, "all")["p0"]
    assert class_names(result) == ["background", "car"]
    assert (label[4, 4], label[15, 4], label[22, 22]) == (0, 1, 255)


def test_two_pictures_of_one_id_are_refused(tmp_path):
    text = coco([drawn(1, 0, 9, 0, 9)], pictures=2).replace('"id": 1, "file_name"', '"id": 0, "file_name"')
    with pytest.raises(DataError, match="two pictures with the id 0"):
        run("mscoco2017", to_folder(tmp_path / "in", {"a.json": text, **pictures(2)}), tmp_path / "out")


def test_why_a_picture_is_not_there(tmp_path):
    names = ("p0.jpg", "p1.jpg", "p2.gif", "p3.jpg")
    text = coco([drawn(1, 0, 9, 0, 9)], pictures=4)
    text = text.replace("p2.jpg", "p2.gif")
    content = {"j/a.json": text, "j/p0.jpg": jpg(), "x/p1.jpg": jpg(1), "y/p1.jpg": jpg(2), "j/p2.gif": b"GIF89a"}
    result = run("mscoco2017", to_folder(tmp_path / "in", content), tmp_path / "out")
    reasons = {Path(item.file).name: item.reason for item in result.skipped}
    assert sorted(reasons) == sorted(names[1:])
    assert "is there 2 times" in reasons["p1.jpg"]
    assert "of a kind that is not read (.gif)" in reasons["p2.gif"]
    assert "is missing" in reasons["p3.jpg"]
