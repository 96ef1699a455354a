"""What became of the annotations of a source: counted while they are drawn, judged once, for every format.

A conversion that drops everything would train a model of nothing, so that is an error; to drop most is a warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo

BACKGROUND_NAMES = frozenset({"background", "_background_"})
"""Names, in lower case, of what is nothing."""

COVERED = 0.95
"""A shape is covered if so much of it ends as another label."""
_MOST = 0.5  # of the annotations, or of the pictures: more than that lost is a warning
_BLANK = 0.8  # of the pictures with nothing but background: a warning
_SHOWN = 8  # names in a sentence


@dataclass
class Tally:
    """Counts of annotations.

    Attributes:
        used: those that became pixels, by class.
        dropped: those that did not, by the reason, in the plural: "boxes (--boxes fills them)".
        covered: those of ``used`` that later shapes of other classes have all but covered, by class.
    """

    used: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    covered: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add another's counts."""
        self.used += other.used
        self.dropped += other.dropped
        self.covered += other.covered

    def as_json(self) -> dict[str, dict[str, int]]:
        """The counts as JSON's types; :meth:`from_json` reads them back."""
        return {"used": dict(self.used), "dropped": dict(self.dropped), "covered": dict(self.covered)}

    @classmethod
    def from_json(cls, value: Any) -> Tally:
        """Read what :meth:`as_json` gave. Raises ValueError for anything else."""
        counters = []
        for key in ("used", "dropped", "covered"):
            counts = value.get(key) if isinstance(value, dict) else None
            if not isinstance(counts, dict) or not all(isinstance(count, int) for count in counts.values()):
                raise ValueError(f"'{key}' holds no counts")
            counters.append(Counter(counts))
        return cls(*counters)


class Drawn(NamedTuple):
    """A label map, uint8 [H, W], and what became of the annotations that it was drawn from."""

    label: npt.NDArray[np.uint8]
    tally: Tally


@dataclass
class Outcome:
    """What a conversion came to, over all pictures that were written.

    Attributes:
        pixels: of each label, int64 [256].
        pictures: with each label, int64 [256].
        count: of the pictures; ``blank`` are those that have no class but background; ``left_out`` were not written.
        tally: the annotations, those that the reader dropped included.
    """

    pixels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    pictures: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    count: int = 0
    blank: int = 0
    left_out: int = 0
    tally: Tally = field(default_factory=Tally)

    def add(self, label: npt.NDArray[np.uint8], classes: Sequence[ClassInfo], tally: Tally | None) -> None:
        """Count a label map that was written."""
        self.add_counts(count_labels(label), classes, tally)

    def add_counts(self, counts: npt.NDArray[np.int64], classes: Sequence[ClassInfo], tally: Tally | None) -> None:
        """Count a label map by its pixels of each label, int64 [256]."""
        self.pixels += counts
        self.pictures += counts > 0
        self.count += 1
        self.blank += not sum(int(counts[label]) for label in _things(classes))
        if tally is not None:
            self.tally.add(tally)


def count_labels(label: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The pixels of each label, int64 [256]."""
    return np.bincount(label.ravel(), minlength=256).astype(np.int64)


def require_something(tally: Tally, drawable: int | None) -> None:
    """Raise DataError where a source has annotations and none of them can be drawn (``drawable`` is 0; None: nobody
    knows before drawing), before anything is written."""
    if drawable == 0 and tally.dropped.total():
        raise DataError(_nothing(tally))


def judge(outcome: Outcome, classes: Sequence[ClassInfo], *, listed: bool = True) -> tuple[list[str], list[str]]:
    """The (notes, warnings) on a conversion that came to its end; ``listed``: classes without a pixel are told.

    Raises:
        DataError: no pixel has a class, background not counting as one.
    """
    things = _things(classes)
    if not outcome.pixels[list(things)].sum():
        raise DataError(_nothing(outcome.tally))
    tally, notes, warnings = outcome.tally, list[str](), list[str]()
    dropped, all_of_them = tally.dropped.total(), tally.dropped.total() + tally.used.total()
    if dropped:
        text = f"{dropped:,} of {all_of_them:,} annotations are not used: {_reasons(tally.dropped)}"
        (warnings if dropped > _MOST * all_of_them else notes).append(text)
    if tally.covered:
        shares = ", ".join(
            f"{count:,} of {tally.used[name]:,} '{name}'"
            for name, count in sorted(tally.covered.items(), key=_by_count)
        )
        text = f"shapes that others cover to more than {100 * COVERED:.0f} %: {shares}"
        many = any(count > _MOST / 5 * tally.used[name] for name, count in tally.covered.items())
        (warnings if many else notes).append(f"{text}; --order says which shapes lie on top" if many else text)
    if outcome.left_out > _MOST * (outcome.count + outcome.left_out):
        warnings.append(f"{outcome.left_out:,} of {outcome.count + outcome.left_out:,} pictures are left out")
    if outcome.blank > _BLANK * outcome.count:
        warnings.append(f"{outcome.blank:,} of {outcome.count:,} pictures have nothing but background")
    present = [label for label in range(len(classes)) if outcome.pixels[label]]
    if len(present) == 1:
        warnings.append(
            f"one class only: every pixel that counts is '{classes[present[0]].name}', so every model scores 1.0"
        )
    empty = [item.name for label, item in enumerate(classes) if label not in present]
    if empty and listed:
        shown = _shown(empty)
        warnings.append(f"{len(empty):,} of {len(classes):,} classes have no pixel, a model cannot learn them: {shown}")
    return notes, warnings


def _things(classes: Sequence[ClassInfo]) -> list[int]:
    """The labels that are something: all but background."""
    return [label for label, item in enumerate(classes) if item.name.lower() not in BACKGROUND_NAMES]


def _nothing(tally: Tally) -> str:
    if not tally.dropped:
        return (
            "nothing but background: no annotation with a class was found in any picture. Look into the sources; a "
            "dataset like this cannot be trained on."
        )
    count = tally.dropped.total()
    return (
        f"nothing but background: of {count + tally.used.total():,} annotations {count:,} are not used: "
        f"{_reasons(tally.dropped)}. Segmentation needs outlines or masks."
    )


def _reasons(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items(), key=_by_count))


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


__all__ = ["BACKGROUND_NAMES", "IGNORE", "Drawn", "Outcome", "Tally", "count_labels", "judge", "require_something"]
