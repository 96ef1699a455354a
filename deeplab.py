"""Segment pictures, a video or a camera with a trained model, or dump a model at another size or output stride."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from common import cli, inference_flags, network_flags, spec_flags
from common.runs import check_output_folder
from deeplabv3p.errors import UsageError
from deeplabv3p.models.registry import MODELS, OUTPUT_STRIDES, ModelName

EPILOG = """The model is --model_path FILE, or --model_type with --weights_path, or else the best one in weights/. Files
written by train.py and --dump_model know their network, size and classes: the other flags change the size and output
stride, or must agree."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    # Only now: these import NumPy and OpenCV, and the engine when the model is opened.
    from common.network import with_default_model

    options = with_default_model(options)
    if options.dump_model:
        dump(options)
        return
    from common import segment

    if options.input is not None:
        segment.segment_video(options)
    else:
        segment.segment_pictures(options)


def dump(options: argparse.Namespace) -> None:
    """Write the inference model, at the size and output stride asked for."""
    target: Path = options.output_model_file
    check_output_folder(target.parent)
    if target.is_dir():
        raise UsageError(f"--output_model_file {target} is a folder. Name a file in it.")

    from common.network import keras_model
    from common.pretrained import terms_lines
    from deeplabv3p.runtime import keras_engine, keras_half

    model, spec = keras_model(options)
    if options.half:
        keras_half.round_kernels(model)
        # The score and the hash are those of the weights before they were rounded.
        spec = spec.replace(provenance={"weights_sha256": "", "protocol": "", "miou": None})
    spec = keras_engine.save_model(model, spec, target, half=options.half)
    size = cli.size_text(spec.input.size_hw) if spec.input.size_hw else "any size"
    facts = f"{size}, {spec.num_classes} classes, {model.count_params():,} parameters"
    print(f"{spec.model.name}, output stride {spec.model.output_stride or 'unknown'}, {facts}")
    print("\n".join([*terms_lines(spec), f"written: {target}, with its spec beside it"]))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__, EPILOG)
    action = parser.add_argument_group("what to do (one of them)").add_mutually_exclusive_group(required=True)
    action.add_argument(
        "--image",
        nargs="*",
        metavar="PATH",
        help="pictures to segment: files, folders or 'patterns' (default: without a value, file names are asked for)",
    )
    action.add_argument(
        "--input", metavar="VIDEO", help="video file to segment, or the index of a camera, such as 0 (default: none)"
    )
    action.add_argument("--dump_model", action="store_true", help="write the model as an inference model")

    model = parser.add_argument_group("model")
    model.add_argument(
        "--model_path",
        metavar="FILE",
        help="model file of any kind, as path[@runtime[:device]] (default: the best in weights/)",
    )
    model.add_argument(
        "--model_type",
        help=f"network that --weights_path belongs to: {', '.join(MODELS)} (default: what the file says)",
    )
    model.add_argument(
        "--weights_path",
        metavar="FILE",
        help="Keras model or its weights, a frozen graph, checkpoint or torch file of a network here (docs/weights.md)",
    )
    model.add_argument(
        "--classes_path", metavar="FILE", help="class names, one a line, label 0 first (default: what the file says)"
    )
    model.add_argument(
        "--model_input_shape",
        type=cli.size_hw,
        metavar="HxW",
        help="input height x width in pixels (default: what the file says, or the network's usual)",
    )
    model.add_argument(
        "--output_stride",
        type=int,
        choices=OUTPUT_STRIDES,
        help="input pixels per pixel of the features (default: what the file says, or the network's usual)",
    )
    model.add_argument(
        "--threads", type=cli.integer(1), metavar="N", help="CPU threads of the engine (default: its own choice)"
    )

    bare = parser.add_argument_group("network of bare weights (default: as --model_type has it)")
    network_flags.add(bare, default_to_published=False)
    spec_flags.add(parser)
    inference_flags.add(parser)

    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="folder for the results, or video file, .mp4 or .avi (default: a window, or result/ without a display)",
    )
    output.add_argument("--output_model_file", type=Path, metavar="FILE", help="file for --dump_model, .keras or .h5")
    half_help = "dump with kernels in half precision: half the size, opened by plain Keras (.keras)"
    output.add_argument("--half", action="store_true", help=half_help)
    cli.reserve(parser, "--pruning_model", "the model was trained with pruning")
    options = parser.parse_args(argv)
    _check(options)
    return options


def _check(options: argparse.Namespace) -> None:
    """Refuse flags that do not fit together, rather than leave one without effect."""
    given = [f"--{flag}" for flag in network_flags.NAMES if getattr(options, flag) is not None]
    if options.model_path is not None:
        given += [f"--{flag}" for flag in ("model_type", "weights_path") if getattr(options, flag) is not None]
        if given:
            raise UsageError(f"--model_path says which network it is: leave out {', '.join(given)}.")
    elif options.model_type is not None:
        ModelName.parse(options.model_type)
    elif options.weights_path is not None or given:
        flags_text = ", ".join(given) or "--weights_path"
        raise UsageError(f"{flags_text}: name the network that is meant with --model_type.")
    if options.dump_model:
        if options.output_model_file is None or options.output_model_file.suffix not in {".keras", ".h5"}:
            raise UsageError("--dump_model needs --output_model_file with a name that ends in .keras or .h5.")
        if options.output is not None:
            raise UsageError("--output is for pictures and videos. --dump_model writes --output_model_file.")
        if unused := inference_flags.given(options):
            raise UsageError(f"{', '.join(unused)}: for pictures and videos, not for --dump_model.")
        if options.half and options.output_model_file.suffix != ".keras":
            raise UsageError("--half is for .keras files.")
    elif options.half:
        raise UsageError("--half is for --dump_model.")
    elif options.output_model_file is not None:
        raise UsageError("--output_model_file is for --dump_model. Pictures and videos go to --output.")


if __name__ == "__main__":
    cli.run(main)
