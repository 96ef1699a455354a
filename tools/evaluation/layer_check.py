"""Look at one layer of a Keras model: what its channels show of a picture, which are dead, and its kernels."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from common.runs import check_output_folder
from deeplabv3p.errors import UsageError

if TYPE_CHECKING:
    from common.layers import Channel
    from deeplabv3p.spec import ModelSpec

EPILOG = """With --image, <layer>_activations.png has a tile for each channel, and <layer>_channels.csv and .json its
minimum, maximum, mean, deviation and share of zeros. A channel is dead when it has the same value at every pixel of
that picture. <layer>_<kernel>.png are the kernels; those of 1x1 convolutions are heat maps, inputs by outputs."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    folder = check_output_folder(options.output)
    # Only now: these import OpenCV, and Keras when the model is opened.
    from deeplabv3p.runtime import keras_engine
    from deeplabv3p.runtime.artifact import load_spec

    path: Path = options.model
    if path.suffix not in (".keras", ".h5"):
        raise UsageError(f"{path} is not a Keras model: only layers of .keras and .h5 files can be looked at.")
    spec = load_spec(path) if options.image is not None else None
    model = keras_engine.load_model(path)
    if options.list:
        print(_layer_list(model))
        return
    operation = _find(model, options.layer)
    written = _kernels(operation, options.layer, folder)
    if spec is not None:
        written += _activations(model, spec, options, folder)
    if not written:
        raise UsageError(f"layer '{options.layer}' has no kernels. Give an --image to see its activations.")
    print("\n".join(f"written: {path}" for path in written))


def _steps(model: Any) -> dict[str, Any]:
    """The steps of the model's graph by name, with the shapes of their outputs; sides that are open are None."""
    import keras

    from deeplabv3p.models.walk import infer, walk

    inputs = [keras.KerasTensor((1, *symbol.shape[1:]), symbol.dtype) for symbol in model.inputs]
    return {step.name: step for step in walk(model, inputs, infer)}


def _find(model: Any, layer: str) -> Any:
    """The operation of that name.

    Raises:
        UsageError: there is none; the message names similar ones.
    """
    import difflib

    steps = _steps(model)
    if layer not in steps:
        similar = difflib.get_close_matches(layer, steps, n=3)
        hint = f" Similar: {', '.join(similar)}." if similar else ""
        raise UsageError(f"the model has no layer '{layer}'.{hint} --list names them all.")
    return steps[layer].operation


def _layer_list(model: Any) -> str:
    """A line for each layer: name, kind, output, kernels."""
    from common.layers import kernels

    steps = _steps(model)
    width = max(map(len, steps))
    lines = []
    for name, step in steps.items():
        found = ", ".join(f"{weight} {_shape(values.shape)}" for weight, values in kernels(step.operation).items())
        kind = type(step.operation).__name__
        lines.append(f"{name:{width}}  {kind:22}  {_shape(step.outputs[0].shape[1:]):>14}  {found}".rstrip())
    return "\n".join(lines)


def _shape(shape: Sequence[int | None]) -> str:
    return "x".join("?" if side is None else str(side) for side in shape)


def _kernels(operation: Any, layer: str, folder: Path) -> list[Path]:
    """Draw the kernels of a layer; returns the files."""
    from common.layers import draw_kernel, kernels
    from deeplabv3p import visualize

    written = []
    for name, values in kernels(operation).items():
        path = folder / f"{_file_stem(layer)}_{name}.png"
        visualize.save_image(path, draw_kernel(values, f"{layer}: {name} {_shape(values.shape)}"))
        print(f"{name} {_shape(values.shape)}: mean {values.mean():.4g}, deviation {values.std():.4g}")
        written.append(path)
    return written


def _activations(model: Any, spec: ModelSpec, options: argparse.Namespace, folder: Path) -> list[Path]:
    """Run the picture up to the layer, draw its channels and write their figures; returns the files."""
    from common.layers import activations, channel_figures, draw_activations
    from deeplabv3p import files, pixels, visualize
    from deeplabv3p.csv_text import to_csv
    from deeplabv3p.data.decode import read_image

    tensor, _ = pixels.prepare(read_image(options.image, spec.input.picture_max), spec.input)
    values = activations(model, options.layer, tensor[None])
    channels = channel_figures(values)
    print(_channel_summary(options.layer, values.shape, channels))
    stem = folder / _file_stem(options.layer)
    paths = [stem.with_name(f"{stem.name}{end}") for end in ("_activations.png", "_channels.csv", "_channels.json")]
    visualize.save_image(paths[0], draw_activations(values, f"{options.layer} {_shape(values.shape)}"))
    rows = [dataclasses.asdict(channel) for channel in channels]
    files.write_text(paths[1], to_csv(list(rows[0]), rows))
    result = {"model": str(options.model), "layer": options.layer, "image": str(options.image)}
    result |= {"shape": list(values.shape), "channels": rows}
    files.write_text(paths[2], json.dumps(result, indent=1) + "\n")
    return paths


def _channel_summary(layer: str, shape: Sequence[int], channels: Sequence[Channel]) -> str:
    dead = [channel.index for channel in channels if channel.dead]
    zeros = sum(channel.zeros for channel in channels) / len(channels)
    low, high = min(c.minimum for c in channels), max(c.maximum for c in channels)
    text = f"{layer} {_shape(shape)}: values {low:.4g} to {high:.4g}, {100 * zeros:.1f} % zeros"
    if not dead:
        return f"{text}; no channel is dead on this picture"
    return f"{text}; dead on this picture: {len(dead)} of {len(channels)} channels ({', '.join(map(str, dead))})"


def _file_stem(layer: str) -> str:
    """Names of nested layers have slashes, and those of a second call a sharp, which a file name is better without."""
    return layer.replace("/", "_").replace("#", "_")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__, EPILOG)
    add = parser.add_argument
    model_help = "a .keras or .h5 file; for --image with its spec, as train.py and --dump_model write them"
    add("model", type=Path, metavar="MODEL", help=model_help)
    add("--list", action="store_true", help="list the layers with their output shapes and kernels")
    add("--layer", metavar="NAME", help="layer to look at (default: none)")
    add("--image", type=Path, metavar="PATH", help="picture to run it on (default: none, kernels only)")
    add("--output", type=Path, default=Path("layer_check"), metavar="DIR", help="folder for the results")
    options = parser.parse_args(argv)
    if options.layer is None and not options.list:
        raise UsageError(f"which layer? Name it with --layer; --list lists those of {options.model}.")
    return options


if __name__ == "__main__":
    cli.run(main)
