"""Label maps alone, without their pictures: what older commands convert."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplabv3p.data.convert.foreign import Pixels, Skipped
from deeplabv3p.data.convert.writer import check_label, write_label
from deeplabv3p.errors import DataError
from deeplabv3p.progress import Progress, silent
from deeplabv3p.spec import ClassInfo


@dataclass(frozen=True)
class LabelMap:
    """A label map to be made: the ``name`` of its file without suffix, what it is made of, for people, and what makes
    it, uint8 [H, W] with 0 to K - 1 and IGNORE."""

    name: str
    where: str
    make: Callable[[], Pixels]


def write_labels(
    maps: Sequence[LabelMap], folder: Path, classes: Sequence[ClassInfo], progress: Progress = silent
) -> tuple[list[str], list[Skipped]]:
    """Write palette PNGs to ``folder``, each whole or not at all; returns the names that were written and what was left
    out.

    Raises:
        DataError: nothing could be converted, or the folder cannot be written.
    """
    written: list[str] = []
    skipped: list[Skipped] = []
    if not maps:
        raise DataError("there is nothing to convert.")
    for index, item in enumerate(maps):
        try:
            label = item.make()
            check_label(label, len(classes), item.where)
        except DataError as error:
            skipped.append(Skipped(item.where, str(error)))
        else:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                write_label(folder / f"{item.name}.png", label, classes)
            except OSError as error:
                raise DataError(f"cannot write to {folder}: {error.strerror}. Choose another folder.") from None
            written.append(item.name)
        progress(index + 1, len(maps))
    if not written:
        raise DataError(f"no label map could be converted. {skipped[0].file}: {skipped[0].reason}")
    return written, skipped
