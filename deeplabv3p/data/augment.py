"""Random scale, crop, padding, flip and colour, the same geometry for a picture and its label map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from deeplabv3p.data.decode import Picture
from deeplabv3p.errors import UsageError
from deeplabv3p.pixels import IGNORE

Matrix = npt.NDArray[np.float64]

_LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
_DRAWS = 8  # random numbers a sample uses, whatever is switched on: one option leaves the others as they were


@dataclass(frozen=True)
class Augmentation:
    """How much to vary. The defaults vary geometry only; ``Augmentation((1, 1), flip=0)`` crops and nothing else.

    Attributes:
        scale: (lowest, highest) factor, uniform. 1 keeps the picture's own size.
        flip: probability of a left-right flip.
        brightness: shift of up to ± this share of the full range; 0.1 is ± 25.5.
        contrast: factor of 1 ± this about mid-grey, below 1.
        saturation: factor of 1 ± this about the grey of equal luminance, at most 1.
        hue: turn of up to ± this many degrees, at most 180.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high < math.inf:
            raise UsageError(f"augmentation scale is {low} to {high}, expected positive numbers, the lower one first.")
        limits = {"flip": 1.0, "brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 180.0}
        for name, highest in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= highest:
                raise UsageError(f"augmentation {name} is {value}, expected 0 to {highest:g}.")


def augment(
    image: Picture,
    label: Picture,
    size_hw: tuple[int, int],
    rng: np.random.Generator,
    augmentation: Augmentation,
    *,
    pad_color: tuple[float, float, float] = (127.5, 127.5, 127.5),
) -> tuple[Picture, Picture]:
    """Cut one training sample of a fixed size out of a picture and its label map.

    The picture is scaled with its aspect, then a window of ``size_hw`` is laid on it at a uniformly random whole pixel;
    on an axis where the scaled picture is smaller, the window lies around it instead. The geometry is one affine
    warp, bilinear for the picture and nearest for the labels, in which scale 1 copies pixels exactly. Outside the
    picture there is ``pad_color`` and ``IGNORE``, never mixed with it. Above scale 1/2 the warp alone is smooth enough
    (each result mixes 2x2 pixels, as at inference); from there down, the picture is first averaged over blocks of
    floor(1 / scale). Colours change after the warp, and only where the picture is.

    Args:
        image: uint8 [H, W, 3], RGB.
        label: uint8 [H, W].
        size_hw: (height, width) of the result.
        rng: the only source of chance.
        augmentation: how much to vary.
        pad_color: RGB, 0 to 255; rounded.

    Returns:
        image uint8 [h, w, 3], label uint8 [h, w].
    """
    draws = rng.random(_DRAWS)
    low, high = augmentation.scale
    scale = low + (high - low) * draws[0]
    (height, width), (window_h, window_w) = label.shape, size_hw
    top, y0, y1 = _place(height, scale, window_h, draws[1])
    left, x0, x1 = _place(width, scale, window_w, draws[2])
    # From a pixel of the visible part to the picture: (x + x0 - left + 0.5) / scale - 0.5.
    inverse = np.array(
        [[1 / scale, 0, (x0 - left + 0.5) / scale - 0.5], [0, 1 / scale, (y0 - top + 0.5) / scale - 0.5]]
    )
    if draws[3] < augmentation.flip:
        inverse[0, 2] += inverse[0, 0] * (x1 - x0 - 1)
        inverse[0, 0] = -inverse[0, 0]
    label = _warp(label, inverse, (y1 - y0, x1 - x0), cv2.INTER_NEAREST)
    image = _warp(*_reduce(image, scale, inverse), (y1 - y0, x1 - x0), cv2.INTER_LINEAR)
    colors = _color_matrix(draws[4:], augmentation)
    if colors is not None:
        image = cv2.transform(image, colors)
    margins = y0, window_h - y1, x0, window_w - x1
    label = cv2.copyMakeBorder(label, *margins, cv2.BORDER_CONSTANT, value=IGNORE)
    image = cv2.copyMakeBorder(image, *margins, cv2.BORDER_CONSTANT, value=pad_color)
    return np.asarray(image, np.uint8), np.asarray(label, np.uint8)


def _place(length: int, scale: float, window: int, draw: float) -> tuple[int, int, int]:
    """Where an axis of the scaled picture starts in the window (before it, if it hangs over), and its visible part."""
    scaled = max(1, round(length * scale))
    slack = window - scaled
    start = min(0, slack) + math.floor(draw * (abs(slack) + 1))
    return start, max(0, start), min(window, start + scaled)


def _warp(source: Picture, inverse: Matrix, size_hw: tuple[int, int], interpolation: int) -> Picture:
    """Only the visible part is warped, so the border is met by less than a pixel: repeat the edge there."""
    flags = interpolation | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(source, inverse, size_hw[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.uint8)


def _reduce(image: Picture, scale: float, inverse: Matrix) -> tuple[Picture, Matrix]:
    """Average over blocks where the warp alone would skip pixels; returns the smaller picture and the map to it."""
    factor = math.floor(1 / scale)
    if factor < 2:
        return image, inverse
    height, width = image.shape[:2]
    small_hw = math.ceil(height / factor), math.ceil(width / factor)
    small = cv2.resize(image, small_hw[::-1], interpolation=cv2.INTER_AREA)
    shrink = np.array([[small_hw[1] / width], [small_hw[0] / height]])
    # Pixel centres: small + 0.5 = (full + 0.5) · shrink.
    adjusted = inverse * shrink
    adjusted[:, 2:] += 0.5 * shrink - 0.5
    return np.asarray(small, np.uint8), adjusted


def _color_matrix(draws: npt.NDArray[np.float64], augmentation: Augmentation) -> Matrix | None:
    """Hue, saturation, contrast and brightness as one 3x4 matrix on RGB, None if nothing changes."""
    limits = (augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue)
    if not any(limits):
        return None
    brightness, contrast, saturation, hue = (2 * draws - 1) * limits
    luma = np.tile(_LUMA, (3, 1))
    angle = math.radians(hue)
    # A turn about the grey axis (Rodrigues' formula), which keeps greys as they are.
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turn = math.cos(angle) * np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) / 3
    mixed = (1 + contrast) * (luma + (1 + saturation) * (np.eye(3) - luma)) @ turn
    offset = np.full((3, 1), 127.5 * -contrast + 255 * brightness)
    return np.hstack([mixed, offset])
