"""Roboflow's "Semantic Segmentation Masks": ``train/NAME.jpg`` with ``train/NAME_mask.png``, numbers, and
``train/_classes.csv``, which names them; the same in ``valid/`` and ``test/``."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from deeplabv3p.data.convert.foreign import Foreign, Names, Pixels, Record, Size, Skipped, is_picture, split_of
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.maps import map_numbers, number_table, read_numbers, require_numbers
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE

CLASSES, MASK = "_classes.csv", "_mask"


def read_roboflow(tree: Tree, options: Options) -> Foreign:
    """Classes are in the order of their numbers, which the lists of all splits must give alike."""
    lists = tree.ending(CLASSES)
    if not lists:
        raise DataError(f"the sources hold no {CLASSES}, which Roboflow's semantic masks have in each split.")
    numbers: dict[int, str] = {}
    for file in lists:
        for number, name in _classes(file).items():
            if numbers.setdefault(number, name) != name:
                raise DataError(f"{file.where} calls number {number} '{name}', another list '{numbers[number]}'.")
    if options.classes is None:  # every pixel has a number: there are none without annotation
        options = replace(options, unlabelled="ignore")
    names = Names(options, [numbers[number] for number in sorted(numbers)], lists[0].where)
    labels = {number: names.label(name) for number, name in numbers.items()}
    table = number_table({255: IGNORE, **labels})
    foreign = Foreign(names.classes, [], names.notes)
    records = []
    masks = []
    pictures = {f.name.removesuffix(f.suffix): f for f in tree.files.values() if is_picture(f.name)}
    for name, image in pictures.items():
        mask = pictures.get(f"{name}{MASK}")
        if mask is not None:
            masks.append(mask)
            draws = partial(_label, mask, table)
            records.append(Record(image.stem, split_of(image.parent), image, image.suffix, draws, mask.where))
        elif not name.endswith(MASK):
            foreign.skipped.append(Skipped(image.where, f"its mask {image.stem}{MASK}.png is missing"))
        elif name.removesuffix(MASK) not in pictures:
            foreign.skipped.append(Skipped(image.where, "its picture is missing"))
    require_numbers(masks)
    foreign.records = records
    return foreign


def _classes(file: File) -> dict[int, str]:
    """``Pixel Value, Class`` and lines of a number and a name."""
    found: dict[int, str] = {}
    rows = list(csv.reader(io.StringIO(file.read().decode("utf-8-sig", "replace")), skipinitialspace=True))
    for row in rows[1:]:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if (
            len(cells) < 2
            or not cells[0].isdecimal()
            or int(cells[0]) > 65535
            or not cells[1]
            or int(cells[0]) in found
        ):
            raise DataError(f"{file.where}: '{','.join(row)}' is not a number and a name, or the number stands twice.")
        found[int(cells[0])] = cells[1]
    if not found:
        raise DataError(f"{file.where} names no class.")
    return found


def _label(file: File, table: np.ndarray[Any, np.dtype[np.uint16]], size: Size) -> Pixels:
    return map_numbers(read_numbers(file), table, file.where)
