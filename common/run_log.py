"""What a run says: on the console as long as there is one, and always in ``train.log`` in its folder."""

from __future__ import annotations

import contextlib
import datetime
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from common import streams
from deeplabv3p.errors import DeeplabError

LOG_NAME = "train.log"


class RunLog:
    """Lines with the time they were said at. Before :meth:`open` they wait; without it they are forgotten.

    Attributes:
        console: standard error that does without a reader, and is not logged; for progress.
    """

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._file: TextIO | None = None
        self._out = self._steady(sys.stdout, "standard output")
        self.console: Any = self._steady(sys.stderr, "standard error")

    def open(self, run: Path) -> None:
        """Write into the folder from now on, behind what is there. A folder that takes no log is trained in without."""
        with contextlib.suppress(OSError):
            self._file = (run / LOG_NAME).open("a", encoding="utf-8", errors="backslashreplace")
        waiting, self._waiting = self._waiting, []
        for line in waiting:
            self._write(line)

    def add(self, text: str) -> None:
        """Log a text that is not for the console."""
        now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
        for line in text.splitlines():
            self._write(f"{now} {line}\n")

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Log what is printed to standard output and error. A part of the block whose output something else takes, such
        as a live display, may listen again: nothing is logged twice."""
        before = sys.stdout, sys.stderr
        sys.stdout = _Listened.to(sys.stdout, self._out, self)
        sys.stderr = _Listened.to(sys.stderr, self.console, self)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """:meth:`listening`, and an error that ends the block is logged; then the file is closed."""
        try:
            with self.listening():
                yield
                sys.stdout.flush()  # while a failure is still no failure of the run
        except (DeeplabError, KeyboardInterrupt) as error:
            self.add(f"ended: {error}" if isinstance(error, DeeplabError) else "ended: interrupted")
            raise
        except Exception:
            self.add(traceback.format_exc())
            raise
        finally:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _steady(self, stream: TextIO, name: str) -> streams.Stream:
        def lost(error: OSError) -> None:
            self.add(f"{name} is lost ({error.strerror}): the run goes on, and what it says is in this file alone")

        return streams.Stream(streams.raw(stream), lost)

    def _write(self, line: str) -> None:
        if self._file is None:
            self._waiting.append(line)
            return
        with contextlib.suppress(OSError, ValueError):  # a full disk is told by what has to be written
            self._file.write(line)
            self._file.flush()


class _Listened:
    """A stream whose whole lines are logged, too."""

    def __init__(self, stream: Any, log: RunLog) -> None:
        self._stream, self._log, self._line = stream, log, ""

    @classmethod
    def to(cls, stream: Any, steady: Any, log: RunLog) -> Any:
        """The stream, listened to: ``steady`` in the place of a plain one, a display's own as it is."""
        if isinstance(stream, cls):
            return stream
        return cls(steady if streams.raw(stream) is steady.inner else stream, log)

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._log.add(line)
        self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
