"""The openvino runtime: OpenVINO on ``.xml`` files with their ``.bin``, and on ``.onnx`` files.

Devices are OpenVINO's (CPU, GPU, GPU.1, NPU, AUTO), with the arithmetic behind a colon: ``CPU:bf16``. Without it
OpenVINO is told to compute in f32. Its own choice is bf16 on CPUs that have it, which is faster and not the same:
99.7 % of the labels agreed where this was measured. Runs release Python's lock.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from deeplabv3p import files
from deeplabv3p.errors import DataError, RuntimeMissingError
from deeplabv3p.runtime.engine import (
    EngineRuntime,
    check_threads,
    engine_errors,
    import_package,
    quiet,
    unknown_device,
    version_of,
)
from deeplabv3p.runtime.facts import FileFacts, TensorFacts, pick
from deeplabv3p.runtime.fit import check_fit
from deeplabv3p.runtime.openvino_import import unreported
from deeplabv3p.spec import ModelSpec, OutputKind

# Operations that move or rename values without changing which class is which.
_PASSING = {"Convert", "FakeQuantize", "Interpolate", "Reshape", "Squeeze", "StridedSlice", "Transpose", "Unsqueeze"}
_PRECISIONS = ("f32", "bf16", "f16")
_KNOWN = ("CPU", "GPU", "NPU", "AUTO")
_TYPES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "u8": "uint8",
    "i8": "int8",
    "i32": "int32",
    "i64": "int64",
}


def open_model(path: Path, spec: ModelSpec, *, device: str | None = None, threads: int | None = None) -> EngineRuntime:
    """Open an ``.xml`` or ``.onnx`` file; see :func:`deeplabv3p.runtime.artifact.open_artifact` for the errors.

    ``device``: CPU (the default), GPU, GPU.N, NPU or AUTO, and the arithmetic: ``CPU:bf16``, ``CPU:f16``.
    """
    check_threads(threads)
    target, precision = _device(device)
    _check_file(path)
    openvino = _import()
    core = openvino.Core()
    _check_present(core, target)
    with engine_errors(f"OpenVINO cannot open {path}"), quiet():
        model = core.read_model(os.fspath(path))
        facts = _facts(model)
    inputs, outputs = facts.inputs, facts.outputs
    source, result = pick(inputs, spec.input.name, path), pick(outputs, spec.output.name, path)
    check_fit(inputs[source], outputs[result], spec, path)
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    if target == "CPU":
        # Pinned, two engines of one thread each would share one core.
        config["ENABLE_CPU_PINNING"] = False
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    with engine_errors(f"OpenVINO cannot open {path} on {target}"), quiet():
        compiled = core.compile_model(model, target, config)
        call = _Call(compiled, source, result)
    name = f"openvino {version_of(openvino.__version__)}"
    return EngineRuntime(spec, name, f"{target} {precision}", call, batch=inputs[source].shape[0], where=path)


def inspect(path: Path) -> FileFacts:
    """The facts of a file that OpenVINO reads; ``metadata`` holds the plain values of its rt_info.

    Raises:
        DataError: the file is damaged.
        RuntimeMissingError: OpenVINO is not installed.
    """
    _check_file(path)
    openvino = _import()
    with engine_errors(f"OpenVINO cannot open {path}"), quiet():
        return _facts(openvino.Core().read_model(os.fspath(path)))


def embedded_text(path: Path, key: str) -> str | None:
    """A value of an ``.xml`` file's rt_info, read without OpenVINO; None where there is none.

    Raises:
        DataError: the file is not XML.
    """
    content = files.read_bytes(path)
    try:
        net = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError, MemoryError) as error:
        raise DataError(f"{path} is not an OpenVINO model: {error}.") from None
    entry = net.find(f"rt_info/{key}")
    return None if entry is None else entry.get("value")


def _import() -> Any:
    with unreported():
        openvino = import_package("openvino", "openvino", "openvino")
    # The binding makes its tables of number types in the first call that needs them and lets go of Python's lock:
    # a second thread takes that and waits for the tables, the first one waits for the lock, for ever. So they are made
    # here, before there are threads.
    openvino.Tensor(np.zeros(1, np.float32), shared_memory=True).element_type.to_dtype()
    return openvino


class _Call:
    def __init__(self, compiled: Any, source: int, result: int) -> None:
        self._request = compiled.create_infer_request()
        self._source = source
        self._result = compiled.outputs[result]

    def __call__(self, batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        # The input is read where it lies; the output is the request's own memory, so it is copied.
        results = self._request.infer({self._source: batch}, share_inputs=True, share_outputs=True)
        return np.array(results[self._result])


def _facts(model: Any) -> FileFacts:
    def facts(port: Any) -> TensorFacts:
        names = sorted(port.get_names())
        shape = tuple(side.get_length() if side.is_static else None for side in port.get_partial_shape())
        kind = port.get_element_type().get_type_name()
        return TensorFacts(names[0] if names else port.get_node().get_friendly_name(), shape, _TYPES.get(kind, kind))

    kind, classes = _kind(model.outputs[0]) if model.outputs else (None, None)
    info = {key: model.get_rt_info(key) for key in model.get_rt_info()}
    return FileFacts(
        tuple(facts(port) for port in model.inputs),
        tuple(facts(port) for port in model.outputs),
        {key: str(value.astype(str)) for key, value in info.items() if hasattr(value, "astype")},
        kind=kind,
        num_classes=classes,
    )


def _kind(output: Any) -> tuple[OutputKind, int | None]:
    """(kind of an output, number of classes that an argmax chooses from)."""
    port = output.get_node().input_value(0)
    for _ in range(32):
        node = port.get_node()
        name = node.get_type_name()
        if name not in _PASSING and name not in {"TopK", "Softmax"}:
            break
        port = node.input_value(0)
        if name == "Softmax":
            return "probabilities", None
        if name == "TopK":  # what an argmax becomes
            side = port.get_partial_shape()[node.get_axis()]
            return "labels", side.get_length() if side.is_static else None
    return "logits", None


def _device(device: str | None) -> tuple[str, str]:
    """(OpenVINO's device, arithmetic)."""
    target, colon, precision = (device or "CPU").partition(":")
    target = target.upper()
    kind, dot, number = target.partition(".")
    if kind not in _KNOWN or (dot and not number.isdecimal()) or (colon and precision not in _PRECISIONS):
        known = f"{', '.join(_KNOWN)} or GPU.N, with the arithmetic behind a colon if not f32: CPU:bf16, GPU:f16"
        raise unknown_device("openvino", str(device), known)
    return target, precision or "f32"


def _check_present(core: Any, target: str) -> None:
    present = core.available_devices
    wanted = target.removesuffix(".0")
    if target != "AUTO" and wanted not in {name.removesuffix(".0") for name in present}:
        raise RuntimeMissingError(f"OpenVINO finds no device '{target}' on this machine. It has {', '.join(present)}.")


def _check_file(path: Path) -> None:
    if path.suffix.lower() == ".xml":
        if not path.with_suffix(".bin").exists():
            raise DataError(f"{path.with_suffix('.bin')} is missing: it holds the weights of {path.name}.")
    elif path.suffix.lower() == ".onnx":
        from deeplabv3p.runtime.onnx_file import read_facts

        read_facts(path)
    else:
        raise DataError(f"{path}: OpenVINO opens files that end in .xml or .onnx.")
