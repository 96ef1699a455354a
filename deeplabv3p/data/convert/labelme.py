"""labelme's JSON files. Shapes are drawn in the order of the file, later ones on top, as labelme's own exporter does.

``__ignore__`` is ignored and ``_background_`` is label 0, as labelme's own tools have it. The picture is the file that
``imagePath`` names, if it is among the sources, because what ``imageData`` holds may have been encoded again.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deeplabv3p.data.convert.foreign import (
    Content,
    Foreign,
    Inline,
    Names,
    Record,
    Size,
    Skipped,
    is_picture,
    split_of,
)
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.json_file import read_json, size_of, take
from deeplabv3p.data.convert.labels import LabelMap
from deeplabv3p.data.convert.maps import read_numbers, size_as_seen
from deeplabv3p.data.convert.paint import Shape, draw
from deeplabv3p.data.convert.raster import (
    NOWHERE,
    Box,
    Canvas,
    around,
    box_corners,
    draw_circle,
    draw_line,
    fill_polygon,
    paint_mask,
    points_of,
)
from deeplabv3p.data.convert.recognise import json_of
from deeplabv3p.data.convert.tally import Drawn, Tally
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError

POLYGONS = {"polygon", "oriented_rectangle"}
_SIGNATURES = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG\r\n", ".png"), (b"BM", ".bmp"), (b"II*\0", ".tif"))


@dataclass(frozen=True)
class _Embedded:
    """The picture in a JSON file, decoded when it is needed: all of them would not fit into memory."""

    file: File
    path: Path | None = None

    @property
    def where(self) -> str:
        return f"{self.file.where} (imageData)"

    def read(self) -> bytes:
        return _decode(take(read_json(self.file), "imageData", str, self.file.where), self.where)


@dataclass(frozen=True)
class _Annotated:
    file: File
    content: Any
    shapes: list[Any]
    size: Size | None  # files of before 2019 do not say it


def read_labelme(tree: Tree, options: Options) -> Foreign:
    """Every JSON file with ``shapes``. Without a class file, the classes are the names that occur, sorted."""
    found, skipped = _annotated(tree)
    pictures: list[tuple[_Annotated, Content, str]] = []
    records: list[Record] = []
    for item in found:
        try:
            pictures.append((item, *_image(tree, item.file, item.content)))
        except DataError as error:
            skipped.append(Skipped(item.file.where, str(error)))
    if not pictures:
        return Foreign((), [], [], skipped)
    shown = [item for item, _, _ in pictures]
    names, dropped, drawable = _names(shown, options)
    foreign = Foreign(names.classes, [], names.notes, skipped, dropped, drawable)
    for item, image, suffix in pictures:
        draws = partial(_draw, item, names, options)
        split = split_of(item.file.parent)
        records.append(Record(item.file.stem, split, image, suffix, draws, item.file.where))
    foreign.records = records
    return foreign


def label_maps(tree: Tree, options: Options) -> tuple[Names, list[LabelMap], Tally]:
    """The label maps alone, in the size that the files say, whether or not their pictures are there, and what is not
    drawn.

    Raises:
        DataError: a file is not of labelme, or a name is not in the class file.
    """
    found, skipped = _annotated(tree)
    if skipped:
        raise DataError(f"{skipped[0].file}: {skipped[0].reason}")
    names, dropped, _ = _names(found, options)
    sizes = [item.size or size_as_seen(_image(tree, item.file, item.content)[0]) for item in found]
    maps = [
        LabelMap(item.file.stem, item.file.where, partial(_draw, item, names, options, size))
        for item, size in zip(found, sizes, strict=True)
    ]
    return names, maps, Tally(dropped=dropped)


def _annotated(tree: Tree) -> tuple[list[_Annotated], list[Skipped]]:
    found: list[_Annotated] = []
    skipped: list[Skipped] = []
    for file in (file for file in tree.files.values() if file.suffix.lower() == ".json"):
        try:
            content = read_json(file)
            if not isinstance(content, dict) or "shapes" not in content:
                skipped.append(Skipped(file.where, _what_else(content)))
                continue
            shapes = take(content, "shapes", list, file.where)
            for shape in shapes:
                take(shape, "label", str, file.where)
            old = "imageHeight" not in content and "imageWidth" not in content
            size = None if old else size_of(content, "imageHeight", "imageWidth", file.where)
            # All pictures in JSON files would not fit into memory; the beginning says what kind each is.
            content = {"imagePath": content.get("imagePath"), "imageData": str(content.get("imageData") or "")[:32]}
            found.append(_Annotated(file, content, shapes, size))
        except DataError as error:
            skipped.append(Skipped(file.where, str(error)))
    return found, skipped or ([] if found else [Skipped("the sources", "they hold no .json file")])


def _what_else(content: Any) -> str:
    known = json_of(content)
    if known is None:
        return "it is JSON, but not of labelme: it has no shapes"
    name, kind = known
    return f"it is {name}, not labelme" + (f": `dataset.py convert {kind}` reads it" if kind else "")


def _names(found: list[_Annotated], options: Options) -> tuple[Names, Counter[str], int]:
    """The classes, the shapes that are not drawn, by reason, and the number of those that are."""
    shapes = [shape for item in found for shape in item.shapes]
    drawn = [shape for shape in shapes if not options.polygon_only or shape_kind(shape) in POLYGONS]
    where = found[0].file.parent if len(found) > 1 else found[0].file.where
    names = Names(options, sorted({shape["label"] for shape in drawn}), where)
    left_out = Counter({"shapes that are not polygons (--polygon_only)": len(shapes) - len(drawn)})
    if empty := sum(not item.shapes for item in found):
        names.notes.append(f"{empty:,} files have no shape: their pictures are unlabelled")
    return names, +left_out, len(drawn)


def _draw(item: _Annotated, names: Names, options: Options, size: Size) -> Drawn:
    shapes = shapes_of(item.shapes, options, item.file.where)
    return draw(shapes, names, options.order or "file", item.size, size, item.file.where)


def shapes_of(shapes: list[Any], options: Options, where: str) -> list[Shape]:
    """The shapes that can be drawn. Raises DataError for one of an unknown type."""
    found = []
    for shape in shapes:
        kind = shape_kind(shape)
        if kind not in _SHAPES:
            raise DataError(f"{where} holds a shape of type '{kind}'. Known are {', '.join(_SHAPES)}.")
        if not options.polygon_only or kind in POLYGONS:
            found.append(Shape(shape["label"], partial(_paint, shape, kind, options.thickness, where)))
    return found


def _paint(shape: Any, kind: str, thickness: int, where: str, canvas: Canvas, value: int) -> Box:
    least, paint = _SHAPES[kind]
    return paint(canvas, shape, points_of(shape.get("points"), where, least=least), value, thickness, where)


def shape_kind(shape: Any) -> str:
    """The type of a shape; files of old versions have none, and only polygons."""
    return str(shape.get("shape_type") or "polygon")


def _image(tree: Tree, file: File, content: Any) -> tuple[Content, str]:
    """The picture and its suffix."""
    name = content.get("imagePath")
    found = tree.beside(file, name) if isinstance(name, str) else None
    if found is not None and is_picture(found.name):
        return found, found.suffix
    data = content.get("imageData")
    if not data:
        raise DataError(f"its picture '{name}' is not among the sources, and it holds no imageData.")
    start = _decode(data, file.where)
    suffix = next((suffix for signature, suffix in _SIGNATURES if start.startswith(signature)), None)
    if suffix is None:
        raise DataError("its imageData is of an unknown kind.")
    return _Embedded(file), suffix


def _decode(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DataError(f"{where} is damaged: it is not base64.") from None


Drawing = Callable[[Canvas, Any, Any, int, int, str], Box]


def _polygon(label: Canvas, shape: Any, points: Any, value: int, thickness: int, where: str) -> Box:
    return fill_polygon(label, points, value)


def _rectangle(label: Canvas, shape: Any, points: Any, value: int, thickness: int, where: str) -> Box:
    return fill_polygon(label, box_corners(*points[0], *points[1]), value)


def _circle(label: Canvas, shape: Any, points: Any, value: int, thickness: int, where: str) -> Box:
    return draw_circle(label, points[:2], value)


def _line(label: Canvas, shape: Any, points: Any, value: int, thickness: int, where: str) -> Box:
    return draw_line(label, points, value, thickness)


def _points(label: Canvas, shape: Any, points: Any, value: int, thickness: int, where: str) -> Box:
    touched = NOWHERE
    for point in points:
        touched = around(touched, draw_line(label, [point], value, thickness))
    return touched


def _mask(label: Canvas, shape: Any, points: Any, value: int, thickness: int, where: str) -> Box:
    """A PNG in base64 that fills the box between two points, both included."""
    data = _decode(take(shape, "mask", str, where), f"{where} (mask)")
    mask = read_numbers(Inline(f"{where} (mask)", data)) > 0
    left, top = (int(value) for value in np.floor(points[0]))
    return paint_mask(label, mask, top, left, value, where)


_SHAPES: dict[str, tuple[int, Drawing]] = {
    "polygon": (3, _polygon),
    "oriented_rectangle": (4, _polygon),
    "rectangle": (2, _rectangle),
    "circle": (2, _circle),
    "line": (2, _line),
    "linestrip": (2, _line),
    "point": (1, _points),
    "points": (1, _points),
    "mask": (2, _mask),
}
