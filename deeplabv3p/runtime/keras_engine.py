"""The keras runtime: opens ``.keras`` and ``.h5`` files without running anything they hold, and writes them.

Importing this file is cheap; Keras and its backend are imported when a model is opened or saved.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabv3p import documents
from deeplabv3p.errors import DataError, RuntimeMissingError, UsageError
from deeplabv3p.files import atomic_path
from deeplabv3p.runtime.artifact import EMBEDDED_SPEC
from deeplabv3p.runtime.engine import check_threads, engine_errors, import_package, unknown_device, version_of
from deeplabv3p.runtime.facts import FileFacts, TensorFacts
from deeplabv3p.runtime.fit import check_fit
from deeplabv3p.runtime.keras_half import store_half
from deeplabv3p.runtime.keras_portable import make_portable
from deeplabv3p.runtime.keras_safety import check_config, check_model_file, first_line
from deeplabv3p.runtime.tensorflow_common import prepare, quiet_absl, set_tensorflow_threads
from deeplabv3p.spec import ModelSpec, OutputKind, sidecar_path

Forward = Callable[[npt.NDArray[np.generic]], Any]


class KerasRuntime:
    """A Keras model as a runtime. Later changes of the model's weights are seen by the next run."""

    def __init__(self, model: Any, spec: ModelSpec, device: str | None = None, source: str = "the model") -> None:
        """Wrap a built model with one picture input. ``source`` names it in messages.

        Raises:
            DataError: its input size, channels or classes are not those of the spec.
            UsageError: ``device`` is not cpu, gpu or gpu:N.
            RuntimeMissingError: there is no such device.
        """
        keras = import_keras()
        _check_fit(model, spec, source)
        self.spec = spec
        self._source = source
        self.name = f"keras {version_of(keras.__version__)}"
        self.device = f"{keras.backend.backend()} {device or _default_device(keras)}"
        self._scope = _device_scope(keras, device)
        with self._scope():
            self._call: Forward | None = _compiled(keras, model)

    def run(self, batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """See :meth:`deeplabv3p.runtime.Runtime.run`."""
        if self._call is None:
            raise RuntimeError("the runtime is closed")
        with self._scope(), engine_errors(f"{self.name} cannot run {self._source} on a batch of {list(batch.shape)}"):
            return np.asarray(self._call(batch))

    def close(self) -> None:
        """Let go of the model."""
        self._call = None


def open_model(path: Path, spec: ModelSpec, *, device: str | None = None, threads: int | None = None) -> KerasRuntime:
    """Open a ``.keras`` or ``.h5`` file; see :func:`deeplabv3p.runtime.artifact.open_artifact` for the errors."""
    check_model_file(path)  # before Keras is imported: a bad file is refused at once
    keras = import_keras()
    if threads is not None:
        set_threads(keras, threads)
    with _device_scope(keras, device)():
        model = load_model(path)
    return KerasRuntime(model, spec, device, str(path))


def inspect(path: Path) -> FileFacts:
    """The facts of a Keras file; it is loaded for them. Raises as :func:`load_model`."""
    model = load_model(path)
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    last = model.layers[-1] if model.layers else None
    activation = getattr(getattr(last, "activation", None), "__name__", "")
    softmax = activation == "softmax" or type(last).__name__ == "Softmax"
    kind: OutputKind = "probabilities" if softmax else "logits"
    return FileFacts(tuple(map(_facts, inputs)), tuple(map(_facts, outputs)), metadata={}, kind=kind)


def load_model(path: str | os.PathLike[str]) -> Any:
    """Read a Keras model, not compiled, after :func:`check_model_file`.

    Raises:
        DataError: the file is not a model, is damaged, holds weights only, or is not safe to open.
    """
    check_model_file(path)
    keras = import_keras()
    operations = _operations(keras) if Path(path).suffix == ".h5" else None
    try:
        return keras.saving.load_model(os.fspath(path), operations, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever a damaged file leads to
        raise DataError(f"Keras cannot open {path}: {first_line(error)}") from None


def save_model(model: Any, spec: ModelSpec, path: str | os.PathLike[str], *, half: bool = False) -> ModelSpec:
    """Write a model as ``.keras`` (with the spec inside) or ``.h5``, and its spec beside it, both atomically.

    Older releases of Keras open the file, too (:mod:`deeplabv3p.runtime.keras_portable`).
    An empty ``provenance.weights_sha256`` is filled with :func:`weights_sha256`. With ``half``, the kernels are stored
    in half precision (``.keras`` only): round them first, see :func:`deeplabv3p.runtime.keras_half.round_kernels`.

    Returns:
        The spec as written.

    Raises:
        DataError: the location cannot be written, or the model and the spec do not fit each other.
        UsageError: the name ends in something else.
    """
    path = Path(path)
    if path.suffix not in ((".keras",) if half else (".keras", ".h5")):
        kinds = ".keras" if half else ".keras or .h5"
        raise UsageError(f"cannot save a Keras model as {path}. Use a name that ends in {kinds}.")
    _check_fit(model, spec, str(path))
    check_config(json.loads(model.to_json()), path)
    if not spec.provenance.weights_sha256:
        spec = spec.replace(provenance={"weights_sha256": weights_sha256(model)})
    # Both temporary files are complete before either is renamed, so that the pair changes together.
    with atomic_path(sidecar_path(path)) as sidecar, atomic_path(path) as temporary:
        sidecar.write_text(spec.to_json(), encoding="utf-8")
        with quiet_absl():
            _write(model, temporary)
        if half:
            store_half(temporary)
        if path.suffix == ".keras":
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.writestr(EMBEDDED_SPEC, spec.to_json())
    return spec


def _operations(keras: Any) -> dict[str, type]:
    """Keras' operations on tensors, such as Resize, by name. A .h5 file names them without their module, and Keras then
    looks among the layers alone. Those named as a layer (Add) stay the layer."""
    from keras.src.ops import image, nn, numpy

    return {
        name: value
        for module in (image, nn, numpy)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, keras.Operation) and not hasattr(keras.layers, name)
    }


def _write(model: Any, path: Path) -> None:
    try:
        model.save(path)
        make_portable(path)
    except RuntimeError as error:  # how h5py reports a full disk when it closes the file
        raise OSError(first_line(error)) from error


def weights_sha256(model: Any) -> str:
    """SHA-256 over a model's weights (without optimizer and random-generator state), as 64 hexadecimal digits.

    The weights go in by rising path (``layer/kernel``): the path in UTF-8, a zero byte, the type and shape as in
    ``float32[3, 3, 8]``, a zero byte, the values little-endian in C order.
    """
    digest = hashlib.sha256()
    for weight in sorted(model.weights, key=lambda weight: str(weight.path)):
        values = np.ascontiguousarray(weight.numpy())
        digest.update(f"{weight.path}\0{values.dtype.name}{list(values.shape)}\0".encode())
        digest.update(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def import_keras() -> Any:
    """Import Keras and its backend without their log lines; takes about 2 s the first time.

    Raises:
        RuntimeMissingError: it is not installed.
    """
    prepare()
    return import_package("keras", "keras", None)


def set_threads(keras: Any, threads: int) -> None:
    """Set the threads of the engine's operations; possible only before it has run anything.

    Raises:
        UsageError: the engine has started with another number, or cannot be told.
    """
    check_threads(threads)
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UsageError(f"the number of threads cannot be set for Keras on {backend}. Leave it out.")
    set_tensorflow_threads(threads)


def _default_device(keras: Any) -> str:
    return str(keras.distribution.list_devices()[0]).partition(":")[0]


def _device_scope(keras: Any, device: str | None) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """A context manager for code that runs on ``device``, after a look whether there is one."""
    if device is None:
        return contextlib.nullcontext
    kind, _, number = device.partition(":")
    index = documents.whole_number(number or "0")
    if kind not in ("cpu", "gpu") or index is None or device.endswith(":"):
        raise unknown_device("keras", device, "cpu, gpu or gpu:N")
    try:
        found = keras.distribution.list_devices(kind)
    except RuntimeError:  # JAX, where it was installed without such devices
        found = []
    if index >= len(found):
        raise RuntimeMissingError(f"Keras on {keras.backend.backend()} finds no device '{device}' on this machine.")
    return functools.partial(keras.device, f"{kind}:{index}")


def _compiled(keras: Any, model: Any) -> Forward:
    """The forward pass as one compiled function: TensorFlow traces it here, once, JAX at the first run of a shape."""

    def first(outputs: Any) -> Any:
        return keras.tree.flatten(outputs)[0]

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        picture = model.inputs[0]
        signature = tf.TensorSpec([None, *picture.shape[1:]], picture.dtype)
        traced = tf.function(lambda batch: first(model(batch, training=False))).get_concrete_function(signature)
        return lambda batch: traced(tf.convert_to_tensor(batch))
    if backend == "jax":
        import jax

        def stateless(trainable: Any, fixed: Any, batch: Any) -> Any:
            return first(model.stateless_call(trainable, fixed, batch, training=False)[0])

        compiled = jax.jit(stateless)
        return lambda batch: compiled(
            [variable.value for variable in model.trainable_variables],
            [variable.value for variable in model.non_trainable_variables],
            batch,
        )
    raise UsageError(f"the keras runtime works on the tensorflow and jax backends, not on {backend}.")


def _check_fit(model: Any, spec: ModelSpec, where: str) -> None:
    """Raise DataError unless the model's input and output are what the spec says."""
    inputs = getattr(model, "inputs", None) or []  # a Sequential that was never built has none
    if len(inputs) != 1:
        raise DataError(f"{where} does not take one batch of pictures.")
    check_fit(_facts(inputs[0]), _facts(model.outputs[0]), spec, where)


def _facts(tensor: Any) -> TensorFacts:
    return TensorFacts(tensor.name, tuple(tensor.shape), tensor.dtype)
