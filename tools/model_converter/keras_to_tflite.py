"""Convert a Keras model to float TFLite: convert.py --to tflite under its older name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--keras_model_file", required=True, metavar="FILE", help="Keras model, .keras or .h5")
    add("--output_file", type=Path, default=Path("deeplab.tflite"), metavar="FILE", help="model to write, .tflite")
    options = parser.parse_args(argv)
    from common.conversion import Request, convert

    return convert(Request(options.keras_model_file, ("tflite",), output_path=options.output_file))


if __name__ == "__main__":
    cli.run(main)
