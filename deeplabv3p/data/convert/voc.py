"""PASCAL VOC 2012 and SBD together: the training set that papers call ``train_aug``, without the pictures of VOC val.

SBD's own train and val lists overlap VOC's val list; whoever merges list with list trains on the validation pictures.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from deeplabv3p.data.convert.foreign import Foreign, Pixels, Record, Size, Skipped
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.maps import ignore_boundaries, map_numbers, number_table, read_numbers
from deeplabv3p.data.convert.matlab import read_field
from deeplabv3p.data.convert.tables import VOC
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE

LISTS = {
    f"ImageSets/Segmentation/{name}.txt": splits
    for name, splits in (("train", ("train",)), ("val", ("val",)), ("trainval", ("train", "val")))
}
"""Where VOC has its lists, and where everybody's commands look for them."""
_TABLE = number_table({**{label: label for label in range(len(VOC))}, IGNORE: IGNORE})
_VOC = "Name VOCtrainval_11-May-2012.tar, or the folder VOC2012 with ImageSets/, JPEGImages/ and SegmentationClass/."


def read_voc_augment(tree: Tree, options: Options) -> Foreign:
    """train: VOC train and all of SBD but VOC val; val: VOC val. Labels are VOC's own where it has them."""
    train, val = (_names(tree.need(f"ImageSets/Segmentation/{name}.txt", _VOC)) for name in ("train", "val"))
    own = {file.stem: file for file in tree.inside("SegmentationClass") if file.suffix == ".png"}
    matrices = {file.stem: file for file in tree.inside("cls") if file.suffix == ".mat"}
    pictures = {file.stem: file for file in tree.inside("img") if file.suffix == ".jpg"}
    pictures |= {file.stem: file for file in tree.inside("JPEGImages") if file.suffix == ".jpg"}
    notes = []
    extra: list[str] = []
    if matrices:
        extra = _sbd_names(tree, matrices)
        leaked = set(extra) & set(val)
        extra = [name for name in extra if name not in set(train) | set(val)]
        notes.append(f"{len(leaked):,} pictures of VOC val stand in SBD's lists and are left out of train")
        notes.append(f"train is {len(train):,} pictures of VOC and {len(extra):,} of SBD")
        if options.void_width == 0:
            notes.append("SBD's label maps have no ignored boundary; --void_width 2 gives them one like VOC's")
    else:
        notes.append("there is no SBD among the sources (cls/*.mat): this is VOC 2012 alone")
    foreign = Foreign(VOC, [], notes, lists=LISTS)
    records = []
    for split, names in (("train", sorted([*train, *extra])), ("val", val)):
        for name in names:
            label = own.get(name) or matrices.get(name)
            if name not in pictures or label is None:
                foreign.skipped.append(Skipped(name, "its picture is missing" if label else "its label map is missing"))
                continue
            read = partial(_label, label, options.void_width)
            records.append(Record(name, split, pictures[name], ".jpg", read, label.where))
    foreign.records = records
    return foreign


def read_matrix(data: bytes, where: str, variable: str = "GTcls") -> Pixels:
    """The label map in a ``.mat`` file of SBD: uint8 [H, W]; ``GTinst`` has numbers of instances instead of classes.

    Raises:
        DataError: it is no such file, or holds other numbers than 0 to 255.
    """
    raw = read_field(data, variable, "Segmentation", where)
    if raw.size == 0 or (raw != np.floor(raw)).any() or raw.min() < 0 or raw.max() > 255:
        raise DataError(f"{where} holds no label map of numbers from 0 to 255.")
    return raw.astype(np.uint8)


def _label(file: File, void_width: int, size: Size) -> Pixels:
    if file.suffix == ".mat":
        label = map_numbers(read_matrix(file.read(), file.where), _TABLE, file.where)
        return ignore_boundaries(label, void_width)
    return map_numbers(read_numbers(file), _TABLE, file.where)


def _sbd_names(tree: Tree, matrices: dict[str, File]) -> list[str]:
    """All that SBD lists: its train and val together are one set of annotations. Without lists, all that it has."""
    folder = next(iter(matrices.values())).parent.removesuffix("/cls")
    lists = [tree.files.get(f"{folder}/{name}.txt") for name in ("train", "val")]
    names = [name for file in lists if file is not None for name in _names(file)]
    return sorted(set(names or matrices))


def _names(file: File) -> list[str]:
    return [line.split()[0] for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
