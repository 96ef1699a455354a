"""The work of the model converters: what is asked for is checked, then written, then compared with Keras and told."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common import cli
from common.classes import described, resolve
from common.console import ConsoleProgress
from common.conversion_check import check_files, require_agreement
from common.conversion_data import accuracy_control, calibration_pictures, check_flags
from common.conversion_report import report
from common.facts import overflows_8_bit
from common.network import agreed_classes, keras_model, with_size
from common.pretrained import terms_lines
from common.runs import check_output_folder
from deeplabv3p.data.dataset import open_dataset
from deeplabv3p.errors import DataError, DeeplabError, RuntimeMissingError, UsageError
from deeplabv3p.export.calibration import SAMPLES
from deeplabv3p.export.export import Target, check_target, export_many, file_name, needs_calibration
from deeplabv3p.export.formats import FORMATS, REDUCIBLE, Exported, ExportOptions, Precision, find_format
from deeplabv3p.runtime.artifact import find_spec, parse_artifact
from deeplabv3p.spec import ModelSpec


@dataclass(frozen=True)
class Request:
    """What to convert to what.

    ``model`` is the Keras file; with ``model_type`` it may be bare weights, whose classes are in ``classes_path``.
    ``formats`` null means every one: those that cannot be had are told and left out. ``options`` holds everything but
    the precision. ``output_path`` is a folder, or the file itself where one is written; null: beside the model.
    ``sample_num`` calibration pictures are drawn from the list ``dataset_file`` of the dataset in ``dataset_path``, or
    from all pictures of that folder. With ``max_drop`` (points of mIoU) an int8 OpenVINO file keeps in float what costs
    more, as those pictures and their labels show. ``check`` compares every file with Keras.
    """

    model: str
    formats: tuple[str, ...] | None
    precisions: tuple[Precision, ...] = ("f32",)
    options: ExportOptions = field(default_factory=ExportOptions)
    output_path: Path | None = None
    dataset_path: str | None = None
    dataset_file: str | None = None
    sample_num: int = SAMPLES
    max_drop: float | None = None
    model_type: str | None = None
    classes_path: str | None = None
    model_input_shape: tuple[int, int] | None = None
    output_stride: int | None = None
    picture_max: int | None = None
    check: bool = True


@dataclass(frozen=True)
class LeftOut:
    """A file that is not written, by its format and precision, and why."""

    what: str
    why: DeeplabError


def convert(request: Request) -> int:
    """Do it, and print what came of it.

    Returns:
        The exit code: 0, or that of the first file that could not be written.

    Raises:
        UsageError: something asked for does not exist or does not fit together; nothing was written.
        RuntimeMissingError: a format was asked for by name, and a package that writes it is missing.
        DataError: the model or the calibration pictures cannot be used.
        BudgetError: a float file does not agree with Keras; it was written nevertheless.
    """
    path = _model_file(request)
    targets, left_out = _plan(request, path)
    _check_size(request, path, targets)
    pictures = _calibration_pictures(request, targets)
    model, spec = keras_model(_model_options(request))
    spec = with_size(spec, request.model_input_shape, path)  # where the model leaves it open
    print("\n".join([_headline(path, spec, targets, pictures), *terms_lines(spec)]), flush=True)
    if overflows_8_bit() and any(_keeps_8_bits(target) for target in targets):
        print(
            "warning: int8 ONNX and OpenVINO files can be far off on this processor without --reduce_range.",
            file=sys.stderr,
        )
    with ConsoleProgress("convert", "files") as progress:
        outcomes = export_many(model, spec, _with_control(request, spec, targets), pictures, progress)
    written = [outcome for outcome in outcomes if isinstance(outcome, Exported)]
    options = [target.options for target, outcome in zip(targets, outcomes, strict=True) if outcome in written]
    failed = [
        LeftOut(_what(target), outcome)
        for target, outcome in zip(targets, outcomes, strict=True)
        if isinstance(outcome, DeeplabError)
    ]
    checks = []
    if request.check and written:
        with ConsoleProgress("check", "files") as progress:
            checks = check_files(model, spec, written, pictures, progress)
    if written:
        print(report(model, written, options, checks))
    for item in left_out:
        print(f"not written: {item.what}: {item.why}")
    for item in failed:
        cli.report(item.why)
    require_agreement(written, options, checks)
    return failed[0].why.exit_code if failed else 0


def _model_file(request: Request) -> Path:
    """The file to convert.

    Raises:
        DataError: it is not there, or nothing says what network it is.
    """
    path = Path(request.model) if request.model_type else parse_artifact(request.model).path
    if not path.is_file():
        raise DataError(f"the model file {path} does not exist.")
    if request.model_type is None and find_spec(path) is None:
        raise DataError(
            f"{path} comes without a spec: {path.name}.spec.json is missing beside it. Copy it there, or name the "
            "network with --model_type and its classes with --classes_path."
        )
    return path


def _plan(request: Request, path: Path) -> tuple[list[Target], list[LeftOut]]:
    """The files to write, and with every format asked for those that cannot be had.

    Raises:
        UsageError: as :func:`check_target`, or a file would have the name of the model or of a folder.
        RuntimeMissingError: as :func:`check_target`.
        DataError: the output folder cannot be written.
    """
    if request.options.float_layers and "int8" not in request.precisions:
        raise UsageError("--float_layers is for int8 files. Add --precision int8, or leave it out.")
    if request.options.reduce_range and "int8" not in request.precisions:
        raise UsageError("--reduce_range is for int8 files. Add --precision int8, or leave it out.")
    targets: list[Target] = []
    left_out: list[LeftOut] = []
    for name in request.formats or FORMATS:
        for precision in dict.fromkeys(request.precisions):
            options = _options(request, name, precision)
            target = Target(name, _target_path(request, path, name, options), options)
            try:
                check_target(find_format(name), options)
                _check_path(target, path)
            except (UsageError, RuntimeMissingError) as error:
                if request.formats is not None:
                    raise
                left_out.append(LeftOut(_what(target), error))
            else:
                targets.append(target)
    if not targets:
        raise UsageError("none of the formats has what is asked for. Change --precision, --layout or --output_kind.")
    for target in targets:
        check_output_folder(target.path.parent)
    return targets, left_out


def _options(request: Request, name: str, precision: Precision) -> ExportOptions:
    options = dataclasses.replace(request.options, precision=precision)
    if precision != "int8":
        options = dataclasses.replace(options, float_layers=(), reduce_range=False)
    return dataclasses.replace(options, batch=None) if name == "keras" else options  # a Keras file takes any batch


def _keeps_8_bits(target: Target) -> bool:
    """Whether a file is for an engine that overflows without VNNI, and has weights that let it."""
    options = target.options
    return target.format_name in REDUCIBLE and options.precision == "int8" and not options.reduce_range


def _check_size(request: Request, path: Path, targets: Sequence[Target]) -> None:
    """Require that --dynamic and the size fit the model."""
    spec = find_spec(path)
    is_open = spec is not None and spec.input.size_hw is None
    if request.options.dynamic and request.model_input_shape is not None:
        raise UsageError("--dynamic leaves the size open, --model_input_shape sets it. Leave one of them out.")
    if request.options.dynamic and not is_open:
        raise UsageError(
            f"{path} is built for one size and computes with its numbers inside, so that --dynamic cannot leave it "
            "open. Convert it once for each size (--model_input_shape HxW)."
        )
    fixed = [target.format_name for target in targets if target.format_name != "keras"]
    if is_open and fixed and not request.options.dynamic and request.model_input_shape is None:
        raise UsageError(
            f"{path} takes pictures of any size. Choose one for {fixed[0]} (--model_input_shape HxW), or leave it open "
            "(--dynamic)."
        )


def _target_path(request: Request, path: Path, name: str, options: ExportOptions) -> Path:
    output = request.output_path
    if output is None:
        return path.parent / file_name(path.stem, name, options)
    suffixes = {form.suffix for form in FORMATS.values() if form.suffix}
    if output.is_dir() or output.suffix not in suffixes:
        return output / file_name(path.stem, name, options)
    if request.formats is None or len(request.formats) * len(set(request.precisions)) > 1:
        raise UsageError(f"several files are to be written: {output} must be a folder.")
    suffix = find_format(name).suffix
    if output.suffix != suffix:
        raise UsageError(f"{output} is no name for {name}, which {f'ends in {suffix}' if suffix else 'is a folder'}.")
    return output


def _check_path(target: Target, source: Path) -> None:
    if target.path.resolve() == source.resolve():
        raise UsageError(f"{target.path} is the model itself. Name another --output_path.")
    if target.path.is_dir() != (not find_format(target.format_name).suffix) and target.path.exists():
        kind = "a folder" if target.path.is_dir() else "a file"
        raise UsageError(f"{target.path} is {kind} already. Name another --output_path.")


def _calibration_pictures(request: Request, targets: Sequence[Target]) -> list[Path] | None:
    """The pictures to calibrate with; None where the flags name none and no file needs any.

    Raises:
        UsageError: flags are missing, or --max_drop is no use.
        DataError: as :func:`conversion_data.calibration_pictures`.
    """
    needing = [_what(target) for target in targets if needs_calibration(target.options)]
    check_flags(request.dataset_path, request.dataset_file, needing[0] if needing else None)
    useless = not any(map(_is_controlled, targets)) or request.dataset_file is None or request.options.batch != 1
    if request.max_drop is not None and useless:
        raise UsageError(
            "--max_drop is for int8 OpenVINO files of batch 1, and needs --dataset_file LIST of pictures with labels."
        )
    if request.dataset_path is None:
        return None
    return calibration_pictures(request.dataset_path, request.dataset_file, request.sample_num)


def _with_control(request: Request, spec: ModelSpec, targets: Sequence[Target]) -> list[Target]:
    """The targets, those with control of the mIoU where --max_drop asks for it."""
    if request.max_drop is None or request.dataset_path is None or request.dataset_file is None:
        return list(targets)
    path = resolve(request.classes_path, request.dataset_path)
    classes = agreed_classes(spec, path)
    print(described(classes, path, request.dataset_path), flush=True)
    dataset = open_dataset(
        request.dataset_path,
        request.dataset_file,
        classes,
        spec.ignore_index,
        picture_max=spec.input.picture_max,
    )
    control = accuracy_control(dataset, request.sample_num, request.max_drop)
    return [dataclasses.replace(target, accuracy=control) if _is_controlled(target) else target for target in targets]


def _is_controlled(target: Target) -> bool:
    return (target.format_name, target.options.precision) == ("openvino", "int8")


def _model_options(request: Request) -> argparse.Namespace:
    """The request in the words of :func:`common.network.keras_model`."""
    bare = request.model_type is not None
    return argparse.Namespace(
        model_path=None if bare else request.model,
        weights_path=request.model if bare else None,
        model_type=request.model_type,
        classes_path=request.classes_path,
        model_input_shape=request.model_input_shape,
        output_stride=request.output_stride,
        picture_max=request.picture_max,
        **dict.fromkeys(("alpha", "head_width", "head", "decoder", "subpixel")),
    )


def _headline(path: Path, spec: ModelSpec, targets: Sequence[Target], pictures: Sequence[Path] | None) -> str:
    size = cli.size_text(spec.input.size_hw) if spec.input.size_hw else "any size"
    stride = f", output stride {spec.model.output_stride}" if spec.model.output_stride else ""
    calibrating = any(needs_calibration(target.options) for target in targets)
    calibration = f", calibrated with {len(pictures)} pictures" if pictures and calibrating else ""
    return (
        f"{path}: {spec.model.name}{stride}, {size}, {spec.num_classes} classes "
        f"-> {', '.join(_what(target) for target in targets)}{calibration}"
    )


def _what(target: Target) -> str:
    return f"{target.format_name} {target.options.precision}"
