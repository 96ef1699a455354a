"""What a .tflite file says about itself, read without LiteRT. Field numbers are those of TensorFlow's schema.fbs and of
tflite-support's metadata_schema.fbs."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from deeplabv3p import files
from deeplabv3p.errors import DataError
from deeplabv3p.runtime.facts import FileFacts, TensorFacts
from deeplabv3p.runtime.flatbuffer import DamagedError, Table, root
from deeplabv3p.spec import OutputKind

_TYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    6: "bool",
    7: "int16",
    9: "int8",
    10: "float64",
}
_ARG_MAX, _CUSTOM, _RESIZE_BILINEAR, _SOFTMAX = 56, 32, 23, 25
# Operations that move or rename values without changing which class is which: dequantize, reshape, resize bilinear,
# transpose, squeeze, strided slice, cast, slice, expand dims, resize nearest, quantize.
_PASSING = {6, 22, 23, 39, 43, 45, 53, 65, 70, 97, 114}
_MAX_LABELS = 1 << 20  # bytes of a class list in a file


def read_facts(path: Path) -> FileFacts:
    """The facts of a .tflite file; ``metadata`` has ``mean`` and ``std`` (numbers separated by spaces) and ``classes``
    (names separated by line ends) where the file carries tflite-support's metadata, and its own entries that are text.

    Raises:
        DataError: the file is damaged, or holds operations that LiteRT does not have.
    """
    data = files.read_bytes(path)
    try:
        return _facts(root(data, b"TFL3"), path)
    except DamagedError as error:
        raise DataError(f"{path} is not a TFLite file, or it is damaged: {error}.") from None


def _facts(model: Table, path: Path) -> FileFacts:
    graphs = model.tables(2)
    if not graphs:
        raise DamagedError("there is no graph in it")
    codes = [max(item.number(0, "<b"), item.number(3)) for item in model.tables(1)]
    custom = sorted({item.string(1) for item, code in zip(model.tables(1), codes, strict=True) if code == _CUSTOM})
    if custom:
        names = ", ".join(custom)
        raise DataError(
            f"{path} needs operations that are not LiteRT's own: {names}. Convert it with built-in ones only."
        )
    graph = graphs[0]
    tensors = graph.tables(0)
    inputs, outputs = graph.integers(1), graph.integers(2)
    for index in (*inputs, *outputs):
        if not 0 <= index < len(tensors):
            raise DamagedError("a tensor is missing")
    chain = _chain(graph, codes, tensors, outputs)
    return FileFacts(
        tuple(_tensor(tensors[index]) for index in inputs),
        tuple(_tensor(tensors[index]) for index in outputs),
        _metadata(model, path),
        align_corners=_align_corners(graph, codes),
        kind=chain[0],
        num_classes=chain[1],
    )


def _tensor(table: Table) -> TensorFacts:
    shape, signature = table.integers(0), table.integers(7)
    sides = signature if len(signature) == len(shape) else shape
    quantization = table.table(4)
    scales = quantization.numbers(2, "f") if quantization else ()
    zeros = quantization.integers(3, "q") if quantization else ()
    quantized = len(scales) == 1 and scales[0] > 0
    return TensorFacts(
        table.string(3),
        tuple(None if side < 0 else side for side in sides),
        _TYPES.get(table.number(1, "<b"), "unknown"),
        float(scales[0]) if quantized else None,
        (zeros[0] if zeros else 0) if quantized else None,
    )


def _chain(
    graph: Table, codes: Sequence[int], tensors: Sequence[Table], outputs: Sequence[int]
) -> tuple[OutputKind, int | None]:
    """(kind of the first output, number of classes that an argmax chooses from)."""
    makers = {index: operator for operator in graph.tables(3) for index in operator.integers(2)}
    wanted = outputs[0] if outputs else -1
    for _ in range(32):  # a damaged file may go in circles
        operator = makers.get(wanted)
        inputs = operator.integers(1) if operator else ()
        if operator is None or not inputs or not 0 <= inputs[0] < len(tensors):
            break
        code = _code(operator, codes)
        if code == _ARG_MAX:
            shape = tensors[inputs[0]].integers(0)
            return "labels", shape[-1] if len(shape) == 4 else None
        if code == _SOFTMAX:
            return "probabilities", None
        if code not in _PASSING:
            break
        wanted = inputs[0]
    return "logits", None


def _align_corners(graph: Table, codes: Sequence[int]) -> bool | None:
    last = None
    for operator in graph.tables(3):
        if _code(operator, codes) == _RESIZE_BILINEAR:
            options = operator.table(4)
            last = bool(options and options.number(2, "<b"))
    return last


def _code(operator: Table, codes: Sequence[int]) -> int:
    index = operator.number(0, "<I")
    if index >= len(codes):
        raise DamagedError("an operation is missing")
    return codes[index]


def _metadata(model: Table, path: Path) -> dict[str, str]:
    buffers = model.tables(4)
    found: dict[str, str] = {}
    for entry in model.tables(6):
        name, index = entry.string(0), entry.number(1, "<I")
        if index >= len(buffers):
            raise DamagedError("the metadata is missing")
        value = buffers[index].bytes(0)
        if name == "TFLITE_METADATA":
            found |= _described(root(value, b"M001"), model.data, path)
        else:
            try:
                found[name] = value.decode("utf-8")
            except UnicodeDecodeError:
                continue
    return found


def _described(description: Table, data: bytes, path: Path) -> dict[str, str]:
    """tflite-support's metadata: normalization of the input, class names of the output."""
    found: dict[str, str] = {}
    graphs = description.tables(3)
    pictures = graphs[0].tables(2) if graphs else []
    results = graphs[0].tables(3) if graphs else []
    for unit in pictures[0].tables(4) if pictures else []:
        options = unit.table(1)
        if unit.number(0, "<B") == 1 and options is not None:  # NormalizationOptions
            found["mean"] = " ".join(f"{value:g}" for value in options.numbers(0, "f"))
            found["std"] = " ".join(f"{value:g}" for value in options.numbers(1, "f"))
    names = [item.string(0) for result in results[:1] for item in result.tables(6) if item.number(2, "<b") in (2, 3)]
    if names:
        found["classes"] = _packed_file(data, names[0], path)
    return found


def _packed_file(data: bytes, name: str, path: Path) -> str:
    """A text file of the archive that is appended to the model."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(name) as file:
            return file.read(_MAX_LABELS).decode("utf-8", "replace")
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
        raise DataError(f"{path} is damaged: its class list {name} cannot be read.") from None
