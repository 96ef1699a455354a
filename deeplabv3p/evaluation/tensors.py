"""The tensors inside a model file, read while its engine runs it: for finding where a file leaves its reference.

Four engines let us: Keras runs layer by layer, ONNX Runtime and LiteRT run a copy of the file with more outputs, and
TensorFlow fetches any tensor of a frozen graph. Asking for a tensor keeps an engine from fusing it away; what it
computes stays the same to rounding. OpenVINO would too, but its files forget the names of the layers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deeplabv3p.runtime.artifact import ArtifactRef
from deeplabv3p.runtime.onnx_import import import_onnxruntime

Arrays = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Inside:
    """What can be read of a file: the ``names`` of its float or quantized tensors in the order in which they are
    computed, and ``read(names, batch)``, which runs the batch and returns these tensors as real numbers."""

    names: tuple[str, ...]
    read: Callable[[Sequence[str], npt.NDArray[np.generic]], Arrays]


def open_inside(artifact: ArtifactRef) -> Inside | None:
    """Look into a model file; None where its engine does not let us."""
    maker = {"keras": _keras, "onnx": _onnx, "tflite": _tflite, "pb": _pb}.get(artifact.runtime)
    return maker(artifact.path) if maker else None


def _keras(path: Path) -> Inside:
    from deeplabv3p.runtime import keras_engine

    keras = keras_engine.import_keras()
    from deeplabv3p.export.fold import fold_batch_norms
    from deeplabv3p.models.walk import run, walk

    model = fold_batch_norms(keras_engine.load_model(path))

    def read(wanted: Sequence[str], batch: npt.NDArray[np.generic]) -> Arrays:
        steps = walk(model, [keras.ops.convert_to_tensor(batch)], run)
        found = {step.name: step.outputs[0] for step in steps if step.name in wanted}
        return {name: np.asarray(keras.ops.convert_to_numpy(value), np.float32) for name, value in found.items()}

    return Inside(tuple(operation.name for operation in model.operations), read)


def _onnx(path: Path) -> Inside:
    import onnx

    ort = import_onnxruntime()
    model = onnx.shape_inference.infer_shapes(onnx.load(os.fspath(path)))
    graph = model.graph
    known = {item.name: item for item in (*graph.value_info, *graph.output)}
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    made = [name for node in graph.node if node.op_type != "Constant" for name in node.output]
    names = [name for name in made if name in known and known[name].type.tensor_type.elem_type in floats]
    options = ort.SessionOptions()
    options.log_severity_level = 4

    def read(wanted: Sequence[str], batch: npt.NDArray[np.generic]) -> Arrays:
        outputs = [known[name] for name in wanted]
        del graph.output[:]
        graph.output.extend(outputs)
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        values = session.run(list(wanted), {session.get_inputs()[0].name: batch})
        return {name: np.asarray(value, np.float32) for name, value in zip(wanted, values, strict=True)}

    return Inside(tuple(names), read)


def _tflite(path: Path) -> Inside:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = model.subgraphs[0]
    real = {schema.TensorType.FLOAT32, schema.TensorType.FLOAT16}
    quantized = {schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT16}
    indexes: dict[str, int] = {}
    for operator in graph.operators:
        for index in operator.outputs:
            kind = graph.tensors[index].type
            if kind in real or kind in quantized:
                indexes[graph.tensors[index].name.decode("utf-8", "replace")] = int(index)
    own = [int(index) for index in graph.outputs]

    def read(wanted: Sequence[str], batch: npt.NDArray[np.generic]) -> Arrays:
        graph.outputs = list(dict.fromkeys([*own, *(indexes[name] for name in wanted)]))
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        interpreter = Interpreter(model_content=bytes(builder.Output()), num_threads=os.cpu_count())
        interpreter.allocate_tensors()
        details = {item["index"]: item for item in interpreter.get_output_details()}
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], batch)
        interpreter.invoke()
        values = {}
        for name in wanted:
            value = interpreter.get_tensor(indexes[name])
            scale, zero_point = details[indexes[name]]["quantization"]
            real_value = value.astype(np.float32)
            values[name] = (real_value - zero_point) * np.float32(scale) if scale else real_value
        return values

    return Inside(tuple(indexes), read)


def _pb(path: Path) -> Inside:
    from deeplabv3p.runtime.keras_engine import import_keras

    import_keras()  # TensorFlow without its start-up lines
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    source = next(node.name for node in definition.node if node.op == "Placeholder")
    imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(definition, name=""), [])
    operations = [imported.graph.get_operation_by_name(node.name) for node in definition.node]
    names = [
        operation.name
        for operation in operations
        if operation.type not in ("Const", "Placeholder")
        and operation.outputs
        and operation.outputs[0].dtype.is_floating
    ]

    def read(wanted: Sequence[str], batch: npt.NDArray[np.generic]) -> Arrays:
        pruned = imported.prune(f"{source}:0", [f"{name}:0" for name in wanted])
        values = pruned(tf.convert_to_tensor(batch))
        return {name: np.asarray(value, np.float32) for name, value in zip(wanted, values, strict=True)}

    return Inside(tuple(names), read)
