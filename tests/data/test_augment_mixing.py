"""GridMask, copy-paste, CutMix, and the colour options: what they change, and what they leave."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from deeplabv3p.data.augment import Augmentation, Pool, Varied, make_pool, vary
from deeplabv3p.data.augment.gridmask import grid
from deeplabv3p.errors import UsageError
from deeplabv3p.pixels import IGNORE

PHOTO = np.ascontiguousarray(astronaut()[:120, :160])
LABEL = (PHOTO[..., 0] // 64).astype(np.uint8)
SIZE = (120, 160)
PAD = (10.0, 20.0, 30.0)
PLAIN = Augmentation((1, 1), flip=0)
COLORS: dict[str, Any] = {
    "brightness": 0.3,
    "contrast": 0.3,
    "saturation": 0.3,
    "hue": 20,
    "sharpness": 1,
    "greyscale": 0.5,
    "blur": 0.5,
    "clahe": 0.5,
}


def run(
    augmentation: Augmentation,
    seed: int = 0,
    size_hw: tuple[int, int] = SIZE,
    image: np.ndarray = PHOTO,
    label: np.ndarray = LABEL,
    **options: Any,
) -> Varied:
    return vary(image, label, size_hw, np.random.default_rng(seed), augmentation, pad_color=PAD, **options)


# GridMask


def test_an_unturned_grid_is_a_lattice_of_squares() -> None:
    """Squares of side d - r·d, every d pixels."""
    mask = grid((40, 50), 10, 4, (3, 7), 0)
    rows, columns = (mask == 0).any(1), (mask == 0).any(0)
    np.testing.assert_array_equal(mask == 0, rows[:, None] & columns)
    for line in (rows, columns):
        np.testing.assert_array_equal(line[10:], line[:-10])
        assert line[:10].sum() == 6
    moved = grid((40, 50), 10, 4, (5, 7), 0)
    np.testing.assert_array_equal(moved[:-2], mask[2:])  # δ moves it on its own axis, by whole pixels
    assert set(np.unique(mask)) == {0, 255}


@pytest.mark.parametrize("degrees", [-45, 17, 30])
def test_a_turned_grid_is_the_lattice_of_the_formula(degrees: float) -> None:
    (height, width), distance, kept = (150, 210), 24, 10
    mask = grid((height, width), distance, kept, (5, 9), degrees)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    y, x = np.indices((height, width)) - np.array([height, width])[:, None, None] / 2 + 0.5
    side = math.ceil(math.hypot(height, width)) + 2
    lattice = (sin * x + cos * y + side / 2 - 0.5 + 5, cos * x - sin * y + side / 2 - 0.5 + 9)
    phases = [(axis + 0.5) % distance for axis in lattice]
    lost = (phases[0] > kept) & (phases[1] > kept)
    # Nearest: within a pixel of a line's side it may fall on either.
    near = [np.minimum.reduce([phase, np.abs(phase - kept), distance - phase]) < 1 for phase in phases]
    certain = ~near[0] & ~near[1]
    assert certain.mean() > 0.6
    np.testing.assert_array_equal((mask == 0)[certain], lost[certain])
    assert np.mean(mask == 0) == pytest.approx((1 - kept / distance) ** 2, abs=0.03)  # a lattice cut by a frame


def test_what_gridmask_takes_out_has_the_pad_colour_and_is_ignored() -> None:
    shares = []
    for seed in range(30):
        plain = run(dataclasses.replace(PLAIN, hue=20), seed)
        masked = run(dataclasses.replace(PLAIN, hue=20, gridmask=1, gridmask_ratio=0.4), seed)
        lost = masked.label != plain.label
        assert (masked.label[lost] == IGNORE).all()
        assert (masked.image[lost] == np.uint8(PAD)).all()
        np.testing.assert_array_equal(masked.image[~lost], plain.image[~lost])
        shares.append(lost.mean())
    assert np.mean(shares) == pytest.approx(0.36, abs=0.06)  # the paper's 1 - k = (1 - r)²


def test_the_probability_of_gridmask_grows_with_the_epochs() -> None:
    augmentation = dataclasses.replace(PLAIN, gridmask=0.8, gridmask_ramp=4)
    assert [augmentation.gridmask_at(epoch) for epoch in range(6)] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 0.8])
    assert dataclasses.replace(augmentation, gridmask_ramp=0).gridmask_at(0) == 0.8
    for epoch, expected in ((0, 0), (2, 0.4), (9, 0.8)):
        masked = [np.any(run(augmentation, seed, (30, 30), epoch=epoch).label == IGNORE) for seed in range(300)]
        assert np.mean(masked) == pytest.approx(expected, abs=0.08)  # 2.8 deviations; the seeds are fixed


# Other samples


def two(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> Pool:
    """A dataset of two pictures with classes 0 and 1."""
    samples = [first, second]
    counts = np.array([np.bincount(label.ravel(), minlength=256)[:2] for _, label in samples])
    return make_pool(lambda index: samples[index], 2, counts)


def painted(label: np.ndarray, color: int, base: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """A picture of one grey where the label is 1, another one elsewhere."""
    return np.repeat(np.where(label == 1, color, base).astype(np.uint8)[..., None], 3, -1), label


def test_copy_paste_copies_the_rare_class_and_nothing_else() -> None:
    donor_label = np.full(SIZE, 0, np.uint8)
    donor_label[40:70, 100:130] = 1
    donor_label[80:, :80] = IGNORE
    pool = two((PHOTO, np.zeros(SIZE, np.uint8)), painted(donor_label, 200))
    target = np.zeros((90, 100), np.uint8)
    target[:10] = IGNORE
    seen = set()
    for seed in range(20):
        augmentation = Augmentation((1, 1), flip=0.5, copy_paste=1)
        varied = run(augmentation, seed, (95, 105), *painted(target, 0), pool=pool)
        pasted = varied.label == 1
        assert varied.parameters["copy-paste"] == "class 1"
        assert pasted.any()
        outside = (varied.image == np.uint8(PAD)).all(-1)
        np.testing.assert_array_equal(varied.image == 200, np.repeat(pasted[..., None], 3, -1))
        np.testing.assert_array_equal(varied.image == 50, np.repeat((~pasted & ~outside)[..., None], 3, -1))
        assert outside.sum() == 95 * 105 - 90 * 100  # nothing is pasted beyond the picture
        assert (varied.label == IGNORE).sum() <= outside.sum() + 10 * 100
        seen.add(tuple(np.argwhere(pasted).min(0).tolist()))
    assert len(seen) > 10


def test_cutmix_takes_one_rectangle_with_its_labels() -> None:
    pool = two(painted(np.zeros(SIZE, np.uint8), 0), painted(np.ones(SIZE, np.uint8), 200))
    shares, corners = [], set()
    for seed in range(200):
        varied = run(dataclasses.replace(PLAIN, cutmix=1), seed, SIZE, *pool.load(0), pool=pool)
        other = varied.label == 1
        np.testing.assert_array_equal((varied.image == 200).all(-1), other)
        rows, columns = other.any(1), other.any(0)
        np.testing.assert_array_equal(other, rows[:, None] & columns)  # a rectangle ...
        for line in (rows, columns):
            assert (np.diff(line.astype(int)) != 0).sum() <= 2  # ... in one piece
        if other.any():
            shares.append(other.mean())
            corners.add(tuple(np.argwhere(other)[0].tolist()))
    assert 70 < len(shares) < 130  # the other half took it from a picture of the same class
    assert len(corners) > 60
    assert min(shares) < 0.05
    assert max(shares) > 0.7


def test_a_rare_class_is_drawn_by_its_share() -> None:
    """exp((1 - f) / T) of DAFormer: at T 0.01 a share that is 0.01 higher makes a class e times rarer."""
    counts = np.array([[5000, 200, 0, 100], [4400, 200, 0, 100]])
    pool = make_pool(lambda index: (PHOTO, LABEL), 2, counts)
    assert pool.weights.sum() == pytest.approx(1)
    assert pool.weights[2] == 0
    assert pool.weights[3] / pool.weights[1] == pytest.approx(math.exp(0.02 / 0.01))
    drawn = [pool.rare_class(draw) for draw in np.linspace(0, 0.999, 1000)]
    assert drawn.count(3) == pytest.approx(1000 * pool.weights[3], abs=2)
    assert pool.rare_class(0.999, np.array([True, False, True, False])) == 0
    assert pool.rare_class(0.5, np.zeros(4, bool)) is None


@pytest.mark.parametrize("option", ["class_crop", "copy_paste", "cutmix"])
def test_options_that_need_the_dataset_say_so(option: str) -> None:
    with pytest.raises(UsageError, match="need the dataset"):
        run(dataclasses.replace(PLAIN, **{option: 0.5}))


def test_what_holds_no_class_stays_as_it_is() -> None:
    nothing = np.full(SIZE, IGNORE, np.uint8)
    pool = make_pool(lambda index: (PHOTO, nothing), 1, np.zeros((1, 3), np.int64))
    varied = run(dataclasses.replace(PLAIN, class_crop=1, copy_paste=1), label=nothing, pool=pool)
    np.testing.assert_array_equal(varied.image, PHOTO)
    assert list(varied.parameters) == ["scale"]


# Colours


@pytest.mark.parametrize("name", COLORS)
def test_a_colour_option_leaves_labels_and_padding(name: str) -> None:
    changed = 0
    for seed in range(12):
        before = Augmentation((0.6, 0.9), rotate=20)
        after = dataclasses.replace(before, **{name: COLORS[name]})
        plain, colored = run(before, seed), run(after, seed)
        np.testing.assert_array_equal(plain.label, colored.label)
        outside = (plain.image == np.uint8(PAD)).all(-1)
        assert outside.mean() > 0.1
        np.testing.assert_array_equal(colored.image[outside], plain.image[outside])
        changed += not np.array_equal(plain.image, colored.image)
        assert (len(colored.parameters) > len(plain.parameters)) == (not np.array_equal(plain.image, colored.image))
    assert changed >= 3


def test_filters_see_nothing_but_the_picture() -> None:
    """A plain picture stays plain up to its border, so the pad colour is nowhere mixed in."""
    plain = np.full((60, 60, 3), 180, np.uint8)
    for seed in range(10):
        augmentation = Augmentation((1, 1), rotate=30, blur=1, sharpness=1)
        varied = run(augmentation, seed, (80, 80), plain, np.zeros((60, 60), np.uint8))
        assert (varied.image[varied.label != IGNORE] == 180).all()


def test_greyscale_is_luminance() -> None:
    varied = run(dataclasses.replace(PLAIN, greyscale=1))
    expected = PHOTO @ np.array([0.299, 0.587, 0.114])
    assert np.abs(varied.image - expected[..., None]).max() < 1
    assert (np.ptp(varied.image, axis=-1) == 0).all()


def test_sharpness_and_blur_change_detail() -> None:
    def detail(image: np.ndarray) -> float:
        return float(cv2.Laplacian(image, cv2.CV_64F).std())

    results = [run(dataclasses.replace(PLAIN, sharpness=1), seed) for seed in range(20)]
    ordered = sorted(results, key=lambda varied: float(varied.parameters["sharpness"]))
    details = [detail(varied.image) for varied in ordered]
    assert details == sorted(details)
    assert details[0] < detail(PHOTO) < details[-1]
    for seed in range(5):
        assert detail(run(dataclasses.replace(PLAIN, blur=1), seed).image) < detail(PHOTO)


def test_clahe_spreads_a_narrow_range_and_keeps_the_colour() -> None:
    pale = (100 + PHOTO // 8).astype(np.uint8)
    for seed in range(5):
        image = run(dataclasses.replace(PLAIN, clahe=1), seed, image=pale).image
        assert image.std() > 1.3 * pale.std()
        chroma = [cv2.cvtColor(one, cv2.COLOR_RGB2YCrCb)[..., 1:].astype(int) for one in (image, pale)]
        assert np.abs(chroma[0] - chroma[1]).max() <= 2  # bytes on the way there and back


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 9), (7, 2), (33, 35)])
def test_every_option_works_at_every_size(size_hw: tuple[int, int]) -> None:
    """OpenCV takes arrays of 1 to 4 numbers for something else than pictures in places."""
    pool = two((PHOTO, np.minimum(LABEL, 1)), painted(np.ones((3, 5), np.uint8), 200))
    options = COLORS | dict.fromkeys(("greyscale", "blur", "clahe", "gridmask", "class_crop", "copy_paste"), 1)
    for rotate in (0, 25):
        augmentation = Augmentation((0.2, 2), rotate=rotate, zoom=0.5, flip_vertical=0.5, cutmix=0.7, **options)
        for seed in range(15):
            label = np.minimum(LABEL, 1)
            varied = run(augmentation, seed, size_hw, label=label, pool=pool)
            assert (varied.image.shape, varied.label.shape) == ((*size_hw, 3), size_hw)
            assert (varied.image.dtype, varied.label.dtype) == (np.uint8, np.uint8)
            assert set(np.unique(varied.label)) <= {0, 1, IGNORE}
            np.testing.assert_array_equal(label, np.minimum(LABEL, 1))
