"""Calibration pictures: what a quantizer looks at to learn the ranges of the activations.

They go through the very preparation that the model's spec asks for and through nothing else. Augmented pictures would
widen every range with colours and borders that the model never meets, and cost precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from deeplabv3p.data.dataset import Dataset
from deeplabv3p.data.decode import read_image
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.export.formats import Calibration
from deeplabv3p.pixels import prepare
from deeplabv3p.spec import Layout, ModelSpec

SAMPLES = 30
"""Pictures that are drawn where nobody says how many."""

T = TypeVar("T")


def draw(items: Sequence[T], count: int, source: str) -> list[T]:
    """``count`` of the items, evenly spread over their order: the same ones every time, and of a list that follows
    videos or dates some of each.

    Args:
        items: what to draw from.
        count: how many, 1 or more.
        source: where the items are from, for the message.

    Raises:
        DataError: there are fewer.
    """
    if not items:
        raise DataError(f"{source} holds no picture to calibrate with.")
    if len(items) < count:
        raise DataError(
            f"{source} holds {len(items)} pictures, but {count} are to be drawn for calibration. "
            f"Name more pictures, or ask for {len(items)}."
        )
    return [items[index * len(items) // count] for index in range(count)]


def calibration_tensors(
    spec: ModelSpec, pictures: Dataset | Sequence[Path], limit: int | None = None, layout: Layout = "NHWC"
) -> Calibration:
    """The tensors that a float model would get for pictures, one after the other, never augmented.

    Args:
        spec: of the float model; its input's size, resize rule, colours, mean and std are used.
        pictures: a dataset, whose labels are not read, or picture files.
        limit: how many of them, evenly spread; null for all.
        layout: of the tensors.

    Returns:
        A function that starts a pass: float32 [1, h, w, 3], or [1, 3, h, w] for NCHW. A picture that cannot be read
        raises DataError while the pass runs.

    Raises:
        DataError: there are no pictures, or fewer than ``limit``.
        UsageError: the spec's input is not float, so there is nothing to calibrate.
    """
    if spec.input.dtype != "float32":
        raise UsageError(f"calibration needs the float model, this one takes {spec.input.dtype}.")
    if isinstance(pictures, Dataset):
        paths, source = [sample.image for sample in pictures.samples], pictures.source
    else:
        paths, source = list(pictures), "the list of pictures"
    paths = draw(paths, len(paths) if limit is None else limit, source)
    wanted = spec.replace(input={"layout": layout}).input

    def start() -> Iterator[npt.NDArray[np.float32]]:
        for path in paths:
            tensor, _ = prepare(read_image(path, wanted.picture_max), wanted)
            yield np.asarray(tensor[None], np.float32)

    return start
