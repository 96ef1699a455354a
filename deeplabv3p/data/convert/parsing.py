"""Human parsing: CIHP with 20 classes and ATR with 18."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from deeplabv3p.data.convert.foreign import ALL, Foreign, Pixels, Record, Size, Skipped
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.maps import map_numbers, number_table, read_numbers
from deeplabv3p.data.convert.tables import ATR, CIHP
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo


def read_cihp(tree: Tree, options: Options) -> Foreign:
    """``Training/Images/*.jpg`` with ``Training/Category_ids/*.png``, and Validation."""
    parts = [
        ("train", "Training/Images", "Training/Category_ids"),
        ("val", "Validation/Images", "Validation/Category_ids"),
    ]
    return _read(tree, CIHP, parts)


def read_atr(tree: Tree, options: Options) -> Foreign:
    """``humanparsing/JPEGImages/*.jpg`` with ``SegmentationClassAug/*.png``; there are no lists."""
    return _read(tree, ATR, [(ALL, "JPEGImages", "SegmentationClassAug")])


def _read(tree: Tree, classes: tuple[ClassInfo, ...], parts: list[tuple[str, str, str]]) -> Foreign:
    table = number_table({**{label: label for label in range(len(classes))}, IGNORE: IGNORE})
    foreign = Foreign(classes, [])
    records = []
    for split, images, maps in parts:
        labels = {file.stem: file for file in tree.inside(maps) if file.suffix == ".png"}
        for image in (file for file in tree.inside(images) if file.suffix.lower() in {".jpg", ".png"}):
            if image.stem in labels:
                label = partial(_label, labels[image.stem], table)
                records.append(Record(image.stem, split, image, image.suffix, label, labels[image.stem].where))
            else:
                foreign.skipped.append(Skipped(image.where, "its label map is missing"))
    foreign.records = records
    return foreign


def _label(file: File, table: npt.NDArray[np.uint16], size: Size) -> Pixels:
    return map_numbers(read_numbers(file), table, file.where)
