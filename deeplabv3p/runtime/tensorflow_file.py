"""What a frozen ``.pb`` graph says about itself, read without TensorFlow. Field numbers are those of attr_value.proto,
tensor.proto and tensor_shape.proto."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deeplabv3p.errors import DataError
from deeplabv3p.runtime import wire
from deeplabv3p.runtime.facts import FileFacts, TensorFacts
from deeplabv3p.runtime.tensorflow_graph import Node, read_graph
from deeplabv3p.spec import OutputKind

_TYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    9: "int64",
    10: "bool",
    19: "float16",
}
# Operations that move or rename values without changing which class is which.
_PASSING = {
    "Cast", "ExpandDims", "Identity", "Reshape", "ResizeBilinear", "ResizeNearestNeighbor", "Slice", "Squeeze",
    "StridedSlice", "Transpose",
}  # fmt: skip
_WITH_CHANNELS = {"Add", "AddV2", "BiasAdd", "Conv2D"}  # their constant's last axis is the channels of the result
_SMALLEST_SIDE = 32  # a smaller constant is no size of a picture


def read_facts(path: Path, input_name: str | None = None, output_name: str | None = None) -> FileFacts:
    """The facts of a frozen graph: its placeholders, and the operations that no other one uses, in the file's order.

    ``input_name`` and ``output_name`` are operations inside to enter and leave the graph at instead. Nothing is known
    of the shape in front of one inside; it is taken for floats.

    Raises:
        DataError: the file is damaged or not safe, or has no such operation.
    """
    return graph_facts(read_graph(path)[1], path, input_name, output_name)


def graph_facts(
    nodes: list[Node], path: Path, input_name: str | None = None, output_name: str | None = None
) -> FileFacts:
    """The same of operations that were read from ``path``."""
    try:
        return _facts(nodes, path, input_name, output_name)
    except wire.DamagedError as error:
        raise DataError(f"{path} is not a frozen TensorFlow graph, or it is damaged: {error}.") from None


def _facts(nodes: list[Node], path: Path, input_name: str | None, output_name: str | None) -> FileFacts:
    by_name = {node.name: node for node in nodes}
    for name in (input_name, output_name):
        if name is not None and name not in by_name:
            raise DataError(f"{path} has no operation '{name}'.")
    used = {_bare(name) for node in nodes for name in node.inputs}
    ends = [node for node in nodes if node.name not in used and node.operation not in {"Placeholder", "Const", "NoOp"}]
    ends = ends if output_name is None else [by_name[output_name]]
    starts = [node for node in nodes if node.operation == "Placeholder"]
    inputs = tuple(_input(node) for node in starts)
    inside = input_name is not None and by_name[input_name] not in starts
    if input_name is not None and inside:
        inputs = (TensorFacts(input_name, (None,) * 4, "float32"),)
    kind, classes = _kind(ends[0], by_name) if ends else (None, None)
    resizes = [node for node in nodes if node.operation == "ResizeBilinear"]
    return FileFacts(
        inputs,
        tuple(_output(node, by_name) for node in ends),
        metadata={},
        align_corners=bool(wire.integer(resizes[-1].attribute("align_corners"), 5)) if resizes else None,
        kind=kind,
        num_classes=classes,
        max_side=None if inside else _max_side(nodes, by_name),
    )


def _bare(name: str) -> str:
    """An input's operation: ``^name`` and ``name:1`` → ``name``."""
    return name.lstrip("^").partition(":")[0]


def _input(node: Node) -> TensorFacts:
    shapes = list(wire.inner(node.attribute("shape"), 7))
    known = bool(shapes) and not wire.integer(shapes[0], 3)  # unknown_rank
    return TensorFacts(node.name, _sides(shapes[0]) if known else (None,) * 4, _type(node, "dtype"))


def _output(node: Node, by_name: Mapping[str, Node]) -> TensorFacts:
    """A graph does not say the shapes inside; the number of classes and the kind tell what can be told."""
    kind, classes = _kind(node, by_name)
    if kind == "labels":
        return TensorFacts(node.name, (None,) * 3, "int64")
    return TensorFacts(node.name, (None, None, None, classes), "float32")


def _type(node: Node, attribute: str) -> str:
    return _TYPES.get(wire.integer(node.attribute(attribute), 6), "unknown")


def _sides(shape: memoryview) -> tuple[int | None, ...]:
    """TensorShapeProto: dim 2 → size 1."""
    sides = [wire.integer(side, 1) for side in wire.inner(shape, 2)]
    return tuple(None if side < 0 else side for side in sides)


def _kind(end: Node, by_name: Mapping[str, Node]) -> tuple[OutputKind, int | None]:
    """(kind of an output, its number of classes), by going back to the classifier."""
    kind: OutputKind = "logits"
    node: Node | None = end
    for _ in range(64):  # a damaged file may go in circles
        if node is None:
            break
        if node.operation == "ArgMax":
            kind = "labels"
        elif node.operation == "Softmax" and kind == "logits":
            kind = "probabilities"
        elif node.operation in _WITH_CHANNELS:
            shape = _constant_shape(node.inputs[1:2], by_name)
            return kind, shape[-1] if shape else None
        elif node.operation not in _PASSING:
            break
        node = by_name.get(_bare(node.inputs[0])) if node.inputs else None
    return kind, None


def _constant(names: tuple[str, ...], by_name: Mapping[str, Node]) -> memoryview | None:
    """The TensorProto of a constant, looked for behind identities."""
    for _ in range(8):
        node = by_name.get(_bare(names[0])) if names else None
        if node is None or node.operation == "Const":
            return None if node is None else next(wire.inner(node.attribute("value"), 8), None)
        if node.operation != "Identity":
            return None
        names = node.inputs
    return None


def _constant_shape(names: tuple[str, ...], by_name: Mapping[str, Node]) -> tuple[int | None, ...]:
    tensor = _constant(names, by_name)
    return () if tensor is None else _sides(next(wire.inner(tensor, 2), memoryview(b"")))


def _max_side(nodes: list[Node], by_name: Mapping[str, Node]) -> int | None:
    """The size that a graph pads pictures of any size to, as Google's DeepLab releases do: it computes that size minus
    a side of the picture. TensorProto: tensor_content 4, int_val 7."""
    found = []
    for node in nodes:
        if node.operation != "Sub" or len(node.inputs) < 2 or _bare(node.inputs[1]) not in by_name:
            continue
        side, tensor = by_name[_bare(node.inputs[1])], _constant(node.inputs[:1], by_name)
        source = by_name.get(_bare(side.inputs[0])) if side.operation == "StridedSlice" and side.inputs else None
        if source is None or source.operation != "Shape" or tensor is None:
            continue
        content = b"".join(bytes(part) for part in wire.inner(tensor, 4))
        values = wire.integers(tensor, 7) or ([int.from_bytes(content, "little")] if len(content) == 4 else [])
        found += [value for value in values if value >= _SMALLEST_SIDE]
    return min(found, default=None)
