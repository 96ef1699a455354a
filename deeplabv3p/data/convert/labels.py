"""Label maps alone, without their pictures: what older commands convert."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplabv3p.data.convert.foreign import Pixels, Skipped
from deeplabv3p.data.convert.tally import Drawn, Outcome, Tally, judge
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
    make: Callable[[], Pixels | Drawn]


@dataclass(frozen=True)
class Written:
    """The ``names`` that were written, what was left out, and what there is to say about it."""

    names: list[str]
    skipped: list[Skipped]
    notes: list[str]
    warnings: list[str]


def write_labels(
    maps: Sequence[LabelMap],
    folder: Path,
    classes: Sequence[ClassInfo],
    progress: Progress = silent,
    *,
    dropped: Tally | None = None,
    judged: bool = True,
) -> Written:
    """Write palette PNGs to ``folder``, each whole or not at all.

    Args:
        maps: what to write. Two of one name must be equal; they are written once.
        folder: where; made if it is missing.
        classes: the classes, whose colours become the palette.
        progress: told about label maps.
        dropped: annotations that cannot be drawn.
        judged: whether maps with nothing but background are an error; not where the classes are numbers alone.

    Raises:
        DataError: nothing could be converted, two different maps have one name, there is nothing but background, or the
            folder cannot be written.
    """
    skipped: list[Skipped] = []
    outcome = Outcome()
    done: dict[str, tuple[str, bytes]] = {}
    if not maps:
        raise DataError("there is nothing to convert.")
    for index, item in enumerate(maps):
        try:
            made = item.make()
            label, tally = made if isinstance(made, Drawn) else (made, None)
            check_label(label, len(classes), item.where)
        except DataError as error:
            skipped.append(Skipped(item.where, str(error)))
        else:
            digest = hashlib.sha256(repr(label.shape).encode() + label.tobytes()).digest()
            where, before = done.setdefault(item.name, (item.where, digest))
            if digest != before:
                raise DataError(f"{where} and {item.where} would both become {item.name}.png. Convert them separately.")
            if where == item.where:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    write_label(folder / f"{item.name}.png", label, classes)
                except OSError as error:
                    raise DataError(f"cannot write to {folder}: {error.strerror}. Choose another folder.") from None
                outcome.add(label, classes, tally)
        progress(index + 1, len(maps))
    if not done:
        raise DataError(f"no label map could be converted. {skipped[0].file}: {skipped[0].reason}")
    outcome.tally.add(dropped or Tally())
    outcome.left_out = len(skipped)
    notes, warnings = judge(outcome, classes) if judged else ([], [])
    return Written(list(done), skipped, notes, warnings)
