"""How long-running library functions report: they call back, they never print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Called after each unit of work. ``done`` of ``total`` units are finished; ``info`` holds figures worth showing
    (already in their final unit, such as ``{"mIoU": 0.71}``)."""

    def __call__(self, done: int, total: int, info: Mapping[str, float | str] | None = None) -> None: ...


def silent(done: int, total: int, info: Mapping[str, float | str] | None = None) -> None:
    """The default: report nothing."""
