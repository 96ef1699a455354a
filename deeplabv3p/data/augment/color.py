"""Colour, contrast, sharpness and blur. They change pictures alone, never labels."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from deeplabv3p.data.augment.options import Augmentation, Draw, Draws, Parameters, signed
from deeplabv3p.data.decode import Picture

_LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
_SIGMAS = (0.3, 1.5)  # pixels
_CLIP_LIMITS = (1.0, 4.0)
_TILES = (8, 8)


def recolor(image: Picture, draws: Draws, augmentation: Augmentation, parameters: Parameters) -> Picture:
    """Equalise, blur or sharpen and tint a picture, uint8 [h, w, 3] RGB; ``parameters`` takes what was drawn."""
    if draws[Draw.CLAHE] < augmentation.clahe:
        limit = _between(_CLIP_LIMITS, draws[Draw.CLAHE_LIMIT])
        parameters["clahe"] = limit
        image = _equalize(image, limit)
    if draws[Draw.BLUR] < augmentation.blur:
        sigma = _between(_SIGMAS, draws[Draw.BLUR_SIGMA])
        parameters["blur"] = sigma
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)
    if augmentation.sharpness:
        more = augmentation.sharpness * signed(draws[Draw.SHARPNESS])
        parameters["sharpness"] = 1 + more
        image = np.asarray(cv2.addWeighted(image, 1 + more, cv2.GaussianBlur(image, (3, 3), 0), -more, 0), np.uint8)
    matrix = _color_matrix(draws, augmentation, parameters)
    return image if matrix is None else np.asarray(cv2.transform(image, matrix), np.uint8)


def _between(span: tuple[float, float], draw: float) -> float:
    return span[0] + (span[1] - span[0]) * float(draw)


def _equalize(image: Picture, limit: float) -> Picture:
    luma, *chroma = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
    luma = cv2.createCLAHE(limit, _TILES).apply(luma)
    return np.asarray(cv2.cvtColor(cv2.merge([luma, *chroma]), cv2.COLOR_YCrCb2RGB), np.uint8)


def _color_matrix(draws: Draws, augmentation: Augmentation, parameters: Parameters) -> npt.NDArray[np.float64] | None:
    """Hue, saturation, contrast and brightness as one 3x4 matrix on RGB, None if nothing changes."""
    limits = (augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue)
    grey = draws[Draw.GREYSCALE] < augmentation.greyscale
    if not any(limits) and not grey:
        return None
    changes = (2 * draws[Draw.BRIGHTNESS : Draw.HUE + 1] - 1) * limits
    for name, limit, change in zip(("brightness", "contrast", "saturation", "hue"), limits, changes, strict=True):
        if limit:
            parameters[name] = float(change)
    brightness, contrast, saturation, hue = changes
    if grey:
        saturation = -1.0
        parameters["saturation"] = "greyscale"
    luma = np.tile(_LUMA, (3, 1))
    angle = math.radians(hue)
    # A turn about the grey axis (Rodrigues' formula), which keeps greys as they are.
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turn = math.cos(angle) * np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) / 3
    mixed = (1 + contrast) * (luma + (1 + saturation) * (np.eye(3) - luma)) @ turn
    offset = np.full((3, 1), 127.5 * -contrast + 255 * brightness)
    return np.hstack([mixed, offset])
