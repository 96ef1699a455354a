"""Convert CamVid's colour label maps to label PNGs; `dataset.py convert camvid` takes the pictures, too."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from deeplabv3p.errors import DataError

if TYPE_CHECKING:
    from deeplabv3p.spec import ClassInfo


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = cli.Parser(__doc__, "Colours that the classes do not name are ignored (255).")
    add = parser.add_argument
    add("--label_path", type=Path, required=True, metavar="DIR", help="folder of the colour PNGs")
    add("--class_dict_path", type=Path, required=True, metavar="FILE", help="table with the columns name,r,g,b (.csv)")
    add("--classes_path", type=Path, metavar="FILE", help="classes to keep, label 0 first (default: all of the table)")
    add("--output_path", type=Path, required=True, metavar="DIR", help="folder for the label PNGs")
    options = parser.parse_args(argv)

    from common.label_maps import convert_maps
    from deeplabv3p.data.classes import load_classes
    from deeplabv3p.data.convert.labels import LabelMap
    from deeplabv3p.data.convert.maps import ColorTable, read_colors
    from deeplabv3p.data.convert.sources import open_tree
    from deeplabv3p.pixels import IGNORE

    listed = _read_table(options.class_dict_path)
    classes = load_classes(options.classes_path).classes if options.classes_path else listed
    labels = {item.name.lower(): label for label, item in enumerate(classes)}
    table = ColorTable({item.color: labels.get(item.name.lower(), IGNORE) for item in listed})
    with open_tree([options.label_path], options.output_path) as tree:
        masks = [file for file in tree.files.values() if file.suffix == ".png"]
        maps = [
            LabelMap(file.stem, file.where, partial(lambda f: table.map(read_colors(f), f.where, tolerance=0.01), file))
            for file in masks
        ]
        convert_maps(maps, options.output_path, classes)


def _read_table(path: Path) -> tuple[ClassInfo, ...]:
    from deeplabv3p.spec import ClassInfo

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
        return tuple(ClassInfo(row["name"].strip(), (int(row["r"]), int(row["g"]), int(row["b"]))) for row in rows)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from None
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error):
        raise DataError(f"{path} is no table with the columns name,r,g,b.") from None


if __name__ == "__main__":
    cli.run(main)
