"""From the model flags of a command line to an opened model, or to a Keras model at another size or output stride."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from common import pretrained
from common.cli import NO_LABEL, size_text
from deeplabv3p.data.classes import ClassList, default_colors, load_classes
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.models.registry import MODELS, ModelName
from deeplabv3p.runtime import Runtime, keras_engine
from deeplabv3p.runtime.artifact import (
    ArtifactRef,
    find_spec,
    inspect_artifact,
    load_spec,
    open_artifact,
    parse_artifact,
)
from deeplabv3p.runtime.infer import Given, describe, infer_spec
from deeplabv3p.spec import ModelSpec

# Flag → the option of a model name that it sets.
_NAME_FLAGS = {"alpha": "alpha", "head_width": "width", "head": "head", "decoder": "decoder", "subpixel": "subpixel"}


def with_default_model(options: argparse.Namespace) -> argparse.Namespace:
    """The options, with the best trained model in the weights folder where they name no file; prints which it is.

    Raises:
        UsageError, DataError: there is none (the message says how to get one), or it is damaged.
    """
    if options.model_path is not None or options.weights_path is not None:
        return options
    found = pretrained.best_available(None if options.model_type is None else model_name(options))
    print(f"using {found}", flush=True)
    values = vars(options) | dict.fromkeys(_NAME_FLAGS)
    if found.bare is None:
        values |= {"model_type": None, "model_path": str(found.path)}
    else:
        values |= {
            "model_type": found.bare.model,
            "weights_path": str(found.path),
            "classes_path": options.classes_path or str(pretrained.ROOT / str(found.bare.classes)),
            "model_input_shape": options.model_input_shape or found.bare.size_hw,
            "output_stride": options.output_stride or found.bare.output_stride,
        }
    return argparse.Namespace(**values)


def find_artifact(text: str, options: argparse.Namespace | None = None) -> tuple[ArtifactRef, ModelSpec]:
    """The model file that ``path[@runtime[:device]]`` names, and its spec. A file without one gets the spec that it
    tells itself, with ``options.classes_path`` and the flags of ``common.spec_flags``; then the spec is printed. So is
    a spec that flags change. Only files that nothing but their engine can read are opened with it for that.

    Raises:
        UsageError: unknown runtime, or flags that do not fit the file.
        DataError: the file or its spec is missing or damaged, or it does not tell enough.
        RuntimeMissingError: the file can be read with its engine only, which is not there.
    """
    artifact = parse_artifact(text)
    if not artifact.path.exists():
        raise DataError(f"the model file {artifact.path} does not exist.")
    given = _given(options)
    spec = find_spec(artifact.path)
    if spec is not None:
        changed = given.apply(spec)
        if changed != spec:
            print(f"the spec of {artifact.path} is changed by flags: {describe(changed)}", flush=True)
        return artifact, changed
    classes_path = getattr(options, "classes_path", None)
    classes = None if classes_path is None else load_classes(classes_path).classes
    facts = inspect_artifact(artifact, input_name=given.input_name, output_name=given.output_name)
    spec, notes = infer_spec(artifact.path, facts, classes, given)
    print(f"{artifact.path} has no spec; as it tells: {describe(spec)}")
    if notes:
        print(f"assumed: {', '.join(notes)} (flags say otherwise: see --help)", flush=True)
    return artifact, spec


def _given(options: argparse.Namespace | None) -> Given:
    """What the flags of ``common.spec_flags`` say; a command may do without them."""
    given = Given(**{field.name: getattr(options, field.name, None) for field in dataclasses.fields(Given)})
    if given.std is not None and min(given.std) <= 0:
        raise UsageError(f"--std {given.std} must be above 0.")
    return given


def with_size(spec: ModelSpec, size_hw: tuple[int, int] | None, path: Path) -> ModelSpec:
    """The spec at the size asked for, where the model at ``path`` leaves it open.

    Raises:
        UsageError: the model has a size of its own, and it is another one.
    """
    if size_hw is None or size_hw == spec.input.size_hw:
        return spec
    if spec.input.size_hw is not None:
        wanted = size_text(size_hw)
        raise UsageError(
            f"{path} takes {size_text(spec.input.size_hw)} pixels, not {wanted}. Write a model of that size: "
            f"deeplab.py --model_path {path} --model_input_shape {wanted} --dump_model --output_model_file FILE.keras"
        )
    return spec.replace(input={"size_hw": size_hw})


_WAY_OUT = (
    "Other classes cannot be compared; where only the words differ, name a class list with the model's words "
    "(--classes_path)."
)


def agreed_classes(spec: ModelSpec, classes_path: str | None) -> ClassList:
    """The model's classes, with the colours of the class file if it gives any, else with the model's own.

    Raises:
        UsageError: the file's names are not those of the model.
        DataError: the file is missing or wrong.
    """
    if classes_path is None:  # colours that are nobody's default were in the class list that it was trained with
        colors = tuple(item.color for item in spec.classes)
        return ClassList(spec.classes, explicit_colors=colors != default_colors(len(colors)))
    given = load_classes(classes_path)
    if len(given.classes) != spec.num_classes:
        raise UsageError(
            f"{classes_path} names {len(given.classes)} classes, the model has {spec.num_classes}. {_WAY_OUT}"
        )
    for label, (ours, theirs) in enumerate(zip(spec.classes, given.classes, strict=True)):
        if ours.name != theirs.name:
            raise UsageError(
                f"{classes_path} calls class {label} '{theirs.name}', the model calls it '{ours.name}'. {_WAY_OUT}"
            )
    return given if given.explicit_colors else ClassList(spec.classes, explicit_colors=False)


def agreed_spec(spec: ModelSpec, options: argparse.Namespace, path: Path) -> tuple[ModelSpec, ClassList]:
    """The spec of the model at ``path`` with what the flags say: size, classes, and --ignore_index where the command
    has it. Also the classes as :func:`agreed_classes` gives them, to open a dataset with.

    Raises:
        UsageError, DataError: as :func:`with_size` and :func:`agreed_classes`.
    """
    classes = agreed_classes(spec, options.classes_path)
    spec = with_size(spec, options.model_input_shape, path).replace(classes=classes.classes)
    ignored = getattr(options, "ignore_index", None)
    if ignored is not None:
        spec = spec.replace(ignore_index=None if ignored == NO_LABEL else ignored)
    return spec, classes


def open_runtime(options: argparse.Namespace) -> Runtime:
    """Open the model that --model_path, or --model_type with --weights_path, names, at the size and output stride
    asked for.

    Raises:
        DeeplabError: as :func:`keras_model` and ``open_artifact``.
    """
    if options.model_path is None:
        _start_keras(options.threads)
        return keras_engine.KerasRuntime(*keras_model(options))
    artifact, spec = find_artifact(options.model_path, options)
    if artifact.runtime == "keras" and _is_changed(spec, options):
        _start_keras(options.threads)
        return keras_engine.KerasRuntime(*keras_model(options), artifact.device)
    if options.output_stride not in {None, spec.model.output_stride}:
        raise UsageError(
            f"{artifact.path} has output stride {spec.model.output_stride}, not {options.output_stride}. "
            "Only a Keras model can be built at another one."
        )
    return open_artifact(artifact, threads=options.threads, spec=agreed_spec(spec, options, artifact.path)[0])


def keras_model(options: argparse.Namespace) -> tuple[Any, ModelSpec]:
    """The Keras model that the flags name, at the size and output stride asked for, and its spec.

    A file with a spec tells everything itself, and the flags must agree with it. Weights without a spec are loaded into
    the network of --model_type and the flags beside it, at --model_input_shape and --output_stride.

    Raises:
        UsageError: the flags do not fit together or do not fit the file.
        DataError: a file is missing, damaged, or holds another network.
    """
    path = _keras_file(options)
    spec = find_spec(path) if options.model_path is None else load_spec(path)
    given = _given(options)
    if spec is None:
        model, spec = _build(options, path)
        return model, given.apply(pretrained.with_terms(spec, path))
    _check_type(options, spec, path)
    spec = given.apply(spec).replace(classes=agreed_classes(spec, options.classes_path).classes)
    model = keras_engine.load_model(path)
    if not _is_changed(spec, options):
        return model, spec
    if spec.model.name.partition(":")[0] not in MODELS:
        raise UsageError(
            f"{path} holds the network '{spec.model.name}', which cannot be built at another size or output stride; "
            f"{', '.join(MODELS)} can."
        )
    from deeplabv3p.models.factory import rebuild

    rebuilt: tuple[Any, ModelSpec] = rebuild(
        model, spec, size_hw=options.model_input_shape, output_stride=options.output_stride
    )
    return rebuilt


def _keras_file(options: argparse.Namespace) -> Path:
    if options.model_path is None:
        path = Path(options.weights_path)
        if not path.is_file():
            raise DataError(f"the weights file {path} does not exist.{pretrained.how_to_get(path)}")
        return path
    artifact = parse_artifact(options.model_path)
    if not artifact.path.exists():
        raise DataError(f"the model file {artifact.path} does not exist.")
    if artifact.runtime != "keras":
        raise UsageError(f"{artifact.path} is not a Keras model. Dump from the .keras or .h5 file it was made from.")
    return artifact.path


def _build(options: argparse.Namespace, path: Path) -> tuple[Any, ModelSpec]:
    if options.classes_path is None:
        raise UsageError(f"{path} does not say its classes. Name them with --classes_path.")
    name = model_name(options)
    classes = load_classes(options.classes_path).classes
    size_hw = options.model_input_shape or name.record.size_hw
    output_stride = options.output_stride or name.record.output_stride

    from deeplabv3p.models.factory import build_model, model_spec
    from deeplabv3p.weights import load_weights

    model = build_model(name, num_classes=len(classes), size_hw=size_hw, output_stride=output_stride)
    loaded = load_weights(model, path)
    spec = model_spec(
        name,
        size_hw=size_hw,
        output_stride=output_stride,
        classes=classes,
        preprocessing=loaded.preprocessing,
    )
    return model, spec


def _check_type(options: argparse.Namespace, spec: ModelSpec, path: Path) -> None:
    if options.model_type is None:
        return
    wanted, found = model_name(options), spec.model.name
    with_options = ":" in options.model_type or any(getattr(options, flag) is not None for flag in _NAME_FLAGS)
    if str(wanted) != found and (with_options or wanted.name != found.partition(":")[0]):
        raise UsageError(
            f"{path} holds the network '{found}', not '{wanted}'. Change --model_type and what goes with it."
        )


def model_name(options: argparse.Namespace) -> ModelName:
    """--model_type, with the flags that change the network; a command may have some of them only.

    Raises:
        UsageError: there is no such network.
    """
    values = {key: getattr(options, flag, None) for flag, key in _NAME_FLAGS.items()}
    given = {key: value for key, value in values.items() if value is not None}
    return dataclasses.replace(ModelName.parse(options.model_type), **given)


def _is_changed(spec: ModelSpec, options: argparse.Namespace) -> bool:
    """Whether the flags ask for another network than the one in the file; an open size needs no rebuilding."""
    size_changed = spec.input.size_hw is not None and options.model_input_shape not in {None, spec.input.size_hw}
    return size_changed or options.output_stride not in {None, spec.model.output_stride}


def _start_keras(threads: int | None) -> None:
    """Import Keras quietly; its threads can only be set before the first model is built."""
    keras = keras_engine.import_keras()
    if threads is not None:
        keras_engine.set_threads(keras, threads)
