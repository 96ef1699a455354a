"""What a window shows of one picture and its label map, by one affine warp."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from deeplabv3p.data.augment.options import Augmentation, Draw, Draws, Parameters, signed
from deeplabv3p.data.decode import Picture
from deeplabv3p.pixels import IGNORE

Matrix = npt.NDArray[np.float64]
Pixel = tuple[int, int]


@dataclass(frozen=True)
class View:
    """The part of a window where a picture is, uint8 [h, w, 3] and its label uint8 [h, w].

    ``margins`` is what the window has more (above, below, left, right). ``inside`` is 255 where the picture is and 0
    beyond it, uint8 [h, w]; None: it is everywhere. Beyond it the label is IGNORE and the image goes on in the colours
    of the picture's edge, so that a filter which looks at neighbours meets no border there.
    """

    image: Picture
    label: Picture
    margins: tuple[int, int, int, int]
    inside: Picture | None = None

    def whole(self) -> View:
        """The same for the whole window, without margins."""
        if not any(self.margins):
            return self
        inside = np.full_like(self.label, 255) if self.inside is None else self.inside
        return View(
            np.asarray(cv2.copyMakeBorder(self.image, *self.margins, cv2.BORDER_REPLICATE), np.uint8),
            _surround(self.label, self.margins, IGNORE),
            (0, 0, 0, 0),
            _surround(inside, self.margins, 0),
        )

    def padded(self, color: tuple[float, float, float]) -> tuple[Picture, Picture]:
        """Image and label of the whole window, with that colour and IGNORE beyond the picture."""
        image = self.image
        if self.inside is not None:
            image = np.asarray(cv2.copyTo(image, self.inside, plain(image, color)), np.uint8)
        return _surround(image, self.margins, color), _surround(self.label, self.margins, IGNORE)


def plain(image: Picture, color: tuple[float, float, float]) -> Picture:
    """An image of the same size in one colour, 0 to 255, rounded."""
    height, width = image.shape[:2]
    row = np.tile(np.rint(color).astype(np.uint8), width)  # rows of numbers: pixels of three would be a loop each
    result = np.empty_like(image)
    result.reshape(height, -1)[:] = row
    return result


def look(
    image: Picture,
    label: Picture,
    size_hw: tuple[int, int],
    draws: Draws,
    augmentation: Augmentation,
    parameters: Parameters,
    shown: Pixel | None = None,
) -> View:
    """Lay a window on a picture, by chance or so that the pixel ``shown`` (row, column) is in it.

    The picture is scaled, and the window laid on it at a uniformly random whole pixel; on an axis where the scaled
    picture is smaller, the window lies around it instead. What is visible is flipped, and turned about its middle or
    about ``shown``. All of it is one map, bilinear for the picture and nearest for the label.

    Args:
        image: uint8 [H, W, 3].
        label: uint8 [H, W].
        size_hw: the window.
        draws: float64 [DRAWS], 0 to 1.
        augmentation: how much to vary.
        parameters: takes what was drawn.
        shown: a pixel of the picture; a single one may still fall between pixels of a window that shrinks it.
    """
    low, high = augmentation.scale
    scale = low + (high - low) * draws[Draw.SCALE]
    parameters["scale"] = float(scale)
    scales = [scale, scale]
    if augmentation.zoom:
        zooms = [1 + augmentation.zoom * signed(draws[axis]) for axis in (Draw.ZOOM_Y, Draw.ZOOM_X)]
        scales = [scale * zoom for zoom in zooms]
        parameters |= {"zoom y": zooms[0], "zoom x": zooms[1]}
    (height, width), (window_h, window_w) = label.shape, size_hw
    # Where the pixel is on the scaled picture; its own edge may round to the next one.
    at = [None, None] if shown is None else [(pixel + 0.5) * s - 0.5 for pixel, s in zip(shown, scales, strict=True)]
    top, y0, y1 = _place(height, scales[0], window_h, draws[Draw.TOP], at[0])
    left, x0, x1 = _place(width, scales[1], window_w, draws[Draw.LEFT], at[1])
    # From a pixel of the visible part to the picture: (x + x0 - left + 0.5) / scale - 0.5.
    inverse = np.array(
        [
            [1 / scales[1], 0, (x0 - left + 0.5) / scales[1] - 0.5],
            [0, 1 / scales[0], (y0 - top + 0.5) / scales[0] - 0.5],
        ]
    )
    pivot = [(y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2]
    if at[0] is not None and at[1] is not None:
        pivot = [top + at[0], left + at[1]]
    if draws[Draw.FLIP] < augmentation.flip:
        inverse[0, 2] += inverse[0, 0] * (x1 - x0 - 1)
        inverse[0, 0] = -inverse[0, 0]
        pivot[1] = x0 + x1 - 1 - pivot[1]
        parameters["flip"] = "left-right"
    if draws[Draw.FLIP_VERTICAL] < augmentation.flip_vertical:
        inverse[1, 2] += inverse[1, 1] * (y1 - y0 - 1)
        inverse[1, 1] = -inverse[1, 1]
        pivot[0] = y0 + y1 - 1 - pivot[0]
        parameters["flip vertical"] = "upside down"
    if augmentation.rotate:
        angle = augmentation.rotate * signed(draws[Draw.ROTATE])
        parameters["rotate"] = angle
        return _turned(image, label, size_hw, scales, inverse, _turn(angle, pivot, (y0, x0)))
    shape = y1 - y0, x1 - x0
    return View(
        _warp(*_reduce(image, scales, inverse), shape, cv2.INTER_LINEAR),
        _warp(label, inverse, shape, cv2.INTER_NEAREST),
        (y0, window_h - y1, x0, window_w - x1),
    )


def _place(length: int, scale: float, window: int, draw: float, shown: float | None = None) -> tuple[int, int, int]:
    """Where an axis of the scaled picture starts in the window (before it, if it hangs over), and its visible part."""
    scaled = max(1, round(length * scale))
    slack = window - scaled
    first, last = min(0, slack), max(0, slack)
    if shown is not None and slack < 0:
        pixel = min(max(round(shown), 0), scaled - 1)
        first, last = max(first, -pixel), min(last, window - 1 - pixel)
    start = first + math.floor(draw * (last - first + 1))
    return start, max(0, start), min(window, start + scaled)


def _turn(degrees: float, pivot: list[float], corner: Pixel) -> Matrix:
    """From a pixel of the window to one of the visible part before the window was turned about ``pivot``, 3x3."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    (y, x), (y0, x0) = pivot, corner
    return np.array([[cos, -sin, x - cos * x + sin * y - x0], [sin, cos, y - sin * x - cos * y - y0], [0.0, 0.0, 1.0]])


def _turned(
    image: Picture, label: Picture, size_hw: tuple[int, int], scales: list[float], inverse: Matrix, turn: Matrix
) -> View:
    inverse = inverse @ turn
    outside = cv2.BORDER_CONSTANT
    # The same map for both, so they agree on the border to the pixel.
    inside = _warp(np.full_like(label, 255), inverse, size_hw, cv2.INTER_NEAREST, outside)
    return View(
        _warp(*_reduce(image, scales, inverse), size_hw, cv2.INTER_LINEAR),
        _warp(label, inverse, size_hw, cv2.INTER_NEAREST, outside, IGNORE),
        (0, 0, 0, 0),
        inside,
    )


def _warp(
    source: Picture,
    inverse: Matrix,
    size_hw: tuple[int, int],
    interpolation: int,
    border: int = cv2.BORDER_REPLICATE,
    value: float = 0,
) -> Picture:
    """Where only the visible part is warped, the border is met by less than a pixel: repeat the edge there."""
    flags = interpolation | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(source, inverse, size_hw[::-1], flags=flags, borderMode=border, borderValue=value)
    return np.asarray(warped, np.uint8)


def _reduce(image: Picture, scales: list[float], inverse: Matrix) -> tuple[Picture, Matrix]:
    """Average over blocks where the warp alone would skip pixels; returns the smaller picture and the map to it."""
    factors = [max(1, math.floor(1 / scale)) for scale in scales]
    if factors == [1, 1]:
        return image, inverse
    height, width = image.shape[:2]
    small_hw = math.ceil(height / factors[0]), math.ceil(width / factors[1])
    small = cv2.resize(image, small_hw[::-1], interpolation=cv2.INTER_AREA)
    shrink = np.array([[small_hw[1] / width], [small_hw[0] / height]])
    # Pixel centres: small + 0.5 = (full + 0.5) · shrink.
    adjusted = inverse * shrink
    adjusted[:, 2:] += 0.5 * shrink - 0.5
    return np.asarray(small, np.uint8), adjusted


def _surround(picture: Picture, margins: tuple[int, int, int, int], value: float | tuple[float, ...]) -> Picture:
    return np.asarray(cv2.copyMakeBorder(picture, *margins, cv2.BORDER_CONSTANT, value=value), np.uint8)
