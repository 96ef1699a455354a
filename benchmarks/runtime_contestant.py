"""One runtime of ``runtimes.py`` in a process of its own: it opens a model file and times what it is told to.

Beside our own call of the engine there is a bare loop in the engine's own API, with the input already in place and the
output left where it is: what the engine's own benchmark measures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import contestant
import numpy as np
import numpy.typing as npt

from deeplabv3p import inference
from deeplabv3p.data.decode import read_image
from deeplabv3p.evaluation.benchmark import measure_latency
from deeplabv3p.pixels import labels_from_output, prepare
from deeplabv3p.runtime.artifact import open_artifact, parse_artifact
from deeplabv3p.runtime.onnx_import import import_onnxruntime
from deeplabv3p.spec import ModelSpec

Run = Callable[[], object]
Tensor = npt.NDArray[np.generic]


class Contestant:
    """The model file ``artifact`` (``path@runtime``), opened with a number of threads, and a picture."""

    def __init__(self, *, artifact: str, image: str, threads: int) -> None:
        reference = parse_artifact(artifact)
        runtime = open_artifact(reference, threads=threads)
        picture = read_image(image)
        tensor, geometry = prepare(picture, runtime.spec.input)
        batch = np.ascontiguousarray(tensor[None])
        output = runtime.run(batch)[0]
        self._runs: dict[str, Run] = {
            "call": lambda: runtime.run(batch),
            "whole": lambda: inference.predict(runtime, picture),
            "prepare": lambda: prepare(picture, runtime.spec.input),
            "labels": lambda: labels_from_output(output, geometry, runtime.spec.output),
        }
        bare = _BARE.get(reference.runtime)
        if bare is not None:
            self._runs["bare"] = bare(reference.path, runtime.spec, batch, threads)
        self.facts = {"name": runtime.name, "device": runtime.device, "measured": list(self._runs)}

    def measure(self, *, what: str, warmup: int, seconds: float) -> dict[str, float]:
        """The latencies of one of ``facts["measured"]``."""
        return dataclasses.asdict(measure_latency(self._runs[what], warmup=warmup, seconds=seconds))


def _bare_onnx(path: Path, spec: ModelSpec, batch: Tensor, threads: int) -> Run:
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, ort.OrtValue.ortvalue_from_numpy(batch))
    result = session.run(None, {session.get_inputs()[0].name: batch})[0]
    binding.bind_ortvalue_output(session.get_outputs()[0].name, ort.OrtValue.ortvalue_from_numpy(result))
    return lambda: session.run_with_iobinding(binding)


def _bare_tflite(path: Path, spec: ModelSpec, batch: Tensor, threads: int) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], batch)
    run: Run = interpreter.invoke
    return run


def _bare_openvino(path: Path, spec: ModelSpec, batch: Tensor, threads: int) -> Run:
    from deeplabv3p.runtime.openvino_import import unreported

    with unreported():
        import openvino

    config: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    request = core.compile_model(core.read_model(path), "CPU", config).create_infer_request()
    request.set_input_tensor(openvino.Tensor(batch))
    return lambda: request.infer(share_outputs=True)


def _bare_opencv(path: Path, spec: ModelSpec, batch: Tensor, threads: int) -> Run:
    import cv2

    net = cv2.dnn.readNet(str(path))
    # OpenCV turns the layers of a .pb to channels first.
    net.setInput(batch if spec.input.layout == "NCHW" else np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))
    run: Run = net.forward
    return run


_BARE: dict[str, Callable[[Path, ModelSpec, Tensor, int], Run]] = {
    "onnx": _bare_onnx,
    "tflite": _bare_tflite,
    "openvino": _bare_openvino,
    "opencv": _bare_opencv,
}

if __name__ == "__main__":
    contestant.serve(Contestant)
