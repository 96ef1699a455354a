"""Turn a trained Keras model into the files that other engines run, and compare each with Keras."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from deeplabv3p.errors import UsageError
from deeplabv3p.export.formats import FORMATS, ExportOptions, Precision
from deeplabv3p.models.registry import MODELS, OUTPUT_STRIDES
from deeplabv3p.spec import OutputKind

ALL = "all"

EPILOG = """Batch norms are folded into convolutions, and the spec lies beside each file, and inside it where the format
has a place. int8 and int16x8 need pictures to calibrate with. docs/convert.md says which format has what, and what runs
it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(argv)
    # Only now: this imports NumPy and OpenCV.
    from common.conversion import Request, convert

    return convert(
        Request(
            model=options.model,
            formats=None if ALL in options.to else tuple(dict.fromkeys(options.to)),
            precisions=tuple(options.precision),
            options=ExportOptions(
                output_kind=options.output_kind,
                output_size=options.output_size,
                batch=options.batch,
                dynamic=options.dynamic,
                layout=options.layout,
                op_set=options.op_set,
                io_dtype=options.io_dtype,
                float_layers=tuple(options.float_layers),
                reduce_range=options.reduce_range,
            ),
            output_path=options.output_path,
            dataset_path=options.dataset_path,
            dataset_file=options.dataset_file,
            sample_num=options.sample_num,
            max_drop=options.max_drop,
            model_type=options.model_type,
            classes_path=options.classes_path,
            model_input_shape=options.model_input_shape,
            output_stride=options.output_stride,
            picture_max=options.picture_max,
            check=options.check,
        )
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__, EPILOG)
    model_help = "model to convert, .keras or .h5; with --model_type it may hold weights only"
    parser.add_argument("model", metavar="MODEL", help=model_help)
    _add_what(parser.add_argument_group("what to write"))
    _add_calibration(parser.add_argument_group("pictures for int8 and int16x8, never augmented"))
    _add_network(parser.add_argument_group("network (default: as MODEL says)"))
    options = parser.parse_args(argv)
    if ALL in options.to and len(options.to) > 1:
        raise UsageError("--to all is every format already: leave the others out.")
    return options


def _add_what(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    formats = (*FORMATS, ALL)
    add("--to", nargs="+", choices=formats, metavar="FORMAT", required=True, help=f"formats: {', '.join(formats)}")
    add(
        "--precision",
        nargs="+",
        choices=get_args(Precision),
        default=["f32"],
        metavar="P",
        help=f"precisions, a file each: {', '.join(get_args(Precision))}; w8 has 8-bit weights only (default: f32)",
    )
    kinds = get_args(OutputKind)
    add("--output_kind", choices=kinds, default="logits", help="what the file puts out; labels: the argmax is inside")
    size_help = "size of the output: the head's own, or enlarged to the input's size inside the file"
    add("--output_size", choices=("native", "input"), default="native", help=size_help)
    add("--batch", type=_batch, default=1, metavar="N|any", help="pictures a run")
    add("--dynamic", action="store_true", help="leave height and width open, for models that do")
    layout_help = "order of the axes of input and output (default: nchw for onnx and openvino, nhwc for others)"
    add("--layout", type=_layout, choices=("NCHW", "NHWC"), metavar="nchw|nhwc", help=layout_help)
    add("--op_set", type=cli.integer(1), default=17, metavar="N", help="operator set of ONNX, 11 to 18")
    io_help = "type of input and output of int8 files; mnn has uint8 for int8"
    add("--io_dtype", choices=("float32", "uint8", "int8"), default="int8", help=io_help)
    float_help = "layers that int8 files compute with floats, by their names in Keras (default: none)"
    add("--float_layers", nargs="+", default=[], metavar="LAYER", help=float_help)
    range_help = "weights of 7 bits in int8 files of onnx and openvino, for x86 processors without VNNI"
    add("--reduce_range", action="store_true", help=range_help)
    path_help = "folder for the files, or the name of the file where it is one (default: beside MODEL)"
    add("--output_path", type=Path, metavar="DIR|FILE", help=path_help)
    check_help = "run each file on one picture beside Keras; an f32 file must name the same class on 99.9 %% of pixels"
    add("--check", action=argparse.BooleanOptionalAction, default=True, help=check_help)


def _add_calibration(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--dataset_path", metavar="DIR", help="dataset folder, or a folder of pictures")
    add("--dataset_file", metavar="FILE", help="list of the dataset (default: all pictures of the folder)")
    add("--sample_num", type=cli.integer(1), default=30, metavar="N", help="pictures, drawn evenly from the list")
    drop_help = (
        "points of mIoU that int8 OpenVINO may lose on them: operations that cost more stay float (default: any)"
    )
    add("--max_drop", type=cli.number(0, 100), metavar="POINTS", help=drop_help)


def _add_network(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--model_type", help=f"network of bare weights, with options as in mobilenetv2:alpha=0.5: {', '.join(MODELS)}")
    add("--classes_path", metavar="FILE", help="class names, one a line, label 0 first")
    add("--model_input_shape", type=cli.size_hw, metavar="HxW", help="build it again at this input size, in pixels")
    stride_help = "build it again at this output stride, input pixels per pixel of the features"
    add("--output_stride", type=int, choices=OUTPUT_STRIDES, help=stride_help)
    cli.add_picture_max(add, "the model's")


def _batch(text: str) -> int | None:
    """Argument type: a number of pictures, or ``any``."""
    return None if text == "any" else cli.integer(1, 4096)(text)


def _layout(text: str) -> str:
    return text.upper()


if __name__ == "__main__":
    cli.run(main)
