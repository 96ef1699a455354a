"""Label maps converted one by one, with progress and a word on what was left out: the end of several commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.console import ConsoleProgress

if TYPE_CHECKING:
    from deeplabv3p.data.convert.labels import LabelMap
    from deeplabv3p.spec import ClassInfo

SHOWN = 5
"""Files that were left out and are named."""


def convert_maps(maps: Sequence[LabelMap], folder: Path, classes: Sequence[ClassInfo]) -> list[str]:
    """Write palette PNGs and say so; returns the names that were written. Raises DataError where there is none."""
    from deeplabv3p.data.convert.labels import write_labels

    with ConsoleProgress("convert", "label maps") as progress:
        written, skipped = write_labels(maps, folder, classes, progress)
    for item in skipped[:SHOWN]:
        print(f"left out: {item.file}: {item.reason}")
    if len(skipped) > SHOWN:
        print(f"left out: {len(skipped) - SHOWN:,} more")
    print(f"written: {folder}, {len(written):,} label maps")
    return written
