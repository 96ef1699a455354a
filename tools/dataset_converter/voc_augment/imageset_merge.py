"""Merge a list of VOC and one of SBD into a sorted one; `dataset.py convert voc_augment` does this, too.

SBD's lists hold pictures of VOC's val list. Where val.txt lies beside VOC's train.txt, its names are left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from deeplabv3p import files
from deeplabv3p.errors import DataError


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--voc_set_file", type=Path, required=True, metavar="FILE", help="list of VOC")
    add("--sbd_set_file", type=Path, required=True, metavar="FILE", help="list of SBD")
    add("--output_file", type=Path, required=True, metavar="FILE", help="list to write")
    text = "names to leave out (default: val.txt beside a train.txt of VOC)"
    add("--exclude_file", type=Path, metavar="FILE", help=text)
    options = parser.parse_args(argv)

    merged = set(_names(options.voc_set_file)) | set(_names(options.sbd_set_file))
    beside = options.voc_set_file.with_name("val.txt")
    exclude = options.exclude_file
    if exclude is None and options.voc_set_file.name == "train.txt" and beside.is_file():
        exclude = beside
    left_out = merged & set(_names(exclude)) if exclude else set()
    if exclude:
        print(f"note: {len(left_out):,} pictures of {exclude} are left out")
    names = sorted(merged - left_out)
    files.write_text(options.output_file, "".join(f"{name}\n" for name in names))
    print(f"written: {options.output_file}, {len(names):,} names")


def _names(path: Path) -> list[str]:
    try:
        return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {getattr(error, 'strerror', None) or error}.") from None


if __name__ == "__main__":
    cli.run(main)
