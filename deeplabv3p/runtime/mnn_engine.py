"""The mnn runtime: MNN's interpreter, in f32 unless the device says otherwise. Layouts are MNN's own affair:
whichever the spec has, it converts from and to its blocked one.

Devices are cpu, opencl, vulkan, cuda and metal as far as MNN was built with them. ``:low`` behind one (``cpu:low``)
lets MNN compute in half precision where the device has it, which is faster and not the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import RuntimeMissingError
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
from deeplabv3p.spec import Layout, ModelSpec

# MNN's name of a backend, and the number with which a session tells that it runs there.
_BACKENDS = {
    "cpu": ("CPU", 0),
    "opencl": ("OPENCL", 3),
    "vulkan": ("VULKAN", 7),
    "cuda": ("CUDA", 2),
    "metal": ("METAL", 1),
}
_CPU_NUMBERS = (0, 13)  # plain, and with vector instructions
_INFO_BACKEND = 2  # what getSessionInfo is asked for
_TO_OTHER: dict[Layout, tuple[int, ...]] = {"NHWC": (0, 2, 3, 1), "NCHW": (0, 3, 1, 2)}


def open_model(path: Path, spec: ModelSpec, *, device: str | None = None, threads: int | None = None) -> EngineRuntime:
    """Open an ``.mnn`` file; see :func:`deeplabv3p.runtime.artifact.open_artifact` for the errors.

    ``device``: cpu (the default), opencl, vulkan, cuda or metal, with ``:low`` for less than f32. ``threads``: all
    cores where it is None.
    """
    check_threads(threads)
    kind, colon, low = (device or "cpu").partition(":")
    if kind not in _BACKENDS or (colon and low != "low"):
        raise unknown_device("mnn", str(device), f"{', '.join(_BACKENDS)}, with :low behind it for less than f32")
    mnn = _import()
    with engine_errors(f"MNN cannot open {path}"), quiet():
        session = _Session(mnn, path, kind, "low" if low else "high", threads or os.cpu_count() or 1)
    facts = session.facts
    picture = facts.inputs[pick(facts.inputs, spec.input.name, path)]
    output = facts.outputs[pick(facts.outputs, spec.output.name, path)]
    source = session.port(picture, spec.input.layout, 3)
    result = session.port(output, spec.output.layout, spec.num_classes)
    check_fit(source.facts, result.facts, spec, path)
    call = _Call(session, source, result)
    used = f"{kind} {'low' if low else 'f32'}"
    return EngineRuntime(spec, f"mnn {version_of(mnn.version())}", used, call, batch=picture.shape[0], where=path)


def inspect(path: Path) -> FileFacts:
    """The facts of an ``.mnn`` file; it is loaded for them. Shapes are in MNN's own order.

    Raises:
        DataError: the file is damaged.
        RuntimeMissingError: MNN is not installed.
    """
    mnn = _import()
    with engine_errors(f"MNN cannot open {path}"), quiet():
        return _Session(mnn, path, "cpu", "high", 1).facts


def _import() -> Any:
    with quiet():  # it greets on the standard output
        return import_package("MNN", "mnn", "mnn")


class _Port:
    """A tensor of a session as the spec sees it, and the order in which MNN shall hand it over."""

    def __init__(self, tensor: Any, facts: TensorFacts, order: int) -> None:
        self.tensor, self.facts, self.order = tensor, facts, order


class _Session:
    """A model that MNN has opened."""

    def __init__(self, mnn: Any, path: Path, kind: str, precision: str, threads: int) -> None:
        backend, number = _BACKENDS[kind]
        self.mnn = mnn
        self.interpreter = mnn.Interpreter(os.fspath(path))
        config = {"numThread": threads, "backend": backend, "precision": precision}
        self.session = self.interpreter.createSession(config)
        used = self.interpreter.getSessionInfo(self.session, _INFO_BACKEND)
        if kind != "cpu" and used != number:
            where = "the CPU" if used in _CPU_NUMBERS else "another device"
            raise RuntimeMissingError(f"MNN finds no device '{kind}' on this machine: it would run on {where}.")
        self._inputs = dict(self.interpreter.getSessionInputAll(self.session))
        self._outputs = dict(self.interpreter.getSessionOutputAll(self.session))
        self.facts = FileFacts(self._facts(self._inputs), self._facts(self._outputs), metadata={})

    def _facts(self, tensors: dict[str, Any]) -> tuple[TensorFacts, ...]:
        mnn = self.mnn
        kinds = ((mnn.Halide_Type_Float, "float32"), (mnn.Halide_Type_Uint8, "uint8"), (mnn.Halide_Type_Int, "int32"))
        return tuple(
            TensorFacts(
                name,
                tuple(side if side > 0 else None for side in tensor.getShape()),
                next((text for kind, text in kinds if tensor.getDataType() is kind), "unknown"),
            )
            for name, tensor in sorted(tensors.items())
        )

    def port(self, facts: TensorFacts, layout: Layout, channels: int) -> _Port:
        """The tensor in the layout of the spec. MNN tells its order beside the shape; where that does not fit, as with
        channels-last models that came through ONNX, the shape is taken as it stands."""
        mnn = self.mnn
        tensor = self._inputs.get(facts.name) or self._outputs[facts.name]
        own = tensor.getDimensionType()
        last = own == mnn.Tensor_DimensionType_Tensorflow
        if len(facts.shape) != 4 or last == (layout == "NHWC"):
            return _Port(tensor, facts, own)
        turned = tuple(facts.shape[axis] for axis in _TO_OTHER[layout])
        if turned[3 if layout == "NHWC" else 1] != channels == facts.shape[3 if layout == "NHWC" else 1]:
            return _Port(tensor, facts, own)
        order = mnn.Tensor_DimensionType_Tensorflow if layout == "NHWC" else mnn.Tensor_DimensionType_Caffe
        return _Port(tensor, TensorFacts(facts.name, turned, facts.dtype), order)

    def resize(self, source: _Port, shape: tuple[int, ...]) -> None:
        """Give the input another shape, which is in the order of the spec."""
        if source.order != source.tensor.getDimensionType():
            nhwc = source.order == self.mnn.Tensor_DimensionType_Tensorflow
            shape = tuple(shape[axis] for axis in _TO_OTHER["NCHW" if nhwc else "NHWC"])
        self.interpreter.resizeTensor(source.tensor, shape)
        self.interpreter.resizeSession(self.session)


class _Call:
    def __init__(self, session: _Session, source: _Port, result: _Port) -> None:
        self._session, self._source, self._result = session, source, result
        self._shape = source.facts.shape

    def __call__(self, batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        session, mnn = self._session, self._session.mnn
        if batch.shape != self._shape:
            with quiet():
                session.resize(self._source, batch.shape)
            self._shape = batch.shape
        source, result = self._source, self._result
        kind = source.tensor.getDataType()
        given = mnn.Tensor(batch.shape, kind, np.ascontiguousarray(batch), source.order)
        source.tensor.copyFrom(given)
        if session.interpreter.runSession(session.session) != 0:
            raise RuntimeError("it ended with an error")
        shape = tuple(result.tensor.getShape())
        if result.order != result.tensor.getDimensionType() and len(shape) == 4:
            nhwc = result.order == mnn.Tensor_DimensionType_Tensorflow
            shape = tuple(shape[axis] for axis in _TO_OTHER["NHWC" if nhwc else "NCHW"])
        values = np.empty(shape, result.facts.dtype)
        taken = mnn.Tensor(shape, result.tensor.getDataType(), values, result.order)
        result.tensor.copyToHostTensor(taken)
        return np.array(taken.getNumpyData()).reshape(shape)
