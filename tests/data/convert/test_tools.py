"""VGG VIA, Supervisely, Roboflow's masks, labelme's old files, as their tools write them; what `auto` makes of them."""

from __future__ import annotations

import base64
import io
import json
import random
import runpy
import zlib
from pathlib import Path

import numpy as np
import pytest
from built_sets import SIZE, as_json, class_names, encode, labels_of, photo, regions, run, to_folder, to_tar, to_zip
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_annotations import coco, drawn, in_every_format
from test_exports import block, cvat_xml, labelme, painted, shape

from common import cli
from deeplabv3p.data.convert.formats import FORMATS, Options
from deeplabv3p.data.convert.recognise import recognise
from deeplabv3p.data.convert.run import convert
from deeplabv3p.data.convert.sources import open_tree
from deeplabv3p.errors import DataError, UsageError

HEIGHT, WIDTH = SIZE
LABELME = Path(__file__).parents[3] / "tools" / "dataset_converter" / "labelme" / "json_to_dataset.py"


def jpg(seed: int = 0) -> bytes:
    return encode(photo(seed), ".jpg")


# VGG VIA


def ring(top: int, bottom: int, left: int, right: int) -> dict:
    points = block(top, bottom, left, right)
    return {"name": "polygon", "all_points_x": [x for x, _ in points], "all_points_y": [y for _, y in points]}


def region(outline: dict, **attributes: object) -> dict:
    return {"shape_attributes": outline, "region_attributes": attributes}


def via2(regions_: list[dict], name: str = "a.jpg", **attributes: object) -> dict:
    """A project as VIA 2 saves it."""
    settings = {"ui": {"annotation_editor_height": 25}, "core": {"buffer_size": 18}, "project": {"name": "p"}}
    key = f"{name}12345"
    return {
        "_via_settings": settings,
        "_via_img_metadata": {key: {"filename": name, "size": 12345, "regions": regions_, "file_attributes": {}}},
        "_via_attributes": {"region": attributes, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": [key],
    }


VIA_REGIONS = [
    region(ring(0, 8, 0, 8), type="roof"),
    region({"name": "rect", "x": 20, "y": 2, "width": 4, "height": 4}, type="wall"),
    region({"name": "circle", "cx": 16, "cy": 16, "r": 4}, type="tree "),
    region(ring(10, 12, 0, 2)),
]


def via_truth() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    truth = painted(((0, 8, 0, 8), 1))
    truth[(x - 16) ** 2 + (y - 16) ** 2 < 16] = 2
    return truth


def via_forms() -> dict[str, dict[str, bytes | str]]:
    """The same regions as each version writes them."""
    first = {str(number): item for number, item in enumerate(VIA_REGIONS)}
    one = {
        "fileref": "",
        "size": 12345,
        "filename": "a.jpg",
        "base64_img_data": "",
        "file_attributes": {},
        "regions": first,
    }
    head = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"

    def cell(value: object) -> str:
        return '"' + json.dumps(value).replace('"', '""') + '"'

    rows = [
        f'a.jpg,12345,"{{}}",4,{number},{cell(item["shape_attributes"])},{cell(item["region_attributes"])}'
        for number, item in enumerate(VIA_REGIONS)
    ]
    annotations = via2(VIA_REGIONS)["_via_img_metadata"]
    third = {
        "project": {"pid": "__VIA_PROJECT_ID__", "rev": "1", "pname": "x", "vid_list": ["1"]},
        "config": {"file": {"loc_prefix": {"1": ""}}, "ui": {}},
        "attribute": {
            "1": {
                "aname": "type",
                "anchor_id": "FILE1_Z0_XY1",
                "type": 3,
                "desc": "",
                "options": {"0": "roof", "1": "wall", "2": "tree"},
                "default_option_id": "",
            }
        },
        "file": {"1": {"fid": "1", "fname": "a.jpg", "type": 2, "loc": 1, "src": ""}},
        "metadata": {
            "1_x": {"vid": "1", "flg": 0, "z": [], "xy": [7, 0, 0, 8, 0, 8, 8, 0, 8], "av": {"1": "0"}},
            "1_y": {"vid": "1", "flg": 0, "z": [], "xy": [2, 20, 2, 4, 4], "av": {"1": "1"}},
            "1_z": {"vid": "1", "flg": 0, "z": [], "xy": [3, 16, 16, 4], "av": {"1": "2"}},
            "1_w": {"vid": "1", "flg": 0, "z": [], "xy": [7, 0, 10, 2, 10, 2, 12, 0, 12], "av": {}},
            "1_v": {"vid": "1", "flg": 0, "z": [0.5, 1.5], "xy": [], "av": {"1": "0"}},
        },
        "view": {"1": {"fid_list": ["1"]}},
    }
    return {
        "2, project": {"via_project.json": as_json(via2(VIA_REGIONS))},
        "2, annotations": {"via_export_json.json": as_json(annotations)},
        "1, json": {"via_region_data.json": as_json({"a.jpg12345": one})},
        "2, csv": {"via_export_csv.csv": "\n".join([head, *rows]) + "\n"},
        "1, csv": {"via_region_data.csv": "\r\n".join([f"#{head}", *rows])},
        "3, project": {"via_project_3.json": as_json(third)},
    }


@pytest.mark.parametrize("form", via_forms())
def test_via(tmp_path, form):
    root = to_folder(tmp_path / "in", {**via_forms()[form], "pictures/a.jpg": jpg()})
    result = run("via", root, tmp_path / "out")
    assert class_names(result) == ["background", "roof", "tree"]
    label = labels_of(result, "all")["a"]
    assert (label != via_truth()).sum() <= 2  # a circle is a polygon of 256 corners
    assert any("2 of 4 annotations are not used: 1 boxes" in text for text in result.notes)
    assert any("1 regions without a label" in text for text in result.notes)
    boxed = run("via", root, tmp_path / "boxed", boxes=True)
    assert class_names(boxed) == ["background", "roof", "tree", "wall"]
    assert (labels_of(boxed, "all")["a"][2:6, 20:24] == 3).all()


def test_vias_attributes(tmp_path):
    both = [region(ring(0, 8, 0, 8), colour="red", shade="dark"), region(ring(9, 20, 9, 20), colour="blue", shade="x")]
    root = to_folder(tmp_path / "in", {"v.json": as_json(via2(both)), "a.jpg": jpg()})
    with pytest.raises(DataError, match=r"attributes 'colour', 'shade'\. Say which is the class: --attribute NAME"):
        run("via", root, tmp_path / "out")
    assert class_names(run("via", root, tmp_path / "a", attribute="colour")) == ["background", "blue", "red"]
    with pytest.raises(DataError, match=r"no region has the attribute 'hue'\. Attributes: 'colour', 'shade'"):
        run("via", root, tmp_path / "b", attribute="hue")
    ticked = [
        region(ring(0, 8, 0, 8), kind={"a": True, "b": False}),
        region(ring(9, 20, 9, 20), kind={"a": True, "b": True}),
    ]
    result = run("via", to_folder(tmp_path / "t", {"v.json": as_json(via2(ticked)), "a.jpg": jpg()}), tmp_path / "c")
    assert class_names(result) == ["background", "a"]
    assert any("1 regions with several labels" in note for note in result.notes)
    bare = [region(ring(0, 8, 0, 8))]
    root = to_folder(tmp_path / "n", {"v.json": as_json(via2(bare)), "a.jpg": jpg()})
    result = run("via", root, tmp_path / "d", class_name="cell")
    assert class_names(result) == ["background", "cell"]
    assert any("all of them are 'cell'" in note for note in result.notes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"all_points_x": [1, 2]}, "not two lists of one length"),
        ({"all_points_x": "x"}, "not two lists of one length"),
        ({"all_points_x": [1, 2, 3, None]}, "coordinates that are not finite|not pairs of numbers"),
        ({"name": "circle", "cx": "1", "cy": 2, "r": 3}, "without the numbers cx, cy"),
        ({"name": "ellipse", "cx": 1, "cy": 2, "rx": 1e9, "ry": 3}, "far outside"),
    ],
)
def test_via_regions_that_lie(tmp_path, change, reason):
    item = region({**ring(0, 8, 0, 8), **change}, type="a")
    root = to_folder(tmp_path / "in", {"v.json": as_json(via2([item])), "a.jpg": jpg()})
    with pytest.raises(DataError, match=reason):
        run("via", root, tmp_path / "out")


# Supervisely


def bitmap(mask: np.ndarray, kind: str) -> str:
    pixels = mask.astype(np.uint8) * 255
    if kind == "rgba":
        picture = Image.fromarray(np.dstack([np.full((*mask.shape, 3), 255, np.uint8), pixels]))
    elif kind == "palette":
        picture = Image.fromarray(mask.astype(np.uint8))
        picture.putpalette([0, 0, 0, 255, 255, 255])
    else:
        picture = Image.fromarray(mask if kind == "bit" else pixels)
    out = io.BytesIO()
    picture.save(out, "PNG", **({"transparency": 0} if kind == "palette" else {}))
    return base64.b64encode(zlib.compress(out.getvalue())).decode()


def thing(title: str, kind: str | None, **more: object) -> dict:
    base = {"id": 1, "classId": 2, "description": "", "labelerLogin": "x", "tags": [], "classTitle": title}
    return {**base, **({"geometryType": kind} if kind else {}), **more}


def points(outline: list, *holes: list) -> dict:
    return {"points": {"exterior": outline, "interior": list(holes)}}


def project(objects: list[dict], tags: list[dict] | None = None, dataset: str = "ds0") -> dict[str, bytes | str]:
    classes = [
        {"title": title, "shape": "any", "color": "#0F8A7B", "id": number, "hotkey": ""}
        for number, title in enumerate(("road", "car", "unused"))
    ]
    content = {"description": "", "tags": tags or [], "size": {"height": HEIGHT, "width": WIDTH}, "objects": objects}
    return {
        "meta.json": as_json(
            {"classes": classes, "tags": [{"name": "train", "value_type": "none"}], "projectType": "images"}
        ),
        f"{dataset}/ann/a.jpg.json": as_json(content),
        f"{dataset}/img/a.jpg": jpg(),
    }


@pytest.mark.parametrize("kind", ["rgba", "palette", "bit", "grey"])
def test_supervisely(tmp_path, kind):
    mask = regions(2, (8, 12), seed=3) > 0
    objects = [
        thing("road", "polygon", **points(block(0, 16, 0, 16), block(4, 8, 4, 8))),
        thing("car", "bitmap", bitmap={"data": bitmap(mask, kind), "origin": [18, 2]}),
        thing("car", None, **points(block(2, 6, 2, 6))),
        thing("road", "rectangle", **points([[26, 20], [29, 22]])),
        thing("road", "cuboid"),
    ]
    result = run("supervisely", to_zip(tmp_path / "project.zip", project(objects)), tmp_path / "out")
    assert class_names(result) == ["background", "road", "car"]
    truth = painted(((0, 16, 0, 16), 1), ((4, 8, 4, 8), 0), ((2, 6, 2, 6), 2))
    truth[2:10, 18:30][mask] = 2
    np.testing.assert_array_equal(labels_of(result, "all")["a"], truth)
    assert "no classes, because they have no object that can be drawn: 'unused'" in result.notes
    assert any("2 of 5 annotations are not used" in note for note in result.notes)
    boxed = run("supervisely", tmp_path / "project.zip", tmp_path / "boxes", boxes=True)
    assert (labels_of(boxed, "all")["a"][20:23, 26:30] == 1).all()


def test_superviselys_splits_and_what_is_not_there(tmp_path):
    one = [thing("car", "polygon", **points(block(0, 8, 0, 8)))]
    tagged = run("supervisely", to_folder(tmp_path / "t", project(one, [{"name": "val"}])), tmp_path / "tagged")
    assert tagged.splits == {"val": 1}
    named = run("supervisely", to_folder(tmp_path / "n", project(one, dataset="train")), tmp_path / "named")
    assert named.splits == {"train": 1}
    content = project(one)
    content["ds0/ann/b.jpg.json"] = content["ds0/ann/a.jpg.json"]
    result = run("supervisely", to_folder(tmp_path / "gone", content), tmp_path / "gone_out")
    assert "'b.jpg' is missing" in result.skipped[0].reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bitmap": {"data": "%%", "origin": [0, 0]}}, "a mask that cannot be read"),
        ({"bitmap": {"data": base64.b64encode(b"x" * 90).decode(), "origin": [0, 0]}}, "a mask that cannot be read"),
        ({"bitmap": {"data": bitmap(np.ones((9, 9), bool), "bit"), "origin": [30, 0]}}, "reaches out of its picture"),
        ({"bitmap": {"data": bitmap(np.ones((9, 9), bool), "bit"), "origin": "x"}}, "'origin' is not a list"),
        ({"bitmap": {"origin": [0, 0]}}, "'data' is missing"),
    ],
)
def test_supervisely_masks_that_lie(tmp_path, change, reason):
    root = to_folder(tmp_path / "in", project([thing("car", "bitmap", **change)]))
    with pytest.raises(DataError, match=reason):
        run("supervisely", root, tmp_path / "out")


# Roboflow


def roboflow(classes: str = "Pixel Value, Class\n0, background\n1, car\n2, road\n") -> dict[str, bytes | str]:
    content: dict[str, bytes | str] = {"README.roboflow.txt": "x"}
    for seed, split in enumerate(("train", "valid", "test")):
        stem = f"{split}/p{seed}_jpg.rf.0123abcd"
        content |= {f"{split}/_classes.csv": classes, f"{stem}.jpg": jpg(seed)}
        content[f"{stem}_mask.png"] = encode(regions(3, seed=seed))
    return content


def test_roboflows_masks(tmp_path):
    root = to_zip(tmp_path / "export.zip", roboflow())
    result = run("roboflow", root, tmp_path / "out")
    assert class_names(result) == ["background", "car", "road"]
    assert result.splits == {"test": 1, "train": 1, "val": 1}
    np.testing.assert_array_equal(labels_of(result, "val")["p1_jpg.rf.0123abcd"], regions(3, seed=1))
    gaps = "Pixel Value, Class\r\n2, road\r\n0, sky\r\n1, car\r\n"
    named = run("roboflow", to_folder(tmp_path / "gaps", roboflow(gaps)), tmp_path / "named")
    assert class_names(named) == ["sky", "car", "road"]
    np.testing.assert_array_equal(labels_of(named, "train")["p0_jpg.rf.0123abcd"], regions(3))


def test_roboflows_lists_that_lie(tmp_path):
    content = roboflow()
    content["valid/_classes.csv"] = "Pixel Value, Class\n0, background\n1, road\n2, car\n"
    with pytest.raises(DataError, match=r"calls number 1 '(car|road)', another list '(car|road)'"):
        run("roboflow", to_folder(tmp_path / "a", content), tmp_path / "out")
    for text, reason in (
        ("Pixel Value, Class\n", "names no class"),
        ("Pixel Value, Class\nx, y\n", "not a number and a name"),
        ("Pixel Value, Class\n0, a\n0, b\n", "stands twice"),
        ("Pixel Value, Class\n0, background\n1, car\n", "holds the number 2"),
    ):
        root = to_folder(tmp_path / reason, roboflow(text))
        with pytest.raises(DataError, match=reason):
            run("roboflow", root, tmp_path / "out")


# labelme before 2019


def old_labelme(shapes: list, data: bytes | None = None) -> str:
    """As version 3 wrote it: no size of the picture, no types of shapes, colours that are not used."""
    return as_json(
        {
            "version": "3.5.0",
            "flags": {},
            "shapes": [
                {"label": item["label"], "line_color": None, "fill_color": None, "points": item["points"]}
                for item in shapes
            ],
            "lineColor": [0, 255, 0, 128],
            "fillColor": [255, 0, 0, 128],
            "imagePath": "a.jpg",
            "imageData": base64.b64encode(data).decode() if data else None,
        }
    )


@pytest.mark.parametrize("inside", [True, False])
def test_labelmes_old_files(tmp_path, inside):
    text = old_labelme([shape("car ", block(0, 8, 0, 8)), shape("car", block(12, 20, 0, 8))], jpg() if inside else None)
    root = to_folder(tmp_path / "in", {"a.json": text, **({} if inside else {"a.jpg": jpg()})})
    result = run("labelme", root, tmp_path / "out")
    assert class_names(result) == ["background", "car"]
    np.testing.assert_array_equal(labels_of(result, "all")["a"], painted(((0, 8, 0, 8), 1), ((12, 20, 0, 8), 1)))
    assert any("differ only in blanks" in note for note in result.notes)
    classes = to_folder(tmp_path, {"classes.txt": "background\ncar\n"}) / "classes.txt"
    flags = ["--json_file_path", root, "--classes_path", classes, "--png_label_path", tmp_path / "png"]
    runpy.run_path(str(LABELME))["main"]([str(flag) for flag in flags])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "png" / "a.png")), labels_of(result, "all")["a"])


# Files that lie

WRONG = (None, [], {}, "", 0, -1, 1e308, float("nan"), True, "x", [[]], [None], {"a": 1}, 10**30, "\ud800", [["a"]])


def mutated(content: object, choose: random.Random) -> object:
    """The content of a JSON file in which one value or two are of another kind, or gone."""
    paths: list[list] = []

    def walk(value: object, path: list) -> None:
        paths.append(path)
        items = value.items() if isinstance(value, dict) else enumerate(value[:6]) if isinstance(value, list) else ()
        for key, inner in items:
            walk(inner, [*path, key])

    walk(content, [])
    for path in choose.sample(paths[1:], choose.randint(1, 2)):
        holder = content
        for key in path[:-1]:
            holder = holder[key] if isinstance(holder, dict) and key in holder else holder
        if isinstance(holder, dict) and path[-1] in holder and choose.random() < 0.2:
            del holder[path[-1]]
        elif isinstance(holder, dict):
            holder[path[-1]] = choose.choice(WRONG)
    return content


def with_json() -> list[tuple[str, dict[str, bytes | str]]]:
    built = [(kind, content) for kind, content in in_every_format(False).items() if kind not in {"cvat", "yolo"}]
    shapes = [
        thing("car", "bitmap", bitmap={"data": bitmap(np.ones((4, 4), bool), "grey"), "origin": [1, 1]}),
        thing("road", "polygon", **points(block(0, 8, 0, 8), block(1, 2, 1, 2))),
    ]
    built += [("supervisely", project(shapes))]
    built += [("via", {**files, "a.jpg": jpg()}) for form, files in via_forms().items() if "csv" not in form]
    return [*built, ("labelme", {"a.json": old_labelme([shape("car", block(0, 8, 0, 8))]), "a.jpg": jpg()})]


@settings(max_examples=150)
@given(number=st.integers(0, 1 << 40))
def test_whatever_stands_in_the_json_it_is_read_or_one_line(tmp_path_factory, number):
    choose = random.Random(number)
    kind, content = choose.choice(with_json())
    name = choose.choice([name for name in content if name.endswith(".json")])
    changed = {**content, name: json.dumps(mutated(json.loads(content[name]), choose))}
    folder, message = tmp_path_factory.mktemp("lies"), ""
    try:
        convert(choose.choice([kind, "auto"]), [to_folder(folder / "in", changed)], folder / "out")
    except (DataError, UsageError) as error:
        message = str(error)
    assert "\n" not in message


# What a source is


def sources() -> dict[str, dict[str, bytes | str]]:
    """A source of each format that can be told, by the format's name."""
    built = in_every_format(small_first=False)
    return {
        **built,
        "roboflow": roboflow(),
        "penn_fudan": {"x/PNGImages/a.png": encode(photo()), "x/PedMasks/a_mask.png": encode(regions(2))},
        "paddleseg": {
            "labels.txt": "road\ncar\n",
            "train.txt": "images/a.jpg labels/a.png\n",
            "images/a.jpg": jpg(),
            "labels/a.png": encode(regions(2)),
        },
        "ade20k": {
            "objectInfo150.txt": "".join(f"{n}\t0.1\t1\t1\tthing {n}\n" for n in range(1, 151)),
            "images/training/a.jpg": jpg(),
            "annotations/training/a.png": encode(regions(150)),
        },
        "cityscapes": {
            "leftImg8bit/train/c/c_leftImg8bit.png": encode(photo()),
            "gtFine/train/c/c_gtFine_labelIds.png": encode(regions(34)),
        },
        "atr": {
            "humanparsing/JPEGImages/1.jpg": jpg(),
            "humanparsing/SegmentationClassAug/1.png": encode(regions(18)),
        },
    }


@pytest.mark.parametrize("kind", sources())
@pytest.mark.parametrize("packed", [True, False])
def test_auto_recognises_and_does_the_same(tmp_path, kind, packed):
    content = sources()[kind]
    source = to_tar(tmp_path / "source.tgz", content, "w:gz") if packed else to_folder(tmp_path / "source", content)
    told = []
    result = convert("auto", [source], tmp_path / "out", announce=told.append)
    assert [item.format for item in told] == [kind]
    named = run(kind, source, tmp_path / "named")
    assert result.splits == named.splits
    assert result.classes == named.classes
    for split in result.splits:
        ours, theirs = labels_of(result, split), labels_of(named, split)
        assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert convert("auto", [source], tmp_path / "out").reused


UNREADABLE: dict[str, dict[str, bytes | str]] = {
    "Pascal VOC's boxes": {"a.xml": "<annotation><object><bndbox/></object></annotation>", "a.jpg": jpg()},
    "CVAT for video": {"annotations.xml": "<?xml version='1.0'?>\n<annotations>\n<track id='0'/></annotations>"},
    "Ultralytics detection": {"data.yaml": "names: [a]", "images/a.jpg": jpg(), "labels/a.txt": "0 0.5 0.5 0.1 0.1\n"},
    "Labelbox": {"a.json": as_json([{"Labeled Data": "x", "Label": {}}])},
    "Datumaro": {"a.json": as_json({"info": {}, "categories": {}, "items": []})},
    "COCO's panoptic form": {
        "a.json": as_json({"images": [], "annotations": [{"segments_info": []}], "categories": []})
    },
    "train.py reads it as it is": {"images/a.jpg": jpg(), "labels/a.png": encode(regions(2)), "train.txt": "a"},
    "convert rgb_masks --images images --labels masks": {"images/a.jpg": jpg(), "masks/a.png": encode(regions(2))},
    "it holds 1 files with .jpg": {"a.jpg": jpg()},
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_auto_names_what_it_cannot_convert(tmp_path, name):
    root = to_folder(tmp_path / "in", UNREADABLE[name])
    with pytest.raises(DataError, match=name) as error:
        convert("auto", [root], tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", in_every_format(True))
def test_the_wrong_converter_names_the_right_one(tmp_path, kind):
    """Whatever label tool's export is given to another's converter: it says what it is and which converter reads it."""
    root = to_folder(tmp_path / "in", in_every_format(True)[kind])
    for other in in_every_format(True):
        if other == kind:
            continue
        with pytest.raises(DataError, match=rf"this is not {other}: this is .*use `convert {kind}`") as error:
            run(other, root, tmp_path / "out")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists()


def test_a_file_of_another_tool_is_named(tmp_path, capsys):
    """Among labelme's own files, and by the older command, which takes a folder of nothing else."""
    content = {"a.json": labelme([shape("a", block(0, 8, 0, 8))]), "v.json": as_json(via2(VIA_REGIONS)), "a.jpg": jpg()}
    root = to_folder(tmp_path / "in", content)
    result = run("labelme", root, tmp_path / "out")
    assert result.skipped[0].reason == "it is VGG VIA, not labelme: `dataset.py convert via` reads it"
    main = runpy.run_path(str(LABELME))["main"]
    flags = ["--json_file_path", str(root), "--png_label_path", str(tmp_path / "png")]
    assert cli.exit_code(lambda: main(flags)) == 3
    assert "it is VGG VIA, not labelme" in capsys.readouterr().err


def test_the_older_command_takes_the_flag_that_it_names(tmp_path, capsys):
    root = to_folder(
        tmp_path / "in", {"a.json": labelme([shape("dog", block(0, 8, 0, 8)), shape("roof", block(9, 20, 0, 9))])}
    )
    main = runpy.run_path(str(LABELME))["main"]
    flags = ["--json_file_path", str(root), "--png_label_path", str(tmp_path / "png")]
    assert cli.exit_code(lambda: main(flags)) == 3
    assert "--others unlabelled" in capsys.readouterr().err
    for others, value in (("unlabelled", 0), ("ignore", 255)):
        main([*flags, "--others", others])
        label = np.asarray(Image.open(tmp_path / "png" / "a.png"))
        assert (label[4, 4], label[15, 4]) == (12, value)  # VOC's dog


def test_equal_annotation_files_of_supervisely_are_not_called_copies(tmp_path):
    content = project([thing("car", "polygon", **points(block(0, 8, 0, 8)))])
    content |= {"ds0/ann/b.jpg.json": content["ds0/ann/a.jpg.json"], "ds0/img/b.jpg": jpg(1)}
    result = run("supervisely", to_folder(tmp_path / "in", content), tmp_path / "out")
    assert result.splits == {"all": 2}
    assert not any("copy" in note for note in result.notes)


def test_auto_asks_where_there_are_two_and_refuses_flags_that_are_not_known(tmp_path):
    content = {"a.json": labelme([shape("a", block(0, 8, 0, 8))]), "b.xml": cvat_xml(""), "a.jpg": jpg()}
    with pytest.raises(DataError, match=r"may be labelme .*and CVAT for images .*Say which is meant"):
        convert("auto", [to_folder(tmp_path / "in", content)], tmp_path / "out")
    one = to_folder(tmp_path / "one", {"a.json": coco([drawn(1, 0, 9, 0, 9)]), "p0.jpg": jpg()})
    with pytest.raises(UsageError, match="mscoco2017 has no option 'thickness'"):
        convert("auto", [one], tmp_path / "out", Options(thickness=3))
    assert not (tmp_path / "out").exists()
    assert convert("auto", [one], tmp_path / "out", Options(order="file")).splits == {"all": 1}


def test_auto_on_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(Path(__file__).parents[3] / "tools" / "dataset_converter" / "dataset.py"))["main"]
    to_folder(tmp_path / "in", {"via.json": as_json(via2(VIA_REGIONS)), "a.jpg": jpg()})
    main(["convert", "auto", "in", "--output", "out"])
    out = capsys.readouterr().out
    assert "found: VGG VIA (in/via.json: pictures with regions)" in out
    assert "this does: python tools/dataset_converter/dataset.py convert via in --output out" in out
    assert "boxes are left out (--boxes fills them)" in out
    assert "next: python train.py" in out
    to_folder(tmp_path / "boxes", {"a.xml": "<annotation/>"})
    assert cli.exit_code(lambda: main(["convert", "auto", "boxes", "--output", "b"])) == 3
    assert "boxes say nothing about pixels" in capsys.readouterr().err


def test_warnings_stand_before_notes_on_the_command_line(tmp_path, capsys):
    main = runpy.run_path(str(Path(__file__).parents[3] / "tools" / "dataset_converter" / "dataset.py"))["main"]
    text = coco([drawn(1, 0, 9, 0, 9), *[{"category_id": 1, "bbox": [0, 0, 1, 1]}] * 9])
    root = to_folder(tmp_path / "in", {"a.json": text, "p0.jpg": jpg()})
    main(["convert", "mscoco2017", str(root), "--output", str(tmp_path / "out")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("warning: 9 of 10 annotations are not used")
    to_folder(root, {"a.json": coco([{"category_id": 1, "segmentation": []}])})
    code = cli.exit_code(lambda: main(["convert", "mscoco2017", str(root), "--output", str(tmp_path / "b")]))
    assert code == 3
    captured = capsys.readouterr()
    assert "next:" not in captured.out
    assert "nothing but background" in captured.err


def test_nothing_is_recognised_in_nothing(tmp_path):
    with open_tree(
        [to_folder(tmp_path / "in", {"readme.md": "x", "a.json": "{", "b.xml": "<", "c.csv": ""})], tmp_path
    ) as tree:
        assert recognise(tree) == []
    assert "auto" not in FORMATS
