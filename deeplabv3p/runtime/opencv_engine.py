"""The opencv runtime: OpenCV's dnn module on ``.onnx`` files and frozen ``.pb`` graphs of a fixed size, on the CPU.

Only what OpenCV 4 and 5 both have is used; 4.14 and 5.0 were run. OpenCV reads ``.pb`` graphs channels first, whatever
they are: tensors are turned on the way in and out. Threads are those of the whole OpenCV library in this process. Runs
release Python's lock.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import DataError
from deeplabv3p.runtime import onnx_file
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
from deeplabv3p.runtime.tensorflow_file import read_facts as read_pb_facts
from deeplabv3p.spec import ModelSpec

_TO_FIRST, _TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def open_model(path: Path, spec: ModelSpec, *, device: str | None = None, threads: int | None = None) -> EngineRuntime:
    """Open an ``.onnx`` or ``.pb`` file; see :func:`deeplabv3p.runtime.artifact.open_artifact` for the errors.

    ``device``: cpu, the only one that OpenCV's engines all have. Files whose size is open are refused, because OpenCV 5
    gives wrong results on them and OpenCV 4 rejects them; so are ``.pb`` files that end in a softmax, which OpenCV
    takes along the wrong axis.
    """
    check_threads(threads)
    if device not in (None, "cpu"):
        raise unknown_device("opencv", str(device), "cpu")
    facts = inspect(path)
    picture = facts.inputs[pick(facts.inputs, spec.input.name, path)]
    output = facts.outputs[pick(facts.outputs, spec.output.name, path)]
    _refuse_wrong(path, spec, facts, picture)
    check_fit(picture, output, spec, path)
    cv2 = import_package("cv2", "opencv", None)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what goes wrong is raised as well
    if threads is not None:
        cv2.setNumThreads(threads)
    turned = path.suffix.lower() == ".pb"
    with engine_errors(f"OpenCV cannot open {path}"), quiet():
        read = cv2.dnn.readNetFromTensorflow if turned else cv2.dnn.readNetFromONNX
        net = read(os.fspath(path))
    # OpenCV merges an operation with the bias behind it, and of a .pb keeps the first one's name. The only end of a
    # graph needs none.
    named = None if turned and len(facts.outputs) == 1 else output.name
    call = _Call(net, named, turned)
    name = f"opencv {version_of(cv2.__version__)}"
    return EngineRuntime(spec, name, "cpu", call, batch=picture.shape[0], where=path)


def inspect(path: Path) -> FileFacts:
    """The facts of a file that OpenCV reads.

    Raises:
        DataError: the file is damaged, not safe, or of another kind.
    """
    suffix = path.suffix.lower()
    if suffix not in (".onnx", ".pb"):
        raise DataError(f"{path}: the opencv runtime opens files that end in .onnx or .pb.")
    return onnx_file.read_facts(path) if suffix == ".onnx" else read_pb_facts(path)


def _refuse_wrong(path: Path, spec: ModelSpec, facts: FileFacts, picture: TensorFacts) -> None:
    if path.suffix.lower() == ".pb" and "probabilities" in (spec.output.kind, facts.kind):
        raise DataError(
            f"{path} ends in a softmax, which OpenCV computes along the wrong axis of a .pb. "
            "Export it with --output_kind logits, or use ONNX."
        )
    if None in picture.shape[1:]:
        raise DataError(
            f"{path} leaves its size open, and OpenCV gives wrong results on such files. Export it at a fixed size."
        )


class _Call:
    def __init__(self, net: Any, output: str | None, turned: bool) -> None:
        self._net, self._turned = net, turned
        self._outputs = () if output is None else (output,)

    def __call__(self, batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        self._net.setInput(np.ascontiguousarray(batch.transpose(_TO_FIRST)) if self._turned else batch)
        output = np.array(self._net.forward(*self._outputs))
        if self._turned and output.ndim == 4:
            output = output.transpose(_TO_LAST)
        return output
