"""CamVid: 701 frames, labels in 32 colours, grouped into the 11 classes that papers score, in SegNet's split."""

from __future__ import annotations

from functools import partial

from deeplabv3p.data.convert.foreign import Foreign, Pixels, Record, Size, Skipped
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.maps import ColorTable, read_colors
from deeplabv3p.data.convert.tables import CAMVID, CAMVID_COLORS, CAMVID_GROUPS, CAMVID_VOID, camvid_split
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE


def read_camvid(tree: Tree, options: Options) -> Foreign:
    """``NAME_L.png`` beside or apart from ``NAME.png``. A class file chooses among the 32 names, and all others are
    ignored; without one, the 11 classes with Void ignored, or Void as a class of its own, the 12th."""
    if options.classes is not None:
        classes = options.classes.classes
        wanted = {item.name.lower(): label for label, item in enumerate(classes)}
        unknown = [item.name for item in classes if item.name.lower() not in {n.lower() for n in CAMVID_COLORS}]
        if unknown:
            raise DataError(f"CamVid has no class '{unknown[0]}'. It has {', '.join(CAMVID_COLORS)}.")
        table = {color: wanted.get(name.lower(), IGNORE) for name, color in CAMVID_COLORS.items()}
    else:
        classes = CAMVID if options.class_number == 11 else (*CAMVID, CAMVID_VOID)
        groups = {item.name: label for label, item in enumerate(classes)}
        table = {color: groups.get(CAMVID_GROUPS[name], IGNORE) for name, color in CAMVID_COLORS.items()}
    colors = ColorTable(table)
    foreign = Foreign(classes, [])
    pictures = {f.stem: f for f in tree.files.values() if f.suffix.lower() in {".png", ".jpg"} and f.stem[-2:] != "_L"}
    records = []
    for file in (f for f in tree.files.values() if f.stem.endswith("_L") and f.suffix == ".png"):
        name = file.stem.removesuffix("_L")
        if name in pictures:
            image = pictures[name]
            records.append(
                Record(name, camvid_split(name), image, image.suffix, partial(_label, file, colors), file.where)
            )
        else:
            foreign.skipped.append(Skipped(file.where, f"its picture {name}.png is missing"))
    foreign.records = records
    if records:
        foreign.notes.append("the split is SegNet's; CamVid itself has none")
    return foreign


def _label(file: File, colors: ColorTable, size: Size) -> Pixels:
    # A few label maps have some pixels of colours that stand for nothing.
    return colors.map(read_colors(file), file.where, other=IGNORE, tolerance=0.01)
