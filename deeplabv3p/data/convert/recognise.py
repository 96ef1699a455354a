"""What a source is, by looking at it: the names of files, and the beginnings of what annotation files hold."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from deeplabv3p.data.convert.foreign import is_picture
from deeplabv3p.data.convert.json_file import read_json
from deeplabv3p.data.convert.roboflow import CLASSES, MASK
from deeplabv3p.data.convert.supervisely import is_meta
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.data.convert.via import CSV_COLUMNS, is_via
from deeplabv3p.data.dataset import LAYOUTS
from deeplabv3p.errors import DataError

_LOOKED_AT = 3  # annotation files of a folder
_AT_MOST = 60  # of all folders
_HEAD = 1 << 12  # bytes of a text file that tell what it is


@dataclass(frozen=True)
class Recognised:
    """What a source was recognised as.

    Attributes:
        format: the name of the format that reads it; None where none does.
        name: what it is called by people.
        evidence: what told it: a file, and what of it.
        advice: what to do where no format reads it.
    """

    format: str | None
    name: str
    evidence: str
    advice: str = ""


def recognise(tree: Tree) -> list[Recognised]:
    """All that the files of a source may be, each once, the surest first; [] where nothing is known.

    Formats that are recognised by whole folders come before those of single files.
    """
    found: dict[tuple[str | None, str], Recognised] = {}
    for item in (*_by_folders(tree), *_by_contents(tree)):
        found.setdefault((item.format, item.name), item)
    sure = [item for item in found.values() if item.format is not None]
    return [*sure, *(item for item in found.values() if item.format is None)]


def what_it_is(items: list[Recognised]) -> str:
    """The recognised as a sentence for people, with what to do."""
    texts = []
    for item in items[:3]:
        use = f"use `convert {item.format}`" if item.format else item.advice
        texts.append(f"this is {item.name} ({item.evidence}); {use}")
    return ". Or: ".join(texts)


# Folders and names


def _by_folders(tree: Tree) -> Iterator[Recognised]:
    names = list(tree.files)
    for kind, name, pattern in _NAMES:
        hit = next((path for path in names if re.search(pattern, path)), None)
        if hit is not None and not (kind == "penn_fudan" and not any("/PNGImages/" in path for path in names)):
            yield Recognised(kind, name, tree.files[hit].where)
    lists = tree.ending(CLASSES)
    masks = [path for path in names if PurePosixPath(path).stem.endswith(MASK)]
    if lists and masks:
        yield Recognised("roboflow", "Roboflow's semantic masks", lists[0].where)
    labelmap = tree.one("labelmap.txt")
    if labelmap is not None and any("/SegmentationClass/" in path for path in names):
        yield Recognised("cvat", "CVAT's 'Segmentation mask 1.1'", labelmap.where)
    elif (voc := tree.one("ImageSets/Segmentation/train.txt")) is not None:
        official = any(re.search(r"/JPEGImages/20\d\d_\d{6}\.jpg$", path) for path in names)
        if official:
            yield Recognised("voc_augment", "PASCAL VOC", voc.where)
        else:
            yield Recognised(None, "a dataset in VOC's layout", voc.where, "train.py reads it as it is")
    yaml = next((f for f in tree.files.values() if f.suffix in {".yaml", ".yml"} and b"names" in _head(f)), None)
    texts = [f for f in tree.files.values() if f.suffix == ".txt" and "labels" in PurePosixPath(f.name).parts[:-1]]
    if yaml is not None and texts:
        boxes = all(_is_boxes(file) for file in texts[:_LOOKED_AT])
        if boxes:
            advice = "boxes say nothing about pixels, segmentation needs polygons"
            yield Recognised(None, "Ultralytics detection (boxes)", texts[0].where, advice)
        else:
            yield Recognised("yolo", "Ultralytics segmentation", yaml.where)
    paddle = tree.one("labels.txt")
    if paddle is not None and any(_is_pair_list(tree, f) for f in tree.files.values() if f.suffix == ".txt"):
        yield Recognised("paddleseg", "PaddleSeg's lists", paddle.where)
    yield from _pairs_of_folders(tree)


_NAMES = (
    ("ade20k", "ADE20K scene parsing", r"(^|/)objectInfo150\.txt$"),
    ("cityscapes", "Cityscapes", r"_gtFine_labelIds\.png$"),
    ("camvid", "CamVid", r"(^|/)(0001TP|0006R0|0016E5|Seq05VD)_\w+_L\.png$"),
    ("cihp", "CIHP human parsing", r"/Training/Category_ids/"),
    ("atr", "ATR human parsing", r"humanparsing/SegmentationClassAug/"),
    ("penn_fudan", "Penn-Fudan's masks", r"/PedMasks/"),
    ("voc_augment", "SBD", r"benchmark_RELEASE/dataset/cls/.*\.mat$"),
)


def _pairs_of_folders(tree: Tree) -> Iterator[Recognised]:
    """Pictures in one folder, label maps in another."""
    folders: dict[str, File] = {}
    for file in tree.files.values():
        if is_picture(file.name):
            for part in PurePosixPath(file.parent).parts:
                folders.setdefault(part.lower(), file)
    for images, labels in LAYOUTS:
        if images.lower() in folders and labels.lower() in folders:
            advice = "train.py reads it as it is, with a list of names and a class file"
            if labels == "masks":
                advice += (
                    "; where they number instances `convert penn_fudan` makes one class of them; `convert rgb_masks "
                    f"--images {images} --labels {labels} --classes_path FILE` reads colours"
                )
            where = folders[labels.lower()].where
            yield Recognised(None, f"a dataset of {images}/ and {labels}/", where, advice)
            return


def _head(file: File) -> bytes:
    try:
        return file.read()[:_HEAD]
    except DataError:
        return b""


def _is_boxes(file: File) -> bool:
    lines = [line.split() for line in _head(file).splitlines()]
    return any(lines) and all(len(words) in {0, 5} for words in lines[:20])


def _is_pair_list(tree: Tree, file: File) -> bool:
    words = _head(file).decode("utf-8", "replace").split("\n", 1)[0].split()
    return len(words) == 2 and is_picture(words[0]) and is_picture(words[1]) and bool(tree.ending(words[0]))


# Contents


def _by_contents(tree: Tree) -> Iterator[Recognised]:
    seen: dict[tuple[str, str], int] = defaultdict(int)
    looked = 0
    for file in tree.files.values():
        suffix = file.suffix.lower()
        look = _LOOK.get(suffix)
        if look is None or seen[file.parent, suffix] >= _LOOKED_AT or looked >= _AT_MOST:
            continue
        seen[file.parent, suffix] += 1
        looked += 1
        try:
            found = look(file)
        except DataError:
            continue
        if found is not None:
            yield found


def json_of(content: Any) -> tuple[str, str | None] | None:
    """What the content of a JSON file is called by people, and the format that reads it; None if it is not known."""
    return next(((name, kind) for kind, name, _, test, _ in _CONTENTS if test(content)), None)


def _look_at_json(file: File) -> Recognised | None:
    content = read_json(file)
    for kind, name, evidence, test, advice in _CONTENTS:
        if test(content):
            return Recognised(kind, name, f"{file.where}: {evidence}", advice)
    return None


def _has(*keys: str) -> Callable[[Any], bool]:
    return lambda content: isinstance(content, dict) and set(keys) <= set(content)


def _list_of(*keys: str) -> Callable[[Any], bool]:
    return lambda content: (
        isinstance(content, list) and bool(content) and isinstance(content[0], dict) and set(keys) <= set(content[0])
    )


def _is_panoptic(content: Any) -> bool:
    items = content.get("annotations") if isinstance(content, dict) else None
    return isinstance(items, list) and bool(items) and isinstance(items[0], dict) and "segments_info" in items[0]


_EXPORT = "no format reads it: export COCO's JSON with polygons instead"
_CONTENTS: tuple[tuple[str | None, str, str, Callable[[Any], bool], str], ...] = (
    (None, "COCO's panoptic form", "'segments_info'", _is_panoptic, "its instances_*.json can be converted"),
    ("mscoco2017", "COCO's JSON", "images, annotations, categories", _has("images", "annotations", "categories"), ""),
    ("labelme", "labelme", "'shapes' and 'imagePath'", _has("shapes", "imagePath"), ""),
    ("labelstudio", "Label Studio", "tasks with annotations", _list_of("data", "annotations"), ""),
    ("via", "VGG VIA", "pictures with regions", is_via, ""),
    ("supervisely", "Supervisely", "classes with titles", is_meta, ""),
    ("supervisely", "Supervisely", "objects and size", _has("objects", "size"), ""),
    (None, "Label Studio's short form (JSON-MIN)", "flat tasks", _list_of("annotator", "id"), "export it as 'JSON'"),
    (None, "Labelbox", "'data_row'", lambda c: _has("data_row")(c) or _list_of("data_row")(c), _EXPORT),
    (None, "Labelbox", "'Labeled Data'", _list_of("Labeled Data"), _EXPORT),
    (None, "Datumaro", "categories and items", _has("categories", "items"), _EXPORT),
    (None, "V7 Darwin", "item and annotations", _has("item", "annotations"), _EXPORT),
    (None, "COCO results", "predictions without pictures", _list_of("image_id", "category_id"), "it has no pictures"),
    (
        None,
        "Create ML (boxes)",
        "image and annotations",
        _list_of("image", "annotations"),
        "boxes say nothing about pixels",
    ),
)


def _look_at_xml(file: File) -> Recognised | None:
    head = re.sub(rb"<\?.*?\?>|<!--.*?-->", b"", _head(file), flags=re.DOTALL).lstrip(b"\xef\xbb\xbf \r\n\t")
    if head.startswith(b"<annotations"):
        if b"<track" in head:
            advice = "export the task as 'CVAT for images 1.1'"
            return Recognised(None, "CVAT for video", file.where, advice)
        return Recognised("cvat", "CVAT for images", f"{file.where}: its root is 'annotations'")
    if head.startswith(b"<annotation"):
        advice = "boxes say nothing about pixels, segmentation needs polygons or masks"
        return Recognised(None, "Pascal VOC's boxes in XML", file.where, advice)
    return None


def _look_at_csv(file: File) -> Recognised | None:
    line = _head(file).decode("utf-8-sig", "replace").split("\n", 1)[0].lstrip("#")
    if set(CSV_COLUMNS) <= {cell.strip() for cell in line.split(",")}:
        return Recognised("via", "VGG VIA", f"{file.where}: its columns")
    return None


_LOOK: dict[str, Callable[[File], Recognised | None]] = {
    ".json": _look_at_json,
    ".xml": _look_at_xml,
    ".csv": _look_at_csv,
}
