"""The savedmodel runtime: a folder with ``saved_model.pb``, run by TensorFlow through its signature.

Its operations are looked at before TensorFlow sees it (:mod:`deeplabv3p.runtime.tensorflow_graph`). Runs release
Python's lock."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import DataError
from deeplabv3p.runtime.engine import EngineRuntime, check_threads, engine_errors, version_of
from deeplabv3p.runtime.facts import FileFacts, TensorFacts, pick
from deeplabv3p.runtime.fit import check_fit
from deeplabv3p.runtime.tensorflow_common import (
    device_scope,
    import_tensorflow,
    quiet_absl,
    set_tensorflow_threads,
    tensor_facts,
    used_device,
)
from deeplabv3p.runtime.tensorflow_graph import check_saved_model
from deeplabv3p.spec import ModelSpec

_SIGNATURE = "serving_default"


def open_model(path: Path, spec: ModelSpec, *, device: str | None = None, threads: int | None = None) -> EngineRuntime:
    """Open a saved model; see :func:`deeplabv3p.runtime.artifact.open_artifact` for the errors.

    ``device``: cpu, gpu or gpu:N; TensorFlow's own choice where it is None.
    """
    check_threads(threads)
    check_saved_model(path)
    tf = import_tensorflow("savedmodel")
    set_tensorflow_threads(threads)
    scope = device_scope(tf, "savedmodel", device)
    with scope():
        signature = _load(tf, path)
    inputs, outputs = _tensors(signature.structured_input_signature[1]), _tensors(signature.structured_outputs)
    picture = inputs[pick(inputs, spec.input.name, path)]
    output = outputs[pick(outputs, spec.output.name, path)]
    if len(inputs) != 1:
        raise DataError(f"{path} takes {len(inputs)} inputs, expected one.")
    check_fit(picture, output, spec, path)

    def call(batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        with scope():
            return np.asarray(signature(**{picture.name: tf.constant(batch)})[output.name])

    name = f"tensorflow {version_of(tf.__version__)}"
    return EngineRuntime(spec, name, used_device(tf, device), call, batch=picture.shape[0], where=path)


def inspect(path: Path) -> FileFacts:
    """The facts of a saved model; it is loaded for them.

    Raises:
        DataError: it is damaged or not safe.
    """
    check_saved_model(path)
    signature = _load(import_tensorflow("savedmodel"), path)
    return FileFacts(
        _tensors(signature.structured_input_signature[1]), _tensors(signature.structured_outputs), metadata={}
    )


def _load(tf: Any, path: Path) -> Any:
    with engine_errors(f"TensorFlow cannot open {path}"), quiet_absl():
        model = tf.saved_model.load(os.fspath(path))
        signature = model.signatures.get(_SIGNATURE)
    if signature is None:
        raise DataError(f"{path} has no signature '{_SIGNATURE}', which says its input and output.")
    signature.keep_alive = model  # a signature does not hold the variables that it reads
    return signature


def _tensors(named: dict[str, Any]) -> tuple[TensorFacts, ...]:
    return tuple(tensor_facts(tensor, name) for name, tensor in sorted(named.items()))
