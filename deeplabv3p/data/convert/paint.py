"""Shapes → a label map: which of them lie on top, and how many end covered by others.

Most formats have no order of depth. Drawn in the order of the file, a wall swallows the windows that were drawn before
it; so there the larger shapes are drawn first. Where a format says what lies on top, that is what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from deeplabv3p.data.convert.foreign import Names, Size
from deeplabv3p.data.convert.raster import Box, Canvas
from deeplabv3p.data.convert.tally import COVERED, Drawn, Tally
from deeplabv3p.pixels import IGNORE

Order = Literal["area", "file"]
"""What is drawn first: the larger shapes, or those that stand first in the file."""


@dataclass(frozen=True)
class Shape:
    """An annotation: the ``name`` of its class; ``paint(canvas, value)``, which gives a value to its pixels and returns
    a box around them; and its ``depth``: shapes of a larger one lie on top, whatever the order."""

    name: str
    paint: Callable[[Canvas, int], Box]
    depth: float = 0.0


class _Region:
    """The pixels of a shape within its box, 8 in a byte: painting takes longer than unpacking."""

    def __init__(self, box: Box, inside: npt.NDArray[np.uint8]) -> None:
        self.box, self._shape, self._bits = box, inside.shape, np.packbits(inside)

    def inside(self) -> npt.NDArray[np.bool_]:
        count = self._shape[0] * self._shape[1]
        return np.unpackbits(self._bits, count=count).view(bool).reshape(self._shape)


def draw(shapes: Iterable[Shape], names: Names, order: Order, declared: Size | None, size: Size, where: str) -> Drawn:
    """The label map of shapes, uint8 [H, W], in the ``declared`` size (see :meth:`Names.canvas`), and their tally.

    With the order "area" the larger shapes are drawn first, by the pixels that they have in the picture, equal ones in
    the order given.

    Raises:
        DataError: the size is not the picture's, or a shape cannot be painted.
    """
    label, tally = names.canvas(declared, size, where), Tally()
    everything = list(shapes)
    scratch: npt.NDArray[np.uint8] = np.zeros(label.shape, np.uint8)
    areas, regions = [], []
    for shape in everything:
        box = shape.paint(scratch, 1)
        areas.append(int(np.count_nonzero(scratch[box])))
        regions.append(_Region(box, scratch[box]))
        scratch[box] = 0
    # sorted keeps the order given otherwise
    numbers = sorted(range(len(everything)), key=lambda n: (everything[n].depth, -areas[n] if order == "area" else 0))
    few = len(everything) <= np.iinfo(np.int16).max
    on_top = np.full(label.shape, -1, np.int16 if few else np.int32)  # the number of a shape
    for number in numbers:
        on_top[regions[number].box][regions[number].inside()] = number
    values = np.array([names.label(shape.name) for shape in everything], np.uint8)
    drawn = on_top >= 0
    label[drawn] = values[on_top[drawn]]
    visible = np.bincount(on_top[drawn], minlength=len(everything))
    for number, shape in enumerate(everything):
        if not areas[number]:
            tally.dropped["shapes that cover no pixel (outside of the picture, or thinner than a pixel)"] += 1
        elif not names.has(shape.name):
            tally.dropped["shapes of names that the class file lacks"] += 1
        elif values[number] not in {names.unlabelled, IGNORE}:
            tally.used[names.classes[values[number]].name] += 1
            if visible[number] <= (1 - COVERED) * areas[number]:
                # Shapes of its own class do not take anything from it.
                kept = np.count_nonzero(label[regions[number].box][regions[number].inside()] == values[number])
                if kept < (1 - COVERED) * areas[number]:
                    tally.covered[names.classes[values[number]].name] += 1
    return Drawn(label, tally)
