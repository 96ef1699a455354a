"""VGG Image Annotator: projects and annotations of VIA 1 and 2 as JSON or CSV, and projects of VIA 3.

The formats have no order of depth: smaller regions lie on larger ones. What a region is says one of its attributes; its
name is the annotator's own.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from deeplabv3p import documents
from deeplabv3p.data.convert.foreign import Foreign, Names, Record, Size, Skipped, split_of
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.json_file import read_json
from deeplabv3p.data.convert.paint import Shape, draw
from deeplabv3p.data.convert.raster import (
    Box,
    Canvas,
    box_corners,
    draw_line,
    fill_ellipse,
    fill_polygon,
    points_of,
)
from deeplabv3p.data.convert.tally import Drawn
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError

CSV_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")
UNNAMED = "regions without a label"
_SEVERAL = "regions with several labels"
_BOXES = "boxes (--boxes fills them)"
_LIKELY = ("class", "label", "name", "category", "type", "object", "object_name", "class_name", "label_name")
_FAR = 1e9  # pixels; not a number is not nearer, either
_VIA3 = {1: "point", 2: "rect", 3: "circle", 4: "ellipse", 5: "polyline", 6: "polyline", 7: "polygon"}


@dataclass(frozen=True)
class Region:
    """A region: its kind, what its shape is said by, and its attributes as texts, '' where several were ticked."""

    kind: str
    shape: Mapping[str, Any]
    attributes: Mapping[str, str | None]


@dataclass
class Picture:
    """A picture of a project, and its regions."""

    file: File
    name: str
    regions: list[Region] = field(default_factory=list)


def read_via(tree: Tree, options: Options) -> Foreign:
    """Every JSON or CSV file of VIA. Classes are the values of one attribute, sorted."""
    pictures: list[Picture] = []
    skipped: list[Skipped] = []
    for file in tree.documents(".json", ".csv"):
        found = _pictures(file)
        if found is None:
            skipped.append(Skipped(file.where, "it is not of VIA: it has no regions of pictures"))
        pictures += found or []
    if not pictures:
        return Foreign((), [], [], skipped or [Skipped("the sources", "they hold no .json or .csv file")])
    regions = [region for picture in pictures for region in picture.regions]
    attribute, notes = _attribute(regions, options)
    dropped = Counter(reason for region in regions if (reason := _useless(region, attribute, options)))
    kept = [region for region in regions if not _useless(region, attribute, options)]
    names = Names(options, sorted({_label(region, attribute, options) for region in kept}), pictures[0].file.where)
    names.notes[:0] = notes
    foreign = Foreign(names.classes, [], names.notes, skipped, dropped, len(kept))
    records = []
    for item in pictures:
        try:
            image = tree.picture(item.file, item.name, unquote(urlsplit(item.name).path))
        except DataError as error:
            foreign.skipped.append(Skipped(item.name, str(error)))
            continue
        draws = partial(_draw, item, attribute, names, options)
        records.append(Record(image.stem, split_of(image.parent), image, image.suffix, draws, item.file.where))
    if empty := sum(not item.regions for item in pictures):
        foreign.notes.append(f"{empty:,} pictures have no region: all of them is unlabelled")
    foreign.records = records
    return foreign


def is_via(content: Any) -> bool:
    """Whether the content of a JSON file is a project of VIA, or its annotations."""
    if not isinstance(content, dict) or not content:
        return False
    if "_via_img_metadata" in content or {"metadata", "view", "file"} <= set(content):
        return True
    return all(isinstance(item, dict) and {"filename", "regions"} <= set(item) for item in content.values())


# What the files hold


def _pictures(file: File) -> list[Picture] | None:
    """The pictures of a file; None if it is not of VIA."""
    if file.suffix.lower() == ".csv":
        return _from_csv(file)
    content = read_json(file)
    if not is_via(content):
        return None
    if "_via_img_metadata" not in content and "metadata" in content and "view" in content:
        return _from_via3(file, content)
    items = content.get("_via_img_metadata", content)
    if not isinstance(items, dict):
        raise DataError(f"{file.where}: '_via_img_metadata' is no object.")
    found = []
    for item in items.values():
        name = item.get("filename") if isinstance(item, dict) else None
        regions = item.get("regions") if isinstance(item, dict) else None
        if not isinstance(name, str) or not isinstance(regions, (list, dict)):
            raise DataError(f"{file.where}: a picture has no filename, or no regions.")
        # VIA 1 numbers its regions, VIA 2 lists them.
        listed = list(regions.values()) if isinstance(regions, dict) else regions
        picture = Picture(file, name)
        for region in listed:
            picture.regions.append(_region(region, f"{file.where}, {name}"))
        found.append(picture)
    return found


def _region(item: Any, where: str) -> Region:
    shape = item.get("shape_attributes") if isinstance(item, dict) else None
    attributes = item.get("region_attributes") if isinstance(item, dict) else None
    if not isinstance(shape, dict) or not isinstance(attributes, dict):
        raise DataError(f"{where}: a region has no 'shape_attributes' or no 'region_attributes'.")
    return Region(str(shape.get("name")), shape, {str(key): _text(value) for key, value in attributes.items()})


def _text(value: Any) -> str | None:
    """The value of an attribute as text; '' for none, None where several boxes are ticked."""
    if isinstance(value, dict):
        ticked = [str(key) for key, on in value.items() if on is True or on == "true"]
        return ticked[0] if len(ticked) == 1 else None if ticked else ""
    return str(value).strip() if isinstance(value, (str, int, float)) else ""


def _from_csv(file: File) -> list[Picture] | None:
    text = file.read().decode("utf-8-sig", "replace")
    csv.field_size_limit(max(1 << 17, len(text)))
    try:
        rows = list(csv.DictReader(io.StringIO(text.removeprefix("#")), skipinitialspace=True))
    except csv.Error as error:
        raise DataError(f"{file.where} is no table that can be read ({error}). Export it again.") from None
    if not rows or not set(CSV_COLUMNS) <= set(rows[0]):
        return None
    found: dict[str, Picture] = {}
    for number, row in enumerate(rows, 2):
        picture = found.setdefault(row["filename"], Picture(file, row["filename"]))
        where = f"{file.where}: line {number}"
        shape, attributes = (documents.parse_json(row[key] or "{}", where, foreign=True) for key in CSV_COLUMNS[1:])
        if shape:
            item = {"shape_attributes": shape, "region_attributes": attributes}
            picture.regions.append(_region(item, where))
    return list(found.values())


def _from_via3(file: File, content: dict[str, Any]) -> list[Picture]:
    files, views, metadata = (content.get(key) for key in ("file", "view", "metadata"))
    if not isinstance(files, dict) or not isinstance(views, dict) or not isinstance(metadata, dict):
        raise DataError(f"{file.where}: 'file', 'view' and 'metadata' are not what VIA 3 writes.")
    attributes = content.get("attribute") if isinstance(content.get("attribute"), dict) else {}
    found: dict[str, Picture] = {}
    for number, view in views.items():
        ids = view.get("fid_list") if isinstance(view, dict) else None
        item = files.get(str(ids[0])) if isinstance(ids, list) and ids else None
        if isinstance(item, dict) and isinstance(item.get("fname"), str):
            found[str(number)] = Picture(file, item["fname"])
    for item in metadata.values():
        picture = found.get(str(item.get("vid"))) if isinstance(item, dict) else None
        xy = item.get("xy") if isinstance(item, dict) else None
        if picture is None or not xy:  # a span of time of a video
            continue
        if not isinstance(xy, list) or not all(isinstance(value, (int, float)) and abs(value) < _FAR for value in xy):
            raise DataError(f"{file.where}, {picture.name}: a region has no numbers 'xy'.")
        picture.regions.append(_via3_region(xy, item.get("av"), attributes))
    return list(found.values())


def _via3_region(xy: Sequence[float], values: Any, attributes: Any) -> Region:
    kind, numbers = _VIA3.get(int(xy[0]), f"number {int(xy[0])}"), list(xy[1:])
    keys = {
        "rect": ("x", "y", "width", "height"),
        "circle": ("cx", "cy", "r"),
        "ellipse": ("cx", "cy", "rx", "ry"),
        "point": ("cx", "cy"),
    }
    shape: dict[str, Any] = dict(zip(keys.get(kind, ()), numbers, strict=False))
    if kind not in keys:
        shape = {"all_points_x": numbers[::2], "all_points_y": numbers[1::2]}
    named = {}
    for number, value in (values if isinstance(values, dict) else {}).items():
        known = attributes.get(number) if isinstance(attributes.get(number), dict) else {}
        options = known.get("options") if isinstance(known.get("options"), dict) else {}
        # Drop-downs store the number of an option; check boxes several, with commas between.
        chosen = [str(options.get(part, part)).strip() for part in str(value).split(",")] if options else [str(value)]
        named[str(known.get("aname", number))] = chosen[0] if len(chosen) == 1 else None
    return Region(kind, shape, named)


# What they mean


def _attribute(regions: Sequence[Region], options: Options) -> tuple[str | None, list[str]]:
    """The attribute that is the class, None where no region has any, and what there is to say about that."""
    used = Counter(key for region in regions for key, value in region.attributes.items() if value != "")
    if options.attribute is not None:
        if options.attribute not in used:
            has = ", ".join(f"'{key}'" for key in sorted(used)) or "none"
            raise DataError(f"no region has the attribute '{options.attribute}'. Attributes: {has}.")
        return options.attribute, []
    if not used:
        if not any(region.attributes for region in regions):
            return None, [f"the regions have no attributes: all of them are '{options.class_name}' (--class_name)"]
        return None, []
    likely = [key for name in _LIKELY for key in used if key.lower() == name]
    if len(used) == 1 or likely:
        chosen = likely[0] if likely else next(iter(used))
        others = sorted(set(used) - {chosen})
        note = f"the class is the attribute '{chosen}', not {', '.join(others)} (--attribute NAME)"
        return chosen, [note] if others else []
    names = ", ".join(f"'{key}'" for key in sorted(used))
    raise DataError(f"the regions have the attributes {names}. Say which is the class: --attribute NAME.")


def _label(region: Region, attribute: str | None, options: Options) -> str:
    if attribute is None:
        return "" if region.attributes else options.class_name
    return region.attributes.get(attribute) or ""


def _useless(region: Region, attribute: str | None, options: Options) -> str | None:
    """Why a region cannot be drawn."""
    if region.kind not in {"polygon", "polyline", "rect", "circle", "ellipse", "point"}:
        return f"regions of the kind '{region.kind}'"
    if region.kind == "rect" and not options.boxes:
        return _BOXES
    if attribute is not None and region.attributes.get(attribute, "") is None:
        return _SEVERAL
    return None if _label(region, attribute, options) else UNNAMED


def _draw(item: Picture, attribute: str | None, names: Names, options: Options, size: Size) -> Drawn:
    where = f"{item.file.where}, {item.name}"
    shapes = [
        Shape(_label(region, attribute, options), partial(_paint, region, options.thickness, where))
        for region in item.regions
        if not _useless(region, attribute, options)
    ]
    return draw(shapes, names, options.order or "area", None, size, where)


def _paint(region: Region, thickness: int, where: str, canvas: Canvas, value: int) -> Box:
    shape = region.shape
    if region.kind in {"polygon", "polyline"}:
        x, y = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            raise DataError(f"{where} holds a region whose points are not two lists of one length.")
        points = points_of(list(zip(x, y, strict=True)), where, least=3 if region.kind == "polygon" else 2)
        if region.kind == "polygon":
            return fill_polygon(canvas, points, value)
        return draw_line(canvas, points, value, thickness)
    if region.kind == "rect":
        left, top, width, height = _numbers(shape, ("x", "y", "width", "height"), where)
        return fill_polygon(canvas, box_corners(left, top, left + width, top + height), value)
    x, y = _numbers(shape, ("cx", "cy"), where)
    if region.kind == "point":
        return draw_line(canvas, [(x, y)], value, thickness)
    radii = _numbers(shape, ("r", "r") if region.kind == "circle" else ("rx", "ry"), where)
    (theta,) = _numbers(shape, ("theta",), where) if "theta" in shape else (0.0,)
    return fill_ellipse(canvas, (x, y), radii, math.degrees(theta), value)


def _numbers(shape: Mapping[str, Any], keys: tuple[str, ...], where: str) -> list[float]:
    values = [shape.get(key) for key in keys]
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        raise DataError(f"{where} holds a region without the numbers {', '.join(keys)}.")
    flat: list[float] = points_of([(value, 0.0) for value in values], where, least=1)[:, 0].tolist()
    return flat
