"""Convert COCO's instances to label PNGs and lists, without the pictures: the older name of `dataset.py convert`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None

MIN_PIXELS = 1000
"""Pictures with fewer annotated pixels have always been left out here."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = cli.Parser(__doc__, f"Pictures with fewer than {MIN_PIXELS} annotated pixels are left out.")
    add = parser.add_argument
    add("--annotation_path", type=Path, required=True, metavar="DIR", help="folder of instances_train2017.json, …")
    add("--set", choices=("all", "train", "val"), default="all", help="what to convert")
    text = "names of COCO's categories to keep (default: all); a background is put before them"
    add("--classes_path", type=Path, metavar="FILE", help=text)
    add("--output_path", type=Path, required=True, metavar="DIR", help="folder for labels/ and the lists")
    options = parser.parse_args(argv)

    from common.label_maps import convert_maps
    from deeplabv3p import files
    from deeplabv3p.data.classes import load_classes, save_classes
    from deeplabv3p.data.convert.coco import read_annotations
    from deeplabv3p.data.convert.formats import Options
    from deeplabv3p.data.convert.labels import LabelMap
    from deeplabv3p.data.convert.sources import open_tree

    chosen = load_classes(options.classes_path) if options.classes_path else None
    asked = Options(classes=chosen, others="unlabelled", min_pixels=MIN_PIXELS)
    with open_tree([options.annotation_path], options.output_path) as tree:
        names, found, dropped, _ = read_annotations(tree, asked)
        for note in names.notes:
            print(f"note: {note}")
        for split in ("train", "val"):
            if options.set not in {"all", split}:
                continue
            some = [item for item in found if item.split == split]
            maps = [LabelMap(Path(i.file_name).stem, i.file_name, partial(i.draw, i.size)) for i in some]
            labels = options.output_path / "labels"
            written = convert_maps(maps, labels, names.classes, dropped=dropped.get(split))
            files.write_text(options.output_path / f"{split}.txt", "".join(f"{name}\n" for name in written))
            print(f"written: {options.output_path / split}.txt")
        save_classes(options.output_path / "classes.txt", names.classes)


if __name__ == "__main__":
    cli.run(main)
