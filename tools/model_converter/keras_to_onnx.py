"""Convert a Keras model to ONNX: convert.py --to onnx under its older name and flags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from deeplabv3p.export.formats import ExportOptions
from deeplabv3p.spec import Layout


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--keras_model_file", required=True, metavar="FILE", help="Keras model, .keras or .h5")
    add("--output_file", required=True, type=Path, metavar="FILE", help="model to write, .onnx")
    add("--op_set", type=cli.integer(1), default=17, metavar="N", help="operator set of ONNX, 11 to 18")
    add("--batch_size", type=cli.integer(1, 4096), default=1, metavar="N", help="pictures a run")
    add("--inputs_as_nchw", action="store_true", help="input and output in the order NCHW; off: NHWC")
    add("--with_savedmodel", action="store_true", help="for old command lines; the way to ONNX is the same either way")
    options = parser.parse_args(argv)
    from common.conversion import Request, convert

    layout: Layout = "NCHW" if options.inputs_as_nchw else "NHWC"
    how = ExportOptions(batch=options.batch_size, layout=layout, op_set=options.op_set)
    return convert(Request(options.keras_model_file, ("onnx",), options=how, output_path=options.output_file))


if __name__ == "__main__":
    cli.run(main)
