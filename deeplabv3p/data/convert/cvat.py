"""CVAT's exports: "CVAT for images 1.1" (one XML file) and "Segmentation mask 1.1" (colours and ``labelmap.txt``).

Shapes of the XML are drawn by ``z_order``, then in the order of the file, later ones on top. Classes are the labels
that have a shape that can be drawn: tags say something of a whole picture, and boxes nothing about pixels.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from xml.etree import ElementTree

from deeplabv3p import documents
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
    split_of,
)
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.maps import ColorTable, read_colors
from deeplabv3p.data.convert.paint import Shape, draw
from deeplabv3p.data.convert.raster import (
    NOWHERE,
    Box,
    Canvas,
    around,
    draw_line,
    fill_ellipse,
    fill_polygon,
    fill_runs,
    paint_mask,
    points_of,
)
from deeplabv3p.data.convert.tally import Drawn
from deeplabv3p.data.convert.tree import File, Tree, not_one
from deeplabv3p.errors import DataError
from deeplabv3p.spec import ClassInfo

_DRAWN = ("polygon", "mask", "ellipse", "polyline", "points", "box")


def read_cvat(tree: Tree, options: Options) -> Foreign:
    """Segmentation masks where there is a ``labelmap.txt``, else the XML files."""
    labelmap = tree.one("labelmap.txt")
    return _read_masks(tree, labelmap, options) if labelmap is not None else _read_xml(tree, options)


# CVAT for images 1.1


def _read_xml(tree: Tree, options: Options) -> Foreign:
    roots = {file: parse_xml(file) for file in tree.documents(".xml")}
    roots = {file: root for file, root in roots.items() if root.tag == "annotations"}
    if not roots:
        raise DataError("the sources hold neither labelmap.txt nor an XML file of CVAT (its root is 'annotations').")
    listed: list[str] = []
    dropped, used = Counter[str](), Counter[str]()
    for file, root in roots.items():
        if root.find("track") is not None:
            raise DataError(f"{file.where} is an export for video. Export the task as 'CVAT for images 1.1'.")
        # Of a task, of a job, of a project: the labels are somewhere below meta.
        listed += [element.text or "" for element in root.iterfind("meta//labels/label/name")]
        for image in root.iterfind("image"):
            kept = _shapes(image, options, dropped)
            used.update(shape.get("label") or "" for shape in kept)
    found = list(dict.fromkeys(name for name in listed if used[name])) or sorted(used)
    found += sorted(set(used) - set(found))
    names = Names(options, found, next(iter(roots)).where)
    if idle := [name for name in dict.fromkeys(listed) if not used[name]]:
        shown = ", ".join(f"'{name}'" for name in idle)
        text = f"no classes, because they have no shape that can be drawn: {shown}"
        names.notes.append(f"{text} (--classes_path keeps them)" if options.classes is None else text)
    foreign = Foreign(names.classes, [], names.notes, dropped=dropped, drawable=used.total())
    records = []
    for file, root in roots.items():
        for image in root.iterfind("image"):
            name, subset = image.get("name") or "", image.get("subset")
            try:
                inside = [f"{file.parent}/images/{subset}/{name}", f"{file.parent}/images/{name}"]
                exact = next((path for path in inside if path in tree.files), None)
                picture = tree.files[exact] if exact else tree.picture(file, name)
            except DataError as error:
                foreign.skipped.append(Skipped(name, str(error)))
                continue
            split = split_of(subset or "")
            split = split if split != ALL else split_of(str(PurePosixPath(name).parent))
            draws = partial(_draw, image, names, options, f"{file.where}, {name}")
            record = Record(PurePosixPath(name).stem, split, picture, picture.suffix, draws, file.where)
            records.append(record)
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


def _shapes(image: ElementTree.Element, options: Options, dropped: Counter[str]) -> list[ElementTree.Element]:
    """What can be drawn; the rest is counted, but for tags, which are no shapes."""
    kept = []
    for shape in image:
        if shape.tag == "tag":
            continue
        if shape.tag not in _DRAWN:
            dropped[f"shapes of the kind '{shape.tag}'"] += 1
        elif shape.tag == "box" and not options.boxes:
            dropped["boxes (--boxes fills them)"] += 1
        else:
            kept.append(shape)
    return kept


def _draw(image: ElementTree.Element, names: Names, options: Options, where: str, size: Size) -> Drawn:
    declared = int(_number(image, "height", where)), int(_number(image, "width", where))
    shapes = [
        Shape(
            shape.get("label") or "",
            partial(_paint, shape, options.thickness, where),
            _number(shape, "z_order", where) if shape.get("z_order") else 0.0,
        )
        for shape in _shapes(image, options, Counter())
    ]
    return draw(shapes, names, options.order or "file", declared, size, where)


def _paint(shape: ElementTree.Element, thickness: int, where: str, canvas: Canvas, value: int) -> Box:
    if shape.tag == "mask":
        return _paint_mask(canvas, shape, value, where)
    if shape.tag == "box":
        x0, y0, x1, y1 = (_number(shape, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
        box = turned_box((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, _turn(shape, where), where)
        return fill_polygon(canvas, box, value)
    if shape.tag == "ellipse":
        x, y, rx, ry = (_number(shape, key, where) for key in ("cx", "cy", "rx", "ry"))
        points_of([(x, y), (rx, ry)], where, least=2)
        return fill_ellipse(canvas, (x, y), (rx, ry), _turn(shape, where), value)
    texts = [pair.split(",") for pair in (shape.get("points") or "").split(";")]
    points = points_of(texts, where, least={"polygon": 3, "polyline": 2}.get(shape.tag, 1))
    if shape.tag == "polygon":
        return fill_polygon(canvas, points, value)
    touched = NOWHERE
    for line in [points] if shape.tag == "polyline" else [[point] for point in points]:
        touched = around(touched, draw_line(canvas, line, value, thickness))
    return touched


def _paint_mask(canvas: Canvas, shape: ElementTree.Element, value: int, where: str) -> Box:
    left, top, width, height = (int(_number(shape, key, where)) for key in ("left", "top", "width", "height"))
    reaches = min(left, top) < 0 or top + height > canvas.shape[0] or left + width > canvas.shape[1]
    if reaches or min(width, height) < 1:
        raise DataError(f"{where} holds a mask that reaches out of its picture.")
    try:
        runs = [int(run) for run in (shape.get("rle") or "").split(",")]
    except ValueError:
        raise DataError(f"{where} holds a mask without run lengths.") from None
    mask = fill_runs(runs, width * height, where).reshape(height, width)
    return paint_mask(canvas, mask, top, left, value, where)


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
        different = list({f.name: f for f in pictures}.values())
        if len(different) != 1:
            foreign.skipped.append(Skipped(file.where, not_one(name, different)))
            continue
        split = splits.get(name, ALL)
        records.append(Record(name, split, pictures[0], pictures[0].suffix, partial(_colors, file, table), file.where))
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
        color = [documents.whole_number(part.strip()) for part in rest.split(",")]
        numbers = [value for value in color if value is not None and value < 256]
        if not name or len(color) != 3 or len(numbers) != 3:
            raise DataError(f"{file.where}: '{documents.shown(line)}' is not name:red,green,blue:parts:actions.")
        found[name] = (numbers[0], numbers[1], numbers[2])
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
