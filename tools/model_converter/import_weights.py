"""Turn weights from elsewhere into a model of this project: .keras, with its spec inside and beside it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from common.runs import check_output_folder
from deeplabv3p.errors import UsageError
from deeplabv3p.models.registry import MODELS, OUTPUT_STRIDES, ModelName

if TYPE_CHECKING:
    from deeplabv3p.spec import ClassInfo, ModelSpec
    from deeplabv3p.weights import Loaded, Source

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# What a classifier of so many classes was most likely trained on.
USUAL_CLASSES = {21: CONFIGS / "voc_classes.txt", 19: CONFIGS / "cityscapes_classes.txt"}

EPILOG = """Sources: a Keras model or its weights (.keras, .h5; Keras 3 and 2), a frozen TensorFlow graph (.pb) or
checkpoint with the names of Google's DeepLab, the same as .npz, a torch state dict (.pth, .npz) of MobileNetV2.
Nothing in the source is run. See docs/weights.md."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    target: Path = options.output
    check_output_folder(target.parent)

    from common.network import model_name
    from common.pretrained import terms_lines, with_terms
    from deeplabv3p.runtime import keras_engine
    from deeplabv3p.runtime.artifact import find_spec

    keras_engine.import_keras()
    from deeplabv3p import weights
    from deeplabv3p.models.factory import build_model, model_spec

    name = model_name(options)
    source = weights.read_source(options.source)
    own_spec = find_spec(options.source) if Path(options.source).is_file() else None
    classes, origin = _classes(options, name, source, own_spec)
    size_hw = options.model_input_shape or name.record.size_hw
    output_stride = options.output_stride or name.record.output_stride
    model = build_model(name, num_classes=len(classes), size_hw=size_hw, output_stride=output_stride)
    loaded = weights.load_weights(model, source, partial=options.partial)
    preprocessing = own_spec.input.preprocessing if own_spec else loaded.preprocessing
    spec = model_spec(name, size_hw=size_hw, output_stride=output_stride, classes=classes, preprocessing=preprocessing)
    spec = keras_engine.save_model(model, with_terms(spec, options.source), target)
    print(_report(options.source, loaded))
    facts = f"{cli.size_text(size_hw)}, {len(classes)} classes ({origin}), {model.count_params():,} parameters"
    print(f"{spec.model.name}, output stride {output_stride}, {facts}")
    print("\n".join([*terms_lines(spec), f"written: {target}, with its spec beside it"]))


def _classes(
    options: argparse.Namespace, name: ModelName, source: Source, own_spec: ModelSpec | None
) -> tuple[tuple[ClassInfo, ...], str]:
    """The classes of the model, and where their names are from."""
    from deeplabv3p.data.classes import default_colors, load_classes
    from deeplabv3p.spec import ClassInfo

    count = None if source.num_classes is None else source.num_classes // name.subpixel**2
    if options.classes_path is not None:
        classes = load_classes(options.classes_path).classes
        if count is not None and len(classes) != count and not options.partial:
            raise UsageError(
                f"{options.classes_path} names {len(classes)} classes, the classifier in {options.source} has {count}. "
                "Change --classes_path, or pass --partial for a classifier that starts anew."
            )
        return classes, str(options.classes_path)
    if own_spec is not None:
        return own_spec.classes, "named by the source's spec"
    if count is None:
        raise UsageError(
            f"{options.source} has no classifier that says how many classes there are: pass --classes_path."
        )
    usual = USUAL_CLASSES.get(count)
    if usual is not None:
        return load_classes(usual).classes, f"names from configs/{usual.name}, because there are {count}"
    named = tuple(ClassInfo(f"class {label}", color) for label, color in enumerate(default_colors(count)))
    return named, "without names: --classes_path gives them some"


def _report(path: str, loaded: Loaded) -> str:
    """What found its place and what did not."""
    rows = [
        ("layers filled", str(loaded.layers)),
        ("layers of the network without weights", _named(loaded.skipped)),
        ("layers of the source without a place", _named(loaded.unused)),
    ]
    width = max(len(title) for title, _ in rows)
    return "\n".join([f"{path}: {loaded.source}", *(f"  {title:{width}}  {value}" for title, value in rows)])


def _named(layers: tuple[str, ...]) -> str:
    shown = f": {', '.join(layers[:5])}{', …' if layers[5:] else ''}" if layers else ""
    return f"{len(layers)}{shown}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__, EPILOG)
    add = parser.add_argument
    add("source", metavar="SOURCE", help="the weights: a file, or the prefix of a TensorFlow checkpoint")
    add("--model_type", required=True, help=f"network that they belong to: {', '.join(MODELS)}")
    add("--output", type=Path, required=True, metavar="FILE", help="model to write, .keras or .h5")
    add(
        "--classes_path",
        metavar="FILE",
        help="class names, one a line, label 0 first (default: VOC's for 21 classes, Cityscapes' for 19, else numbers)",
    )
    add(
        "--model_input_shape",
        type=cli.size_hw,
        metavar="HxW",
        help="input height x width in pixels (default: the network's usual)",
    )
    add(
        "--output_stride",
        type=int,
        choices=OUTPUT_STRIDES,
        help="input pixels per pixel of the features (default: the network's usual)",
    )
    add("--alpha", type=cli.number(0.1, 4), metavar="X", help="width multiplier of the network (default: 1)")
    add("--partial", action="store_true", help="load what fits and leave the rest of the network as it starts")
    options = parser.parse_args(argv)
    if options.output.suffix not in {".keras", ".h5"}:
        raise UsageError(f"--output {options.output} has no name that ends in .keras or .h5.")
    ModelName.parse(options.model_type)
    return options


if __name__ == "__main__":
    cli.run(main)
