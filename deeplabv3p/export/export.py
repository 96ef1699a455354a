"""One model to any format: checks first, freezes once for files that differ in format and precision only, and leaves
nothing behind where a converter fails."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplabv3p.errors import DataError, DeeplabError, RuntimeMissingError, UsageError
from deeplabv3p.export.calibration import calibration_tensors
from deeplabv3p.export.formats import Calibration, Exported, ExportOptions, Format, check_options, find_format
from deeplabv3p.progress import Progress, silent
from deeplabv3p.runtime import keras_engine, probe
from deeplabv3p.runtime.artifact import CRASHING
from deeplabv3p.runtime.keras_safety import first_line
from deeplabv3p.spec import ModelSpec, sidecar_path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from deeplabv3p.export.freeze import Frozen

_MODULES: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "tf2onnx", "onnxruntime", "onnxslim"),
    "mnn": ("MNN",),
    "openvino": ("openvino",),
}
"""What the writer of a format imports besides TensorFlow."""


@dataclass(frozen=True)
class AccuracyControl:
    """Keep operations of an int8 OpenVINO model in float, the most harmful first, until its score is at most
    ``max_drop`` below the float model's.

    ``score`` gets what runs a batch and the spec of its input and output, and returns a number of which more is better,
    such as mIoU as a fraction; ``max_drop`` is in its unit.
    """

    score: Callable[[Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]], ModelSpec], float]
    max_drop: float


@dataclass(frozen=True)
class Target:
    """A file to write: its format by name, where it goes, and how. ``accuracy`` is for int8 OpenVINO files alone."""

    format_name: str
    path: Path
    options: ExportOptions
    accuracy: AccuracyControl | None = None


Outcome = Exported | DeeplabError
"""What became of a target."""


def file_name(stem: str, format_name: str, options: ExportOptions) -> str:
    """The usual name of a file: ``model.onnx``, ``model_int8.tflite``, ``model_savedmodel`` (a folder)."""
    form = find_format(format_name)
    precision = "" if options.precision == "f32" else f"_{options.precision}"
    return f"{stem}{precision}{form.suffix or f'_{form.name}'}"


def needs_calibration(options: ExportOptions) -> bool:
    """Whether activations are quantized, so that pictures must be shown first."""
    return options.precision in {"int8", "int16x8"}


def check_target(form: Format, options: ExportOptions) -> None:
    """Refuse what a format does not have, before any work.

    Raises:
        UsageError: one line that says what it has.
        RuntimeMissingError: a package that writes it is not installed; the line names the extra.
    """
    check_options(form, options)
    if form.name == "keras" and (options.output_kind, options.output_size) != ("logits", "native"):
        raise UsageError("keras files put out logits at the head's own size. Leave the output as it is, or take pb.")
    if options.dynamic and needs_calibration(options):
        raise UsageError(f"{options.precision} needs a fixed size of the input. Leave --dynamic out.")
    modules = _MODULES.get(form.name, ())
    if form.name == "openvino" and options.precision == "int8":
        modules += ("nncf",)
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeMissingError(
            f"{form.name} files cannot be written: {', '.join(missing)} is not installed. "
            f"Run: pip install 'deeplabv3p[{form.extra}]'"
        )


def export(
    model: Any,
    spec: ModelSpec,
    path: Path,
    format_name: str,
    options: ExportOptions,
    calibration: Calibration | None = None,
) -> Exported:
    """Write a Keras model as a file of one format, its spec beside it and, where the format has a place, inside.

    Args:
        model: the network, as training or ``keras_engine.load_model`` gives it; it is not changed.
        spec: its spec.
        path: the file, or the folder of a SavedModel.
        format_name: a key of ``formats.FORMATS``.
        options: see :class:`ExportOptions`.
        calibration: pictures for int8 and int16x8, as ``calibration_tensors`` makes them, in the layout of the file.

    Raises:
        UsageError: the format does not have what the options ask for, or int8 comes without calibration.
        RuntimeMissingError: a package that writes the format is not installed.
        DataError: the converter cannot do it, or the location cannot be written.
    """
    return _Exporter(model, spec).write(Target(format_name, path, options), calibration)


def export_many(
    model: Any,
    spec: ModelSpec,
    targets: Sequence[Target],
    pictures: Sequence[Path] | None = None,
    progress: Progress = silent,
) -> list[Outcome]:
    """Write a Keras model as several files. A file that cannot be written does not stop the others.

    Args:
        model: see :func:`export`.
        spec: its spec.
        targets: the files.
        pictures: what int8 and int16x8 are calibrated with, all of them, in the layout that each file needs.
        progress: called after each file.

    Returns:
        For each target what was written, or the error that kept it from being written.
    """
    exporter = _Exporter(model, spec)
    outcomes: list[Outcome] = []
    for target in targets:
        try:
            calibration = None
            if pictures is not None and needs_calibration(target.options):
                layout = target.options.layout or find_format(target.format_name).layouts[0]
                calibration = calibration_tensors(spec, pictures, None, layout)
            outcomes.append(exporter.write(target, calibration))
        except DeeplabError as error:
            outcomes.append(error)
        progress(len(outcomes), len(targets), {"file": target.path.name})
    return outcomes


class _Exporter:
    """A model, and the graphs that were frozen of it so far."""

    def __init__(self, model: Any, spec: ModelSpec) -> None:
        self._model, self._spec = model, spec
        self._frozen: dict[tuple[object, ...], Frozen] = {}

    def write(self, target: Target, calibration: Calibration | None) -> Exported:
        """See :func:`export`."""
        form = find_format(target.format_name)
        options = dataclasses.replace(target.options, layout=target.options.layout or form.layouts[0])
        check_target(form, options)
        if needs_calibration(options) and calibration is None:
            raise UsageError(f"{form.name} {options.precision} needs pictures to calibrate with.")
        here = [path for path in _files(form, target.path) if path.exists()]
        try:
            if form.name == "keras":
                return self._write_keras(target.path)
            writer = importlib.import_module(f"deeplabv3p.export.{form.name}")
            frozen, control = self._freeze(options), {}
            if target.accuracy is not None:
                layout = {"layout": options.layout}
                spec = frozen.spec.replace(input=layout, output=layout)
                score, max_drop = target.accuracy.score, target.accuracy.max_drop
                control = {"validate": lambda run: score(run, spec), "max_drop": max_drop}
            exported: Exported = writer.write(frozen, target.path, options, calibration, **control)
            # Only for the engine that the format is made for: another reader of it may still be surprised.
            if form.runtimes[0] in CRASHING:
                probe.remember(target.path, form.runtimes[0])
            return exported
        except BaseException as error:
            _remove(path for path in _files(form, target.path) if path not in here)
            if isinstance(error, DeeplabError) or not isinstance(error, Exception):
                raise
            # A converter raises whatever its own code leads to.
            raise DataError(
                f"{target.path} cannot be written as {form.name} {options.precision}: {first_line(error)}."
            ) from error

    def _write_keras(self, path: Path) -> Exported:
        from deeplabv3p.export.fold import fold_batch_norms

        return Exported(path, keras_engine.save_model(fold_batch_norms(self._model), self._spec, path))

    def _freeze(self, options: ExportOptions) -> Frozen:
        from deeplabv3p.export.freeze import freeze

        key = (options.output_kind, options.output_size, options.batch, options.dynamic)
        if key not in self._frozen:
            self._frozen[key] = freeze(self._model, self._spec, options)
        return self._frozen[key]


def _files(form: Format, path: Path) -> list[Path]:
    """Everything that belongs to a written model."""
    weights = [path.with_suffix(".bin")] if form.name == "openvino" else []
    return [path, sidecar_path(path), *weights]


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
