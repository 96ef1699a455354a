"""Label Studio's JSON export: polygons and brushes, drawn in the order of the file, later ones on top.

Where a task has several annotations, the first that was not cancelled is taken. Coordinates are percent of the size
that is written with them.
"""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from deeplabv3p.data.convert.foreign import Foreign, Names, Pixels, Record, Size, Skipped, is_picture, split_of
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.json_file import read_json, size_of, take
from deeplabv3p.data.convert.raster import brush_mask, fill_ellipse, fill_polygon, points_of
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError

_LABEL_KEYS = ("polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels", "labels")


def read_labelstudio(tree: Tree, options: Options) -> Foreign:
    """Every JSON file that is a list of tasks."""
    found: list[tuple[File, str, list[Any]]] = []
    skipped: list[Skipped] = []
    several = left_out = 0
    for file in (file for file in tree.files.values() if file.suffix.lower() == ".json"):
        tasks = read_json(file)
        if not isinstance(tasks, list) or not all(isinstance(t, dict) and "annotations" in t for t in tasks):
            raise DataError(f"{file.where} is no list of tasks with annotations. Export the project as 'JSON'.")
        for task in tasks:
            name = _image_name(task, file.where)
            done = [a for a in take(task, "annotations", list, file.where) if not _get(a, "was_cancelled")]
            if not done:
                skipped.append(Skipped(name, "it has no annotation that was finished"))
                continue
            several += len(done) > 1
            results = take(done[0], "result", list, f"{file.where}, {name}")
            kept = [item for item in results if _label_of(item) and _is_drawn(item, options)]
            left_out += sum(bool(_label_of(item)) for item in results) - len(kept)
            found.append((file, name, kept))
    if not found:
        return Foreign((), [], [], skipped or [Skipped("the sources", "they hold no .json file")])
    names = Names(options, sorted({_label_of(item) for _, _, items in found for item in items}), found[0][0].where)
    foreign = Foreign(names.classes, [], names.notes, skipped)
    if several:
        foreign.notes.append(f"{several:,} tasks have several annotations: the first of each is taken")
    if left_out:
        foreign.notes.append(f"{left_out:,} boxes and ellipses are left out (--boxes fills them)")
    records = []
    for file, name, items in found:
        picture = _picture(tree, file, name)
        if picture is None or not is_picture(picture.name):
            foreign.skipped.append(Skipped(name, "its picture is missing, is found twice, or is of an unknown kind"))
            continue
        where = f"{file.where}, {name}"
        draw = partial(_draw, items, names, where)
        records.append(Record(picture.stem, split_of(picture.parent), picture, picture.suffix, draw))
    foreign.records = records
    return foreign


def _get(item: Any, key: str) -> Any:
    return item.get(key) if isinstance(item, dict) else None


def _image_name(task: Any, where: str) -> str:
    """The path behind ``/data/upload/…``, ``/data/local-files/?d=…``, a cloud's or a web address."""
    data = take(task, "data", dict, where)
    address = next((data[key] for key in ("image", "img", "ocr") if isinstance(data.get(key), str)), None)
    if address is None:  # the key is the project's own: take the only text that looks like a picture
        address = next((v for v in data.values() if isinstance(v, str) and is_picture(urlsplit(v).path)), None)
    if address is None:
        raise DataError(f"{where}: a task has no picture in 'data'.")
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path).lstrip("/")


def _picture(tree: Tree, file: File, name: str) -> File | None:
    """Uploads get eight hex digits and a dash before their name; people's own folders do not have them."""
    found = tree.beside(file, name)
    plain = re.sub(r"^[0-9a-f]{8}-", "", PurePosixPath(name).name)
    return found or tree.beside(file, plain)


def _label_of(item: Any) -> str:
    value = _get(item, "value")
    for key in _LABEL_KEYS:
        labels = _get(value, key)
        if isinstance(labels, list) and labels and isinstance(labels[0], str):
            return str(labels[0])
    return ""


def _is_drawn(item: Any, options: Options) -> bool:
    value = item["value"]
    return "points" in value or "rle" in value or (options.boxes and ("width" in value or "radiusX" in value))


def _draw(items: list[Any], names: Names, where: str, size: Size) -> Pixels:
    declared = size_of(items[0], "original_height", "original_width", where) if items else size
    label = names.canvas(declared, size, where)
    height, width = declared
    for item in items:
        value, number = item["value"], names.label(_label_of(item))
        if "rle" in value:
            label[brush_mask(value["rle"], declared, where)] = number
        elif "points" in value:
            points = points_of(value["points"], where, least=3)
            fill_polygon(label, points * (width / 100, height / 100), number)
        else:
            keys = ("x", "y", "width", "height") if "width" in value else ("x", "y", "radiusX", "radiusY")
            x, y, a, b = (_percent(value, key, where) for key in keys)
            scale_x, scale_y = width / 100, height / 100
            degrees = _percent(value, "rotation", where) if value.get("rotation") else 0.0
            if "width" in value:
                fill_polygon(label, _box(x * scale_x, y * scale_y, a * scale_x, b * scale_y, degrees), number)
            else:
                fill_ellipse(label, (x * scale_x, y * scale_y), (a * scale_x, b * scale_y), degrees, number)
    return label


def _percent(value: Any, key: str, where: str) -> float:
    number = value.get(key)
    if not isinstance(number, (int, float)) or not abs(number) <= 1000:
        raise DataError(f"{where}: '{key}' of a shape is no number.")
    return float(number)


def _box(x: float, y: float, width: float, height: float, degrees: float) -> list[tuple[float, float]]:
    """A box turned clockwise around its first corner."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [
        (x + dx * cos - dy * sin, y + dx * sin + dy * cos)
        for dx, dy in ((0, 0), (width, 0), (width, height), (0, height))
    ]
