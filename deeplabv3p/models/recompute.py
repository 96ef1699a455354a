"""Gradient checkpointing: a network that keeps few activations for the gradient and computes the others again.

The graph is cut into segments where little is alive (between two blocks, not inside one). Forward, what crosses a cut
is kept; backward, each segment is run once more (Chen et al. 2016, arXiv:1604.06174, section 4). Keras' ``RematScope``
works layer by layer: it keeps the input of every layer, which in a network of plain layers saves next to nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

MAX_SEGMENTS = 32


@dataclasses.dataclass(frozen=True)
class Segment:
    """Consecutive calls of operations: what they read from before, and what is read of theirs later."""

    nodes: tuple[Any, ...]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


class Recomputing(keras.Model):
    """A functional model, with one output, of the same layers, whose training step computes most activations twice.
    Outputs, gradients, batch-norm statistics and dropout are those of the model that it is made of."""

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None) -> None:
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        nodes = [node for _, level in sorted(self._nodes_by_depth.items(), reverse=True) for node in level]
        self._segments = segments([node for node in nodes if not node.is_input], self.inputs, self.outputs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training:
            return super().call(inputs, training=training, mask=mask)
        values = dict(zip(map(id, self.inputs), keras.tree.flatten(inputs), strict=True))
        for segment in self._segments:
            kept = [values[id(symbol)] for symbol in segment.inputs]
            # The last one's gradient comes first; and what draws random numbers must not draw twice.
            again = segment is not self._segments[-1] and not _draws(segment)
            outputs = _run_twice(segment, kept) if again else _run(segment, kept)
            values.update(zip(map(id, segment.outputs), outputs, strict=True))
        return values[id(self.outputs[0])]


def segments(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Segment]:
    """Cut a graph so that what is kept, and what the largest segment holds while its gradient is computed, are together
    as small as possible. Operations that draw random numbers are segments of their own."""
    last_read = {id(symbol): len(nodes) for symbol in outputs}
    for index, node in enumerate(nodes):
        for symbol in node.input_tensors:
            last_read[id(symbol)] = max(index, last_read.get(id(symbol), 0))
    made = {id(symbol): -1 for symbol in inputs}
    made |= {id(symbol): index for index, node in enumerate(nodes) for symbol in node.outputs}
    size = {id(symbol): _bytes(symbol) for node in nodes for symbol in node.outputs}
    alive = [{k for k in size if made[k] <= index < last_read.get(k, -1)} for index in range(len(nodes))]
    weight = [sum(size[id(symbol)] for symbol in node.outputs) for node in nodes]
    drawing = {index + side for index, node in enumerate(nodes) if _is_random(node) for side in (-1, 0)} - {-1}

    def cost(cuts: set[int]) -> float:
        kept = set().union(*(alive[cut] for cut in cuts))
        edges = [-1, *sorted(cuts), len(nodes) - 1]
        largest = max(sum(weight[a + 1 : b + 1]) for a, b in itertools.pairwise(edges))
        return sum(size[k] for k in kept) + largest

    price = [sum(size[k] for k in names) for names in alive]
    plans = [_cuts(weight, price, parts) | drawing for parts in range(1, MAX_SEGMENTS + 1)]
    edges = [-1, *sorted(min(plans, key=cost) - {len(nodes) - 1}), len(nodes) - 1]
    result = []
    for first, last in itertools.pairwise(edges):
        part = nodes[first + 1 : last + 1]
        read = {id(s): s for node in part for s in node.input_tensors if made[id(s)] <= first}
        written = [s for node in part for s in node.outputs if last_read.get(id(s), -1) > last]
        result.append(Segment(tuple(part), tuple(read.values()), tuple(written)))
    return result


def _cuts(weight: list[int], price: list[int], parts: int) -> set[int]:
    """Indices behind which to cut for about ``parts`` parts of equal weight: the cheapest place in the second half of
    each part."""
    budget, cuts, start, total = sum(weight) / parts, set[int](), 0, 0
    candidates: list[int] = []
    for index, more in enumerate(weight):
        if candidates and total + more > budget:
            cut = min(candidates, key=lambda i: price[i])
            cuts.add(cut)
            start, candidates = cut + 1, []
            total = sum(weight[start:index])
        total += more
        if total > budget / 2:
            candidates.append(index)
    return cuts


def _bytes(symbol: Any) -> int:
    """Of one picture's part."""
    width = 2 if "16" in symbol.dtype else 4
    return int(math.prod(symbol.shape[1:])) * width


def _is_random(node: Any) -> bool:
    return any("int" in variable.dtype for variable in getattr(node.operation, "variables", []))


def _draws(segment: Segment) -> bool:
    return any(map(_is_random, segment.nodes))


def _run(segment: Segment, inputs: Sequence[Any]) -> list[Any]:
    """The segment's outputs in training."""
    values = dict(zip(map(id, segment.inputs), inputs, strict=True))
    for node in segment.nodes:
        args, named = node.arguments.fill_in(values)
        if getattr(node.operation, "_call_has_training_arg", False):
            named = {**named, "training": True}  # not from the context: the second run has none
        outputs = keras.tree.flatten(node.operation(*args, **named))
        values.update(zip(map(id, node.outputs), outputs, strict=True))
    return [values[id(symbol)] for symbol in segment.outputs]


def _run_twice(segment: Segment, inputs: Sequence[Any]) -> list[Any]:
    """As :func:`_run`, as a function of plain tensors without side effects, which may be called again."""
    operations = {id(node.operation): node.operation for node in segment.nodes}.values()
    layers = [operation for operation in operations if isinstance(operation, keras.layers.Layer)]
    trained = [variable for layer in layers for variable in layer.trainable_variables]
    state = [variable for layer in layers for variable in layer.non_trainable_variables]
    before = [(variable, ops.copy(variable)) for variable in state]  # a mere "tensor" is the variable, read later

    def function(*values: Any) -> tuple[Any, ...]:
        weights = zip(trained, values[len(inputs) :], strict=True)
        with keras.StatelessScope(state_mapping=[*weights, *before]) as scope:
            outputs = _run(segment, values[: len(inputs)])
        after = [scope.get_current_value(variable) for variable in state]
        return (*outputs, *(ops.stop_gradient(value) for value in after))

    results = keras.remat(function)(*inputs, *(ops.convert_to_tensor(variable) for variable in trained))
    for variable, value in zip(state, results[len(segment.outputs) :], strict=True):
        variable.assign(value)
    return list(results[: len(segment.outputs)])
