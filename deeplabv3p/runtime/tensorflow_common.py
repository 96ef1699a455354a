"""What the keras, pb and savedmodel engines share: importing TensorFlow, its threads and its devices."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from deeplabv3p import documents
from deeplabv3p.errors import RuntimeMissingError, UsageError
from deeplabv3p.runtime.engine import check_threads, import_package, unknown_device
from deeplabv3p.runtime.facts import TensorFacts

_START_UP_LINE = re.compile(rb"[IW]\d{4} |WARNING: All log messages before absl")


def import_tensorflow(runtime: str) -> Any:
    """Import TensorFlow without its log lines; takes about 2 s the first time. ``runtime`` is named in the message.

    Raises:
        RuntimeMissingError: it is not installed.
    """
    use_onednn()
    with quiet_start("tensorflow"):
        return import_package("tensorflow", runtime, None)


def use_onednn() -> None:
    """Have TensorFlow, imported next, compute with oneDNN. ``TF_ENABLE_ONEDNN_OPTS`` stays as it is where it is set.

    TensorFlow does so by itself only on processors with instructions made for networks (AVX-512 VNNI and later). On the
    others, those with AVX2 alone, a training step takes about twice as long without it (benchmarks/README.md).
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


@contextlib.contextmanager
def quiet_start(package: str) -> Iterator[None]:
    """Around the first import of ``package``: no information lines of TensorFlow's libraries.

    ``TF_CPP_MIN_LOG_LEVEL`` is set to 3 unless it is set already; TensorFlow reads it while it is imported. What goes
    wrong still comes as an exception.
    """
    if package in sys.modules or "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with _without_start_up_lines():
        yield


@contextlib.contextmanager
def _without_start_up_lines() -> Iterator[None]:
    """Drop the information lines that TensorFlow's libraries write while they are loaded, before they know of any log
    level. Everything else that goes to the standard error stream is passed on afterwards."""
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # there is no standard error stream
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            caught.seek(0)
            kept = [line for line in caught if not _START_UP_LINE.match(line)]
            if kept:
                os.write(2, b"".join(kept))


@contextlib.contextmanager
def quiet_absl() -> Iterator[None]:
    """Keep what TensorFlow and Keras log through absl and their own logger from users: advice, not errors."""
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def set_tensorflow_threads(threads: int | None) -> None:
    """Set the threads of TensorFlow's operations; possible only before it has run anything. None changes nothing.

    Raises:
        UsageError: it has started with another number, or the number makes no sense.
    """
    check_threads(threads)
    if threads is None:
        return
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        now = tf.config.threading.get_intra_op_parallelism_threads()
        if now != threads:
            raise UsageError(
                f"{threads} threads were asked for, but TensorFlow has already started with "
                f"{now or 'its own choice'} in this process. Open the model in a new process."
            ) from None


def device_scope(tf: Any, runtime: str, device: str | None) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """A context manager for code that runs on ``device``: cpu, gpu or gpu:N, None for TensorFlow's choice.

    Raises:
        UsageError: another device.
        RuntimeMissingError: this machine does not have it.
    """
    if device is None:
        return contextlib.nullcontext
    kind, colon, number = device.partition(":")
    index = documents.whole_number(number if colon else "0")
    if kind not in ("cpu", "gpu") or index is None:
        raise unknown_device(runtime, device, "cpu, gpu or gpu:N")
    if index >= len(tf.config.list_physical_devices(kind.upper())):
        raise RuntimeMissingError(f"TensorFlow finds no device '{device}' on this machine.")
    return functools.partial(tf.device, f"/{kind}:{index}")


def used_device(tf: Any, device: str | None) -> str:
    """The device that code runs on: the one asked for, else the first GPU if there is one."""
    return device or ("gpu" if tf.config.list_physical_devices("GPU") else "cpu")


def tensor_facts(tensor: Any, name: str) -> TensorFacts:
    """The facts of a TensorFlow tensor or TensorSpec under this name. One of unknown rank counts as four open sides, so
    that it says nothing against a spec."""
    shape = (None,) * 4 if tensor.shape.rank is None else tuple(tensor.shape)
    return TensorFacts(name, shape, tensor.dtype.as_numpy_dtype.__name__)
