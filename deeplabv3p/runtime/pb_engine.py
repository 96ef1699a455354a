"""The pb runtime: a frozen TensorFlow graph, run by TensorFlow from the input to the output that the spec names.

The graph's operations are looked at before TensorFlow sees the file (:mod:`deeplabv3p.runtime.tensorflow_graph`). Runs
release Python's lock."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import DataError
from deeplabv3p.runtime.engine import EngineRuntime, check_threads, engine_errors, version_of
from deeplabv3p.runtime.facts import FileFacts, TensorFacts
from deeplabv3p.runtime.fit import check_fit
from deeplabv3p.runtime.tensorflow_common import (
    device_scope,
    import_tensorflow,
    quiet_absl,
    set_tensorflow_threads,
    tensor_facts,
    used_device,
)
from deeplabv3p.runtime.tensorflow_file import graph_facts
from deeplabv3p.runtime.tensorflow_graph import read_graph
from deeplabv3p.spec import ModelSpec


def open_model(path: Path, spec: ModelSpec, *, device: str | None = None, threads: int | None = None) -> EngineRuntime:
    """Open a frozen ``.pb`` graph; see :func:`deeplabv3p.runtime.artifact.open_artifact` for the errors.

    ``device``: cpu, gpu or gpu:N; TensorFlow's own choice where it is None.
    """
    check_threads(threads)
    content, nodes = read_graph(path)
    names = {node.name for node in nodes}
    wanted = [_tensor_name(name) for name in (spec.input.name, spec.output.name)]
    for name in wanted:
        if name.partition(":")[0] not in names:
            raise DataError(f"{path} has no operation '{name.partition(':')[0]}', which its spec names.")
    tf = import_tensorflow("pb")
    set_tensorflow_threads(threads)
    scope = device_scope(tf, "pb", device)
    with engine_errors(f"TensorFlow cannot open {path}"), quiet_absl(), scope():
        graph_def = tf.compat.v1.GraphDef()
        graph_def.ParseFromString(content)
        wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph_def, name=""), [])
        source, result = (wrapped.graph.get_tensor_by_name(name) for name in wanted)
        picture, output = (tensor_facts(tensor, tensor.name) for tensor in (source, result))
        check_fit(picture, output, spec, path)
        function = wrapped.prune(source, result)

    def call(batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        with scope():
            return np.asarray(function(tf.constant(batch)))

    name = f"tensorflow {version_of(tf.__version__)}"
    return EngineRuntime(spec, name, used_device(tf, device), call, batch=picture.shape[0], where=path)


def inspect(path: Path, input_name: str | None = None, output_name: str | None = None) -> FileFacts:
    """The facts of a frozen graph, as :func:`deeplabv3p.runtime.tensorflow_file.read_facts`. Where its size is fixed,
    TensorFlow works out what the graph does not say: the shapes inside.

    Raises:
        DataError: the file is damaged or not safe, or has no such operation.
        RuntimeMissingError: TensorFlow is not installed.
    """
    content, nodes = read_graph(path)
    facts = graph_facts(nodes, path, input_name, output_name)
    if input_name is None and any(None in tensor.shape[1:] for tensor in facts.inputs):
        return facts
    tf = import_tensorflow("pb")
    graph_def = tf.compat.v1.GraphDef()
    # In a graph of its own, so that TensorFlow's threads can still be set.
    with engine_errors(f"TensorFlow cannot open {path}"), quiet_absl(), tf.Graph().as_default() as graph:
        graph_def.ParseFromString(content)
        tf.import_graph_def(graph_def, name="")

        def completed(tensor: TensorFacts) -> TensorFacts:
            found = tensor_facts(graph.get_tensor_by_name(_tensor_name(tensor.name)), tensor.name)
            return tensor if set(found.shape) == {None} else found

        return dataclasses.replace(
            facts, inputs=tuple(map(completed, facts.inputs)), outputs=tuple(map(completed, facts.outputs))
        )


def _tensor_name(name: str) -> str:
    return name if ":" in name else f"{name}:0"
