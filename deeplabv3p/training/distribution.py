"""A run on several devices of one host, or on several hosts.

The batch is the same wherever it is computed: each device takes its rows of the one global batch, batch norm sees all
of it, and gradients are summed. On TensorFlow that is ``tf.distribute.MirroredStrategy`` over the devices of one
process, on JAX ``keras.distribution.DataParallel`` over the devices of all processes, one process a host.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from deeplabv3p import documents, files
from deeplabv3p.errors import DataError, DeeplabError, UsageError
from deeplabv3p.training.config import DeviceOptions, TrainConfig

CPU_DEVICES = "DEEPLABV3P_CPU_DEVICES"  # environment variable: as how many devices a CPU shall appear, for tests
AGREE_STEPS = 10  # processes ask each other whether to stop at every so many steps: it takes milliseconds
COORDINATOR_SECONDS = 300.0  # how long to wait for process 0

Batches = Iterator[tuple[Any, Any]]


class Distribution:
    """One device: what there is to share stays here. The others are made by :func:`open_distribution`.

    ``shard`` is (which process this is, of how many); the process whose ``is_chief`` is true writes the files.
    """

    shard: tuple[int, int] = (0, 1)
    devices: int = 1  # of all processes together

    @property
    def is_chief(self) -> bool:
        """Whether this process writes checkpoints and the log."""
        return self.shard[0] == 0

    def check(self, config: TrainConfig) -> None:
        """Raises UsageError if a run of ``config`` is not possible on these devices: the global batch has to divide
        evenly among them."""
        if config.batch_size % self.devices:
            raise UsageError(
                f"--batch_size {config.batch_size} is for all {self.devices} devices together and does not divide by "
                f"them. Use {max(1, config.batch_size // self.devices) * self.devices}, for instance."
            )

    def scope(self) -> AbstractContextManager[Any]:
        """The context in which the network that learns and its optimizer are made, and ``fit`` is called. The network
        that is scored and saved is made outside of it: it lies on one device of each process."""
        return contextlib.nullcontext()

    def loss(self, loss: keras.losses.Loss) -> keras.losses.Loss:
        """``loss``, a scalar of a whole batch, as a model in the scope is to be compiled with it."""
        return loss

    def source(self, start: Callable[[], Batches], batch_size: int, size_hw: tuple[int, int]) -> Any:
        """What ``fit`` is to be given. ``start`` begins the batches anew: images float32 [b, H, W, 3] and labels uint8
        [b, H, W], this process's rows (:attr:`shard`) of global batches of ``batch_size``."""
        return start()

    def agree(self, wish: bool, step: int) -> bool:
        """Whether any process has a ``wish`` at this step. All call it with the same steps; several processes are only
        asked at every tenth."""
        return wish

    def total(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The sum of all processes' ``counts``, of the same shape everywhere."""
        return counts

    def same(self, identity: Callable[[], dict[str, bytes]]) -> None:
        """Raises DataError that names what of ``identity()`` is not the same in every process."""

    def run_folder(self, run: Callable[[], Path], names: Sequence[str]) -> AbstractContextManager[Path]:
        """The folder that :func:`deeplabv3p.training.fit.fit` takes: the chief's ``run()``, which is not asked
        elsewhere. The other processes get a temporary one with copies of its files ``names``: a disk that all hosts
        share is not needed.

        Raises DataError everywhere if one of the files cannot be read.
        """
        return contextlib.nullcontext(run())

    def check_peers(self, error: Exception) -> None:
        """Raises DeeplabError if ``error`` means that another process is gone."""

    def close(self) -> None:
        """Part from the other processes, which call it, too. A process that ends for an error of its own must not: the
        others would wait for it. It ends by ``os._exit``, and they end with the error of :meth:`check_peers`."""


class _Mirrored(Distribution):
    """The devices of one process, on TensorFlow."""

    def __init__(self, devices: list[str]) -> None:
        import tensorflow as tf

        self.devices = len(devices)
        self._strategy = tf.distribute.MirroredStrategy(devices)

    def check(self, config: TrainConfig) -> None:
        super().check(config)
        if config.accumulate_steps > 1:  # Keras updates the weights inside a condition, where devices cannot meet
            raise UsageError(
                "--accumulate_steps does not work on several devices with TensorFlow. Set KERAS_BACKEND=jax, or leave "
                "it out: the batch of all devices together may be larger."
            )

    def scope(self) -> AbstractContextManager[Any]:
        scope: AbstractContextManager[Any] = self._strategy.scope()
        return scope

    def loss(self, loss: keras.losses.Loss) -> keras.losses.Loss:
        return _MeanOfDevices(loss, self.devices)

    def source(self, start: Callable[[], Batches], batch_size: int, size_hw: tuple[int, int]) -> Any:
        """A ``tf.data`` dataset that can be begun twice: under a strategy, Keras takes a batch to look at it, throws it
        and what was prefetched away, and begins again. From an iterator those batches would be lost."""
        import tensorflow as tf

        images = tf.TensorSpec((batch_size, *size_hw, 3), tf.float32)
        return tf.data.Dataset.from_generator(
            start, output_signature=(images, tf.TensorSpec((batch_size, *size_hw), tf.uint8))
        )


class _MeanOfDevices(keras.losses.Loss):
    """The share of one of ``devices`` in the mean of their losses. Keras sums the gradients of the devices, but divides
    by their number only a loss that it has itself reduced, and that of a segmentation is a scalar already."""

    def __init__(self, loss: keras.losses.Loss, devices: int) -> None:
        super().__init__(name=loss.name, reduction=None, dtype="float32")
        self.inner, self.devices = loss, devices

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.inner.call(y_true, y_pred) / self.devices


class _DataParallel(Distribution):
    """The devices of one process or of several, on JAX. XLA computes over global batches: the loss and batch norm, and
    dropout, too, are those of one device."""

    def __init__(self, devices: list[Any], shard: tuple[int, int]) -> None:
        self.devices, self.shard = len(devices), shard
        self._parallel = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)

    def scope(self) -> AbstractContextManager[Any]:
        scope: AbstractContextManager[Any] = self._parallel.scope()
        return scope


class _Processes(_DataParallel):
    """Several processes that are connected by ``jax.distributed``."""

    def agree(self, wish: bool, step: int) -> bool:
        return step % AGREE_STEPS == 0 and bool(self._gather(np.asarray(wish)).any())

    def total(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        # JAX has no 64-bit integers unless it is told to for everything: bytes go over the wire.
        rows = self._gather(np.frombuffer(counts.tobytes(), np.uint8))
        return np.asarray(np.stack([np.frombuffer(row.tobytes(), np.int64) for row in rows]).sum(0)).reshape(
            counts.shape
        )

    def same(self, identity: Callable[[], dict[str, bytes]]) -> None:
        values = identity()
        digests = b"".join(hashlib.sha256(value).digest() for value in values.values())
        rows = self._gather(np.frombuffer(digests, np.uint8))
        for process, row in enumerate(rows):
            differing = (row != rows[0]).reshape(len(values), -1).any(1)
            names = [name for name, differs in zip(values, differing, strict=True) if differs]
            if names:
                raise DataError(
                    f"process {process} and process 0 differ in {', '.join(names)}. All hosts need the same command "
                    "but for --process_id, the same data and the same weights."
                )

    @contextlib.contextmanager
    def run_folder(self, run: Callable[[], Path], names: Sequence[str]) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as temporary:
            folder = run() if self.is_chief else Path(temporary)
            for name in names:
                data = self._share(_read(folder / name) if self.is_chief else b"")
                if not data:
                    raise DataError(
                        f"process 0 cannot read {name} in the folder of the run that all are to go on with."
                    )
                if not self.is_chief:
                    files.write_bytes(folder / name, data)
            yield folder

    def _share(self, data: bytes) -> bytes:
        """The chief's ``data``, in every process."""
        from jax.experimental import multihost_utils

        length = int(multihost_utils.broadcast_one_to_all(np.asarray(len(data), np.int32)))
        # Everybody has to hand in something of the chief's size; only the chief's counts.
        own = np.frombuffer(data, np.uint8) if self.is_chief else np.zeros(length, np.uint8)
        return bytes(np.asarray(multihost_utils.broadcast_one_to_all(own), np.uint8).tobytes())

    def check_peers(self, error: Exception) -> None:
        signs = ("Gloo", "NCCL", "coordination service", "CoordinationService", "heartbeat")
        if any(sign in str(error) for sign in signs):
            raise DeeplabError(
                f"process {self.shard[0]} cannot go on: another process of the run is gone. Its own messages say why. "
                f"Then start all again with --resume. ({str(error).splitlines()[0][:200]})"
            ) from error

    def close(self) -> None:
        jax: Any = import_module("jax")
        jax.distributed.shutdown()

    @staticmethod
    def _gather(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """[processes, *shape]: every process's ``values``, whose shape and type are the same everywhere."""
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(values))


def open_distribution(options: DeviceOptions, backend: str) -> Distribution:
    """Find the devices and, for several processes, the other processes; all of them must call this.

    To be called before anything is computed. ``backend`` is Keras' backend. The environment variable
    ``DEEPLABV3P_CPU_DEVICES=N`` makes a CPU appear as N devices: nothing gets faster by that, but a distributed run can
    be tried.

    Raises:
        UsageError: there are fewer devices, the options do not fit together, the backend cannot do it, or process 0
            does not answer.
    """
    if options.num_processes > 1:
        return _open_processes(options, backend)
    if options.process_id or options.coordinator:
        raise UsageError("--process_id and --coordinator are for several processes. Say how many by --num_processes.")
    if options.gpu_num == 1:
        return Distribution()
    if backend == "tensorflow":
        return _Mirrored(_tensorflow_devices(options.gpu_num))
    if backend != "jax":
        raise UsageError(f"Keras' backend {backend} trains on one device. Set KERAS_BACKEND to tensorflow or jax.")
    _split_jax_cpu()
    return _DataParallel(_jax_devices(options.gpu_num), (0, 1))


def _open_processes(options: DeviceOptions, backend: str) -> Distribution:
    count, own = options.num_processes, options.process_id
    if backend != "jax":
        reason = "Keras' fit under TensorFlow's MultiWorkerMirroredStrategy fails" if backend == "tensorflow" else ""
        raise UsageError(
            f"--num_processes {count} needs the JAX backend: set KERAS_BACKEND=jax on every host"
            + (f" ({reason}, see docs/scaling.md)." if reason else ".")
        )
    if not 0 <= own < count:
        raise UsageError(f"--process_id {own} is not one of the {count} processes, 0 to {count - 1}.")
    if not options.coordinator:
        raise UsageError("--num_processes needs --coordinator HOST:PORT, the address of process 0, on every host.")
    host, _, port = options.coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UsageError(f"--coordinator {options.coordinator} is no address like 10.0.0.1:12345.")
    if own:
        _wait_for(host, int(port))  # JAX would abort the process if nobody answers
    jax: Any = import_module("jax")
    _split_jax_cpu()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(options.coordinator, count, own)
    return _Processes(_jax_devices(options.gpu_num), (own, count))


def _wait_for(host: str, port: int, seconds: float = COORDINATOR_SECONDS) -> None:
    """Until the coordinator answers. Raises UsageError when it has not after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise UsageError(
                    f"process 0 has not answered at {host}:{port} for {seconds:.0f} s ({error}). Start it, and check "
                    "the address and the firewall."
                ) from None
            time.sleep(0.2)
        else:
            return


def _read(path: Path) -> bytes:
    """Its content; nothing if it cannot be read, which all processes have to learn before one of them ends."""
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def _cpu_devices() -> int:
    text = os.environ.get(CPU_DEVICES, "1")
    number = documents.whole_number(text)
    if number is None or not 1 <= number <= 64:
        raise UsageError(f"{CPU_DEVICES} is {documents.shown(text)}, expected 1 to 64.")
    return number


def _tensorflow_devices(count: int) -> list[str]:
    """Names of the first ``count`` devices, GPUs if there are any."""
    import tensorflow as tf

    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if kind == "CPU" and _cpu_devices() > 1:
        first = tf.config.list_physical_devices("CPU")[0]
        with contextlib.suppress(RuntimeError):  # TensorFlow has started: then it is too late, and the count tells
            tf.config.set_logical_device_configuration(first, [tf.config.LogicalDeviceConfiguration()] * _cpu_devices())
    found = [device.name for device in tf.config.list_logical_devices(kind)]
    _check_count(count, len(found), kind)
    return found[:count]


def _split_jax_cpu() -> None:
    jax: Any = import_module("jax")
    if _cpu_devices() > 1:
        with contextlib.suppress(RuntimeError):  # as above
            jax.config.update("jax_num_cpu_devices", _cpu_devices())


def _jax_devices(count: int) -> list[Any]:
    """The first ``count`` devices of each process, in the order of the processes, which is that of the batch's rows."""
    import jax

    found: dict[int, list[Any]] = {}
    for device in jax.devices():
        found.setdefault(device.process_index, []).append(device)
    _check_count(count, min(map(len, found.values())), jax.default_backend().upper())
    return [device for process in sorted(found) for device in found[process][:count]]


def _check_count(wanted: int, found: int, kind: str) -> None:
    if found < wanted:
        hint = f" To try several on a CPU, set {CPU_DEVICES}={wanted}: nothing gets faster." if kind == "CPU" else ""
        raise UsageError(f"--gpu_num {wanted}: there is only {found} device of kind {kind} here.{hint}")
