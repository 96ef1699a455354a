"""Convert Cityscapes' labelIds PNGs to the 19 training ids; `dataset.py convert cityscapes` also takes the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--input_path", type=Path, required=True, metavar="DIR", help="folder of *_labelIds.png")
    parser.add_argument("--output_path", type=Path, required=True, metavar="DIR", help="folder for the label PNGs")
    options = parser.parse_args(argv)

    from common.label_maps import convert_maps
    from deeplabv3p.data.convert.labels import LabelMap
    from deeplabv3p.data.convert.maps import map_numbers, number_table, read_numbers
    from deeplabv3p.data.convert.sources import open_tree
    from deeplabv3p.data.convert.tables import CITYSCAPES, CITYSCAPES_IDS

    table = number_table(CITYSCAPES_IDS)
    with open_tree([options.input_path], options.output_path) as tree:
        maps = [
            LabelMap(file.stem, file.where, partial(lambda f: map_numbers(read_numbers(f), table, f.where), file))
            for file in tree.files.values()
            if file.suffix == ".png"
        ]
        convert_maps(maps, options.output_path, CITYSCAPES)


if __name__ == "__main__":
    cli.run(main)
