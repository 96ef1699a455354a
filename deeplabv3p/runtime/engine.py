"""What all engines but Keras have in common: importing a package that may be missing, naming devices, and a runtime
around one call of the engine."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import DataError, DeeplabError, RuntimeMissingError, UsageError
from deeplabv3p.runtime.keras_safety import first_line
from deeplabv3p.spec import ModelSpec

Call = Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]]

_STREAMS = threading.RLock()


class EngineRuntime:
    """An opened model file as a runtime. ``batch`` is the batch size that the file is fixed to, None for any: other
    batches are then run in parts of that size, the last one filled up with its last picture."""

    def __init__(self, spec: ModelSpec, name: str, device: str, call: Call, *, batch: int | None, where: Path) -> None:
        self.spec = spec
        self.name = name
        self.device = device
        self._call: Call | None = call
        self._batch = batch
        self._where = where

    def run(self, batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """See :meth:`deeplabv3p.runtime.Runtime.run`.

        Raises:
            DataError: the engine cannot run the model on this batch.
        """
        if self._call is None:
            raise RuntimeError("the runtime is closed")
        size = self._batch
        if size is None or len(batch) == size:
            return self._run(batch)
        parts = []
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            missing = size - len(part)
            whole = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
            parts.append(self._run(whole)[: len(part)])
        return np.concatenate(parts)

    def _run(self, batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        assert self._call is not None
        with engine_errors(f"{self.name} cannot run {self._where} on a batch of {list(batch.shape)}"):
            return self._call(batch)

    def close(self) -> None:
        """Let go of the model."""
        self._call = None


@contextlib.contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Turn whatever an engine raises in the block into a DataError of one line, which begins with ``what``."""
    try:
        yield
    except DeeplabError:
        raise
    except Exception as error:  # engines raise whatever a damaged file leads to
        raise DataError(f"{what}: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    """The first line of an engine's message. OpenCV names a line of its own sources there, and keeps what happened in a
    field of the exception."""
    inner = getattr(error, "err", None)
    told = inner.lstrip("> \n") if isinstance(inner, str) else ""
    return first_line(RuntimeError(told)) if told else first_line(error)


def import_package(package: str, runtime: str, extra: str | None) -> Any:
    """Import the package of an engine; ONNX Runtime and OpenVINO have functions of their own for it (``onnx_import``,
    ``openvino_import``), which keep them silent.

    Args:
        package: what to import.
        runtime: the runtime's name, for the message.
        extra: the pip extra that brings it, None for one that every installation has.

    Raises:
        RuntimeMissingError: it is not installed, or does not load.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = package.partition(".")[0]
        target = "deeplabv3p" if extra is None else f"deeplabv3p[{extra}]"
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == name
        state = "is not installed" if missing else f"does not load ({first_line(error)})"
        raise RuntimeMissingError(
            f"the {runtime} runtime needs {name}, which {state}: pip install '{target}'"
        ) from None


def check_threads(threads: int | None) -> None:
    """Raise UsageError unless ``threads`` is None or at least 1."""
    if threads is not None and threads < 1:
        raise UsageError(f"the number of threads is {threads}, expected 1 or more.")


def unknown_device(runtime: str, device: str, known: str) -> UsageError:
    """The error for a device that a runtime does not know."""
    return UsageError(f"the {runtime} runtime has no device '{device}'. Choose {known}.")


def version_of(text: str) -> str:
    """The first two parts of a version: ``1.31.1`` → ``1.31``."""
    return ".".join(text.split(".")[:2])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what an engine's libraries write to the standard streams, past Python, from users. What goes wrong comes as
    an exception. One thread at a time: the streams belong to the process."""
    with _STREAMS, contextlib.ExitStack() as stack:
        sys.stdout.flush()
        sys.stderr.flush()
        caught = stack.enter_context(tempfile.TemporaryFile())
        for descriptor in (1, 2):
            try:
                saved = os.dup(descriptor)
            except OSError:  # there is no such stream
                continue
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, descriptor)
            os.dup2(caught.fileno(), descriptor)
        yield
