"""Model files by name: ``path[@runtime[:device]]``, the spec that travels with a file, and opening the two together."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from deeplabv3p.errors import DataError, RuntimeMissingError, UsageError
from deeplabv3p.runtime import Runtime
from deeplabv3p.spec import ModelSpec, sidecar_path

EMBEDDED_SPEC = "spec.json"
"""The member of a ``.keras`` archive that holds its spec."""

RUNTIMES = ("keras", "savedmodel", "pb", "onnx", "opencv", "tflite", "mnn", "openvino", "torch")
"""Every runtime that can be named, built or not."""

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
            raise UsageError(f"'{text}': there is no runtime '{runtime}'. Choose one of {', '.join(RUNTIMES)}.")
    path = Path(text)
    default = _default_runtime(path)
    if default is None:
        raise UsageError(
            f"{path}: its name does not tell which runtime opens it. Write {path}@RUNTIME with one of "
            f"{', '.join(RUNTIMES)}, or give a file that ends in {', '.join(_BY_SUFFIX)}."
        )
    return ArtifactRef(path, default, None)


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
    """The spec of a model file: the sidecar ``<file>.spec.json`` wins, else the one inside a ``.keras`` archive. None
    where there is neither, as with bare weights and models from elsewhere.

    Raises:
        DataError: it is wrong (the message names the key), or the archive is damaged.
    """
    path = Path(path)
    sidecar = sidecar_path(path)
    if sidecar.exists():
        return ModelSpec.load(sidecar)
    if path.suffix == ".keras":
        try:
            with zipfile.ZipFile(path) as archive:
                if EMBEDDED_SPEC in archive.namelist():
                    return ModelSpec.from_json(archive.read(EMBEDDED_SPEC), f"{path}: {EMBEDDED_SPEC}")
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is not a Keras model file, or it is cut short ({error}).") from None
    return None


def open_artifact(
    ref: str | os.PathLike[str] | ArtifactRef, *, threads: int | None = None, spec: ModelSpec | None = None
) -> Runtime:
    """Open a model file with its runtime.

    Args:
        ref: ``path[@runtime[:device]]``, or what :func:`parse_artifact` returned.
        threads: CPU threads of the engine; null leaves the choice to it.
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
    if ref.runtime != "keras":
        raise RuntimeMissingError(
            f"{ref.path}: the runtime '{ref.runtime}' is not part of this version yet. Use a .keras or .h5 model."
        )
    from deeplabv3p.runtime import keras_engine

    return keras_engine.open_model(ref.path, spec or load_spec(ref.path), device=ref.device, threads=threads)


def _default_runtime(path: Path) -> str | None:
    if path.is_dir():
        return "savedmodel" if (path / "saved_model.pb").exists() else None
    return _BY_SUFFIX.get(path.suffix.lower())
