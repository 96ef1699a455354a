"""Passes over a frozen TensorFlow graph, so that every engine's importer finds plain operations and whole constants."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

_OPTIMIZERS = ["constfold", "dependency", "constfold"]
"""Grappler's passes. Its "arithmetic" is left out: it makes AddN of sums, which few importers know."""

_NOTHING = {"Identity", "StopGradient"}
"""Operations that put out what they read."""


def tidy(graph_def: Any, input_name: str, output: str, output_name: str, scopes: Mapping[str, str]) -> Any:
    """A smaller graph of the same function.

    Constants are folded and written in full, Identity and NoOp nodes and control edges are gone, what the output does
    not need is gone, and the output node is called ``output_name``.

    Args:
        graph_def: a graph without variables and without function calls.
        input_name: its placeholder, which stays even where the output does not depend on it.
        output: the node whose first output is the result.
        output_name: its name in the new graph.
        scopes: new names for the first part of node names (``conv_1/BiasAdd`` → ``conv/BiasAdd``).
    """
    graph_def = _strip_identities(_optimized(graph_def, input_name, output), output)
    source = next(node for node in graph_def.node if node.name == output)
    if source.op == "Identity":  # the result itself: the node before it takes over, unless that is the input
        before = source.input[0]
        if ":" not in before and before != input_name:
            graph_def.node.remove(source)
            output = before
    _rename(graph_def, {output: output_name}, scopes, keep={input_name})
    for node in graph_def.node:
        for name in [name for name in node.attr if name.startswith("_")]:  # TensorFlow's notes to itself
            del node.attr[name]
        if node.op == "Const":
            _write_in_full(node.attr["value"].tensor)
    return graph_def


def _optimized(graph_def: Any, input_name: str, output: str) -> Any:
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer
    from tensorflow.python.training.saver import export_meta_graph

    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(graph_def, name="")
    meta_graph = export_meta_graph(graph_def=graph_def, graph=graph)
    fetched = meta_graph_pb2.CollectionDef()
    fetched.node_list.value.extend([input_name, output])
    meta_graph.collection_def["train_op"].CopyFrom(fetched)
    config = config_pb2.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.optimizers[:] = _OPTIMIZERS
    rewrite.min_graph_nodes = -1  # small graphs too
    rewrite.meta_optimizer_iterations = 2
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def _strip_identities(graph_def: Any, output: str) -> Any:
    """Without nodes that do nothing (but the output), NoOps, control edges, and whatever the output does not need."""
    through = {node.name: node.input[0] for node in graph_def.node if node.op in _NOTHING and node.name != output}

    def resolved(name: str) -> str:
        while name.removesuffix(":0") in through:
            name = through[name.removesuffix(":0")]
        return name.removesuffix(":0")

    nodes = {node.name: node for node in graph_def.node if node.name not in through and node.op != "NoOp"}
    for node in nodes.values():
        node.input[:] = [resolved(name) for name in node.input if not name.startswith("^")]
    needed = {node.name for node in nodes.values() if node.op == "Placeholder"}
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [source.partition(":")[0] for source in nodes[name].input]
    result = type(graph_def)(versions=graph_def.versions)
    result.node.extend(node for name, node in nodes.items() if name in needed)
    return result


def _rename(graph_def: Any, names: dict[str, str], scopes: Mapping[str, str], keep: set[str]) -> None:
    """Give nodes new names; those that would take the name of another get a number behind it."""
    taken = {*keep, *names.values()}
    names = names | {name: name for name in keep}
    for node in graph_def.node:
        if node.name in names:
            continue
        scope, slash, rest = node.name.partition("/")
        wanted = base = f"{scopes.get(scope, scope)}{slash}{rest}"
        number = 0
        while wanted in taken:
            number += 1
            wanted = f"{base}_{number}"
        taken.add(wanted)
        names[node.name] = wanted
    for node in graph_def.node:
        node.name = names[node.name]
        node.input[:] = [re.sub(r"^[^:]+", lambda match: names[match[0]], name) for name in node.input]


def _write_in_full(tensor: Any) -> None:
    """Spell out a constant that is stored as one repeated value, which OpenCV's reader does not expand."""
    import tensorflow as tf

    values = tf.make_ndarray(tensor)
    if values.dtype.kind not in "fiu" or values.size < 2:
        return
    for field in ("half_val", "float_val", "double_val", "int_val", "int64_val", "uint32_val", "uint64_val"):
        tensor.ClearField(field)
    tensor.tensor_content = np.ascontiguousarray(values).tobytes()
