"""Colours that people can tell apart: how far two of them lie from each other for the eye, and a screen's palette.

Palettes of datasets are made for machines: PASCAL VOC's aeroplane is (128, 0, 0) and its chair (192, 0, 0), and on a
tinted photograph nobody sees which is which. Files keep their palette; what is looked at gets :func:`on_screen`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from deeplabv3p.spec import ClassInfo

Floats = npt.NDArray[np.float64]
RGB = tuple[int, int, int]

DISTINCT = 15.0
"""The difference (CIEDE2000) that two colours need on the screen. 1 is what one sees side by side, 10 at a glance; an
overlay mixes a colour with a photograph half and half. VOC's aeroplane and chair differ by 12.8."""

IGNORE_COLOR = (224, 224, 192)
"""The colour of ignored pixels, as in PASCAL VOC."""

_BLACK = (0, 0, 0)  # is not tinted in overlays
_LEVELS = (0, 36, 73, 109, 146, 182, 219, 255)
# Too dark or too light to tint a photograph.
_LIGHTNESS = (25.0, 85.0)


def on_screen(classes: Sequence[ClassInfo]) -> tuple[ClassInfo, ...]:
    """The classes with colours that can be told apart, for overlays, galleries and legends.

    A class keeps its colour unless it is too like (:data:`DISTINCT`) that of an earlier class, or black; then it gets
    the colour that is farthest from all others. Black stays black. The same classes always give the same colours. With
    more classes than there are colours to tell apart, the differences get smaller.
    """
    colors = _distinct(tuple(item.color for item in classes))
    return tuple(
        item if item.color == color else dataclasses.replace(item, color=color)
        for item, color in zip(classes, colors, strict=True)
    )


def difference(first: Floats, second: Floats) -> Floats:
    """CIEDE2000 (Sharma, Wu and Dalal 2005) of Lab colours [..., 3] with [..., 3], which are broadcast."""
    lightness = first[..., 0], second[..., 0]
    chroma = np.hypot(first[..., 1], first[..., 2]), np.hypot(second[..., 1], second[..., 2])
    seventh = ((chroma[0] + chroma[1]) / 2) ** 7
    stretch = 1.5 - 0.5 * np.sqrt(seventh / (seventh + 25.0**7))
    a = first[..., 1] * stretch, second[..., 1] * stretch
    b = first[..., 2], second[..., 2]
    chroma = np.hypot(a[0], b[0]), np.hypot(a[1], b[1])
    hue = tuple(np.degrees(np.arctan2(b[side], a[side])) % 360 for side in (0, 1))
    grey = chroma[0] * chroma[1] == 0

    turn = hue[1] - hue[0]
    turn = np.where(grey, 0, (turn + 180) % 360 - 180)
    delta_l, delta_c = lightness[1] - lightness[0], chroma[1] - chroma[0]
    delta_h = 2 * np.sqrt(chroma[0] * chroma[1]) * np.sin(np.radians(turn / 2))

    mean_l, mean_c = (lightness[0] + lightness[1]) / 2, (chroma[0] + chroma[1]) / 2
    mean_h = np.where(grey, hue[0] + hue[1], (hue[0] + turn / 2) % 360)
    t = 1 - 0.17 * _cos(mean_h - 30) + 0.24 * _cos(2 * mean_h)
    t += 0.32 * _cos(3 * mean_h + 6) - 0.2 * _cos(4 * mean_h - 63)
    dark = (mean_l - 50) ** 2
    scale_l = 1 + 0.015 * dark / np.sqrt(20 + dark)
    scale_c, scale_h = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * t
    seventh = mean_c**7
    blue = np.radians(60 * np.exp(-(((mean_h - 275) / 25) ** 2)))
    rotation = -2 * np.sqrt(seventh / (seventh + 25.0**7)) * np.sin(blue)
    l_part, c_part, h_part = delta_l / scale_l, delta_c / scale_c, delta_h / scale_h
    return np.asarray(np.sqrt(np.maximum(l_part**2 + c_part**2 + h_part**2 + rotation * c_part * h_part, 0)))


def lab(colors: Sequence[RGB] | npt.NDArray[np.uint8]) -> Floats:
    """sRGB colours 0 to 255, [N, 3], as CIE L*a*b* under D65."""
    values = np.asarray(colors, np.float64).reshape(-1, 3) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _TO_XYZ.sum(axis=1)
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def _cos(degrees: Floats) -> Floats:
    return np.asarray(np.cos(np.radians(degrees)))


@functools.lru_cache(maxsize=64)
def _distinct(colors: tuple[RGB, ...]) -> tuple[RGB, ...]:
    """See :func:`on_screen`. First all that can stay, then the others, so that a change moves nobody else."""
    places = lab(colors) if colors else np.zeros((0, 3))
    taken = [lab([_BLACK])[0]]
    moved = []
    for index, color in enumerate(colors):
        if color == _BLACK:
            continue
        if difference(np.array(taken), places[index]).min() < DISTINCT:
            moved.append(index)
        else:
            taken.append(places[index])
    result = list(colors)
    if not moved:
        return tuple(result)
    choice, choice_lab = _choice()
    nearest = np.min([difference(choice_lab, place) for place in (*taken, lab([IGNORE_COLOR])[0])], axis=0)
    for index in moved:
        best = int(np.argmax(nearest))
        own = difference(np.array(taken), places[index]).min()
        if nearest[best] > own:
            result[index], place = choice[best], choice_lab[best]
        else:
            place = places[index]
        taken.append(place)
        nearest = np.minimum(nearest, difference(choice_lab, place))
    return tuple(result)


@functools.cache
def _choice() -> tuple[list[RGB], Floats]:
    """The colours to choose from, and the same as Lab."""
    every: list[RGB] = list(itertools.product(_LEVELS, _LEVELS, _LEVELS))
    places = lab(every)
    usable = (places[:, 0] > _LIGHTNESS[0]) & (places[:, 0] < _LIGHTNESS[1])
    return [color for color, use in zip(every, usable, strict=True) if use], places[usable]
