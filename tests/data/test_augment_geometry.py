"""Geometry: a label map drawn as a picture moves with that picture, whatever is done to both."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplabv3p.data.augment import Augmentation, Pool, Varied, make_pool, vary
from deeplabv3p.data.augment.options import DRAWS, Draw
from deeplabv3p.data.augment.view import View, look
from deeplabv3p.pixels import IGNORE

PAD = (255.0, 7.0, 77.0)
CLASSES = 6
COLORS = np.random.default_rng(0).integers(0, 256, (CLASSES, 3)).astype(np.uint8)
COLORS[:, 0] //= 3  # no mixture of them has the red of PAD


def drawn_labels(seed: int, size_hw: tuple[int, int], radius: int) -> tuple[np.ndarray, np.ndarray]:
    """A label map of blocks, and the map drawn as a picture.

    The label is twice the class, and one more where all pixels within ``radius`` are of that class. There, a picture
    that is interpolated from these pixels has the colour of the class exactly.
    """
    blocks = np.random.default_rng(seed).integers(0, CLASSES, (8, 8))
    classes = np.kron(blocks, np.ones((40, 40), int)).astype(np.uint8)[: size_hw[0], : size_hw[1]]
    square = np.ones((2 * radius + 1,) * 2, np.uint8)
    inner = cv2.erode(classes, square) == cv2.dilate(classes, square)
    return np.ascontiguousarray(COLORS[classes]), 2 * classes + inner.astype(np.uint8)


def pool_of(radius: int) -> Pool:
    """Three pictures of different sizes."""
    samples = [drawn_labels(seed, size_hw, radius) for seed, size_hw in enumerate(((130, 180), (200, 90), (320, 300)))]
    counts = np.array([np.bincount(label.ravel(), minlength=2 * CLASSES) for _, label in samples])
    return make_pool(lambda index: samples[index], len(samples), counts)


# Three pictures interpolated as they are, and three that are averaged over blocks of up to 4 pixels first: block
# averages reach 1.5 blocks from where they are taken, and the nearest pixel is at most half a pixel from there.
POOLS = {1: pool_of(1), 4: pool_of(7)}

switch = st.sampled_from([0.0, 0.5, 1.0])


@settings(max_examples=250, deadline=None)
@given(
    shrinking=st.sampled_from([1, 4]),
    scale=st.floats(0, 1),
    zoom=st.sampled_from([0.0, 0.1, 0.3]),
    rotate=st.sampled_from([0.0, 20.0, 180.0]),
    flips=st.tuples(switch, switch),
    mixing=st.fixed_dictionaries(dict.fromkeys(("gridmask", "class_crop", "copy_paste", "cutmix"), switch)),
    size_hw=st.tuples(st.integers(1, 260), st.integers(1, 260)),
    seed=st.integers(0, 2**32),
)
def test_a_label_map_drawn_as_a_picture_moves_exactly_with_it(
    shrinking: int,
    scale: float,
    zoom: float,
    rotate: float,
    flips: tuple[float, float],
    mixing: dict[str, float],
    size_hw: tuple[int, int],
    seed: int,
) -> None:
    # With the strongest zoom, floor(1 / scale) is the block size that the pool is made for, or less.
    lowest = 1.001 / (shrinking + 1) / (1 - zoom)
    factor = lowest + scale * (3 - lowest)
    options: dict[str, Any] = {"zoom": zoom, "rotate": rotate, **mixing}
    augmentation = Augmentation((factor, factor), flip=flips[0], flip_vertical=flips[1], **options)
    varied = vary_one(augmentation, size_hw, seed, POOLS[shrinking])
    image, label = varied.image, varied.label
    assert (image.shape, label.shape) == ((*size_hw, 3), size_hw)
    ignored = label == IGNORE
    np.testing.assert_array_equal(image[ignored], np.broadcast_to(np.uint8(PAD), (np.count_nonzero(ignored), 3)))
    assert image[~ignored][:, 0].max(initial=0) <= COLORS[:, 0].max()  # nowhere else any of PAD
    certain = ~ignored & (label % 2 == 1)
    np.testing.assert_array_equal(image[certain], COLORS[label[certain] // 2])


def vary_one(augmentation: Augmentation, size_hw: tuple[int, int], seed: int, pool: Pool) -> Varied:
    rng = np.random.default_rng(seed)
    return vary(*pool.load(seed % 3), size_hw, rng, augmentation, pad_color=PAD, pool=pool)


@pytest.mark.parametrize("shrinking", [1, 4])
def test_that_says_something_of_most_pixels(shrinking: int) -> None:
    augmentation = Augmentation((0.6, 1) if shrinking == 1 else (0.3, 0.6), rotate=30, copy_paste=0.5, cutmix=0.5)
    labels = np.stack([vary_one(augmentation, (100, 100), seed, POOLS[shrinking]).label for seed in range(30)])
    inside = labels[labels != IGNORE]
    assert inside.size > 0.3 * labels.size
    assert np.mean(inside % 2) > (0.8 if shrinking == 1 else 0.35)


# Pictures whose values are coordinates: what the picture shows at a pixel says where it was taken from.
COLUMNS = np.tile(np.arange(200, dtype=np.uint8), (150, 1))
ROWS = np.tile(np.arange(150, dtype=np.uint8)[:, None], (1, 200))
COORDINATES = np.dstack([COLUMNS, ROWS, COLUMNS])


@settings(max_examples=100, deadline=None)
@given(
    scale=st.floats(0.3, 4),
    zoom=st.floats(0, 0.5),
    rotate=st.sampled_from([0.0, 30.0, 180.0]),
    upside_down=switch,
    size_hw=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    seed=st.integers(0, 2**32),
)
def test_picture_and_label_are_taken_from_the_same_place(
    scale: float, zoom: float, rotate: float, upside_down: float, size_hw: tuple[int, int], seed: int
) -> None:
    augmentation = Augmentation((scale, scale), zoom=zoom, rotate=rotate, flip_vertical=upside_down)
    half_block = math.floor(1 / (scale * (1 - zoom))) // 2  # nearer to the edge there is no block to mix with
    for channel, (label, length) in enumerate(((COLUMNS, 200), (ROWS, 150))):
        rng = np.random.default_rng(seed)
        varied = vary(COORDINATES, label, size_hw, rng, augmentation, pad_color=PAD)
        inside = (varied.label >= half_block) & (varied.label < length - half_block)
        # Nearest is at most half a pixel off, and the block averages and the bilinear value are rounded by as much.
        assert np.abs(varied.image[..., channel].astype(int) - varied.label)[inside].max(initial=0) <= 1


def seen(augmentation: Augmentation, size_hw: tuple[int, int] = COLUMNS.shape, **draws: float) -> View:
    """The view of COORDINATES (label: ROWS) with these random numbers, the others 0.5."""
    values = np.full(DRAWS, 0.5)
    for name, value in draws.items():
        values[Draw[name]] = value
    return look(COORDINATES, ROWS, size_hw, values, augmentation, {})


def test_a_quarter_turn_is_exact() -> None:
    square = Augmentation((1, 1), flip=0, rotate=90)
    window = (150, 150)
    straight = seen(Augmentation((1, 1), flip=0), window)
    for draw, turns in ((0.0, 1), (1.0, -1)):
        turned = seen(square, window, ROTATE=draw)
        np.testing.assert_array_equal(turned.image, np.rot90(straight.image, -turns))
        np.testing.assert_array_equal(turned.label, np.rot90(straight.label, -turns))
        assert turned.inside is not None
        assert (turned.inside == 255).all()


def test_a_turn_is_about_the_middle_by_its_angle() -> None:
    turned = seen(Augmentation((1, 1), flip=0, rotate=30), ROTATE=1.0)
    angle = math.radians(30)
    y, x = np.indices(ROWS.shape) - np.array([74.5, 99.5])[:, None, None]
    expected = np.sin(angle) * x + np.cos(angle) * y + 74.5
    inside = turned.label != IGNORE
    assert 0.6 < inside.mean() < 0.9
    np.testing.assert_array_less(np.abs(turned.label - expected)[inside], 0.51)  # nearest, coordinates in 1/1024


def test_what_is_beyond_a_turned_picture_is_its_edge_and_ignored() -> None:
    """Filters that look at neighbours must not meet the pad colour, so it comes last."""
    view = seen(Augmentation((1, 1), flip=0, rotate=30), ROTATE=0.0)
    assert view.inside is not None
    np.testing.assert_array_equal(view.label == IGNORE, view.inside == 0)
    assert view.image[0, 0, 0] in (0, 199)
    image, label = view.padded(PAD)
    np.testing.assert_array_equal((image == np.uint8(PAD)).all(-1), label == IGNORE)


def test_a_small_picture_stays_in_view_however_it_is_turned() -> None:
    """It is turned about its own middle, wherever in the window it is: about the window's it could leave it."""
    image, label = COORDINATES[:20, :60], np.zeros((20, 60), np.uint8)
    for seed in range(60):
        augmentation = Augmentation((1, 1), rotate=180)
        varied = vary(image, label, (60, 200), np.random.default_rng(seed), augmentation)
        assert np.count_nonzero(varied.label == 0) > 20 * 60 / 2


def test_zoom_changes_height_and_width_apart() -> None:
    view = seen(Augmentation((1, 1), flip=0, zoom=0.4), (400, 400), ZOOM_Y=1.0, ZOOM_X=0.0)
    assert view.label.shape == (round(1.4 * 150), round(0.6 * 200))
    assert np.diff(view.image[50, 20:100, 0].astype(float)).mean() == pytest.approx(1 / 0.6, abs=0.03)
    assert np.diff(view.image[20:180, 50, 1].astype(float)).mean() == pytest.approx(1 / 1.4, abs=0.03)


def test_upside_down_is_exact() -> None:
    straight = seen(Augmentation((1, 1), flip=0), (200, 120))
    flipped = seen(Augmentation((1, 1), flip=0, flip_vertical=1), (200, 120))
    np.testing.assert_array_equal(flipped.image, straight.image[::-1])
    np.testing.assert_array_equal(flipped.label, straight.label[::-1])
    assert flipped.margins == straight.margins == (25, 25, 0, 0)


@settings(max_examples=100, deadline=None)
@given(
    row=st.integers(0, 149),
    column=st.integers(0, 199),
    scale=st.sampled_from([1.0, 1.5, 2.7]),
    rotate=st.sampled_from([0.0, 180.0]),
    size_hw=st.tuples(st.integers(3, 250), st.integers(3, 250)),
    seed=st.integers(0, 2**32),
)
def test_a_class_crop_shows_a_single_pixel_of_the_rare_class(
    row: int, column: int, scale: float, rotate: float, size_hw: tuple[int, int], seed: int
) -> None:
    label = np.zeros(ROWS.shape, np.uint8)
    label[row, column] = 1
    pool = make_pool(lambda _: (COORDINATES, label), 1, np.array([[label.size - 1, 1]]))
    augmentation = Augmentation((scale, scale), flip_vertical=0.5, rotate=rotate, class_crop=1)
    varied = vary(COORDINATES, label, size_hw, np.random.default_rng(seed), augmentation, pool=pool)
    assert (varied.label == 1).any()
    assert varied.parameters["class crop"] == "class 1"


def test_a_class_crop_lays_the_window_at_every_place_that_shows_the_pixel() -> None:
    label = np.zeros(ROWS.shape, np.uint8)
    label[80, 120] = 1
    pool = make_pool(lambda _: (COORDINATES, label), 1, np.array([[label.size - 1, 1]]))
    places = set()
    for seed in range(200):
        varied = vary(
            COORDINATES,
            label,
            (4, 5),
            np.random.default_rng(seed),
            Augmentation((1, 1), flip=0, class_crop=1),
            pool=pool,
        )
        places.add(tuple(np.argwhere(varied.label == 1)[0].tolist()))
    assert places == {(y, x) for y in range(4) for x in range(5)}
