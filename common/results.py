"""Where a segmented picture goes: into a folder as label PNG, overlay and legend, or onto the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from common import window
from common.pictures import ResultNames
from deeplabv3p import visualize
from deeplabv3p.spec import ClassInfo

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class Results(Protocol):
    """Takes pictures with their labels."""

    def put(self, path: Path, image: Pixels, label: Pixels) -> str:
        """Take the picture at ``path``, uint8 [H, W, 3] RGB, and its label, uint8 [H, W]; returns where it went."""

    def wait(self) -> bool:
        """Wait until the next picture is wanted; False when no more are."""


class ResultFolder:
    """Writes ``<stem>_label.png`` (palette) and ``<stem>_overlay.png``, and ``legend.png`` with the first of them.

    Pictures of the same stem do not overwrite each other: the second is ``<stem>_2``.
    """

    def __init__(self, folder: Path, classes: tuple[ClassInfo, ...]) -> None:
        self._folder, self._classes = folder, classes
        self._names = ResultNames()
        self._has_legend = False

    def put(self, path: Path, image: Pixels, label: Pixels) -> str:
        """See :class:`Results`; raises DataError where the folder cannot be written."""
        stem = self._names.unique(path.stem)
        label_path, overlay_path = self._folder / f"{stem}_label.png", self._folder / f"{stem}_overlay.png"
        visualize.save_label_png(label_path, label, self._classes)
        visualize.save_image(overlay_path, visualize.overlay(image, label, self._classes))
        if not self._has_legend:
            visualize.save_image(self._folder / "legend.png", visualize.legend(self._classes))
            self._has_legend = True
        return f"-> {label_path}, {overlay_path.name}"

    def wait(self) -> bool:
        """Never waits."""
        return True


class ResultWindow:
    """Shows the overlay and waits for a key; q, Esc and closing the window end it."""

    def __init__(self, classes: tuple[ClassInfo, ...]) -> None:
        self._classes = classes

    def put(self, path: Path, image: Pixels, label: Pixels) -> str:
        """See :class:`Results`."""
        window.show(visualize.overlay(image, label, self._classes))
        return "(any key: next, q: quit)"

    def wait(self) -> bool:
        """See :class:`Results`."""
        return window.wait()


def shares_text(label: Pixels, classes: tuple[ClassInfo, ...]) -> str:
    """The classes present, largest first: ``road 61.2 %, car 3.0 %``."""
    counts = np.bincount(label.ravel(), minlength=len(classes))[: len(classes)]
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda index: -int(counts[index]))
    return ", ".join(f"{classes[index].name} {100 * counts[index] / label.size:.1f} %" for index in order)
