"""Which fonts of this machine have the letters of a text: for charts, whose own font has no Chinese, Arabic or Hindi.

Matplotlib is imported when this is first asked; it knows the fonts of the system.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

BASE = "DejaVu Sans"
"""Matplotlib's own font: Latin, Greek, Cyrillic and much else."""

# Fonts that claim every letter and draw boxes, and those of TeX, whose letters lie elsewhere.
_STAND_IN = re.compile(r"\.?Last ?Resort|cm[a-z]+10$")


def families(texts: Iterable[str]) -> list[str]:
    """The fonts for these texts, the base first; Matplotlib takes each letter from the first that has it."""
    found = (family_of(letter) for letter in sorted({letter for text in texts for letter in text}))
    return list(dict.fromkeys([BASE, *(family for family in found if family is not None)]))


def can_write(text: str) -> bool:
    """Whether some font of this machine has every letter of the text."""
    return all(letter.isspace() or family_of(letter) is not None for letter in set(text))


@functools.cache
def family_of(letter: str) -> str | None:
    """The first font that has the letter, the base before all others; None where none has."""
    return next((family for family, path in _installed() if ord(letter) in _letters(path)), None)


@functools.cache
def _installed() -> tuple[tuple[str, str], ...]:
    """The fonts of the machine by family and file, the base first, upright and regular before others of a family."""
    from matplotlib.font_manager import fontManager

    found = []
    for entry in fontManager.ttflist:
        if _STAND_IN.match(entry.name):
            continue
        regular = str(entry.weight) in {"400", "normal", "regular"} and entry.style == "normal"
        # A serif or a fixed width only where nothing else has the letter.
        plain = not any(word in entry.name for word in ("Serif", "Mono", "Emoji"))
        found.append((entry.name != BASE, not plain, not regular, entry.name, entry.fname))
    return tuple((name, path) for *_, name, path in sorted(found))


@functools.cache
def _letters(path: str) -> frozenset[int]:
    """The code points that a font file has; none where Matplotlib cannot draw with it."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()
