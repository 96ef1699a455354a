"""Supervisely projects: ``meta.json`` with the classes, ``DATASET/img/`` with the pictures, ``DATASET/ann/NAME.json``.

Objects are drawn in their order, later ones on top, as Supervisely has them in layers.
"""

from __future__ import annotations

import base64
import binascii
import io
import zlib
from collections import Counter
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from deeplabv3p.data.convert.foreign import ALL, Foreign, Names, Record, Size, Skipped, split_of
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.json_file import read_json, size_of, take
from deeplabv3p.data.convert.maps import MAX_PIXELS
from deeplabv3p.data.convert.paint import Shape, draw
from deeplabv3p.data.convert.raster import (
    NOWHERE,
    Box,
    Canvas,
    around,
    box_corners,
    draw_line,
    fill_polygon,
    paint_mask,
    points_of,
)
from deeplabv3p.data.convert.tally import Drawn
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError

_MASKS = ("bitmap", "alpha_mask")
_DRAWN = ("polygon", *_MASKS, "line", "point", "rectangle")
_MAX_BYTES = 256 << 20  # of a mask's PNG, unpacked


def read_supervisely(tree: Tree, options: Options) -> Foreign:
    """Classes are those of ``meta.json`` that have an object that can be drawn, in its order."""
    metas = [file for file in tree.ending("meta.json") if is_meta(read_json(file))]
    if not metas:
        raise DataError("the sources hold no meta.json with the classes of a Supervisely project.")
    listed = [take(item, "title", str, file.where) for file in metas for item in read_json(file)["classes"]]
    found: list[tuple[File, Any]] = []
    skipped: list[Skipped] = []
    dropped, used = Counter[str](), Counter[str]()
    for file in (f for f in tree.files.values() if PurePosixPath(f.name).parent.name == "ann" and f.suffix == ".json"):
        try:
            content = read_json(file)
            for item in take(content, "objects", list, file.where):
                take(item, "classTitle", str, file.where)
                if reason := _useless(item, options):
                    dropped[reason] += 1
                else:
                    used[item["classTitle"]] += 1
            found.append((file, content))
        except DataError as error:
            skipped.append(Skipped(file.where, str(error)))
    names = Names(options, [*(name for name in listed if used[name]), *sorted(set(used) - set(listed))], metas[0].where)
    if idle := [name for name in dict.fromkeys(listed) if not used[name]]:
        shown = ", ".join(f"'{name}'" for name in idle)
        names.notes.append(f"no classes, because they have no object that can be drawn: {shown}")
    foreign = Foreign(names.classes, [], names.notes, skipped, dropped, used.total())
    records = []
    for file, content in found:
        try:
            image = _picture(tree, file)
        except DataError as error:
            foreign.skipped.append(Skipped(file.where, str(error)))
            continue
        draws = partial(_draw, content, names, options, file.where)
        split = _split(file, content)
        records.append(Record(image.stem, split, image, image.suffix, draws, file.where))
    foreign.records = records
    return foreign


def is_meta(content: Any) -> bool:
    """Whether the content of a JSON file is the ``meta.json`` of a project."""
    classes = content.get("classes") if isinstance(content, dict) else None
    return isinstance(classes, list) and all(isinstance(item, dict) and "title" in item for item in classes)


def _picture(tree: Tree, file: File) -> File:
    """``DATASET/img/NAME`` of ``DATASET/ann/NAME.json``; old projects leave out the picture's suffix."""
    folder = str(PurePosixPath(file.parent).parent)
    for stem in (file.stem, PurePosixPath(file.stem).stem):
        for path in (f"{folder}/img/{file.stem}", *(f"{folder}/img/{stem}{s}" for s in (".jpg", ".jpeg", ".png"))):
            if path in tree.files:
                return tree.picture(file, f"../img/{PurePosixPath(path).name}")
    return tree.picture(file, file.stem)


def _split(file: File, content: Any) -> str:
    """The dataset's name, else the picture's tag ``train`` or ``val``."""
    split = split_of(str(PurePosixPath(file.parent).parent))
    tags = content.get("tags")
    names = [str(tag.get("name")) for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []
    tagged = {split_of(name) for name in names} - {ALL}
    return tagged.pop() if split == ALL and len(tagged) == 1 else split


def _kind(item: Any) -> str:
    """The kind of an object; files of old versions have none."""
    return str(item.get("geometryType") or ("bitmap" if item.get("bitmap") else "polygon"))


def _useless(item: Any, options: Options) -> str | None:
    kind = _kind(item)
    if kind not in _DRAWN:
        return f"objects of the kind '{kind}'"
    return "boxes (--boxes fills them)" if kind == "rectangle" and not options.boxes else None


def _draw(content: Any, names: Names, options: Options, where: str, size: Size) -> Drawn:
    declared = size_of(take(content, "size", dict, where), "height", "width", where)
    shapes = [
        Shape(item["classTitle"], partial(_paint, item, options.thickness, where))
        for item in content["objects"]
        if not _useless(item, options)
    ]
    return draw(shapes, names, options.order or "file", declared, size, where)


def _paint(item: Any, thickness: int, where: str, canvas: Canvas, value: int) -> Box:
    kind = _kind(item)
    if kind in _MASKS:
        inner = take(item, kind if kind in item else "bitmap", dict, where)
        left, top = points_of(take(inner, "origin", list, where), where, least=1)[0].astype(int).tolist()
        return paint_mask(canvas, _bitmap(take(inner, "data", str, where), where), top, left, value, where)
    rings = take(item, "points", dict, where)
    points = points_of(rings.get("exterior"), where, least={"polygon": 3, "point": 1}.get(kind, 2))
    if kind == "polygon":
        return _fill(canvas, points, rings.get("interior") or [], value, where)
    if kind == "rectangle":  # both corners are pixels of it
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0) + 1
        return fill_polygon(canvas, box_corners(x0, y0, x1, y1), value)
    touched = NOWHERE
    for line in [points] if kind == "line" else [[point] for point in points]:
        touched = around(touched, draw_line(canvas, line, value, thickness))
    return touched


def _fill(canvas: Canvas, points: npt.NDArray[np.float64], holes: Any, value: int, where: str) -> Box:
    if not holes:
        return fill_polygon(canvas, points, value)
    if not isinstance(holes, list):
        raise DataError(f"{where} holds a polygon whose 'interior' is no list.")
    region = np.zeros(canvas.shape, np.uint8)
    box = fill_polygon(region, points, 1)
    for hole in holes:
        fill_polygon(region, points_of(hole, where, least=3), 0)
    canvas[box][region[box] > 0] = value
    return box


def _bitmap(text: str, where: str) -> npt.NDArray[np.bool_]:
    """A PNG, packed by zlib, in base64: what is not 0, or not transparent where it has alpha."""
    try:
        data = base64.b64decode(text, validate=True)
        if not data.startswith(b"\x89PNG"):
            unpack = zlib.decompressobj()
            data = unpack.decompress(data, _MAX_BYTES)
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DataError(f"{where} holds a mask of {picture.width}x{picture.height} pixels.")
            if picture.mode == "P" and "transparency" in picture.info:
                pixels = np.asarray(picture.convert("RGBA"))
            else:
                pixels = np.asarray(picture)
    except (binascii.Error, zlib.error, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{where} holds a mask that cannot be read ({error}).") from None
    mask: npt.NDArray[np.bool_] = (pixels if pixels.ndim == 2 else pixels[..., -1]) > 0
    return mask
