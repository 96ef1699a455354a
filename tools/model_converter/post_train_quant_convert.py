"""Convert a Keras model to int8 TFLite: convert.py --to tflite --precision int8 under its older name."""

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
    add("--output_file", required=True, type=Path, metavar="FILE", help="model to write, .tflite")
    add("--dataset_path", required=True, metavar="DIR", help="dataset folder with the pictures to calibrate with")
    add("--dataset_file", required=True, metavar="FILE", help="list of the dataset")
    add("--sample_num", type=cli.integer(1), default=30, metavar="N", help="pictures, drawn evenly from the list")
    shape_help = "build the network at this input size, in pixels (default: what the file says)"
    add("--model_input_shape", type=cli.size_hw, metavar="HxW", help=shape_help)
    options = parser.parse_args(argv)
    from common.conversion import Request, convert

    return convert(
        Request(
            options.keras_model_file,
            ("tflite",),
            ("int8",),
            output_path=options.output_file,
            dataset_path=options.dataset_path,
            dataset_file=options.dataset_file,
            sample_num=options.sample_num,
            model_input_shape=options.model_input_shape,
        )
    )


if __name__ == "__main__":
    cli.run(main)
