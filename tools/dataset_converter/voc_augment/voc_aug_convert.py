"""Convert SBD's .mat files to label PNGs; `dataset.py convert voc_augment` does this and merges them with VOC."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None

if TYPE_CHECKING:
    from deeplabv3p.data.convert.foreign import Pixels
    from deeplabv3p.data.convert.tree import File


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--mat_label_path", type=Path, required=True, metavar="DIR", help="SBD's folder cls/, or inst/ for instances")
    add("--png_label_path", type=Path, required=True, metavar="DIR", help="folder for the label PNGs")
    choices = ("semantic", "instance")
    add("--label_type", choices=choices, default="semantic", help="numbers of classes or of instances")
    options = parser.parse_args(argv)

    from common.label_maps import convert_maps
    from deeplabv3p.data.convert.foreign import colored
    from deeplabv3p.data.convert.labels import LabelMap
    from deeplabv3p.data.convert.sources import open_tree
    from deeplabv3p.data.convert.tables import VOC

    semantic = options.label_type == "semantic"
    classes = VOC if semantic else colored([f"instance {number}" for number in range(1, 255)])
    with open_tree([options.mat_label_path], options.png_label_path) as tree:
        mats = [file for file in tree.files.values() if file.suffix == ".mat"]
        variable = "GTcls" if semantic else "GTinst"
        maps = [LabelMap(file.stem, file.where, partial(_read, file, variable)) for file in mats]
        convert_maps(maps, options.png_label_path, classes, judged=semantic)


def _read(file: File, variable: str) -> Pixels:
    from deeplabv3p.data.convert.voc import read_matrix

    return read_matrix(file.read(), file.where, variable)


if __name__ == "__main__":
    cli.run(main)
