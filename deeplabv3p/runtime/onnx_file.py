"""What an .onnx file says about itself, read without the onnx package. Field numbers are those of onnx.proto."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from deeplabv3p import files
from deeplabv3p.errors import DataError
from deeplabv3p.runtime import wire
from deeplabv3p.runtime.facts import FileFacts, TensorFacts
from deeplabv3p.spec import OutputKind

# Operators of these domains are part of ONNX or of ONNX Runtime. Others would need code from elsewhere.
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"}
_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
# Operators that move or rename values without changing which class is which.
_PASSING = {
    "Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Resize", "Slice", "Squeeze", "Transpose",
    "Unsqueeze", "Upsample",
}  # fmt: skip
_EXTERNAL = 1  # TensorProto.DataLocation
_MAX_DEPTH = 16  # of graphs inside graphs


def read_facts(path: Path) -> FileFacts:
    """The facts of an .onnx file; ``metadata`` holds its metadata_props.

    Raises:
        DataError: the file is damaged, needs operators that are not ONNX's, or weights outside of its folder.
    """
    try:
        with wire.limited():
            return _facts(memoryview(files.read_bytes(path)), path)
    except wire.DamagedError as error:
        raise DataError(f"{path} is not an ONNX file, or it is damaged: {error}.") from None


def _facts(model: memoryview, path: Path) -> FileFacts:
    graphs = list(wire.inner(model, 7))
    if len(graphs) != 1:
        raise wire.DamagedError("there is no graph in it")
    graph = graphs[0]
    nodes = list(wire.inner(graph, 1))
    _check_nodes(nodes, path, 0)
    for function in wire.inner(model, 25):
        _check_nodes(list(wire.inner(function, 7)), path, 0)
    initializers = set()
    for tensor in wire.inner(graph, 5):
        initializers.add(wire.text(tensor, 8))
        _check_location(tensor, path)
    inputs = [_value(item) for item in wire.inner(graph, 11)]
    outputs = tuple(_value(item) for item in wire.inner(graph, 12))
    kind, classes = _chain(graph, nodes, outputs)
    return FileFacts(
        tuple(item for item in inputs if item.name not in initializers),
        outputs,
        {wire.text(item, 1): wire.text(item, 2) for item in wire.inner(model, 14)},
        align_corners=_align_corners(nodes),
        kind=kind,
        num_classes=classes,
    )


def _value(item: memoryview) -> TensorFacts:
    """A ValueInfoProto: name 1, type 2 → tensor_type 1 → elem_type 1, shape 2 → dim 1 → dim_value 1."""
    shape: list[int | None] = []
    kind = "unknown"
    for type_proto in wire.inner(item, 2):
        for tensor in wire.inner(type_proto, 1):
            kind = _TYPES.get(wire.integer(tensor, 1), "unknown")
            for sides in wire.inner(tensor, 2):
                shape = [wire.integer(side, 1) or None for side in wire.inner(sides, 1)]
    return TensorFacts(wire.text(item, 1), tuple(shape), kind)


def _check_nodes(nodes: list[memoryview], path: Path, depth: int) -> None:
    """NodeProto: op_type 4, attribute 5, domain 7. AttributeProto: t 5, g 6, tensors 10, graphs 11."""
    if depth > _MAX_DEPTH:
        raise wire.DamagedError("graphs inside graphs without end")
    for node in nodes:
        domain = wire.text(node, 7)
        if domain not in _DOMAINS:
            raise DataError(
                f"{path} needs the operator {domain}.{wire.text(node, 4)}, which is neither ONNX's nor ONNX Runtime's."
            )
        for attribute in wire.inner(node, 5):
            for number, value in wire.fields(attribute):
                if not isinstance(value, memoryview):
                    continue
                if number in (5, 10):
                    _check_location(value, path)
                elif number in (6, 11):
                    for tensor in wire.inner(value, 5):
                        _check_location(tensor, path)
                    _check_nodes(list(wire.inner(value, 1)), path, depth + 1)


def _check_location(tensor: memoryview, path: Path) -> None:
    """TensorProto: external_data 13 (key 1, value 2), data_location 14."""
    for location in _locations(tensor):
        inside = not (
            PurePosixPath(location).is_absolute()
            or PureWindowsPath(location).is_absolute()
            or ".." in PureWindowsPath(location).parts
            or not (path.parent / location).resolve().is_relative_to(path.parent.resolve())
        )
        if not location or not inside:
            raise DataError(f"{path} is refused: its weights are in '{location}', outside of its folder.")


def _locations(tensor: memoryview) -> Iterator[str]:
    entries = {}
    external = False
    for number, value in wire.fields(tensor):
        if number == 13 and isinstance(value, memoryview):
            entries[wire.text(value, 1)] = wire.text(value, 2)
        external = external or (number == 14 and value == _EXTERNAL)
    if external or entries:
        yield entries.get("location", "")


def _chain(
    graph: memoryview, nodes: list[memoryview], outputs: tuple[TensorFacts, ...]
) -> tuple[OutputKind, int | None]:
    """(kind of the first output, number of classes that an argmax chooses from). NodeProto: input 1, output 2."""
    makers = {bytes(name).decode("utf-8", "replace"): node for node in nodes for name in wire.inner(node, 2)}
    wanted = outputs[0].name if outputs else ""
    for _ in range(32):  # a damaged file may go in circles
        node = makers.get(wanted)
        inputs = [bytes(name).decode("utf-8", "replace") for name in wire.inner(node, 1)] if node is not None else []
        if node is None or not inputs:
            break
        operator = wire.text(node, 4)
        if operator == "ArgMax":
            axis = next((wire.integer(a, 3) for a in wire.inner(node, 5) if wire.text(a, 1) == "axis"), 0)
            return "labels", _side(graph, inputs[0], axis)
        if operator == "Softmax":
            return "probabilities", None
        if operator not in _PASSING:
            break
        wanted = inputs[0]
    return "logits", None


def _side(graph: memoryview, name: str, axis: int) -> int | None:
    """One side of an inner tensor, where the file says it (value_info 13)."""
    for item in wire.inner(graph, 13):
        tensor = _value(item)
        if tensor.name == name and -len(tensor.shape) <= axis < len(tensor.shape):
            return tensor.shape[axis]
    return None


def _align_corners(nodes: list[memoryview]) -> bool | None:
    """Of the last Resize: its attribute coordinate_transformation_mode (AttributeProto: name 1, s 4)."""
    last = None
    for node in nodes:
        if wire.text(node, 4) == "Resize":
            modes = [
                wire.text(a, 4) for a in wire.inner(node, 5) if wire.text(a, 1) == "coordinate_transformation_mode"
            ]
            last = modes == ["align_corners"]
    return last
