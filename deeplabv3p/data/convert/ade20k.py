"""ADE20K scene parsing: 150 classes, stored as 1 to 150, with 0 for other objects, which is ignored."""

from __future__ import annotations

import re
from functools import partial

from deeplabv3p.data.convert.foreign import Foreign, Pixels, Record, Size, Skipped, colored
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.maps import map_numbers, number_table, read_numbers
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE

COUNT = 150
_TABLE = number_table({0: IGNORE, **{number: number - 1 for number in range(1, COUNT + 1)}})


def read_ade20k(tree: Tree, options: Options) -> Foreign:
    """``images/training/*.jpg`` with ``annotations/training/*.png``, and validation. Names are of objectInfo150.txt."""
    info = tree.need("objectInfo150.txt", "Name ADEChallengeData2016.zip or its folder.")
    foreign = Foreign(colored(_names(info), background=False), [])
    records = []
    for folder, split in (("training", "train"), ("validation", "val")):
        labels = {file.stem: file for file in tree.inside(f"annotations/{folder}") if file.suffix == ".png"}
        for image in tree.inside(f"images/{folder}"):
            if image.stem in labels:
                records.append(
                    Record(
                        image.stem,
                        split,
                        image,
                        image.suffix,
                        partial(_label, labels[image.stem]),
                        labels[image.stem].where,
                    )
                )
            else:
                foreign.skipped.append(Skipped(image.where, "its label map is missing"))
    foreign.records = records
    return foreign


def _label(file: File, size: Size) -> Pixels:
    return map_numbers(read_numbers(file), _TABLE, file.where)


def _names(file: File) -> list[str]:
    """The table's columns are Idx, Ratio, Train, Val and Name, synonyms by commas. The first word is taken, or all of
    them where it is another class's, too."""
    rows = {}
    for line in file.read().decode("utf-8", "replace").splitlines():
        match = re.fullmatch(r"\s*([0-9]{1,9})\s+[\d.]+\s+\d+\s+\d+\s+(.*\S)\s*", line)
        if match:
            rows[int(match[1])] = match[2]
    if sorted(rows) != list(range(1, COUNT + 1)):
        raise DataError(f"{file.where} does not name the classes 1 to {COUNT}.")
    full = [rows[number] for number in sorted(rows)]
    short = [name.split(",")[0].strip() for name in full]
    return [name if short.count(name) == 1 else whole for name, whole in zip(short, full, strict=True)]
