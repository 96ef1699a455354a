"""CVAT's exports: "CVAT for images 1.1" (one XML file) and "Segmentation mask 1.1" (colours and ``labelmap.txt``).

Shapes of the XML are drawn by ``z_order``, then in the order of the file, later ones on top.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from xml.etree import ElementTree

from deeplabv3p.data.classes import ClassList
from deeplabv3p.data.convert.foreign import (
    ALL,
    BACKGROUND,
    Foreign,
    Names,
    Pixels,
    Record,
    Size,
    Skipped,
    is_picture,
    split_of,
)
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.maps import ColorTable, read_colors
from deeplabv3p.data.convert.raster import draw_line, fill_ellipse, fill_polygon, fill_runs, points_of
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError
from deeplabv3p.spec import ClassInfo

_DRAWN = ("polygon", "mask", "ellipse", "polyline", "points", "box")


def read_cvat(tree: Tree, options: Options) -> Foreign:
    """Segmentation masks where there is a ``labelmap.txt``, else the XML files."""
    labelmap = tree.one("labelmap.txt")
    return _read_masks(tree, labelmap, options) if labelmap is not None else _read_xml(tree, options)


# CVAT for images 1.1


def _read_xml(tree: Tree, options: Options) -> Foreign:
    roots = {file: parse_xml(file) for file in tree.files.values() if file.suffix.lower() == ".xml"}
    roots = {file: root for file, root in roots.items() if root.tag == "annotations"}
    if not roots:
        raise DataError("the sources hold neither labelmap.txt nor an XML file of CVAT (its root is 'annotations').")
    found: list[str] = []
    for file, root in roots.items():
        if root.find("track") is not None:
            raise DataError(f"{file.where} is an export for video. Export the task as 'CVAT for images 1.1'.")
        listed = [element.text or "" for element in root.iterfind("meta//labels/label/name")]
        found += listed or sorted({item.get("label", "") for item in root.iterfind("image/*") if item.get("label")})
    names = Names(options, found, next(iter(roots)).where)
    foreign = Foreign(names.classes, [], names.notes)
    records, left_out = [], Counter[str]()
    for file, root in roots.items():
        for image in root.iterfind("image"):
            name = image.get("name") or ""
            picture = _picture(tree, file, name, image.get("subset"))
            if picture is None or not is_picture(picture.name):
                foreign.skipped.append(
                    Skipped(name, "its picture is missing, is found twice, or is of an unknown kind")
                )
                continue
            shapes = list(_shapes(image, options, left_out))
            split = split_of(image.get("subset") or "")
            split = split if split != ALL else split_of(str(PurePosixPath(name).parent))
            draw = partial(_draw, image, shapes, names, options, f"{file.where}, {name}")
            records.append(Record(PurePosixPath(name).stem, split, picture, picture.suffix, draw))
    foreign.notes += [f"{count:,} of {kind} are left out" for kind, count in sorted(left_out.items())]
    foreign.records = records
    return foreign


def parse_xml(file: File) -> ElementTree.Element:
    """The root of an XML file in UTF-8. A document type is refused: entities could grow without end.

    Raises:
        DataError: it is not such a file.
    """
    try:
        text = file.read().decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise DataError(f"{file.where} has a document type, which no export of CVAT has: it is refused.")
        return ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{file.where} is not valid XML ({error}). Export it again.") from None


def _picture(tree: Tree, file: File, name: str, subset: str | None) -> File | None:
    exact = [f"images/{subset}/{name}", f"images/{name}", name]
    inside = (tree.files.get(f"{file.parent}/{path}") for path in exact)
    return next((found for found in inside if found is not None), None) or tree.beside(file, name)


def _shapes(image: ElementTree.Element, options: Options, left_out: Counter[str]) -> Iterator[ElementTree.Element]:
    """What is to be drawn, the lowest first."""
    kept = []
    for shape in image:
        if shape.tag == "tag":
            continue
        if shape.tag not in _DRAWN:
            left_out[f"'{shape.tag}' shapes"] += 1
        elif shape.tag == "box" and not options.boxes:
            left_out["boxes (--boxes fills them)"] += 1
        else:
            kept.append(shape)
    yield from sorted(kept, key=lambda shape: _number(shape, "z_order", "the file") if shape.get("z_order") else 0.0)


def _draw(
    image: ElementTree.Element,
    shapes: list[ElementTree.Element],
    names: Names,
    options: Options,
    where: str,
    size: Size,
) -> Pixels:
    declared = int(_number(image, "height", where)), int(_number(image, "width", where))
    label = names.canvas(declared, size, where)
    for shape in shapes:
        value = names.label(shape.get("label") or "")
        if shape.tag == "mask":
            _draw_mask(label, shape, value, where)
        elif shape.tag == "box":
            _draw_box(label, shape, value, where)
        elif shape.tag == "ellipse":
            x, y, rx, ry = (_number(shape, key, where) for key in ("cx", "cy", "rx", "ry"))
            points_of([(x, y), (rx, ry)], where, least=2)
            fill_ellipse(label, (x, y), (rx, ry), _turn(shape, where), value)
        else:
            texts = [pair.split(",") for pair in (shape.get("points") or "").split(";")]
            points = points_of(texts, where, least={"polygon": 3, "polyline": 2}.get(shape.tag, 1))
            if shape.tag == "polygon":
                fill_polygon(label, points, value)
            else:
                for line in [points] if shape.tag == "polyline" else [[point] for point in points]:
                    draw_line(label, line, value, options.thickness)
    return label


def _draw_mask(label: Pixels, shape: ElementTree.Element, value: int, where: str) -> None:
    left, top, width, height = (int(_number(shape, key, where)) for key in ("left", "top", "width", "height"))
    if min(left, top) < 0 or min(width, height) < 1 or top + height > label.shape[0] or left + width > label.shape[1]:
        raise DataError(f"{where} holds a mask that reaches out of its picture.")
    try:
        runs = [int(run) for run in (shape.get("rle") or "").split(",")]
    except ValueError:
        raise DataError(f"{where} holds a mask without run lengths.") from None
    mask = fill_runs(runs, width * height, where).reshape(height, width)
    label[top : top + height, left : left + width][mask] = value


def _draw_box(label: Pixels, shape: ElementTree.Element, value: int, where: str) -> None:
    x0, y0, x1, y1 = (_number(shape, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
    fill_polygon(label, turned_box((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, _turn(shape, where), where), value)


def turned_box(
    x: float, y: float, width: float, height: float, degrees: float, where: str
) -> list[tuple[float, float]]:
    """The corners of a box around its centre (x, y), turned clockwise."""
    import math

    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half = [(-width / 2, -height / 2), (width / 2, -height / 2), (width / 2, height / 2), (-width / 2, height / 2)]
    corners = [(x + dx * cos - dy * sin, y + dx * sin + dy * cos) for dx, dy in half]
    points_of(corners, where, least=4)
    return corners


def _turn(shape: ElementTree.Element, where: str) -> float:
    return _number(shape, "rotation", where) if shape.get("rotation") else 0.0


def _number(element: ElementTree.Element, key: str, where: str) -> float:
    try:
        value = float(element.get(key) or "")
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e9:
        raise DataError(f"{where}: <{element.tag}> has no number '{key}'.")
    return value


# Segmentation mask 1.1


def _read_masks(tree: Tree, labelmap: File, options: Options) -> Foreign:
    colors = _labelmap(labelmap)
    listed = ClassList(tuple(ClassInfo(name, color) for name, color in colors.items()), explicit_colors=True)
    first = [item for item in listed.classes if item.name == BACKGROUND.name]
    ordered = tuple(first + [item for item in listed.classes if item.name != BACKGROUND.name])
    if options.classes is None:
        options = replace(options, classes=ClassList(ordered, explicit_colors=True))
    names = Names(options, [name for name in colors if name != BACKGROUND.name], labelmap.where)
    table = ColorTable({color: names.label(name) for name, color in colors.items()})
    splits = _splits(tree)
    foreign = Foreign(names.classes, [], names.notes)
    records = []
    for file in (f for f in tree.files.values() if "/SegmentationClass/" in f.name and f.suffix.lower() == ".png"):
        name = str(PurePosixPath(file.name.split("/SegmentationClass/", 1)[1]).with_suffix(""))
        pictures = [
            f
            for f in (tree.beside(labelmap, f"JPEGImages/{name}{s}") for s in (".jpg", ".png", ".jpeg", ".JPG", ".PNG"))
            if f is not None and "/SegmentationClass/" not in f.name and "/SegmentationObject/" not in f.name
        ]
        if len({f.name for f in pictures}) != 1:
            foreign.skipped.append(Skipped(file.where, f"its picture {name} is missing, or there are several"))
            continue
        split = splits.get(name, ALL)
        records.append(Record(name, split, pictures[0], pictures[0].suffix, partial(_colors, file, table)))
    foreign.records = records
    return foreign


def _colors(file: File, table: ColorTable, size: Size) -> Pixels:
    return table.map(read_colors(file), file.where)


def _labelmap(file: File) -> dict[str, tuple[int, int, int]]:
    """``name:red,green,blue:parts:actions`` lines; ``#`` begins a comment. Names may hold colons."""
    found: dict[str, tuple[int, int, int]] = {}
    for line in file.read().decode("utf-8-sig", "replace").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.rpartition(":")[0].rpartition(":")[0].rpartition(":")
        numbers = [part.strip() for part in rest.split(",")]
        if not name or len(numbers) != 3 or not all(part.isdigit() and int(part) < 256 for part in numbers):
            raise DataError(f"{file.where}: '{line}' is not name:red,green,blue:parts:actions.")
        found[name] = (int(numbers[0]), int(numbers[1]), int(numbers[2]))
    if not found:
        raise DataError(f"{file.where} names no class.")
    return found


def _splits(tree: Tree) -> dict[str, str]:
    """Which list of ImageSets/Segmentation a name is in; ``default.txt`` is no split."""
    return {
        line.strip(): split_of(file.stem)
        for file in tree.inside("ImageSets/Segmentation")
        for line in file.read().decode("utf-8", "replace").splitlines()
    }
