"""Label Studio's JSON export: polygons and brushes. It has no order of depth: smaller shapes lie on larger ones.

Where a task has several annotations, the first that was not cancelled is taken. Coordinates are percent of the size
that is written with them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from deeplabv3p.data.convert.foreign import Foreign, Names, Record, Size, Skipped, is_picture, split_of
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.json_file import read_json, size_of, take
from deeplabv3p.data.convert.paint import Shape, draw
from deeplabv3p.data.convert.raster import (
    Box,
    Canvas,
    brush_mask,
    fill_ellipse,
    fill_polygon,
    paint_mask,
    points_of,
)
from deeplabv3p.data.convert.tally import Drawn
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError

_LABEL_KEYS = ("polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels", "labels")


def read_labelstudio(tree: Tree, options: Options) -> Foreign:
    """Every JSON file that is a list of tasks."""
    found: list[tuple[File, str, list[Any]]] = []
    skipped: list[Skipped] = []
    several = 0
    dropped = Counter[str]()
    for file in tree.documents(".json"):
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
            boxes = sum(bool(_label_of(item)) for item in results) - len(kept)
            dropped += Counter({"boxes and ellipses (--boxes fills them)": boxes})
            dropped += Counter({"shapes without a label": sum(_is_unnamed(item) for item in results)})
            found.append((file, name, kept))
    if not found:
        return Foreign((), [], [], skipped or [Skipped("the sources", "they hold no .json file")])
    names = Names(options, sorted({_label_of(item) for _, _, items in found for item in items}), found[0][0].where)
    drawable = sum(len(items) for _, _, items in found)
    foreign = Foreign(names.classes, [], names.notes, skipped, dropped, drawable)
    if several:
        foreign.notes.append(f"{several:,} tasks have several annotations: the first of each is taken")
    records = []
    for file, name, items in found:
        try:
            # Uploads get eight hex digits and a dash before their name; people's own folders do not have them.
            picture = tree.picture(file, name, re.sub(r"^[0-9a-f]{8}-", "", PurePosixPath(name).name))
        except DataError as error:
            foreign.skipped.append(Skipped(name, str(error)))
            continue
        draws = partial(_draw, items, names, options, f"{file.where}, {name}")
        split = split_of(picture.parent)
        records.append(Record(picture.stem, split, picture, picture.suffix, draws, file.where))
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


def _is_unnamed(item: Any) -> bool:
    value = _get(item, "value")
    return isinstance(value, dict) and ("points" in value or "rle" in value) and not _label_of(item)


def _draw(items: list[Any], names: Names, options: Options, where: str, size: Size) -> Drawn:
    declared = size_of(items[0], "original_height", "original_width", where) if items else size
    shapes = [Shape(_label_of(item), partial(_paint, item["value"], declared, where)) for item in items]
    return draw(shapes, names, options.order or "area", declared, size, where)


def _paint(value: Any, declared: Size, where: str, canvas: Canvas, number: int) -> Box:
    height, width = declared
    if "rle" in value:
        return paint_mask(canvas, brush_mask(value["rle"], declared, where), 0, 0, number, where)
    if "points" in value:
        points = points_of(value["points"], where, least=3)
        return fill_polygon(canvas, points * (width / 100, height / 100), number)
    keys = ("x", "y", "width", "height") if "width" in value else ("x", "y", "radiusX", "radiusY")
    x, y, a, b = (_percent(value, key, where) for key in keys)
    scale_x, scale_y = width / 100, height / 100
    degrees = _percent(value, "rotation", where) if value.get("rotation") else 0.0
    if "width" in value:
        return fill_polygon(canvas, _box(x * scale_x, y * scale_y, a * scale_x, b * scale_y, degrees), number)
    return fill_ellipse(canvas, (x * scale_x, y * scale_y), (a * scale_x, b * scale_y), degrees, number)


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
