"""The tflite runtime: LiteRT's interpreter with XNNPACK, on the CPU. Runs release Python's lock."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

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
from deeplabv3p.runtime.tflite_file import read_facts
from deeplabv3p.spec import ModelSpec

inspect = read_facts


def open_model(path: Path, spec: ModelSpec, *, device: str | None = None, threads: int | None = None) -> EngineRuntime:
    """Open a ``.tflite`` file; see :func:`deeplabv3p.runtime.artifact.open_artifact` for the errors.

    ``device``: cpu, the only one. ``threads``: all cores where it is None, because LiteRT's own choice is one.
    """
    check_threads(threads)
    if device not in (None, "cpu"):
        raise unknown_device("tflite", str(device), "cpu")
    facts = read_facts(path)
    picture = facts.inputs[pick(facts.inputs, spec.input.name, path)]
    output = facts.outputs[pick(facts.outputs, spec.output.name, path)]
    check_fit(picture, output, spec, path)
    package = import_package("ai_edge_litert", "tflite", "tflite")
    litert = import_package("ai_edge_litert.interpreter", "tflite", "tflite")
    with engine_errors(f"LiteRT cannot open {path}"), quiet():
        interpreter = litert.Interpreter(model_path=os.fspath(path), num_threads=threads or os.cpu_count())
        call = _Call(interpreter, facts, picture, output)
    name = f"litert {version_of(package.__version__)}"
    fixed = picture.shape[0]
    return EngineRuntime(spec, name, "cpu", call, batch=fixed, where=path)


class _Call:
    def __init__(self, interpreter: Any, facts: FileFacts, picture: TensorFacts, output: TensorFacts) -> None:
        self._interpreter = interpreter
        self._input = interpreter.get_input_details()[facts.inputs.index(picture)]["index"]
        self._output = interpreter.get_output_details()[facts.outputs.index(output)]["index"]
        self._shape = tuple(interpreter.get_input_details()[facts.inputs.index(picture)]["shape"])
        interpreter.allocate_tensors()

    def __call__(self, batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        if batch.shape != self._shape:
            self._interpreter.resize_tensor_input(self._input, batch.shape)
            self._interpreter.allocate_tensors()
            self._shape = batch.shape
        self._interpreter.set_tensor(self._input, batch)
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_tensor(self._output))  # a copy
