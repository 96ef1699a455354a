"""PaddleSeg's lists: lines of a picture and its label map, relative to the list's folder, and ``labels.txt``."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import numpy.typing as npt

from deeplabv3p.data.convert.foreign import (
    Foreign,
    Pixels,
    Record,
    Size,
    Skipped,
    check_count,
    colored,
    is_picture,
    split_of,
)
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.maps import map_numbers, number_table, read_numbers, require_numbers
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE

_CLASSES = "labels.txt"


def read_paddleseg(tree: Tree, options: Options) -> Foreign:
    """``train.txt``, ``val.txt`` (``train_list.txt``, too). Label maps hold class numbers; 255 is ignored."""
    named = tree.one(_CLASSES)
    if options.classes is not None:
        classes = options.classes.classes
    elif named is not None:
        names = [line.strip() for line in named.read().decode("utf-8-sig", "replace").splitlines() if line.strip()]
        check_count(len(names), named.where)
        classes = colored(names, background=False) if names[0] != "background" else colored(names[1:])
    else:
        raise DataError("the sources hold no labels.txt. Name the classes with --classes_path FILE.")
    table = number_table({**{label: label for label in range(len(classes))}, IGNORE: IGNORE})
    foreign = Foreign(classes, [])
    records: list[Record] = []
    for file in (f for f in tree.files.values() if f.suffix == ".txt" and f.name.rsplit("/", 1)[-1] != _CLASSES):
        records += _records(tree, file, table, foreign)
    if not records and not foreign.skipped:
        raise DataError("the sources hold no list with lines of a picture and its label map.")
    where = {file.where: file for file in tree.files.values()}
    require_numbers([where[record.origin] for record in records if record.origin in where])
    foreign.records = records
    return foreign


def _records(tree: Tree, file: File, table: npt.NDArray[np.uint16], foreign: Foreign) -> list[Record]:
    records = []
    alone = 0
    for line in file.read().decode("utf-8-sig", "replace").splitlines():
        if not line.strip():
            continue
        pair = _cut(tree, file, line.strip())
        if pair is not None:
            image, label = pair
            records.append(
                Record(image.stem, split_of(file.stem), image, image.suffix, partial(_label, label, table), label.where)
            )
        elif is_picture(line.strip()) and tree.files.get(f"{file.parent}/{line.strip()}"):
            alone += 1
        else:
            foreign.skipped.append(Skipped(f"{file.where}: {line.strip()}", "there are no two such files"))
    if alone:
        foreign.notes.append(f"{file.where}: {alone:,} pictures without label map are left out")
    return records


def _cut(tree: Tree, file: File, line: str) -> tuple[File, File] | None:
    """The one way to cut the line into two files that exist: blanks may belong to the names."""
    for cut in re.finditer(r"\t+|\s+|,", line):
        pair = [tree.files.get(f"{file.parent}/{part.strip()}") for part in (line[: cut.start()], line[cut.end() :])]
        if pair[0] is not None and pair[1] is not None and is_picture(pair[0].name):
            return pair[0], pair[1]
    return None


def _label(file: File, table: npt.NDArray[np.uint16], size: Size) -> Pixels:
    return map_numbers(read_numbers(file), table, file.where)
