"""Progress on the console: one live line on a terminal, a plain line every few seconds on a pipe or in a log.

It goes to stderr, so that stdout holds results only.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TextIO

PLAIN_INTERVAL_S = 5.0  # between two lines on a pipe
RATE_WINDOW_S = 30.0  # rate and ETA follow the recent past: the first units pay for tracing and cold caches

Info = Mapping[str, float | str]
"""Figures by name: a whole number is a count, a text is shown as it is."""


class ConsoleProgress:
    """A ``deeplabv3p.progress.Progress`` that shows what it is told, and a context manager around the work.

        with ConsoleProgress("evaluate", "pictures") as progress:
            evaluate(runtime, dataset, progress=progress)

    ``unit`` is the plural of what is counted. ``total`` 0 means unknown: no bar and no ETA. When the block ends well,
    the final line gives count, time, average rate and last info. A ``done`` below the one before starts a new count.
    """

    def __init__(
        self, title: str, unit: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._title, self._unit, self._clock = title, unit, clock
        self._stream = stream or sys.stderr
        self._live: _LiveLine | None = None
        self._done, self._total = 0, 0
        self._info: Info = {}
        self._start = self._last_line = clock()
        self._recent: deque[tuple[float, int]] = deque()

    def __enter__(self) -> Self:
        self._start = self._last_line = self._clock()
        self._recent = deque([(self._start, 0)])
        if self._stream.isatty():
            self._live = _LiveLine(self._title, self._stream)
        return self

    def __call__(self, done: int, total: int, info: Info | None = None) -> None:
        """Show that ``done`` of ``total`` units are finished, and ``info`` beside it."""
        now = self._clock()
        # The first unit pays for tracing and cold caches: rates begin behind it.
        if done < self._done or (done == 1 and not self._done):
            self._recent = deque([(now, done)])
        self._done, self._total, self._info = done, total, info or {}
        self._recent.append((now, done))
        while len(self._recent) > 2 and self._recent[0][0] < now - RATE_WINDOW_S:
            self._recent.popleft()
        if self._live is not None:
            self._live.update(done, total, ", ".join(self._figures()))
        elif now - self._last_line >= PLAIN_INTERVAL_S:
            self._last_line = now
            self._print(self._figures())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if kind is None:
            rate = rate_text(self._done / max(self.elapsed, 1e-9), self._unit)
            self._print([self._count(), duration_text(self.elapsed), rate, *_info_texts(self._info)])

    @property
    def elapsed(self) -> float:
        """Seconds since the block was entered."""
        return self._clock() - self._start

    def _count(self) -> str:
        return f"{self._done}/{self._total} {self._unit}" if self._total else f"{self._done} {self._unit}"

    def _figures(self) -> list[str]:
        """Count, recent rate, time left, info."""
        (first, begin), (last, end) = self._recent[0], self._recent[-1]
        parts = [self._count()]
        if end > begin and last > first:
            rate = (end - begin) / (last - first)
            parts.append(rate_text(rate, self._unit))
            if self._total > self._done:
                parts.append(f"{duration_text((self._total - self._done) / rate)} left")
        return [*parts, *_info_texts(self._info)]

    def _print(self, figures: list[str]) -> None:
        print(f"{self._title}: {', '.join(figures)}", file=self._stream, flush=True)


def rate_text(rate: float, unit: str) -> str:
    """Units a second, or seconds a unit where that reads better: ``12.3 pictures/s``, ``2.50 s/step``."""
    if 0 < rate < 1:
        return f"{1 / rate:.2f} s/{unit.removesuffix('s')}"
    return f"{rate:.1f} {unit}/s"


def duration_text(seconds: float) -> str:
    """``0.4 s``, ``42 s``, ``3:05 min``, ``1:02:03 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02} h" if hours else f"{minute}:{second:02} min"


def _info_texts(info: Info) -> list[str]:
    return [f"{name} {value if isinstance(value, str) else _figure(value)}" for name, value in info.items()]


def _figure(value: float) -> str:
    if isinstance(value, int):  # a count
        return f"{value:,}"
    return f"{value:.3f}" if value == 0 or 0.001 <= abs(value) < 1000 else f"{value:.3g}"


class _LiveLine:
    """A line that rich redraws in place and removes at the end. Rich is imported here: a pipe never pays for it."""

    def __init__(self, title: str, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        columns: list[Any] = [SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=24)]
        columns.append(TextColumn("{task.fields[text]}", markup=False))
        # Text printed meanwhile goes above the line, but only where stdout is the terminal: a file gets it unchanged.
        self._progress = Progress(
            *columns, console=Console(file=stream), transient=True, redirect_stdout=sys.stdout.isatty()
        )
        self._task = self._progress.add_task(title, total=None, text="")
        self._progress.start()

    def update(self, done: int, total: int, text: str) -> None:
        self._progress.update(self._task, completed=done, total=total or None, text=text)

    def stop(self) -> None:
        self._progress.stop()
