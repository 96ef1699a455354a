"""Cityscapes: ``*_gtFine_labelIds.png`` to the 19 training ids; everything else is ignored, as its benchmark does."""

from __future__ import annotations

from functools import partial

from deeplabv3p.data.convert.foreign import Foreign, Pixels, Record, Size, Skipped, split_of
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.maps import map_numbers, number_table, read_numbers
from deeplabv3p.data.convert.tables import CITYSCAPES, CITYSCAPES_IDS
from deeplabv3p.data.convert.tree import File, Tree

_IMAGE, _LABEL = "_leftImg8bit.png", "_gtFine_labelIds.png"
_TABLE = number_table(CITYSCAPES_IDS)


def read_cityscapes(tree: Tree, options: Options) -> Foreign:
    """train and val; the label maps of test are dummies, so its pictures are left out."""
    labels = {
        file.name.rsplit("/", 1)[-1].removesuffix(_LABEL): file
        for file in tree.files.values()
        if file.name.endswith(_LABEL)
    }
    foreign = Foreign(CITYSCAPES, [])
    records, test = [], 0
    for image in (file for file in tree.files.values() if file.name.endswith(_IMAGE)):
        name, split = image.name.rsplit("/", 1)[-1].removesuffix(_IMAGE), split_of(image.parent)
        if split == "test":
            test += 1
        elif name not in labels:
            foreign.skipped.append(Skipped(image.where, f"its {name}{_LABEL} is missing"))
        else:
            records.append(Record(name, split, image, ".png", partial(_label, labels[name]), labels[name].where))
    if test:
        foreign.notes.append(f"{test:,} test pictures are left out: their labels are not published")
    foreign.records = records
    return foreign


def _label(file: File, size: Size) -> Pixels:
    return map_numbers(read_numbers(file), _TABLE, file.where)
