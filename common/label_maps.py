"""Label maps converted one by one, with progress and a word on what was left out: the end of several commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.console import ConsoleProgress

if TYPE_CHECKING:
    from deeplabv3p.data.convert.labels import LabelMap
    from deeplabv3p.data.convert.tally import Tally
    from deeplabv3p.spec import ClassInfo

SHOWN = 5
"""Files that were left out and are named."""


def convert_maps(
    maps: Sequence[LabelMap],
    folder: Path,
    classes: Sequence[ClassInfo],
    *,
    dropped: Tally | None = None,
    judged: bool = True,
) -> list[str]:
    """Write palette PNGs and say so; returns the names that were written. See
    :func:`deeplabv3p.data.convert.labels.write_labels`; raises DataError as it does."""
    from deeplabv3p.data.convert.labels import write_labels

    with ConsoleProgress("convert", "label maps") as progress:
        result = write_labels(maps, folder, classes, progress, dropped=dropped, judged=judged)
    for warning in result.warnings:
        print(f"warning: {warning}")
    for note in result.notes:
        print(f"note: {note}")
    for item in result.skipped[:SHOWN]:
        print(f"left out: {item.file}: {item.reason}")
    if len(result.skipped) > SHOWN:
        print(f"left out: {len(result.skipped) - SHOWN:,} more")
    print(f"written: {folder}, {len(result.names):,} label maps")
    return result.names
