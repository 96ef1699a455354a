"""One training sample: views of one to three pictures, mixed, recoloured and masked."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from deeplabv3p.data.augment.color import recolor
from deeplabv3p.data.augment.gridmask import draw_grid
from deeplabv3p.data.augment.mixing import Pool, class_pixel, cutmix, paste, rare_pixel
from deeplabv3p.data.augment.options import DRAWS, Augmentation, Draw, Draws, Parameters
from deeplabv3p.data.augment.view import View, look, plain
from deeplabv3p.data.decode import Picture
from deeplabv3p.errors import UsageError
from deeplabv3p.pixels import IGNORE


@dataclass(frozen=True, repr=False)
class Varied:
    """A sample, image uint8 [h, w, 3] and label uint8 [h, w], and what was drawn for it."""

    image: Picture
    label: Picture
    parameters: Parameters


def vary(
    image: Picture,
    label: Picture,
    size_hw: tuple[int, int],
    rng: np.random.Generator,
    augmentation: Augmentation,
    *,
    pad_color: tuple[float, float, float] = (127.5, 127.5, 127.5),
    epoch: int = 0,
    pool: Pool | None = None,
) -> Varied:
    """Make one training sample of a fixed size out of a picture and its label map, and say how.

    The geometry (:func:`~deeplabv3p.data.augment.view.look`) is one affine warp, bilinear for the picture and nearest
    for the labels, in which scale 1 without a turn copies pixels exactly. Outside the picture there is ``pad_color``
    and ``IGNORE``, never mixed with it. Above scale 1/2 the warp alone is smooth enough (each result mixes 2x2 pixels,
    as at inference); from there down, the picture is first averaged over blocks of floor(1 / scale). Then pixels of
    other samples come in, colours change where there is a picture, and GridMask takes squares out.

    Args:
        image: uint8 [H, W, 3], RGB.
        label: uint8 [H, W].
        size_hw: (height, width) of the result.
        rng: the only source of chance.
        augmentation: how much to vary.
        pad_color: RGB, 0 to 255; rounded.
        epoch: counted from 0, for what grows with the epochs.
        pool: the dataset, for what needs other samples or to know which classes are rare.

    Raises:
        UsageError: such an option is on, and there is no pool.
        DataError: another sample cannot be read.
    """
    if pool is None and (augmentation.needs_class_counts or augmentation.needs_other_samples):
        raise UsageError("class_crop, copy_paste and cutmix need the dataset: give augment a pool.")
    # Rows: the sample itself, then those that copy-paste and CutMix take parts of.
    draws, paste_draws, mix_draws = rng.random((3, DRAWS))
    parameters: Parameters = {}
    shown = None
    if pool and draws[Draw.CLASS_CROP] < augmentation.class_crop:
        shown = rare_pixel(label, pool, draws, parameters)
    view = look(image, label, size_hw, draws, augmentation, parameters, shown)
    if pool and draws[Draw.COPY_PASTE] < augmentation.copy_paste:
        view = _copy_paste(view, pool, size_hw, draws, paste_draws, augmentation, parameters)
    if pool and draws[Draw.CUTMIX] < augmentation.cutmix:
        donor = look(*pool.load(pool.other(draws[Draw.CUTMIX_DONOR])), size_hw, mix_draws, augmentation, {})
        view = cutmix(view, donor, draws, parameters)
    colored = recolor(view.image, draws, augmentation, parameters)
    image, label = View(colored, view.label, view.margins, view.inside).padded(pad_color)
    if draws[Draw.GRIDMASK] < augmentation.gridmask_at(epoch):
        keep = draw_grid(size_hw, draws, augmentation, parameters)
        image = np.asarray(cv2.copyTo(image, keep, plain(image, pad_color)), np.uint8)
        label = np.asarray(cv2.copyTo(label, keep, np.full_like(label, IGNORE)), np.uint8)
    return Varied(image, label, parameters)


def _copy_paste(
    view: View,
    pool: Pool,
    size_hw: tuple[int, int],
    draws: Draws,
    paste_draws: Draws,
    augmentation: Augmentation,
    parameters: Parameters,
) -> View:
    """The view with a rare class of another sample, whose window is laid so that some of it is in it."""
    chosen = pool.rare_class(draws[Draw.PASTE_CLASS])
    if chosen is None:
        return view
    image, label = pool.load(pool.holder(chosen, draws[Draw.PASTE_DONOR]))
    shown = class_pixel(label, chosen, paste_draws)
    donor = look(image, label, size_hw, paste_draws, augmentation, {}, shown)
    parameters["copy-paste"] = f"class {chosen}"
    return paste(view, donor, chosen)
