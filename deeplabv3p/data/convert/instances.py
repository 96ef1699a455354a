"""Masks with a number for each instance, as Penn-Fudan's: 0 is background, any other number is the one class."""

from __future__ import annotations

from functools import partial

import numpy as np

from deeplabv3p.data.convert.foreign import Foreign, Pixels, Record, Size, colored, split_of
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.maps import read_numbers
from deeplabv3p.data.convert.pairs import find_pairs
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError

_FOLDERS = (("PNGImages", "PedMasks"), ("images", "masks"))


def read_penn_fudan(tree: Tree, options: Options) -> Foreign:
    """``PNGImages/NAME.png`` with ``PedMasks/NAME_mask.png``, or ``images/`` with ``masks/``."""
    suffixes = ("_mask", "") if options.label_suffix is None else (options.label_suffix,)
    foreign = Foreign(colored([options.class_name]), [])
    for images, masks in _FOLDERS:
        if not any(f"/{masks}/" in name for name in tree.files):
            continue
        foreign.records = [
            Record(name, split_of(image.parent), image, image.suffix, partial(_label, mask), mask.where)
            for name, image, mask in find_pairs(tree, images, masks, suffixes, foreign)
        ]
        return foreign
    raise DataError("the sources hold neither PNGImages/ and PedMasks/ nor images/ and masks/.")


def _label(file: File, size: Size) -> Pixels:
    return (read_numbers(file) > 0).astype(np.uint8)
