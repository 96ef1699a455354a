"""Convert labelme's JSON files to label PNGs, without their pictures: an older `dataset.py convert labelme`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None

ROOT = Path(__file__).resolve().parents[3]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = cli.Parser(__doc__, "`dataset.py convert labelme` also copies the pictures and writes the lists.")
    add = parser.add_argument
    add("--json_file_path", type=Path, required=True, metavar="DIR", help="folder of labelme's .json files")
    classes = ROOT / "configs" / "voc_classes.txt"
    add("--classes_path", type=Path, default=classes, metavar="FILE", help="classes, label 0 first (default: VOC's)")
    add("--png_label_path", type=Path, required=True, metavar="DIR", help="folder for the label PNGs")
    add("--polygon_only", action="store_true", help="leave out all shapes but polygons")
    choices = ("error", "unlabelled", "ignore")
    text = "what becomes of shapes that the classes do not name"
    add("--others", choices=choices, default="error", help=text)
    options = parser.parse_args(argv)

    from common.label_maps import convert_maps
    from deeplabv3p.data.classes import load_classes
    from deeplabv3p.data.convert.formats import Options
    from deeplabv3p.data.convert.labelme import label_maps
    from deeplabv3p.data.convert.sources import open_tree

    listed = load_classes(options.classes_path)
    asked = Options(classes=listed, polygon_only=options.polygon_only, others=options.others)
    with open_tree([options.json_file_path], options.png_label_path) as tree:
        names, maps, dropped = label_maps(tree, asked)
        for note in names.notes:
            print(f"note: {note}")
        convert_maps(maps, options.png_label_path, names.classes, dropped=dropped)


if __name__ == "__main__":
    cli.run(main)
