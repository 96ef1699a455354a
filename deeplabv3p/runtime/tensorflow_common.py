"""What the keras, pb and savedmodel engines share: importing TensorFlow, its threads and its devices."""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

from deeplabv3p import documents
from deeplabv3p.errors import RuntimeMissingError, UsageError
from deeplabv3p.runtime.engine import check_threads, import_package, unknown_device
from deeplabv3p.runtime.facts import TensorFacts

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_HEADER = b"WARNING: All log messages before absl"
_LOG_LINE = re.compile(rb"(?:\d{4}-\d\d-\d\d [\d:.]+: (?=. )|(?=.\d{4} ))([IWEF])")  # TensorFlow's own form, and absl's
_SEVERITIES = b"IWEF"
_STREAM = threading.RLock()


def import_tensorflow(runtime: str) -> Any:
    """Import TensorFlow without its log lines; takes about 2 s the first time. ``runtime`` is named in the message.

    Raises:
        RuntimeMissingError: it is not installed.
    """
    prepare()
    return import_package("tensorflow", runtime, None)


def prepare() -> None:
    """Have TensorFlow start quietly and with oneDNN, whoever imports it: Keras does so late on other backends.

    Its libraries tell about the processor and missing GPUs while they are loaded, whatever ``TF_CPP_MIN_LOG_LEVEL``
    says, which they read later. Such lines are dropped below that level. It is set to 3 where it is not set, and 0
    shows all of them. What goes wrong still comes as an exception.
    """
    use_onednn()
    if "tensorflow" in sys.modules or any(isinstance(finder, _QuietFinder) for finder in sys.meta_path):
        return
    os.environ.setdefault(_LEVEL, "3")
    sys.meta_path.insert(0, _QuietFinder())


def use_onednn() -> None:
    """Have TensorFlow, imported next, compute with oneDNN. ``TF_ENABLE_ONEDNN_OPTS`` stays as it is where it is set.

    TensorFlow does so by itself only on processors with instructions made for networks (AVX-512 VNNI and later). On the
    others, those with AVX2 alone, a training step takes about twice as long without it (benchmarks/README.md).
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


class _QuietFinder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow where it would be found anyway, and has it loaded inside :func:`_without_start_up_lines`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow":
            return None
        with contextlib.suppress(ValueError):  # another thread was first
            sys.meta_path.remove(self)
        found = importlib.util.find_spec(name)
        if found is not None and found.loader is not None:
            load = found.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                with _without_start_up_lines():
                    load(module)

            with contextlib.suppress(AttributeError):  # a loader written in C
                found.loader.exec_module = exec_module  # type: ignore[method-assign]
        return found


@contextlib.contextmanager
def _without_start_up_lines() -> Iterator[None]:
    """Drop the log lines below the level that go to the standard error stream in the block, past Python. Everything
    else is passed on afterwards, and where the block fails, so is all of it."""
    level = _level()
    with _STREAM, contextlib.ExitStack() as stack:
        try:
            caught = stack.enter_context(tempfile.TemporaryFile())
            saved = os.dup(2)
        except OSError:  # there is no standard error stream, or no place to keep what it says
            level = 0
        if level == 0:
            yield
            return
        stack.callback(os.close, saved)
        _flush()
        os.dup2(caught.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            _flush()
            os.dup2(saved, 2)
            caught.seek(0)
            lines = caught.readlines()
            with contextlib.suppress(OSError):  # nobody reads it any more
                os.write(2, b"".join(lines if failed else kept_lines(lines, level)))


def kept_lines(lines: Iterable[bytes], level: int) -> list[bytes]:
    """The lines of TensorFlow's standard error stream that ``TF_CPP_MIN_LOG_LEVEL`` wants: log lines of that severity
    (0 info, 1 warning, 2 error) or above and all that are no log lines, without its remark on what log lines are."""
    kept = []
    for line in lines:
        found = _LOG_LINE.match(line)
        if line.startswith(_HEADER) or (found and _SEVERITIES.index(found[1]) < level):
            continue
        kept.append(line)
    return kept


def _level() -> int:
    try:
        return int(os.environ.get(_LEVEL, "3"))
    except ValueError:
        return 0  # as TensorFlow reads it


def _flush() -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # it is closed
            sys.stderr.flush()


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
