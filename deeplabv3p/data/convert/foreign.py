"""What a format's reader gives to the one writer: pictures, and label maps that are made only when they are needed."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
import numpy.typing as npt

from deeplabv3p.data.classes import MAX_CLASSES, default_colors
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.tally import BACKGROUND_NAMES, Drawn, Tally
from deeplabv3p.data.kinds import IMAGE_SUFFIXES
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]  # (height, width)

ALL = "all"
"""The split of sources that have none: its list is all.txt, and train.py's --val_split divides it."""
BACKGROUND = ClassInfo("background", (0, 0, 0))
IGNORED_NAME = "__ignore__"
"""labelme's name of pixels that count nowhere; its label lists may hold it."""


class Content(Protocol):
    """A file of a source: see :class:`deeplabv3p.data.convert.tree.File`, and :class:`Inline` for pictures in JSON."""

    @property
    def where(self) -> str: ...

    @property
    def path(self) -> Path | None: ...

    def read(self) -> bytes: ...


@dataclass(frozen=True)
class Inline:
    """A picture that was inside another file. ``where`` names it to people."""

    where: str
    data: bytes
    path: Path | None = None

    def read(self) -> bytes:
        return self.data


@dataclass(frozen=True)
class Record:
    """A picture with its label map.

    Attributes:
        name: the wanted name, of any letters; the writer makes it a unique file name.
        split: the list it goes into.
        image: the picture's file.
        suffix: its kind, such as ``.jpg``.
        label: called with the picture's (height, width) as ``read_image`` gives it; returns uint8 [H, W], 0 to K - 1
            and IGNORE, in that size or, for a picture that EXIF turns by 90 degrees, in the stored one. Raises
            DataError, and then the picture is left out and the report says why. Where it is drawn from annotations,
            their tally comes with it.
        origin: the file that annotates it, for people.
    """

    name: str
    split: str
    image: Content
    suffix: str
    label: Callable[[Size], Pixels | Drawn]
    origin: str = ""


@dataclass(frozen=True)
class Skipped:
    """A file that is not converted, and why."""

    file: str
    reason: str


@dataclass
class Foreign:
    """A source that was understood: its classes in label order, its records in the order of the lists, and what there
    is to say about it: ``notes`` for people, ``skipped`` files that cannot become records, ``dropped`` annotations that
    cannot be drawn, by the reason, and how many are ``drawable`` (None: there are only label maps). ``lists`` are more
    files with names, beside those of the splits: their paths, and the splits that they hold."""

    classes: tuple[ClassInfo, ...]
    records: Sequence[Record]
    notes: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    drawable: int | None = None
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def tally(self) -> Tally:
        """What the reader dropped, as a tally of its own."""
        return Tally(dropped=Counter(self.dropped))


class Names:
    """Class names of annotations → labels, by the rules of :class:`Options`.

    ``found`` are the names in the source, in label order; outer and double blanks do not make another name. A name that
    ends up nowhere is an error here, before any file is written; with ``others`` it is a note.
    """

    def __init__(self, options: Options, found: Iterable[str], where: str) -> None:
        raw = list(dict.fromkeys(found))
        tidy = list(dict.fromkeys(_tidy(name) for name in raw))
        names = [name for name in tidy if not _is_background(name) and name != IGNORED_NAME]
        self.notes = _look_alike(raw)
        self._options = options
        # Where what is not annotated is ignored, background is a class like any other, if somebody has drawn it.
        background = options.unlabelled == "background" or any(_is_background(name) for name in tidy)
        if options.classes is None:
            classes = colored(names, background=background)
        else:
            classes = tuple(item for item in options.classes.classes if item.name != IGNORED_NAME)
            has = bool(classes) and _is_background(classes[0].name)
            if options.unlabelled == "background" and classes and not has:
                colors = {item.color for item in classes}
                if not options.classes.explicit_colors or BACKGROUND.color in colors:
                    classes = colored([item.name for item in classes])
                else:
                    classes = (BACKGROUND, *classes)
                self.notes.append("the class file has no background: it is label 0, the first class of the file is 1")
        check_count(len(classes), where)
        broken = next((name for name in names if not _is_text(name)), None)
        if broken is not None:
            raise DataError(f"{where} has annotations called {broken!a}, which is no text (half a character).")
        if "" in names:
            raise DataError(f"{where} has annotations without a name. Name them, or remove them.")
        self.classes = classes
        self._labels = {_tidy(item.name): label for label, item in enumerate(classes)}
        self._background = next((label for label, item in enumerate(classes) if _is_background(item.name)), None)
        unknown = [name for name in names if name not in self._labels]
        if unknown:
            shown = ", ".join(f"'{name}'" for name in unknown[:5]) + (", …" if len(unknown) > 5 else "")
            if options.others == "error":
                raise DataError(
                    f"{where} has annotations called {shown}, which the class file does not name. Add them, or choose "
                    "what becomes of them: --others unlabelled or --others ignore."
                )
            what = "ignored" if options.others == "ignore" else "as pixels without annotation"
            self.notes.append(f"annotations that the class file does not name are {what}: {shown}")

    @property
    def unlabelled(self) -> int:
        """The label of pixels without annotation."""
        return 0 if self._options.unlabelled == "background" else IGNORE

    def has(self, name: str) -> bool:
        """Whether a name is a class, or has a meaning of its own: background, ignored."""
        name = _tidy(name)
        return name in self._labels or name == IGNORED_NAME or _is_background(name)

    def label(self, name: str) -> int:
        """The label of an annotation."""
        name = _tidy(name)
        if name == IGNORED_NAME:
            return IGNORE
        if name in self._labels:
            return self._labels[name]
        if _is_background(name):
            return self.unlabelled if self._background is None else self._background
        return IGNORE if self._options.others == "ignore" else self.unlabelled

    def canvas(self, declared: Size | None, size: Size, where: str) -> Pixels:
        """A label map without annotations in the size that the annotations were ``declared`` to be drawn in (None:
        nothing was said). Raises DataError where that is not the picture's size, nor it turned by 90 degrees."""
        if declared is not None and declared not in (size, size[::-1]):
            raise DataError(
                f"{where} was annotated as {declared[0]}x{declared[1]}, but the picture is {size[0]}x{size[1]} "
                "(height x width)."
            )
        return np.full(declared or size, self.unlabelled, np.uint8)


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:  # half of a pair, which JSON can hold and no file
        return False
    return True


def _is_background(name: str) -> bool:
    return name.lower() in BACKGROUND_NAMES


def _look_alike(names: Sequence[str]) -> list[str]:
    """What there is to say about names that differ only in blanks, which are one class, or in case, which are not."""
    notes = []
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[_tidy(name)].append(name)
    for tidy, same in groups.items():
        if len(same) > 1:
            notes.append(f"{_quoted(same)} differ only in blanks: they are one class, '{tidy}'")
    cases: dict[str, list[str]] = defaultdict(list)
    for tidy in groups:
        cases[tidy.casefold()].append(tidy)
    notes += [
        f"{_quoted(same)} differ only in upper and lower case: they are {len(same)} classes"
        for same in cases.values()
        if len(same) > 1 and not _is_background(same[0])
    ]
    return notes


def _quoted(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)


def colored(names: Sequence[str], *, background: bool = True) -> tuple[ClassInfo, ...]:
    """Classes of these names in VOC's colours, behind the black background or without one."""
    colors = default_colors(256)[1:]
    check_count(len(names) + background, "the source")
    classes = tuple(ClassInfo(_tidy(name), color) for name, color in zip(names, colors, strict=False))
    return (BACKGROUND, *classes) if background else classes


def _tidy(name: str) -> str:
    return " ".join(name.split())


def check_count(count: int, where: str) -> None:
    """Raise DataError for more classes than label maps can hold."""
    if count > MAX_CLASSES:
        raise DataError(f"{where} has {count} classes; at most {MAX_CLASSES} fit. Choose some with a class file.")
    if count < 1:
        raise DataError(f"{where} names no class.")


_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def split_of(path: str) -> str:
    """The split that a part of a path names (``train``, ``valid``, ``instances_val2017.json``), or ALL."""
    for part in reversed(PurePosixPath(path).parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _SPLITS:
                return _SPLITS[word]
    return ALL


def is_picture(path: str) -> bool:
    """Whether a name's suffix is one of those that training reads."""
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES
