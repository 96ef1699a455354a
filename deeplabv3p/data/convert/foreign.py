"""What a format's reader gives to the one writer: pictures, and label maps that are made only when they are needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
import numpy.typing as npt

from deeplabv3p.data.classes import MAX_CLASSES, default_colors
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.dataset import IMAGE_SUFFIXES
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
_BACKGROUND_NAMES = {"background", "_background_"}


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
            DataError, and then the picture is left out and the report says why.
    """

    name: str
    split: str
    image: Content
    suffix: str
    label: Callable[[Size], Pixels]


@dataclass(frozen=True)
class Skipped:
    """A file that is not converted, and why."""

    file: str
    reason: str


@dataclass
class Foreign:
    """A source that was understood: its classes in label order, its records in the order of the lists, and what there
    is to say about it: ``notes`` for people, ``skipped`` files that cannot become records."""

    classes: tuple[ClassInfo, ...]
    records: Sequence[Record]
    notes: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


class Names:
    """Class names of annotations → labels, by the rules of :class:`Options`.

    ``found`` are the names in the source, in label order. A name that ends up nowhere is an error here, before any
    file is written; with ``others`` it is a note.
    """

    def __init__(self, options: Options, found: Iterable[str], where: str) -> None:
        names = [name for name in dict.fromkeys(found) if name not in {*_BACKGROUND_NAMES, IGNORED_NAME}]
        self.notes: list[str] = []
        self._options = options
        background = options.unlabelled == "background"
        if options.classes is None:
            classes = colored(names, background=background)
        else:
            classes = tuple(item for item in options.classes.classes if item.name != IGNORED_NAME)
            if background and classes and classes[0].name.lower() not in _BACKGROUND_NAMES:
                colors = {item.color for item in classes}
                if not options.classes.explicit_colors or BACKGROUND.color in colors:
                    classes = colored([item.name for item in classes])
                else:
                    classes = (BACKGROUND, *classes)
                self.notes.append("the class file has no background: it is label 0, the first class of the file is 1")
        check_count(len(classes), where)
        self.classes = classes
        self._labels = {item.name: label for label, item in enumerate(classes)}
        if options.classes is None:  # the classes' names are without outer and double blanks
            self._labels |= {name: self._labels[_tidy(name)] for name in names}
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

    def label(self, name: str) -> int:
        """The label of an annotation."""
        if name == IGNORED_NAME:
            return IGNORE
        if name in self._labels:
            return self._labels[name]
        return IGNORE if self._options.others == "ignore" and name not in _BACKGROUND_NAMES else self.unlabelled

    def canvas(self, declared: Size | None, size: Size, where: str) -> Pixels:
        """A label map without annotations in the size that the annotations were ``declared`` to be drawn in (None:
        nothing was said). Raises DataError where that is not the picture's size, nor it turned by 90 degrees."""
        if declared is not None and declared not in (size, size[::-1]):
            raise DataError(
                f"{where} was annotated as {declared[0]}x{declared[1]}, but the picture is {size[0]}x{size[1]} "
                "(height x width)."
            )
        return np.full(declared or size, self.unlabelled, np.uint8)


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
