"""The onnx runtime: ONNX Runtime. Runs release Python's lock."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabv3p import documents
from deeplabv3p.errors import RuntimeMissingError
from deeplabv3p.runtime.engine import (
    EngineRuntime,
    check_threads,
    engine_errors,
    unknown_device,
    version_of,
)
from deeplabv3p.runtime.facts import TensorFacts, pick
from deeplabv3p.runtime.fit import check_fit
from deeplabv3p.runtime.onnx_file import read_facts
from deeplabv3p.runtime.onnx_import import import_onnxruntime
from deeplabv3p.spec import ModelSpec

inspect = read_facts

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_FATAL = 4  # the log level at which ONNX Runtime writes nothing to users; what goes wrong is raised as well


def open_model(path: Path, spec: ModelSpec, *, device: str | None = None, threads: int | None = None) -> EngineRuntime:
    """Open an ``.onnx`` file; see :func:`deeplabv3p.runtime.artifact.open_artifact` for the errors.

    ``device``: cpu (the default), cuda or cuda:N.
    """
    check_threads(threads)
    facts = read_facts(path)
    picture = facts.inputs[pick(facts.inputs, spec.input.name, path)]
    output = facts.outputs[pick(facts.outputs, spec.output.name, path)]
    check_fit(picture, output, spec, path)
    ort = import_onnxruntime()
    provider = _provider(ort, device or "cpu")
    ort.set_default_logger_severity(_FATAL)
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads or 0
    with engine_errors(f"ONNX Runtime cannot open {path}"):
        session = ort.InferenceSession(os.fspath(path), options, providers=[provider])
    name = f"onnxruntime {version_of(ort.__version__)}"
    call = _Call(session, picture, output)
    return EngineRuntime(spec, name, device or "cpu", call, batch=picture.shape[0], where=path)


class _Call:
    def __init__(self, session: Any, picture: TensorFacts, output: TensorFacts) -> None:
        self._session = session
        self._input, self._outputs = picture.name, [output.name]

    def __call__(self, batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        return np.asarray(self._session.run(self._outputs, {self._input: batch})[0])


def _provider(ort: Any, device: str) -> str | tuple[str, dict[str, int]]:
    kind, colon, number = device.partition(":")
    index = documents.whole_number(number if colon else "0")
    if kind not in _PROVIDERS or (colon and kind == "cpu") or index is None:
        raise unknown_device("onnx", device, "cpu, cuda or cuda:N")
    provider = _PROVIDERS[kind]
    if provider not in ort.get_available_providers():
        raise RuntimeMissingError(
            f"this ONNX Runtime was built without {provider}, which '{device}' needs: pip install onnxruntime-gpu"
        )
    return (provider, {"device_id": index}) if colon else provider
