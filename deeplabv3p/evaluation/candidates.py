"""Which files a certificate is about: those that are given, and those that are exported from the reference."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplabv3p.errors import DataError, DeeplabError, RuntimeMissingError, UsageError
from deeplabv3p.evaluation import isolation
from deeplabv3p.evaluation.budget import DEFAULTS
from deeplabv3p.evaluation.certify import Candidate, Row, Verdict
from deeplabv3p.export.export import Outcome, Target, check_target, export_many, file_name, needs_calibration
from deeplabv3p.export.formats import FORMATS, ExportOptions, Format, Precision
from deeplabv3p.progress import Progress, silent
from deeplabv3p.runtime.artifact import ArtifactRef, did_you_mean, find_spec
from deeplabv3p.spec import ModelSpec

NO_PICTURES = "there are no pictures to calibrate with; name a list with --calibration_file"


# OpenCV reads .pb too, but upstream gives that up.
_FORMAT_OF = {form.runtimes[0]: form for form in FORMATS.values()} | {"opencv": FORMATS["onnx"]}

_BF16 = "bf16"
"""What OpenVINO computes in on CPUs that have it, unless told. No precision of a file: the f32 file is opened so."""


@dataclass(frozen=True)
class Wish:
    """A file to export and run. ``asked``: by name, not because everything is done."""

    runtime: str
    precision: str
    asked: bool

    @property
    def form(self) -> Format:
        """The format that is written for the runtime."""
        return _FORMAT_OF[self.runtime]

    @property
    def options(self) -> ExportOptions:
        """How it is written."""
        precision = "f32" if self.precision == _BF16 else self.precision
        return ExportOptions(precision=typing.cast(Precision, precision))

    @property
    def device(self) -> str | None:
        """The device that it is opened on."""
        return f"CPU:{_BF16}" if self.precision == _BF16 else None


def _precisions(runtime: str) -> tuple[str, ...]:
    extra = (_BF16,) if runtime == "openvino" else ()
    return (*_FORMAT_OF[runtime].precisions, *extra)


# OpenCV's importer is for float models; the reference itself is the Keras one.
_DEFAULTS = {name: _precisions(name) for name in _FORMAT_OF if name != "keras"} | {"opencv": ("f32",)}


def parse_wishes(runtimes: str | None, precisions: str | None) -> list[Wish]:
    """What --runtimes and --precisions ask for: ``onnx,tflite:int8`` and ``f32,int8``; everything where they are None.

    Raises:
        UsageError: an unknown runtime or precision, or one that the runtime's format does not have.
    """
    allowed = None if precisions is None else _split(precisions)
    for name in allowed or ():
        if name not in DEFAULTS:
            raise UsageError(f"there is no precision '{name}'. Choose of {', '.join(DEFAULTS)}.")
    wishes: list[Wish] = []
    for item in _split(runtimes) if runtimes is not None else _DEFAULTS:
        runtime, colon, precision = item.partition(":")
        if runtime not in _FORMAT_OF:
            known = ", ".join(_FORMAT_OF)
            raise UsageError(f"there is nothing to export for '{runtime}'.{did_you_mean(runtime)} Choose of {known}.")
        having = _precisions(runtime)
        if colon and precision not in having:
            raise UsageError(f"{runtime} has no precision '{precision}'. It has {', '.join(having)}.")
        for name in having if colon else _DEFAULTS.get(runtime, having):
            if name == precision if colon else (allowed is None or name in allowed):
                wishes.append(Wish(runtime, name, asked=runtimes is not None))
    if not wishes:
        raise UsageError("no runtime has any of these precisions. Ask for others.")
    return list(dict.fromkeys(wishes))


def export_missing(
    reference: Path,
    spec: ModelSpec,
    wishes: Sequence[Wish],
    folder: Path,
    pictures: Sequence[Path] | None,
    calibration_source: str,
    progress: Progress = silent,
) -> list[Candidate | Row]:
    """Write what the wishes need into ``folder``, in a process of its own, unless it is there already.

    A file is taken as it is when it is younger than the reference and its spec has the same weights and input size.

    Args:
        reference: the .keras or .h5 file.
        spec: its spec; of a model of any size with the size to export.
        wishes: what to export.
        folder: where to; made if it is missing.
        pictures: what int8 is calibrated with; None where there is nothing.
        calibration_source: where they are from, for the notes.
        progress: called after each file.

    Returns:
        For each wish the file, or a row that says why there is none: skipped where a package or the calibration
        pictures are missing, FAIL where the export failed.
    """
    targets: dict[Path, Target] = {}
    settled: dict[Wish, Candidate | Row] = {}
    for wish in wishes:
        path = folder / file_name(reference.stem, wish.form.name, wish.options)
        if _is_current(path, reference, spec):
            note = "was there already; delete it to export it anew"
            settled[wish] = _candidate(wish, path, _spec_of(path), (note,))
        elif needs_calibration(wish.options) and pictures is None:
            settled[wish] = _row(wish, path, "skipped", NO_PICTURES)
        else:
            try:
                check_target(wish.form, wish.options)
                targets[path] = Target(wish.form.name, path, wish.options)
            except RuntimeMissingError as error:
                settled[wish] = _row(wish, path, "skipped", str(error))
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = _export(reference, spec, list(targets.values()), pictures, progress)
    result = []
    for wish in wishes:
        if wish not in settled:
            path = folder / file_name(reference.stem, wish.form.name, wish.options)
            settled[wish] = _settle(wish, path, outcomes[path], calibration_source)
        result.append(settled[wish])
    return result


# What others call them.
_ALSO = {"fp32": "f32", "float32": "f32", "fp16": "f16", "float16": "f16", "quant": "int8", "quantized": "int8"}


def given(artifact: ArtifactRef, spec: ModelSpec) -> Candidate:
    """A file that the command line names. Its precision is told by the file's name (``model_int8.tflite``) or by the
    device's, else by its input: integers mean int8."""
    words = re.split(r"[^a-z0-9]+", f"{artifact.path.name} {artifact.device or ''}".lower())
    words = [_ALSO.get(word, word) for word in words]
    named = [precision for precision in DEFAULTS if precision in words]
    quantized = spec.input.dtype in ("int8", "uint8") and spec.output.scale is not None
    return Candidate(artifact, spec, named[0] if named else "int8" if quantized else "f32", asked=True)


def export_job(
    send: Callable[[tuple[int, str]], None],
    reference: Path,
    spec: ModelSpec,
    targets: Sequence[Target],
    pictures: Sequence[Path] | None,
) -> list[Outcome]:
    """What the exporting process does; ``send`` gets how many files are done and the last one's name."""
    from deeplabv3p.runtime.keras_engine import load_model

    def report(done: int, total: int, info: Mapping[str, float | str] | None = None) -> None:
        send((done, str((info or {}).get("file", ""))))

    return export_many(load_model(reference), spec, targets, pictures, report)


def _export(
    reference: Path, spec: ModelSpec, targets: list[Target], pictures: Sequence[Path] | None, progress: Progress
) -> dict[Path, Outcome | isolation.CrashError]:
    """The outcome of every target. A converter that crashes takes its process along: then all but the file that it was
    at are done in another one."""
    outcomes: dict[Path, Outcome | isolation.CrashError] = {}
    left = targets
    while left:
        done = 0

        def report(message: tuple[int, str]) -> None:
            nonlocal done
            done = message[0]
            progress(len(targets) - len(left) + done, len(targets), {"file": message[1]})  # noqa: B023 - of this turn

        try:
            written = isolation.call(export_job, reference, spec, left, pictures, on_message=report)
            outcomes |= {target.path: outcome for target, outcome in zip(left, written, strict=True)}
            break
        except isolation.CrashError as error:
            if done == len(left):
                raise DataError(f"exporting {reference} did not end well: {error}.") from None
            outcomes[left[done].path] = error
            left = [target for index, target in enumerate(left) if index != done]
    return outcomes


def _settle(wish: Wish, path: Path, outcome: Outcome | isolation.CrashError, source: str) -> Candidate | Row:
    if isinstance(outcome, RuntimeMissingError):
        return _row(wish, path, "skipped", str(outcome))
    if isinstance(outcome, (DeeplabError, isolation.CrashError)):
        return _row(wish, path, "FAIL", f"export: {outcome}")
    notes = outcome.notes
    if needs_calibration(wish.options):
        notes = (*notes, f"calibrated with {source}")
    return _candidate(wish, path, outcome.spec, notes)


def _candidate(wish: Wish, path: Path, spec: ModelSpec, notes: tuple[str, ...]) -> Candidate:
    return Candidate(ArtifactRef(path, wish.runtime, wish.device), spec, wish.precision, wish.asked, notes)


def _row(wish: Wish, path: Path, verdict: Verdict, reason: str) -> Row:
    return Row(path.name, wish.runtime, wish.precision, verdict, (reason.rstrip("."),), asked=wish.asked)


def _is_current(path: Path, reference: Path, spec: ModelSpec) -> bool:
    if not path.exists() or path.stat().st_mtime < reference.stat().st_mtime:
        return False
    try:
        own = find_spec(path)
    except DeeplabError:
        return False
    wanted = spec.provenance.weights_sha256
    return own is not None and (own.provenance.weights_sha256, own.input.size_hw) == (wanted, spec.input.size_hw)


def _spec_of(path: Path) -> ModelSpec:
    spec = find_spec(path)
    assert spec is not None  # or the file would not have been current
    return spec


def _split(text: str) -> list[str]:
    return [part for part in (item.strip() for item in text.split(",")) if part]
