"""TFLite files for LiteRT: float, half-precision weights, 8-bit weights, and whole numbers throughout.

The converter starts from the frozen graph. Given the Keras model itself it writes files that put out NaN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import DataError, DeeplabError, UsageError
from deeplabv3p.export.formats import Calibration, Exported, ExportOptions
from deeplabv3p.export.freeze import Frozen
from deeplabv3p.files import atomic_path
from deeplabv3p.runtime.artifact import SPEC_KEY
from deeplabv3p.runtime.engine import quiet
from deeplabv3p.runtime.keras_safety import first_line
from deeplabv3p.spec import ModelSpec, sidecar_path

_ALIGNMENT = 16
"""Bytes. The format's own; engines map constants straight from the file."""
_QUANTIZERS = {"QUANTIZE", "DEQUANTIZE"}
_INTEGER = ("int8", "int16x8")


def write(frozen: Frozen, path: Path, options: ExportOptions, calibration: Calibration | None = None) -> Exported:
    """Convert, and write the file with its spec inside and beside it.

    ``f16`` stores weights in half precision, ``w8`` stores them in 8 bits and computes with floats, ``int8`` computes
    with 8-bit integers, weights scaled per channel; ``io_dtype`` is what goes in and comes out. ``int16x8`` has 16-bit
    activations and float input and output. An operation without an integer form stays float, and the notes say which.

    Raises:
        UsageError: int8 or int16x8 without calibration, or with an open size.
        DataError: the converter cannot do it, or the location cannot be written.
    """
    integer = options.precision in _INTEGER
    if integer and calibration is None:
        raise UsageError(f"TFLite {options.precision} needs pictures to calibrate with. Give --dataset_path.")
    if integer and options.dynamic:
        raise UsageError(f"TFLite {options.precision} needs a fixed size of the input. Leave --dynamic out.")
    with quiet():
        content = _convert(frozen, path, options, calibration)
    model = _parse(content)
    spec = _name_tensors(model, frozen)
    _add_metadata(model, SPEC_KEY, spec.to_json().encode())
    with atomic_path(sidecar_path(path)) as sidecar, atomic_path(path) as temporary:
        temporary.write_bytes(_pack(model))
        sidecar.write_text(spec.to_json(), encoding="utf-8")
    return Exported(path, spec, _notes(model, options))


def _convert(frozen: Frozen, path: Path, options: ExportOptions, calibration: Calibration | None) -> bytes:
    """The converter's file. What it says while it works is for its developers."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen.concrete])
    converter.exclude_conversion_metadata = True  # the time it took, and such
    if options.precision != "f32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if options.precision == "f16":
        converter.target_spec.supported_types = [tf.float16]
    if calibration is not None and options.precision in _INTEGER:
        converter.representative_dataset = _batches(calibration, options.batch or 1)
    if options.precision == "int16x8":
        wide = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [wide, tf.lite.OpsSet.TFLITE_BUILTINS]
    converter._experimental_calibrate_only = options.precision == "int8"
    try:
        content: bytes = converter.convert()
        return _quantize(content, frozen, options) if options.precision == "int8" else content
    except DeeplabError:
        raise
    except Exception as error:  # the converter raises whatever its compiler leads to
        raise DataError(
            f"{path} cannot be written as TFLite {options.precision}: {first_line(error)}. Try another precision."
        ) from error


def _batches(calibration: Calibration, batch: int) -> Callable[[], Iterator[list[npt.NDArray[np.float32]]]]:
    """What the converter calls for pictures: each alone, or repeated to the file's batch size."""

    def start() -> Iterator[list[npt.NDArray[np.float32]]]:
        empty = True
        for tensor in calibration():
            empty = False
            yield [np.repeat(tensor, batch, axis=0)]
        if empty:  # the converter would write a float model and say nothing
            raise UsageError("there is no picture to calibrate with, and whole numbers need some.")

    return start


def _quantize(calibrated: bytes, frozen: Frozen, options: ExportOptions) -> bytes:
    """A float model with the ranges of its tensors → whole numbers, but for ``options.float_layers``."""
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    outside = getattr(tf, options.io_dtype)
    result: bytes = mlir_quantize(
        calibrated,
        input_data_type=outside,
        output_data_type=tf.float32 if frozen.spec.output.kind == "labels" else outside,  # labels are numbers already
        denylisted_nodes=_tensors_of(_parse(calibrated), options.float_layers) or None,
    )
    return result


def _tensors_of(model: Any, layers: tuple[str, ...]) -> list[str]:
    """The names of what the operations of some layers put out. The converter joins operations and their names:
    ``conv_relu/Relu;conv/BiasAdd;conv/convolution``."""
    names = [name for graph in model.subgraphs for name in _made_names(graph)]
    found = []
    for layer in layers:
        own = [name for name in names if layer in {part.partition("/")[0] for part in name.split(";")}]
        if not own:
            raise UsageError(f"the model has no layer '{layer}' that could stay float.")
        found += own
    return found


def _made_names(graph: Any) -> Iterator[str]:
    for operator in graph.operators:
        for index in operator.outputs:
            yield graph.tensors[index].name.decode()


def _name_tensors(model: Any, frozen: Frozen) -> ModelSpec:
    """Call input and output by their names in the spec, and return the spec of this file."""
    graph = model.subgraphs[0]
    picture, result = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    picture.name, result.name = frozen.input_name.encode(), frozen.output_name.encode()
    dtype = np.dtype(_type_name(picture.type).lower()).name
    return frozen.spec.replace(input={"dtype": dtype, **_quantization(picture)}, output=_quantization(result))


def _quantization(tensor: Any) -> dict[str, Any]:
    """``scale`` and ``zero_point`` for a spec."""
    numbers = tensor.quantization
    if numbers is None or numbers.scale is None or len(numbers.scale) == 0:
        return {"scale": None, "zero_point": None}
    return {"scale": float(numbers.scale[0]), "zero_point": int(numbers.zeroPoint[0])}


def _notes(model: Any, options: ExportOptions) -> tuple[str, ...]:
    """What is not in whole numbers although integers were asked for."""
    if options.precision not in _INTEGER:
        return ()
    total, floats = 0, Counter[str]()
    for graph in model.subgraphs:
        for operator in graph.operators:
            name = _operation_name(model, operator)
            if name in _QUANTIZERS:
                continue
            total += 1
            if _type_name(graph.tensors[operator.outputs[0]].type) == "FLOAT32":
                floats[name] += 1
    if not floats:
        return (f"all {total} operations compute with whole numbers",)
    listed = ", ".join(f"{count} {name}" for name, count in sorted(floats.items()))
    return (f"{floats.total()} of {total} operations stayed float: {listed}",)


def _operation_name(model: Any, operator: Any) -> str:
    from tensorflow.lite.python import schema_py_generated as schema

    code = model.operatorCodes[operator.opcodeIndex]
    return _constant_name(schema.BuiltinOperator, max(code.builtinCode, code.deprecatedBuiltinCode))


def _type_name(number: int) -> str:
    from tensorflow.lite.python import schema_py_generated as schema

    return _constant_name(schema.TensorType, number)


def _constant_name(kind: type, number: int) -> str:
    return next(name for name, value in vars(kind).items() if value == number)


def _parse(content: bytes) -> Any:
    from tensorflow.lite.python import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def _add_metadata(model: Any, name: str, content: bytes) -> None:
    from tensorflow.lite.python import schema_py_generated as schema

    model.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))
    model.metadata = [*(model.metadata or []), schema.MetadataT(name=name, buffer=len(model.buffers) - 1)]


def _pack(model: Any) -> bytes:
    """The file. The generated code would start buffers at any byte; the format wants multiples of 16, because engines
    use constants where they lie."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    class Aligned(schema.BufferT):
        def Pack(self, builder: Any) -> int:  # noqa: N802
            if self.data is not None:
                builder.Prep(_ALIGNMENT, len(self.data))
            return int(super().Pack(builder))

    model.buffers = [Aligned(buffer.data, buffer.offset, buffer.size) for buffer in model.buffers]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
