"""What the network sees of a picture: the whole of it or windows, at one or several scales, mirrored or not.

A view is the picture, mirrored or not, at one scale. It consists of tiles, each one run of the network: a single one of
the whole picture, or the windows of a grid. Every pixel of the picture lies in one tile of each view, or in several.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deeplabv3p import pixels
from deeplabv3p.inference.options import InferenceOptions, window_of
from deeplabv3p.pixels import Geometry
from deeplabv3p.spec import InputSpec, ModelSpec, Window

Picture = npt.NDArray[np.uint8]
Tensor = npt.NDArray[np.generic]
Span = tuple[int, int]
"""First pixel of an axis, and the one after the last."""


@dataclass(frozen=True)
class Tile:
    """One run of the network. ``rows`` and ``columns`` are the pixels of the (mirrored) picture that it tells something
    about, ``geometry`` how the whole picture lies on its tensor, ``top`` and ``left`` where it starts in the resized
    picture."""

    rows: Span
    columns: Span
    geometry: Geometry
    top: int = 0
    left: int = 0


@dataclass(frozen=True)
class View:
    """The picture at one scale: it is mirrored left to right if ``flip``, resized to ``size_hw`` and cut into
    ``tiles``, in the order of their rows, then columns. ``input`` makes tensors of the pieces."""

    flip: bool
    size_hw: tuple[int, int]
    input: InputSpec
    tiles: tuple[Tile, ...]

    @property
    def tensor_pixels(self) -> int:
        height, width = self.tiles[0].geometry.tensor_hw
        return len(self.tiles) * height * width


def make_views(spec: ModelSpec, picture_hw: tuple[int, int], options: InferenceOptions) -> tuple[View, ...]:
    """The views of a picture for options other than one run on the whole picture.

    Raises:
        UsageError: the model cannot be used with these options.
    """
    window = window_of(spec, options)
    flips = (False, True) if options.flip else (False,)
    views = []
    for scale in options.scales:
        if window is not None:
            size_hw, tiles = _windows(picture_hw, scale, window)
            own = dataclasses.replace(spec.input, size_hw=window.size_hw, resize="pad")
        else:
            own = _at_scale(spec.input, picture_hw, scale)
            tiles = (Tile((0, picture_hw[0]), (0, picture_hw[1]), pixels.place(picture_hw, own)),)
            size_hw = picture_hw
        views += [View(flip, size_hw, own, tiles) for flip in flips]
    return tuple(views)


def tensors(image: Picture, view: View) -> Iterator[Tensor]:
    """The input tensor of each tile of a view, without a batch axis."""
    source = image[:, ::-1] if view.flip else image
    source = pixels.resize_image(np.ascontiguousarray(source), view.size_hw)
    window_hw = view.input.size_hw
    for tile in view.tiles:
        piece = source
        if len(view.tiles) > 1:
            assert window_hw is not None
            piece = source[tile.top : tile.top + window_hw[0], tile.left : tile.left + window_hw[1]]
        yield pixels.prepare(piece, view.input)[0]


def anchors(length: int, window: int, stride: int) -> list[int]:
    """Where windows start on an axis: every ``stride`` pixels, the last one aligned to the end."""
    return [*range(0, length - window, stride), max(length - window, 0)]


def _windows(picture_hw: tuple[int, int], scale: float, window: Window) -> tuple[tuple[int, int], tuple[Tile, ...]]:
    """The size of the resized picture, and the windows on it.

    A picture smaller than the window is padded, right and below, not enlarged: the network was trained on windows at
    one scale, and pixels keep it.
    """
    height, width = picture_hw
    scaled_hw = (_scaled(height, scale), _scaled(width, scale))
    axes = []
    for picture, scaled, size, stride in zip(picture_hw, scaled_hw, window.size_hw, window.stride_hw, strict=True):
        axis = []
        for anchor in anchors(scaled, size, stride):
            lies = pixels.axis_map(picture, scaled, anchor)
            axis.append((anchor, _covered(picture, scaled, anchor, size), lies))
        axes.append(axis)
    tiles = tuple(
        Tile(rows, columns, Geometry(picture_hw, window.size_hw, y, x), top, left)
        for top, rows, y in axes[0]
        for left, columns, x in axes[1]
    )
    return scaled_hw, tiles


def _covered(picture: int, scaled: int, anchor: int, size: int) -> Span:
    """The pixels of the picture whose centres fall on a window of the resized picture, its end left out. In whole
    numbers, so that windows that touch leave no pixel between them."""

    def first_behind(edge: int) -> int:  # pixel p lies at (p + 0.5)·scaled/picture, measured from the first edge
        return -((scaled - 2 * edge * picture) // (2 * scaled))

    return max(first_behind(anchor), 0), min(first_behind(anchor + size), picture)


def _at_scale(spec: InputSpec, picture_hw: tuple[int, int], scale: float) -> InputSpec:
    """The input of a model for the whole picture at a scale; with ``max_side`` it stays the bound."""
    if scale == 1.0 or spec.size_hw is not None:
        return spec
    base_hw = pixels.place(picture_hw, spec).tensor_hw
    if spec.max_side is not None:
        scale = min(scale, spec.max_side / max(base_hw))
    size_hw = (_scaled(base_hw[0], scale), _scaled(base_hw[1], scale))
    return dataclasses.replace(spec, size_hw=size_hw, max_side=None, resize="stretch")


def _scaled(size: int, scale: float) -> int:
    return max(1, math.floor(size * scale + 0.5))
