"""RGB masks: a folder of pictures, one of masks, and a class file whose colours say what the masks mean."""

from __future__ import annotations

from functools import partial

from deeplabv3p.data.classes import VOID_COLOR
from deeplabv3p.data.convert.foreign import Foreign, Pixels, Record, Size, split_of
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.maps import ColorTable, read_colors
from deeplabv3p.data.convert.pairs import find_pairs
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.pixels import IGNORE


def read_rgb_masks(tree: Tree, options: Options) -> Foreign:
    """VOC's void colour is ignored, too, unless a class has it; any other colour is what ``others`` says."""
    if options.classes is None or not options.classes.explicit_colors:
        raise UsageError("RGB masks need a class file with colours (name R G B): --classes_path FILE.")
    classes = options.classes.classes
    table = ColorTable({VOID_COLOR: IGNORE, **{item.color: label for label, item in enumerate(classes)}})
    foreign = Foreign(classes, [])
    pairs = find_pairs(tree, options.images, options.labels, (options.label_suffix or "",), foreign)
    if not pairs and not foreign.skipped:
        raise DataError(
            f"the sources hold no folders {options.images}/ and {options.labels}/; name them with --images, --labels."
        )
    foreign.records = [
        Record(name, split_of(image.parent), image, image.suffix, partial(_label, mask, table, options), mask.where)
        for name, image, mask in pairs
    ]
    return foreign


def _label(file: File, table: ColorTable, options: Options, size: Size) -> Pixels:
    other = IGNORE if options.others == "ignore" else 0
    return table.map(read_colors(file), file.where, other=other, tolerance=0.0 if options.others == "error" else 1.0)
