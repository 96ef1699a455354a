"""One run through a functional graph, operation by operation, into nested models.

Counting and looking at a layer both need what the model's own call hides: every operation with what went in and out.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import Any

import keras

from deeplabv3p.errors import UsageError

Call = Callable[[keras.Operation, tuple[Any, ...], dict[str, Any]], Any]


@dataclasses.dataclass(frozen=True)
class Step:
    """One call of one operation, in the order in which Keras runs them.

    ``name`` is the operation's, behind those of the models that it is nested in (``stem/conv``); when it is called
    again, ``#2``, ``#3``, … follow. ``inputs`` and ``outputs`` are flat lists of whatever tensors are walked with.
    """

    name: str
    operation: keras.Operation
    inputs: list[Any]
    outputs: list[Any]


def walk(model: keras.Model, inputs: Sequence[Any], call: Call) -> Generator[Step, None, list[Any]]:
    """Run ``model`` step by step. The generator yields the steps and returns the model's outputs.

    Args:
        model: a functional model or a built ``Sequential``, with others of these inside or not.
        inputs: one tensor, or symbolic tensor, for each of ``model.inputs``.
        call: what to do at each operation, :func:`infer` or :func:`run`; gets the operation, its positional and its
            named arguments, and returns its outputs.

    Raises:
        UsageError: the model, or one inside it, is not a graph of layers.
    """
    seen: collections.Counter[str] = collections.Counter()
    return (yield from _walk(model, inputs, call, "", seen))


def finish(walking: Generator[Step, None, list[Any]]) -> tuple[list[Step], list[Any]]:
    """Run a walk to its end: all its steps, and the outputs of the model."""
    steps = []
    while True:
        try:
            steps.append(next(walking))
        except StopIteration as end:
            return steps, end.value


def infer(operation: keras.Operation, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """For symbolic tensors: the shapes and types that come out. Nothing is computed."""
    return operation.compute_output_spec(*args, **named)


def run(operation: keras.Operation, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """For tensors: what the operation puts out at inference."""
    # Some layers train unless they are told otherwise.
    if isinstance(operation, keras.layers.Layer) and operation._call_has_training_arg:
        named = {**named, "training": False}
    return operation(*args, **named)


def _walk(
    model: keras.Model, inputs: Sequence[Any], call: Call, prefix: str, seen: collections.Counter[str]
) -> Generator[Step, None, list[Any]]:
    graph = model._functional if isinstance(model, keras.Sequential) else model
    if not hasattr(graph, "_nodes_by_depth"):
        raise UsageError(
            f"the model '{prefix}{model.name}' is not a graph of layers, so that it cannot be looked into."
        )
    values = {id(symbol): value for symbol, value in zip(graph.inputs, inputs, strict=True)}
    for _, nodes in sorted(graph._nodes_by_depth.items(), reverse=True):
        for node in nodes:
            if node.is_input:
                continue
            operation, path = node.operation, f"{prefix}{node.operation.name}"
            read = [values[id(symbol)] for symbol in node.input_tensors]
            if isinstance(operation, keras.Model):
                outputs = yield from _walk(operation, read, call, f"{path}/", seen)
            else:
                seen[path] += 1
                name = path if seen[path] == 1 else f"{path}#{seen[path]}"
                args, named = node.arguments.fill_in(values)
                outputs = keras.tree.flatten(call(operation, args, named))
                yield Step(name, operation, read, outputs)
            values.update((id(symbol), value) for symbol, value in zip(node.outputs, outputs, strict=True))
    return [values[id(symbol)] for symbol in graph.outputs]
