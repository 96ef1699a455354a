"""GridMask: a lattice of squares taken out of a picture (Chen et al. 2020, arXiv 2001.04086)."""

from __future__ import annotations

import math

import cv2
import numpy as np

from deeplabv3p.data.augment.options import Augmentation, Draw, Draws, Parameters, signed
from deeplabv3p.data.decode import Picture


def draw_grid(size_hw: tuple[int, int], draws: Draws, augmentation: Augmentation, parameters: Parameters) -> Picture:
    """A mask of the limits in ``augmentation``, as :func:`grid`; ``parameters`` takes what was drawn."""
    low, high = augmentation.gridmask_d
    distance = max(2, round(min(size_hw) * (low + (high - low) * draws[Draw.GRIDMASK_D])))
    kept = min(max(1, round(distance * augmentation.gridmask_ratio)), distance - 1)
    start = math.floor(draws[Draw.GRIDMASK_Y] * distance), math.floor(draws[Draw.GRIDMASK_X] * distance)
    angle = augmentation.gridmask_angle * signed(draws[Draw.GRIDMASK_ANGLE])
    parameters["gridmask"] = f"d {distance}, kept {kept}, {angle:.0f}°"
    return grid(size_hw, distance, kept, start, angle)


def grid(size_hw: tuple[int, int], distance: int, kept: int, start: tuple[int, int], degrees: float) -> Picture:
    """Squares of side ``distance - kept``, one every ``distance`` pixels on both axes of a turned lattice.

    Args:
        size_hw: of the mask.
        distance: d of the paper, pixels.
        kept: r·d of the paper, the pixels between squares.
        start: δ of the paper, how far the lattice is moved on its axes (y, x), 0 to d - 1.
        degrees: θ, the turn of the lattice.

    Returns:
        uint8 [h, w]: 0 in the squares, 255 between them.
    """
    height, width = size_hw
    side = math.ceil(math.hypot(height, width)) + 2  # whatever the turn, the window is on it
    rows, columns = (
        np.where((np.arange(side) + shift) % distance < kept, np.uint8(255), np.uint8(0)) for shift in start
    )
    lattice = rows[:, None] | columns
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    middle, (x, y) = side / 2 - 0.5, (width / 2 - 0.5, height / 2 - 0.5)
    turn = np.array([[cos, -sin, middle - cos * x + sin * y], [sin, cos, middle - sin * x - cos * y]])
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(lattice, turn, (width, height), flags=flags), np.uint8)
