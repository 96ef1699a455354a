"""Standard output and error of a command, whose other end may be gone: a reader that has seen enough, a full disk, a
closed terminal, or none from the start."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from deeplabv3p.errors import DataError

Lost = Callable[[OSError], None]


class Stream:
    """A text stream that calls ``lost`` at its first failure. What is written after that goes nowhere, and so does what
    the interpreter flushes at its end. Everything else is as the stream inside has it."""

    def __init__(self, inner: TextIO, lost: Lost) -> None:
        self.inner, self._lost = inner, lost
        self._dead = False

    def write(self, text: str) -> int:
        """Write it, or call ``lost``."""
        self._try(lambda: self.inner.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, or call ``lost``."""
        self._try(self.inner.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _try(self, work: Callable[[], object]) -> None:
        if self._dead:
            return
        try:
            work()
        except OSError as error:
            self._dead = True
            _point_at_nothing(self.inner)
            self._lost(error)


def ends_command(error: OSError) -> None:
    """What a lost standard output does to a command whose results it takes.

    Raises:
        BrokenPipeError: nobody reads any more, which is no mistake.
        DataError: it cannot be written.
    """
    if isinstance(error, BrokenPipeError):
        raise error
    raise DataError(f"cannot write to standard output: {error.strerror}. Free some space or choose another file.")


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Standard streams that fail well: a lost standard output ends the command (:func:`ends_command`), a lost standard
    error is done without. Streams that were closed from the start take everything and keep nothing."""
    for descriptor in (0, 1, 2):  # else the next file that is opened would get the number, and what C code prints
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):  # no name or sign fails where it cannot be shown
            stream.reconfigure(errors="backslashreplace")
    out, err = sys.stdout, sys.stderr
    sys.stdout = Stream(out, ends_command)
    sys.stderr = Stream(err, lambda error: None)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


def raw(stream: TextIO) -> TextIO:
    """The stream inside a :class:`Stream`, or itself."""
    return stream.inner if isinstance(stream, Stream) else stream


def _point_at_nothing(stream: TextIO) -> None:
    """So that what lies in buffers is flushed without a second failure."""
    with contextlib.suppress(OSError, ValueError):  # no file of the system
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
