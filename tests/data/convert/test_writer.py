"""The one writer: the same bytes each time, nothing done twice, resumed after a kill, and pictures that lie."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from built_sets import SIZE, as_json, encode, labels_of, opened, photo, regions, run, to_folder, to_tar, to_zip
from PIL import Image

from deeplabv3p.data.classes import ClassList
from deeplabv3p.data.convert import writer
from deeplabv3p.data.convert.formats import FORMATS, Options
from deeplabv3p.data.convert.run import convert
from deeplabv3p.data.convert.writer import check_label
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.spec import ClassInfo

TWO = ClassList((ClassInfo("red", (255, 0, 0)), ClassInfo("blue", (0, 0, 255))), explicit_colors=True)
COLORS = np.array([item.color for item in TWO.classes], np.uint8)


def masks(count: int, **more: bytes) -> dict[str, bytes]:
    content = {f"images/p{n}.jpg": encode(photo(n), ".jpg") for n in range(count)}
    content |= {f"labels/p{n}.png": encode(COLORS[regions(2, seed=n)]) for n in range(count)}
    return content | more


def go(sources: Path, output: Path, **how: object) -> writer.Conversion:
    return convert("rgb_masks", [sources], output, Options(classes=TWO), **how)


def content_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_what_is_written(tmp_path):
    root = to_folder(tmp_path / "in", masks(3))
    calls = []
    result = go(root, tmp_path / "out", progress=lambda done, total, info=None: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    files = content_of(result.root)
    assert sorted(files) == [
        "all.txt",
        "classes.txt",
        "dataset.json",
        *(f"images/p{n}.jpg" for n in range(3)),
        *(f"labels/p{n}.png" for n in range(3)),
    ]
    assert files["all.txt"] == b"p0\np1\np2\n"
    assert files["classes.txt"] == b"red 255 0 0\nblue 0 0 255\n"
    with Image.open(result.root / "labels" / "p0.png") as picture:
        assert picture.mode == "P"
        palette = np.array(picture.getpalette()).reshape(-1, 3)
        assert palette[1].tolist() == [0, 0, 255]
        assert palette[255].tolist() == [224, 224, 192]
    counts = sum(np.bincount(label.ravel(), minlength=2) for label in labels_of(result, "all").values())
    assert result.pixels == tuple(counts)
    assert result.ignored_pixels == 0
    assert result.pictures == (3, 3)
    state = json.loads(files["dataset.json"])
    assert state["complete"]
    assert state["classes"][1] == {"name": "blue", "color": [0, 0, 255], "pixels": int(counts[1]), "pictures": 3}


def test_the_palette_is_that_of_the_projects_label_maps(tmp_path):
    from deeplabv3p import visualize

    label = regions(2)
    writer.write_label(tmp_path / "a.png", label, TWO.classes)
    visualize.save_label_png(tmp_path / "b.png", label, TWO.classes)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_same_bytes_from_a_folder_a_zip_and_a_tgz_and_twice(tmp_path):
    content = masks(4)
    paths = [to_folder(tmp_path / "set", content), to_zip(tmp_path / "set.zip", content)]
    paths += [to_tar(tmp_path / "set.tar", content), to_tar(tmp_path / "set.tgz", content, "w:gz")]
    trees = []
    for number, path in enumerate([*paths, paths[0]]):
        tree = content_of(go(path, tmp_path / f"out{number}").root)
        del tree["dataset.json"]
        trees.append(tree)
    assert all(tree == trees[0] for tree in trees)
    again = (tmp_path / "out0" / "dataset.json").read_bytes()
    assert again == (tmp_path / "out4" / "dataset.json").read_bytes()


@pytest.mark.parametrize("kind", ["folder", "tgz"])
def test_a_second_run_does_nothing(tmp_path, kind):
    source = (
        to_folder(tmp_path / "set", masks(3)) if kind == "folder" else to_tar(tmp_path / "set.tgz", masks(3), "w:gz")
    )
    first = go(source, tmp_path / "out")
    stamps = {p: p.stat().st_mtime_ns for p in first.root.rglob("*")}
    called = []
    second = go(source, tmp_path / "out", progress=lambda *_: called.append(1), unpacking=lambda *_: called.append(2))
    assert second.reused
    assert not called
    assert stamps == {p: p.stat().st_mtime_ns for p in first.root.rglob("*")}
    assert (second.splits, second.pixels, second.classes) == (first.splits, first.pixels, first.classes)
    (first.root / "labels" / "p1.png").unlink()
    third = go(source, tmp_path / "out")
    assert not third.reused
    assert (first.root / "labels" / "p1.png").is_file()


def test_other_sources_or_options_need_overwrite(tmp_path):
    source = to_folder(tmp_path / "set", masks(3))
    to_folder(source, {"val/images/v.jpg": encode(photo(9), ".jpg"), "val/labels/v.png": encode(COLORS[regions(2)])})
    go(source, tmp_path / "out")
    (source / "val" / "images" / "v.jpg").unlink()
    to_folder(source, {"images/p9.jpg": encode(photo(9), ".jpg"), "labels/p9.png": encode(COLORS[regions(2)])})
    with pytest.raises(DataError, match=r"conversion of other files, or with other options.*--overwrite"):
        go(source, tmp_path / "out")
    result = go(source, tmp_path / "out", overwrite=True)
    assert result.splits == {"all": 4}
    assert not (result.root / "val.txt").exists()  # a list of pictures that are not in the source any more
    assert go(source, tmp_path / "out").reused


def test_folders_that_are_not_ours_are_left_alone(tmp_path):
    source = to_folder(tmp_path / "set", masks(1))
    to_folder(tmp_path / "mine", {"precious.txt": "x", "dataset.json": "{}"})
    for overwrite in (False, True):
        with pytest.raises(DataError, match="is not empty and holds no conversion"):
            go(source, tmp_path / "mine", overwrite=overwrite)
    assert content_of(tmp_path / "mine") == {"precious.txt": b"x", "dataset.json": b"{}"}
    to_folder(tmp_path, {"file": "x"})
    with pytest.raises(DataError, match="is a file"):
        go(source, tmp_path / "file")
    for inside in (source / "out", tmp_path):
        with pytest.raises(DataError, match="one in the other"):
            go(source, inside)
    with pytest.raises(UsageError, match="'nothing' is not a format"):
        convert("nothing", [source], tmp_path / "out")


def test_a_conversion_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    source = to_folder(tmp_path / "set", masks(6))
    whole = content_of(go(source, tmp_path / "whole").root)

    def stop(done: int, total: int, info: object = None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        go(source, tmp_path / "out", progress=stop)
    assert not json.loads((tmp_path / "out" / "dataset.json").read_text())["complete"]
    # As after a power cut: one file is empty, and one that was being written is left over.
    (tmp_path / "out" / "labels" / "p1.png").write_bytes(b"")
    (tmp_path / "out" / "images" / ".part-p5.jpg").write_bytes(b"half")
    result = go(source, tmp_path / "out")
    assert result.resumed == 2
    assert content_of(result.root) == whole


def test_a_killed_process_leaves_what_the_next_one_finishes(tmp_path):
    source = to_folder(tmp_path / "set", masks(40))
    code = (
        "import sys, time\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[3])\nimport test_writer\n"
        "test_writer.go(Path(sys.argv[1]), Path(sys.argv[2]), progress=lambda *_: time.sleep(0.05))\n"
    )
    arguments = [str(source), str(tmp_path / "out"), str(Path(__file__).parent)]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    journal, deadline = tmp_path / "out" / ".converted", time.monotonic() + 60
    while time.monotonic() < deadline and not (journal.is_file() and journal.read_text().count("\n") >= 5):
        time.sleep(0.02)
    process.kill()
    process.wait()
    result = go(source, tmp_path / "out")
    assert 5 <= result.resumed < 40
    assert content_of(result.root) == content_of(go(source, tmp_path / "whole").root)


def test_pictures_that_lie_are_left_out(tmp_path):
    good, label = encode(photo(), ".jpg"), encode(COLORS[regions(2)])
    bad = {"truncated": good[:-300], "empty": b"", "text": b"no picture at all"}
    content = {f"images/{name}.jpg": data for name, data in bad.items()}
    content |= {f"labels/{name}.png": label for name in bad}
    content |= {"images/size.jpg": good, "labels/size.png": encode(COLORS[regions(2, (20, 32))])}
    content |= {"images/mask.jpg": good, "labels/mask.png": label[:-20]}
    content |= {"images/good.jpg": good, "labels/good.png": label}
    result = go(to_folder(tmp_path / "set", content), tmp_path / "out")
    reasons = {Path(item.file).stem: item.reason for item in result.skipped}
    assert sorted(reasons) == ["empty", "mask", "size", "text", "truncated"]
    assert "truncated JPEG" in reasons["truncated"]
    assert ".part-" not in " ".join(reasons.values())
    assert "24x32 and its label map 20x32" in reasons["size"]
    assert sorted(content_of(result.root)) == [
        "all.txt",
        "classes.txt",
        "dataset.json",
        "images/good.jpg",
        "labels/good.png",
    ]
    for name in [*bad, "size", "mask"]:
        (tmp_path / "set" / "images" / f"{name}.jpg").rename(tmp_path / f"{name}.jpg")
    (tmp_path / "set" / "images" / "good.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"no picture could be converted\. .*good\.jpg: .* is empty"):
        go(tmp_path / "set", tmp_path / "none")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("stored", [True, False])
def test_exif_pictures_have_labels_as_read_image_turns_them(tmp_path, orientation, stored):
    """A label map of the stored picture is turned with it; one of the picture as it is seen stays."""
    picture, label = photo(), regions(2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = label
    if stored:
        turned = {
            1: label,
            5: label.T,
            6: np.rot90(label, -1),
            7: np.rot90(label, 2).T,
            8: np.rot90(label),
        }
        seen = turned.get(orientation, label)  # what 2 to 4 do keeps the size: it cannot be told
    elif orientation > 4:
        seen = label = regions(2, SIZE[::-1])
    content = {"images/a.jpg": encode(picture, ".jpg", exif=exif, quality=95), "labels/a.png": encode(COLORS[label])}
    result = go(to_folder(tmp_path / "set", content), tmp_path / "out")
    np.testing.assert_array_equal(labels_of(result, "all")["a"], seen)
    assert (result.root / "images" / "a.jpg").read_bytes() == content["images/a.jpg"]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_turned_label_map_lies_on_its_picture(tmp_path, orientation):
    """The picture shows its own label, so that their agreement can be seen after any turn."""
    label = regions(2, (64, 96), seed=4)
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = encode(np.repeat(label[..., None] * 255, 3, axis=2), ".jpg", exif=exif, quality=95)
    root = to_folder(tmp_path / "set", {"images/a.jpg": shown, "labels/a.png": encode(COLORS[label])})
    image, found = opened(go(root, tmp_path / "out"), "all").load(0)
    assert ((image[..., 0] > 127) == (found == 1)).mean() > 0.99


def test_links_instead_of_copies(tmp_path):
    source = to_folder(tmp_path / "set", masks(2))
    (source / "images" / "p1.jpg").rename(tmp_path / "p1.jpg")
    (source / "images" / "p1.jpg").symlink_to(tmp_path / "p1.jpg")
    result = go(source, tmp_path / "out", link=True)
    assert (result.root / "images" / "p0.jpg").samefile(source / "images" / "p0.jpg")
    assert not (result.root / "images" / "p1.jpg").is_symlink()
    assert (result.root / "images" / "p1.jpg").samefile(tmp_path / "p1.jpg")
    packed = go(to_zip(tmp_path / "set.zip", masks(2)), tmp_path / "copies", link=True)
    assert "2 pictures could not be linked" in packed.notes[-1]


def test_names_are_safe_and_unique(tmp_path):
    names = ["a b", "é", "é", "A", "a", ".hidden", "x:y", "ends ", "写真"]
    images = [{"id": n, "file_name": f"{n}/{name}.jpg", "height": 24, "width": 32} for n, name in enumerate(names)]
    box = {"category_id": 1, "segmentation": [[0, 0, 9, 0, 9, 9]]}
    coco = {
        "images": images,
        "annotations": [{"image_id": n, **box} for n in range(len(names))],
        "categories": [{"id": 1, "name": "thing"}],
    }
    content = {f"{n}/{name}.jpg": encode(photo(n), ".jpg") for n, name in enumerate(names)}
    result = run("mscoco2017", to_zip(tmp_path / "set.zip", {**content, "set.json": as_json(coco)}), tmp_path / "out")
    found = {sample.name: sample.image.read_bytes() for sample in opened(result, "all").samples}
    assert list(found) == ["a b", "é", "é_2", "A", "a_2", "hidden", "x_y", "ends", "写真"]
    assert list(found.values()) == list(content.values())


def test_class_names_that_cannot_be_stored_are_refused_before_any_work(tmp_path):
    shapes = [{"label": name, "points": [[0, 0], [9, 0], [9, 9]], "shape_type": "polygon"} for name in ("a", "a 1 2 3")]
    content = {"shapes": shapes, "imagePath": "a.jpg", "imageHeight": 24, "imageWidth": 32}
    root = to_folder(tmp_path / "set", {"a.json": as_json(content), "a.jpg": encode(photo(), ".jpg")})
    result = run("labelme", root, tmp_path / "out")
    assert [item.name for item in result.classes] == ["background", "a", "a 1 2 3"]
    shapes[0]["label"] = "a  1 2  3"
    to_folder(root, {"a.json": as_json(content)})
    result = run("labelme", root, tmp_path / "blanks")  # blanks make no other name
    assert [item.name for item in result.classes] == ["background", "a 1 2 3"]
    assert "'a  1 2  3' and 'a 1 2 3' differ only in blanks: they are one class" in result.notes[0]
    shapes[0]["label"] = " \t"
    to_folder(root, {"a.json": as_json(content)})
    with pytest.raises(DataError, match=r"again|cannot be stored|without a name"):
        run("labelme", root, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_labels_out_of_range_are_no_dataset():
    check_label(np.array([[0, 1, 255]], np.uint8), 2, "x")
    with pytest.raises(DataError, match="x holds the label 2, but the classes are 0 to 1"):
        check_label(np.array([[0, 2, 255]], np.uint8), 2, "x")


def test_every_format_has_a_reader_and_says_what_it_is_not(tmp_path):
    """A folder of something else is one sentence, whatever the format, and leaves nothing behind."""
    root = to_folder(tmp_path / "set", {"readme.md": "hello", "data.bin": b"\x00\x01"})
    for name, item in FORMATS.items():
        options = Options(classes=TWO) if "classes" in item.options else Options()
        with pytest.raises(DataError) as error:
            convert(name, [root], tmp_path / "out", options)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists(), name
        assert item.archives or item.by_hand


def test_the_disk_is_full(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    source = to_folder(tmp_path / "set", masks(2))
    monkeypatch.setattr(writer, "write_label", fail)
    with pytest.raises(DataError, match=r"No space left on device.*the same command goes on from here"):
        go(source, tmp_path / "out")
    monkeypatch.undo()
    assert go(source, tmp_path / "out").splits == {"all": 2}
