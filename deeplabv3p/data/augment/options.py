"""How much training samples vary, and the random numbers that decide on it."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import UsageError

Draws = npt.NDArray[np.float64]
DRAWS = 64
"""Random numbers of a picture: those of :class:`Draw`, and room for more."""
Parameters = dict[str, float | str]
"""What was drawn for a sample, by name; what changes nothing is left out."""

_SHARES = ("flip", "flip_vertical", "greyscale", "blur", "clahe", "gridmask", "class_crop", "copy_paste", "cutmix")
_LIMITS = {
    "brightness": 1.0,
    "contrast": 1.0,
    "saturation": 1.0,
    "hue": 180.0,
    "rotate": 180.0,
    "zoom": 0.9,
    "sharpness": 1.0,
    "gridmask_angle": 45.0,
} | dict.fromkeys(_SHARES, 1.0)


class Draw(enum.IntEnum):
    """The place of each random number, 0 to 1, among those of a picture. All are drawn, whatever is switched on, so
    one option leaves the others as they were. New ones go to the end for the same reason."""

    SCALE = 0
    TOP = enum.auto()
    LEFT = enum.auto()
    FLIP = enum.auto()
    BRIGHTNESS = enum.auto()
    CONTRAST = enum.auto()
    SATURATION = enum.auto()
    HUE = enum.auto()
    FLIP_VERTICAL = enum.auto()
    ROTATE = enum.auto()
    ZOOM_Y = enum.auto()
    ZOOM_X = enum.auto()
    SHARPNESS = enum.auto()
    GREYSCALE = enum.auto()
    BLUR = enum.auto()
    BLUR_SIGMA = enum.auto()
    CLAHE = enum.auto()
    CLAHE_LIMIT = enum.auto()
    GRIDMASK = enum.auto()
    GRIDMASK_D = enum.auto()
    GRIDMASK_ANGLE = enum.auto()
    GRIDMASK_Y = enum.auto()
    GRIDMASK_X = enum.auto()
    CLASS_CROP = enum.auto()
    CROP_CLASS = enum.auto()
    CROP_PIXEL = enum.auto()
    COPY_PASTE = enum.auto()
    PASTE_CLASS = enum.auto()
    PASTE_DONOR = enum.auto()
    CUTMIX = enum.auto()
    CUTMIX_DONOR = enum.auto()
    CUTMIX_SHARE = enum.auto()
    CUTMIX_Y = enum.auto()
    CUTMIX_X = enum.auto()


@dataclass(frozen=True)
class Augmentation:
    """How much to vary. The defaults vary geometry only; ``Augmentation((1, 1), flip=0)`` crops and nothing else.

    Rare classes are drawn as in DAFormer (Hoyer et al. 2022, arXiv 2111.14887, section 3.3): a class with a probability
    proportional to exp((1 - f) / 0.01), f its share of the labelled pixels of the dataset.

    Attributes:
        scale: (lowest, highest) factor, uniform. 1 keeps the picture's own size.
        flip: probability of a left-right flip.
        brightness: shift of up to ± this share of the full range; 0.1 is ± 25.5.
        contrast: factor of 1 ± this about mid-grey, at most 1.
        saturation: factor of 1 ± this about the grey of equal luminance, at most 1.
        hue: turn of up to ± this many degrees, at most 180.
        flip_vertical: probability of an upside-down flip.
        rotate: turn of up to ± this many degrees about the middle of what is visible, at most 180. What comes into
            view beyond the picture is ignored.
        zoom: factor of 1 ± this for the height and another one for the width, besides ``scale``; at most 0.9.
        sharpness: factor of 1 ± this for what differs from a light blur, at most 1.
        greyscale: probability of a grey picture.
        blur: probability of a Gaussian blur, sigma 0.3 to 1.5 pixels.
        clahe: probability of a local equalisation of luminance (CLAHE, 8x8 tiles, clip limit 1 to 4).
        gridmask: probability of GridMask (Chen et al. 2020, arXiv 2001.04086, section 3): a lattice of squares is
            taken out; it has the pad colour, and the label is ignored there.
        gridmask_d: (lowest, highest) distance from square to square, as a share of the window's shorter side.
        gridmask_ratio: r of the paper, the share of that distance that is kept between squares: (1 - r)² is lost.
        gridmask_angle: turn of the lattice of up to ± this many degrees; 45 is any turn.
        gridmask_ramp: the probability grows evenly from 0 to ``gridmask`` over this many epochs; 0: no growth.
        class_crop: probability that the window is laid so that a pixel of a rare class of this picture is in it.
        copy_paste: probability that a rare class is copied from another picture, where its own window shows it.
        cutmix: probability that a rectangle comes from another picture (Yun et al. 2019, section 3.1; its area is
            uniform before it is cut at the border).
    """

    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    flip_vertical: float = 0.0
    rotate: float = 0.0
    zoom: float = 0.0
    sharpness: float = 0.0
    greyscale: float = 0.0
    blur: float = 0.0
    clahe: float = 0.0
    gridmask: float = 0.0
    gridmask_d: tuple[float, float] = (0.15, 0.5)
    gridmask_ratio: float = 0.5
    gridmask_angle: float = 45.0
    gridmask_ramp: int = 0
    class_crop: float = 0.0
    copy_paste: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high < math.inf:
            raise UsageError(f"augmentation scale is {low} to {high}, expected positive numbers, the lower one first.")
        low, high = self.gridmask_d
        if not 0 < low <= high <= 1:
            raise UsageError(f"augmentation gridmask_d is {low} to {high}, expected shares, the lower one first.")
        if not 0 < self.gridmask_ratio < 1:
            raise UsageError(f"augmentation gridmask_ratio is {self.gridmask_ratio}, expected between 0 and 1.")
        if self.gridmask_ramp < 0:
            raise UsageError(f"augmentation gridmask_ramp is {self.gridmask_ramp}, expected 0 or more epochs.")
        for name, highest in _LIMITS.items():
            value = getattr(self, name)
            if not 0 <= value <= highest:
                raise UsageError(f"augmentation {name} is {value}, expected 0 to {highest:g}.")

    @property
    def needs_class_counts(self) -> bool:
        """Whether it has to be known how often each class is in each picture."""
        return self.class_crop > 0 or self.copy_paste > 0

    @property
    def needs_other_samples(self) -> bool:
        """Whether a sample may show parts of other pictures."""
        return self.copy_paste > 0 or self.cutmix > 0

    def gridmask_at(self, epoch: int) -> float:
        """The probability of GridMask in an epoch, counted from 0."""
        return self.gridmask * min(1.0, epoch / self.gridmask_ramp) if self.gridmask_ramp else self.gridmask


def signed(draw: float) -> float:
    """A random number from 0 to 1 as one from -1 to 1."""
    return 2 * float(draw) - 1
