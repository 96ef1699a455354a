"""Ultralytics segmentation: a text file beside each picture, a polygon a line: class x y x y …, from 0 to 1.

The format has no order of depth: smaller polygons lie on larger ones, as Ultralytics' own masks have it. Label files
are found as Ultralytics does: ``images`` in the path becomes ``labels``. A picture without one has no object. Of
``data.yaml`` only ``names`` is read; splits are told by the folders.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from deeplabv3p import documents
from deeplabv3p.data.convert.foreign import Foreign, Names, Record, Size, is_picture, split_of
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.paint import Shape, draw
from deeplabv3p.data.convert.raster import Box, Canvas, fill_polygon, points_of
from deeplabv3p.data.convert.tally import Drawn
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError


def read_yolo(tree: Tree, options: Options) -> Foreign:
    """Classes are the names of ``data.yaml`` (any .yaml file with names), or those of the class file in its order."""
    listed = [read_names(f) for f in tree.files.values() if f.suffix in {".yaml", ".yml"}]
    listed = [item for item in listed if item]
    if listed:
        found = listed[0]
    elif options.classes is not None:
        found = [item.name for item in options.classes.classes if item.name.lower() != "background"]
    else:
        raise DataError("the sources hold no .yaml file with names. Name the classes with --classes_path FILE.")
    names = Names(options, found, "data.yaml")
    foreign = Foreign(names.classes, [], names.notes)
    records, empty = [], 0
    for image in (file for file in tree.files.values() if is_picture(file.name)):
        parts = list(PurePosixPath(image.name).parts)
        if "images" not in parts[:-1]:
            continue
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
        text = tree.files.get(str(PurePosixPath(*parts).with_suffix(".txt")))
        empty += text is None
        split = split_of(image.parent)
        draws = partial(_draw, text, found, names, options)
        records.append(Record(image.stem, split, image, image.suffix, draws, text.where if text else ""))
    if not records:
        raise DataError("the sources hold no folder images/ with pictures.")
    if empty == len(records):
        raise DataError("no picture has a label file: the folder labels/ beside images/ is missing.")
    if empty:
        foreign.notes.append(f"{empty:,} pictures have no label file: all of them is unlabelled")
    foreign.records = records
    return foreign


def _draw(file: File | None, found: list[str], names: Names, options: Options, size: Size) -> Drawn:
    shapes = []
    text = file.read().decode("utf-8", "replace") if file is not None else ""
    for number, line in enumerate(text.splitlines(), 1):
        words, where = line.split(), f"{file.where if file else ''}: line {number}"
        if not words:
            continue
        index = documents.whole_number(words[0])
        if index is None or index >= len(found):
            shown = documents.shown(words[0])
            raise DataError(f"{where} begins with '{shown}', but the classes are 0 to {len(found) - 1}.")
        if len(words) == 5:
            raise DataError(f"{where} is a box. Boxes say nothing about pixels: polygons are needed.")
        points = points_of(words[1:], where, least=3)
        if points.min() < -0.01 or points.max() > 1.01:
            raise DataError(f"{where} has coordinates outside of 0 to 1.")
        shapes.append(Shape(found[index], partial(_paint, points * (size[1], size[0]))))
    return draw(shapes, names, options.order or "area", None, size, file.where if file else "")


def _paint(points: npt.NDArray[np.float64], canvas: Canvas, value: int) -> Box:
    return fill_polygon(canvas, points, value)


def read_names(file: File) -> list[str]:
    """``names`` of a YAML file in the order of their numbers, [] if it has none. This knows the forms that Ultralytics
    writes, lists and numbered lines, within brackets or one a line; it is no reader of YAML.

    Raises:
        DataError: ``names`` has another form, or its numbers have gaps.
    """
    lines = [
        re.sub(r"(^|\s)#.*$", "", line).rstrip() for line in file.read().decode("utf-8-sig", "replace").splitlines()
    ]
    start = next((number for number, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if start is None:
        return []
    rest = lines[start].split(":", 1)[1].strip()
    block = []
    for line in lines[start + 1 :]:
        if line and not line[0].isspace() and not line.startswith("-") and not rest.startswith(("[", "{")):
            break
        block.append(line.strip())
    if rest:
        text = " ".join([rest, *block])
        match = re.match(r"[\[{](.*?)[\]}]", text)
        items = (
            [part.strip() for part in re.split(r",(?=(?:[^'\"]*['\"][^'\"]*['\"])*[^'\"]*$)", match[1])]
            if match
            else []
        )
    else:
        items = [line.removeprefix("-").strip() if line.startswith("-") else line for line in block if line]
    numbered = [re.fullmatch(r"([0-9]{1,9})\s*:\s*(.+)", item) for item in items if item]
    if numbered and all(numbered):
        pairs = sorted((int(match[1]), match[2]) for match in numbered if match)
        if [number for number, _ in pairs] != list(range(len(pairs))):
            raise DataError(f"{file.where}: the numbers of 'names' are not 0 to {len(pairs) - 1}.")
        items = [name for _, name in pairs]
    names = [item.strip().strip("'\"") for item in items if item]
    if not names or any(not name or ":" in name for name in names):
        raise DataError(f"{file.where}: 'names' is in a form that is not known. Use --classes_path FILE instead.")
    return names
