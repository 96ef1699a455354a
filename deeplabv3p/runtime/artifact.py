"""Model files by name: ``path[@runtime[:device]]``, the spec that travels with a file, and opening the two together."""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from deeplabv3p import archives, files
from deeplabv3p.errors import DataError, RuntimeMissingError, UsageError
from deeplabv3p.runtime import Runtime
from deeplabv3p.runtime.facts import FileFacts
from deeplabv3p.spec import MAX_BYTES, ModelSpec, sidecar_path

EMBEDDED_SPEC = "spec.json"
"""The member of a ``.keras`` archive that holds its spec."""

SPEC_KEY = "deeplabv3p_spec"
"""The key of the spec in other formats: an ONNX file's metadata_props, OpenVINO's rt_info, a TFLite file's metadata."""

RUNTIMES = ("keras", "savedmodel", "pb", "onnx", "opencv", "tflite", "mnn", "openvino", "torch")
"""Every runtime that can be named; torch is not part of this version yet."""

# What people call the engines, without signs: the packages' names and the usual short forms.
_USUAL_NAMES = {
    **dict.fromkeys(("onnxruntime", "ort", "onnxrt", "onnxruntimegpu"), "onnx"),
    **dict.fromkeys(("tensorflow", "tf", "tf2", "tfkeras", "keras3", "h5"), "keras"),
    **dict.fromkeys(("tensorflowlite", "litert", "lite", "aiedgelitert", "tfliteruntime"), "tflite"),
    **dict.fromkeys(("cv", "cv2", "dnn", "cv2dnn", "opencvdnn", "opencvpython"), "opencv"),
    **dict.fromkeys(("ov", "ir", "vino", "openvinoruntime", "intel"), "openvino"),
    **dict.fromkeys(("alibabamnn", "mnnruntime"), "mnn"),
    **dict.fromkeys(("frozen", "frozengraph", "graphdef", "tensorflowpb"), "pb"),
    **dict.fromkeys(("saved", "tfsavedmodel"), "savedmodel"),
}
_USUAL_NAMES |= {name: name for name in RUNTIMES if name != "torch"}
_NEAR = 0.72  # of difflib's similarity: one wrong letter in a name of four
_TENSORFLOW = ("savedmodel", "pb")

# Engines that a damaged file has crashed (MNN and OpenCV about 1 in 200 with a few bytes changed, OpenCV also on graphs
# that are not folded) or has kept busy for ever (LiteRT, 1 in 1200). The others raise.
CRASHING = frozenset({"mnn", "opencv", "tflite"})

_BY_SUFFIX = {
    ".keras": "keras",
    ".h5": "keras",
    ".pb": "pb",
    ".onnx": "onnx",
    ".tflite": "tflite",
    ".mnn": "mnn",
    ".xml": "openvino",
}


@dataclass(frozen=True)
class ArtifactRef:
    """A model file, the runtime to open it with, and the device (null: the runtime's default)."""

    path: Path
    runtime: str
    device: str | None


def parse_artifact(text: str | os.PathLike[str]) -> ArtifactRef:
    """Read ``path[@runtime[:device]]``. The extension chooses the runtime where none is named.

    A path may itself contain ``@`` and ``:``: a file that exists is always taken as it stands, and otherwise only the
    part after the last ``@`` can name a runtime.

    Raises:
        UsageError: the runtime is unknown, or none is named and the extension does not tell.
    """
    text = os.fspath(text)
    if not Path(text).exists() and "@" in text:
        name, _, engine = text.rpartition("@")
        runtime, colon, device = engine.partition(":")
        if runtime in RUNTIMES:
            if not name or (colon and not device):
                raise UsageError(f"'{text}' is not complete. Write path@runtime or path@runtime:device.")
            return ArtifactRef(Path(name), runtime, device or None)
        if _default_runtime(Path(name)) and not ({"/", "\\"} & set(engine)) and not _default_runtime(Path(engine)):
            proposal = did_you_mean(runtime, _default_runtime(Path(name)))
            raise UsageError(
                f"'{text}': there is no runtime '{runtime}'.{proposal} Choose one of {', '.join(RUNTIMES)}."
            )
    path = Path(text)
    default = _default_runtime(path)
    if default is None:
        raise UsageError(
            f"{path}: its name does not tell which runtime opens it. Write {path}@RUNTIME with one of "
            f"{', '.join(RUNTIMES)}, or give a file that ends in {', '.join(_BY_SUFFIX)}."
        )
    return ArtifactRef(path, default, None)


def did_you_mean(name: str, default: str | None = None) -> str:
    """A sentence with the runtime that ``name`` may stand for, with a space before; empty where nothing is near.

    ``default`` is the runtime that the file's extension chooses: TensorFlow opens three kinds of files.
    """
    key = "".join(filter(str.isalnum, name.lower()))
    near = difflib.get_close_matches(key, _USUAL_NAMES, n=1, cutoff=_NEAR)
    if not near:
        return ""
    meant = _USUAL_NAMES[near[0]]
    return f" Did you mean {default if meant == 'keras' and default in _TENSORFLOW else meant}?"


def load_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """The spec of a model file, as :func:`find_spec`.

    Raises:
        DataError: there is none, or it is wrong (the message names the key).
    """
    spec = find_spec(path)
    if spec is None:
        sidecar = sidecar_path(path)
        raise DataError(f"{path} comes without a spec: {sidecar.name} is missing beside it. Copy it there.")
    return spec


def find_spec(path: str | os.PathLike[str]) -> ModelSpec | None:
    """The spec of a model file: the sidecar ``<file>.spec.json`` wins, else the one inside a ``.keras``, ``.onnx``,
    ``.tflite`` or ``.xml`` file. None where there is neither, as with bare weights and models from elsewhere. No engine
    is imported.

    Raises:
        DataError: it is wrong (the message names the key), or the file is damaged.
    """
    path = Path(path)
    sidecar = sidecar_path(path)
    if sidecar.exists():
        return read_spec(sidecar)
    read = _EMBEDDED.get(path.suffix.lower())
    text = read(path) if read is not None and path.is_file() else None
    if text is None:
        return None
    where = f"{path}: {EMBEDDED_SPEC if path.suffix == '.keras' else SPEC_KEY}"
    return _segmenting(ModelSpec.from_json(text, where), where)


def read_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """The spec in a file of its own.

    Raises:
        DataError: it is missing or wrong, or that of a model which does not segment.
    """
    return _segmenting(ModelSpec.load(path), os.fspath(path))


def _segmenting(spec: ModelSpec, where: str) -> ModelSpec:
    """The spec itself; DataError where its model does something else than segment."""
    if spec.task != "segmentation":
        raise DataError(
            f"{where}: the model classifies whole pictures ('task' is {spec.task}), and this program segments them. "
            "Take a model whose task is segmentation."
        )
    return spec


def _in_keras(path: Path) -> bytes | None:
    return archives.read_member(path, EMBEDDED_SPEC, "a Keras model file", limit=MAX_BYTES)


def _in_onnx(path: Path) -> str | None:
    from deeplabv3p.runtime.onnx_file import read_facts

    return read_facts(path).metadata.get(SPEC_KEY)


def _in_tflite(path: Path) -> str | None:
    from deeplabv3p.runtime.tflite_file import read_facts

    return read_facts(path).metadata.get(SPEC_KEY)


def _in_openvino(path: Path) -> str | None:
    from deeplabv3p.runtime.openvino_engine import embedded_text

    return embedded_text(path, SPEC_KEY)


_EMBEDDED: dict[str, Callable[[Path], str | bytes | None]] = {
    ".keras": _in_keras,
    ".onnx": _in_onnx,
    ".tflite": _in_tflite,
    ".xml": _in_openvino,
}


def open_artifact(
    ref: str | os.PathLike[str] | ArtifactRef, *, threads: int | None = None, spec: ModelSpec | None = None
) -> Runtime:
    """Open a model file with its runtime. One that is not known yet is first opened and run in a process of its own,
    where its engine is one that a damaged file can crash (:mod:`deeplabv3p.runtime.probe`).

    Args:
        ref: ``path[@runtime[:device]]``, or what :func:`parse_artifact` returned.
        threads: CPU threads of the engine; null leaves the choice to it (tflite and mnn then take all cores, because
            their own choices are one and four).
        spec: taken instead of the file's own.

    Raises:
        UsageError: the reference, the device or the number of threads cannot be had.
        DataError: the file or its spec is missing or damaged, they do not fit each other, or the file is not safe.
        RuntimeMissingError: the runtime is not there.
    """
    if not isinstance(ref, ArtifactRef):
        ref = parse_artifact(ref)
    if not ref.path.exists():
        raise DataError(f"the model file {ref.path} does not exist.")
    _check_is_file(ref.path)
    spec = load_spec(ref.path) if spec is None else _segmenting(spec, f"the spec for {ref.path}")
    if ref.runtime in CRASHING:
        from deeplabv3p.runtime import probe

        probe.check(ref.path, ref.runtime, spec)
    return open_unprobed(ref, spec, threads=threads)


def _check_is_file(path: Path) -> None:
    """Refuse what an engine would wait for or read from without an end, also in the folder of a saved model and as the
    weights beside an ``.xml``."""
    for item in path.rglob("*") if path.is_dir() else (path, path.with_suffix(".bin")):
        if not item.is_dir():
            files.check_regular(item)


def open_unprobed(ref: ArtifactRef, spec: ModelSpec, *, threads: int | None = None) -> Runtime:
    """:func:`open_artifact` without the look whether the file would crash the engine."""
    runtime: Runtime = _engine(ref).open_model(ref.path, spec, device=ref.device, threads=threads)
    return runtime


def inspect_artifact(ref: ArtifactRef, *, input_name: str | None = None, output_name: str | None = None) -> FileFacts:
    """What a model file says about itself. No engine is imported for .onnx and .tflite files.

    Args:
        ref: the file and its runtime.
        input_name: an operation inside a .pb graph to enter it at; without meaning for other files.
        output_name: one to leave it at.

    Raises:
        DataError: the file is damaged or not safe.
        RuntimeMissingError: the runtime is not there.
    """
    _check_is_file(ref.path)
    if ref.runtime == "pb":
        from deeplabv3p.runtime import pb_engine

        return pb_engine.inspect(ref.path, input_name, output_name)
    facts: FileFacts = _engine(ref).inspect(ref.path)
    return facts


def _engine(ref: ArtifactRef) -> ModuleType:
    if ref.runtime == "torch":
        raise RuntimeMissingError(f"{ref.path}: the runtime 'torch' is not part of this version yet.")
    return importlib.import_module(f"deeplabv3p.runtime.{ref.runtime}_engine")


def _default_runtime(path: Path) -> str | None:
    if path.is_dir():
        return "savedmodel" if (path / "saved_model.pb").exists() else None
    return _BY_SUFFIX.get(path.suffix.lower())
