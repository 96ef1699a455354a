"""Turn the raw output tensors that a device dumped into label PNGs at the pictures' own sizes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from common.console import ConsoleProgress
from common.runs import check_output_folder
from deeplabv3p.errors import DataError, UsageError

if TYPE_CHECKING:
    from deeplabv3p.spec import ModelSpec

EPILOG = """A dump is the bare tensor, little-endian, in the layout of the spec, named after its picture: dog.raw or
dog.jpg.raw for dog.jpg. The type is float32 unless --dtype says otherwise; a quantized output and labels need it. The
labels are those that deeplab.py would take from the same tensor."""

RAW_SUFFIXES = (".raw", ".bin", ".dat", ".out")
_DTYPES = ("float32", "float16", "int8", "uint8", "int16", "uint16", "int32", "int64")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    folder = check_output_folder(options.output_path)
    # Only now: these import NumPy and OpenCV.
    from common.pictures import find_pictures, left_aside
    from deeplabv3p import visualize
    from deeplabv3p.data.decode import image_size
    from deeplabv3p.evaluation.raw_output import default_dtype, labels_from_raw

    spec = _spec(options.spec)
    dtype = options.dtype or default_dtype(spec)
    pairs = _pairs(_dumps(options.raw), find_pictures(options.image, folder))
    if aside := left_aside(options.image):
        cli.warn(f"skipped {aside}")
    with ConsoleProgress("convert", "dumps") as progress:
        for done, (raw, picture) in enumerate(pairs, 1):
            labels = labels_from_raw(raw, spec, dtype, image_size(picture))
            visualize.save_label_png(folder / f"{picture.stem}.png", labels, spec.classes)
            progress(done, len(pairs))
    print(f"written: {len(pairs)} label maps in {folder}")


def _spec(path: Path) -> ModelSpec:
    """The spec itself, or that of a model file."""
    from deeplabv3p.runtime.artifact import load_spec, read_spec

    return read_spec(path) if path.suffix == ".json" else load_spec(path)


def _dumps(paths: Sequence[Path]) -> list[Path]:
    """The dumps that files and folders mean, each once."""
    found: dict[Path, None] = {}
    for path in paths:
        inside = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
        dumps = [p for p in inside if p.is_file() and (p == path or p.suffix.lower() in RAW_SUFFIXES)]
        if not dumps:
            where = f"it holds no file that ends in {', '.join(RAW_SUFFIXES)}" if path.is_dir() else "it does not exist"
            raise DataError(f"no dump found for '{path}': {where}.")
        found.update(dict.fromkeys(dumps))
    return list(found)


def _pairs(dumps: Sequence[Path], pictures: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Each dump and its picture.

    Raises:
        DataError: there is no picture of its name.
        UsageError: several have it, or two dumps are of one picture.
    """
    named: dict[str, list[Path]] = {}
    for picture in pictures:
        for name in {picture.name, picture.stem}:
            named.setdefault(name, []).append(picture)
    pairs: dict[Path, Path] = {}
    for dump in dumps:
        fitting = named.get(dump.stem, [])
        if not fitting:
            raise DataError(
                f"{dump} has no picture: none of those given is called '{dump.stem}'. Name it with --image."
            )
        if len(fitting) > 1:
            raise UsageError(f"{dump} may be of {fitting[0]} or of {fitting[1]}. Name one of them with --image.")
        other = pairs.setdefault(fitting[0], dump)
        if other != dump:
            raise UsageError(f"{other} and {dump} are both of {fitting[0]}. Convert them one after the other.")
    return [(dump, picture) for picture, dump in pairs.items()]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__, EPILOG)
    add = parser.add_argument
    raw_help = f"dumps: files, or folders of {', '.join(RAW_SUFFIXES)} files"
    add("--raw", required=True, nargs="+", type=Path, metavar="PATH", help=raw_help)
    picture_help = "their pictures, for the size: files, folders or 'patterns'"
    add("--image", required=True, nargs="+", metavar="PATH", help=picture_help)
    spec_help = "the model's .spec.json, or the model file that comes with one"
    add("--spec", required=True, type=Path, metavar="FILE", help=spec_help)
    add("--dtype", choices=_DTYPES, help="type of the dumped numbers (default: float32)")
    add("--output_path", type=Path, default=Path("labels"), metavar="DIR", help="folder for the label PNGs")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
