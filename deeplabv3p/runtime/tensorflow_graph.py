"""TensorFlow graphs in ``.pb`` files and saved models, read without TensorFlow: which operations they hold, so that one
which could read or write files or run code is refused before TensorFlow sees it.

Field numbers are those of graph.proto, node_def.proto, attr_value.proto, function.proto, saved_model.proto,
meta_graph.proto and saved_object_graph.proto."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deeplabv3p import files
from deeplabv3p.errors import DataError
from deeplabv3p.runtime import wire

# What networks are made of: arithmetic on tensors, variables, and calls of functions in the same file. Nothing here
# opens a file, runs code or a process, or reaches the network. All else is refused, also what TensorFlow gets later.
_ALLOWED_TEXT = (
    "Abs Add AddN AddV2 All Any ArgMax ArgMin Assert AssignVariableOp AvgPool BatchMatMul BatchMatMulV2 "
    "BatchNormWithGlobalNormalization BatchToSpace BatchToSpaceND BiasAdd BroadcastArgs BroadcastTo Cast Ceil "
    "ClipByValue Concat ConcatV2 Const Conv2D Conv2DBackpropInput Cumsum DepthToSpace DepthwiseConv2dNative "
    "Dequantize DisableCopyOnRead Div DivNoNan Einsum Elu Enter Equal Erf Exit Exp ExpandDims Expm1 "
    "ExtractImagePatches FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel Fill Floor "
    "FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual "
    "Identity IdentityN If Inv InvertPermutation IsFinite LRN LeakyRelu Less LessEqual LinSpace Log Log1p LogSoftmax "
    "LogicalAnd LogicalNot LogicalOr LoopCond MatMul Max MaxPool MaxPoolV2 Maximum Mean Merge Min Minimum MirrorPad "
    "Mod Mul MulNoNan Neg NextIteration NoOp NotEqual OneHot OnesLike Pack Pad PadV2 PartitionedCall Placeholder "
    "PlaceholderWithDefault Pow PreventGradient Prod QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeV2 Range "
    "Rank ReadVariableOp RealDiv Reciprocal Relu Relu6 Reshape ResizeArea ResizeBicubic ResizeBilinear "
    "ResizeNearestNeighbor ReverseV2 Round Rsqrt Select SelectV2 Selu Shape ShapeN Sigmoid Sign Size Slice Snapshot "
    "Softmax Softplus Softsign SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square SquaredDifference "
    "Squeeze StatefulPartitionedCall StatelessIf StatelessWhile StopGradient StridedSlice Sub Sum Switch Tanh Tile "
    "TopK TopKV2 Transpose TruncateDiv TruncateMod Unpack VarHandleOp VarIsInitializedOp Where While ZerosLike "
    "_FusedBatchNormEx _FusedConv2D _FusedDepthwiseConv2dNative _FusedMatMul"
)
_ALLOWED = frozenset(_ALLOWED_TEXT.split())
# What saves and restores variables. TensorFlow writes two functions of these into every saved model and does not call
# them when it loads one; they may be there as long as nothing that is run leads to them.
_SAVING = frozenset(
    ("MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename", "StaticRegexFullMatch", "StringJoin")
)


@dataclass(frozen=True)
class Node:
    """An operation of a graph: its inputs by name (``name:1`` for the second output, ``^name`` only for the order)."""

    name: str
    operation: str
    inputs: tuple[str, ...]
    message: memoryview

    def attribute(self, name: str) -> memoryview:
        """The value of an attribute as an AttrValue message, empty where it is absent."""
        for entry in wire.inner(self.message, 5):
            if wire.text(entry, 1) == name:
                return next(wire.inner(entry, 2), memoryview(b""))
        return memoryview(b"")

    @property
    def called(self) -> Iterator[str]:
        """Names of the functions that its attributes name."""
        for entry in wire.inner(self.message, 5):
            for value in wire.inner(entry, 2):
                functions = list(wire.inner(value, 10))
                for items in wire.inner(value, 1):
                    functions += wire.inner(items, 9)
                yield from (wire.text(function, 1) for function in functions)


def read_graph(path: Path) -> tuple[bytes, list[Node]]:
    """The content of a frozen graph and its operations, after a look at each. What runs a graph must take this content:
    another reading may find another file.

    Raises:
        DataError: the file is damaged, or holds an operation that is not allowed.
    """
    try:
        content = files.read_bytes(path)
        data = memoryview(content)
        with wire.limited():
            nodes = _nodes(wire.inner(data, 1))
            functions = _functions(data)
    except wire.DamagedError as error:
        raise DataError(f"{path} is not a frozen TensorFlow graph, or it is damaged: {error}.") from None
    if not nodes:
        raise DataError(f"{path} is not a frozen TensorFlow graph: there are no operations in it.")
    _check([nodes, *functions.values()], _ALLOWED | functions.keys(), path)
    return content, nodes


def check_saved_model(path: Path) -> None:
    """Look at every operation of the saved model in the folder ``path``.

    Raises:
        DataError: it is damaged, or could run an operation that is not allowed.
    """
    file = path / "saved_model.pb"
    try:
        data = memoryview(files.read_bytes(file))
        with wire.limited():
            for meta_graph in wire.inner(data, 2):
                _check_meta_graph(meta_graph, path)
    except wire.DamagedError as error:
        raise DataError(f"{file} is not a saved model, or it is damaged: {error}.") from None


def _check_meta_graph(meta_graph: memoryview, path: Path) -> None:
    """MetaGraphDef: graph_def 2, signature_def 5 (value 2 → outputs 2 → value 2 → name 1), object_graph_def 7
    (concrete_functions 2 → key 1)."""
    graph = b"".join(bytes(part) for part in wire.inner(meta_graph, 2))
    nodes, functions = _nodes(wire.inner(memoryview(graph), 1)), _functions(memoryview(graph))
    saving = {name for name, body in functions.items() if any(node.operation in _SAVING for node in body)}
    offered = {wire.text(e, 1) for objects in wire.inner(meta_graph, 7) for e in wire.inner(objects, 2)}
    results = {
        wire.text(tensor, 1)
        for signature in wire.inner(meta_graph, 5)
        for definition in wire.inner(signature, 2)
        for output in wire.inner(definition, 2)
        for tensor in wire.inner(output, 2)
    }
    run = [body for name, body in functions.items() if name not in saving]
    run.append(_leading_to(results, nodes))
    if saving & (offered | {name for body in run for node in body for name in (node.operation, *node.called)}):
        raise DataError(f"{path} is refused: what it runs could read or write files.")
    _check(run, _ALLOWED | functions.keys(), path)
    _check([nodes, *functions.values()], _ALLOWED | _SAVING | functions.keys(), path)
    if any(node.operation in _SAVING for node in nodes):
        raise DataError(
            f"{path} is refused: its variables are restored as in TensorFlow 1. Freeze it into a .pb first."
        )


def _leading_to(tensors: set[str], nodes: list[Node]) -> list[Node]:
    """The nodes that compute these tensors."""
    by_name = {node.name: node for node in nodes}
    found: dict[str, Node] = {}
    left = list(tensors)
    while left:
        name = left.pop().lstrip("^").partition(":")[0]
        if name in by_name and name not in found:
            found[name] = by_name[name]
            left += by_name[name].inputs
    return list(found.values())


def _check(bodies: Iterable[list[Node]], allowed: frozenset[str] | set[str], path: Path) -> None:
    refused = sorted({node.operation for body in bodies for node in body} - allowed)
    if refused:
        raise DataError(
            f"{path} is refused: its graph holds {', '.join(refused[:5])}. Only arithmetic on tensors is run, "
            "nothing that could open files or run code."
        )


def _functions(graph: memoryview) -> dict[str, list[Node]]:
    """GraphDef: library 2 → function 1 → signature 1 (name 1), node_def 3."""
    return {
        wire.text(next(wire.inner(function, 1), memoryview(b"")), 1): _nodes(wire.inner(function, 3))
        for library in wire.inner(graph, 2)
        for function in wire.inner(library, 1)
    }


def _nodes(messages: Iterable[memoryview]) -> list[Node]:
    """NodeDef: name 1, op 2, input 3, attr 5."""
    nodes = []
    for item in messages:
        texts: dict[int, list[str]] = {1: [], 2: [], 3: []}
        for number, value in wire.fields(item):
            if number in texts and isinstance(value, memoryview):
                texts[number].append(bytes(value).decode("utf-8", "replace"))
        name, operation = ((texts[number] or [""])[-1] for number in (1, 2))
        if not operation:
            raise wire.DamagedError("an operation does not say what it does")
        nodes.append(Node(name, operation, tuple(texts[3]), item))
    return nodes
