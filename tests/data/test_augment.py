from __future__ import annotations

import colorsys
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import astronaut

from deeplabv3p.data.augment import Augmentation, vary
from deeplabv3p.errors import UsageError
from deeplabv3p.pixels import IGNORE

PHOTO = np.ascontiguousarray(astronaut()[:150, :200])
LABEL = (PHOTO[..., 0] // 20).astype(np.uint8)
PAD = (10.0, 20.0, 30.0)
NO_CHANGE = Augmentation((1, 1), flip=0)


def augment(*arguments: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """The two arrays of a sample."""
    varied = vary(*arguments, **options)
    return varied.image, varied.label


def run(
    size_hw: tuple[int, int], augmentation: Augmentation, seed: int = 0, image: np.ndarray = PHOTO
) -> tuple[np.ndarray, np.ndarray]:
    label = LABEL if image is PHOTO else np.zeros(image.shape[:2], np.uint8)
    return augment(image, label, size_hw, np.random.default_rng(seed), augmentation, pad_color=PAD)


def test_scale_1_copies_pixels() -> None:
    image, label = run(LABEL.shape, NO_CHANGE)
    np.testing.assert_array_equal(image, PHOTO)
    np.testing.assert_array_equal(label, LABEL)
    image, label = run(LABEL.shape, Augmentation((1, 1), flip=1))
    np.testing.assert_array_equal(image, PHOTO[:, ::-1])
    np.testing.assert_array_equal(label, LABEL[:, ::-1])


@pytest.mark.parametrize("flip", [0, 1])
def test_scale_1_crops_at_every_place(flip: int) -> None:
    places = set()
    for seed in range(40):
        image, label = run((148, 197), Augmentation((1, 1), flip=flip), seed)
        views = {
            (top, left): PHOTO[top : top + 148, left : left + 197][:, :: -1 if flip else 1]
            for top in range(3)
            for left in range(4)
        }
        [(top, left)] = [place for place, view in views.items() if np.array_equal(view, image)]
        np.testing.assert_array_equal(label, LABEL[top : top + 148, left : left + 197][:, :: -1 if flip else 1])
        places.add((top, left))
    assert {top for top, _ in places} == {0, 1, 2}
    assert {left for _, left in places} == {0, 1, 2, 3}


@pytest.mark.parametrize("flip", [0, 1])
def test_a_small_picture_is_padded_at_random_sides(flip: int) -> None:
    offsets = set()
    for seed in range(30):
        image, label = run((160, 180), Augmentation((1, 1), flip=flip), seed)
        inside = label != IGNORE
        rows = np.flatnonzero(inside.any(1))
        assert inside[rows].all()  # wider than the window: no padding left or right
        assert len(rows) == 150
        assert rows[-1] - rows[0] == 149
        np.testing.assert_array_equal(image[~inside], np.broadcast_to(PAD, (10 * 180, 3)))
        offsets.add(int(rows[0]))
    assert min(offsets) < 3
    assert max(offsets) > 7


# Pictures whose values are coordinates: what the picture shows at a pixel says where it was taken from.
COLUMNS = np.tile(np.arange(200, dtype=np.uint8), (150, 1))
ROWS = np.tile(np.arange(150, dtype=np.uint8)[:, None], (1, 200))
COORDINATES = np.dstack([COLUMNS, ROWS, COLUMNS])


@settings(max_examples=150, deadline=None)
@given(
    scale=st.floats(0.2, 4),
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    seed=st.integers(0, 2**32),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_a_label_moves_exactly_with_its_picture(scale: float, height: int, width: int, seed: int, flip: float) -> None:
    augmentation = Augmentation((scale, scale), flip=flip)
    results = [
        augment(COORDINATES, label, (height, width), np.random.default_rng(seed), augmentation, pad_color=PAD)
        for label in (COLUMNS, ROWS)
    ]
    for channel, (image, label) in enumerate(results):
        assert image.shape == (height, width, 3)
        assert label.shape == (height, width)
        inside = label != IGNORE
        # Nearest is at most half a pixel off, and the bilinear value is rounded by as much.
        assert np.abs(image[..., channel].astype(int) - label)[inside].max(initial=0) <= 1
        np.testing.assert_array_equal(image[~inside], np.broadcast_to(PAD, (np.count_nonzero(~inside), 3)))
        for axis, (length, window) in enumerate(((150, height), (200, width))):
            visible = np.count_nonzero(inside.any(1 - axis))
            assert visible == min(window, max(1, round(length * scale)))


@pytest.mark.parametrize("scale", [0.3, 0.7, 1.3, 2.9])
def test_labels_are_never_mixed(scale: float) -> None:
    label = (np.indices((150, 200)).sum(0) % 2 * 200).astype(np.uint8)
    _, result = augment(PHOTO, label, (170, 210), np.random.default_rng(0), Augmentation((scale, scale)))
    assert set(np.unique(result)) <= {0, 200, IGNORE}


@pytest.mark.parametrize("scale", [0.6, 1.7])
def test_the_scale_is_the_distance_between_pixels(scale: float) -> None:
    image, label = augment(
        COORDINATES, COLUMNS, (40, 60), np.random.default_rng(0), Augmentation((scale, scale), flip=0)
    )
    assert np.diff(image[20, :, 0].astype(float)).mean() == pytest.approx(1 / scale, abs=0.02)
    assert np.diff(image[:, 20, 1].astype(float)).mean() == pytest.approx(1 / scale, abs=0.03)
    assert set(np.diff(label[20].astype(int))) <= ({1, 2} if scale < 1 else {0, 1})


def test_a_seed_means_the_same_window_in_every_version() -> None:
    """Recipes are published with their seeds. Copied pixels, so no machine rounds them differently."""
    expected = [(93, 22, True), (98, 90, True), (43, 65, False), (36, 132, True), (87, 159, False), (0, 40, False)]
    for seed, (top, left, flipped) in enumerate(expected):
        rng = np.random.default_rng([seed, 1, 2])
        image, _ = augment(COORDINATES, COLUMNS, (20, 30), rng, Augmentation((1, 1), flip=0.5))
        view = COORDINATES[top : top + 20, left : left + 30]
        np.testing.assert_array_equal(image, view[:, ::-1] if flipped else view)


def test_the_drawn_scale_and_flip_cover_their_range() -> None:
    wide, flipped = [], 0
    for seed in range(300):
        _, label = augment(
            COORDINATES, COLUMNS, (10, 401), np.random.default_rng(seed), Augmentation((0.5, 2), flip=0.3)
        )
        row = label[5][label[5] != IGNORE].astype(int)
        wide.append(len(row) / 200)
        flipped += row[0] > row[-1]
    assert 0.5 <= min(wide) < 0.55
    assert 1.95 < max(wide) <= 2
    assert np.mean(wide) == pytest.approx(1.25, abs=0.08)
    assert 60 < flipped < 120


@pytest.mark.parametrize("scale", [0.5, 0.4, 0.26, 0.125])
def test_strong_shrinking_does_not_alias(scale: float) -> None:
    stripes = np.zeros((240, 240, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than any of these scales can show
    size = round(240 * scale)
    image, _ = run((size, size), Augmentation((scale, scale), flip=0), image=stripes)
    assert np.abs(image.astype(float) - 127.5).max() < 45
    plain, _ = run((size, size), Augmentation((scale, scale), flip=0), image=np.full_like(stripes, 200))
    assert (plain == 200).all()


def test_the_result_depends_on_the_generator_alone() -> None:
    augmentation = Augmentation(brightness=0.2, contrast=0.2, saturation=0.2, hue=10)
    first, again, other = (run((64, 80), augmentation, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_switching_colours_on_leaves_the_geometry() -> None:
    for seed in range(5):
        _, plain = run((64, 80), Augmentation(), seed)
        _, colored = run((64, 80), Augmentation(brightness=0.2, hue=10), seed)
        np.testing.assert_array_equal(plain, colored)


def test_inputs_are_not_changed() -> None:
    image, label = PHOTO.copy(), LABEL.copy()
    run(LABEL.shape, Augmentation((1, 1), brightness=0.5))
    np.testing.assert_array_equal(PHOTO, image)
    np.testing.assert_array_equal(LABEL, label)


def test_colours_stay_out_of_the_padding() -> None:
    for seed in range(10):
        image, label = run((200, 300), Augmentation((0.7, 0.9), brightness=1), seed)
        outside = image[label == IGNORE]
        np.testing.assert_array_equal(outside, np.broadcast_to(PAD, outside.shape))


def changes(augmentation: Augmentation, color: tuple[int, int, int]) -> np.ndarray:
    """The colour that 200 draws make of a plain picture, [200, 3]."""
    plain = np.full((4, 4, 3), color, np.uint8)
    return np.array([run((4, 4), augmentation, seed, plain)[0][0, 0] for seed in range(200)], float)


def test_brightness_shifts_all_channels_alike() -> None:
    shift = changes(Augmentation((1, 1), brightness=0.1), (100, 120, 140)) - (100, 120, 140)
    assert (np.ptp(shift, axis=1) <= 1).all()
    assert -26 <= shift.min() < -22
    assert 22 < shift.max() <= 26


def test_contrast_scales_about_mid_grey() -> None:
    result = changes(Augmentation((1, 1), contrast=0.5), (127, 128, 207))
    assert np.abs(result[:, :2] - 127.5).max() <= 1
    factor = (result[:, 2] - 127.5) / (207 - 127.5)
    assert 0.49 < factor.min() < 0.55
    assert 1.45 < factor.max() < 1.51


def test_saturation_keeps_luminance_and_grey() -> None:
    color = np.array([120, 90, 150])
    result = changes(Augmentation((1, 1), saturation=1), tuple(color))
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs(result @ luma - color @ luma).max() < 1
    spread = np.ptp(result, axis=1)
    assert spread.min() < 4  # nearly grey
    assert spread.max() > 110
    np.testing.assert_array_equal(changes(Augmentation((1, 1), saturation=1), (90, 90, 90)), np.full((200, 3), 90))


def test_hue_turns_the_colour_circle() -> None:
    result = changes(Augmentation((1, 1), hue=60), (180, 100, 100))
    hues = np.array([(colorsys.rgb_to_hsv(*(pixel / 255))[0] * 360 + 180) % 360 - 180 for pixel in result])
    assert -61 < hues.min() < -54
    assert 54 < hues.max() < 61
    np.testing.assert_array_equal(changes(Augmentation((1, 1), hue=180), (90, 90, 90)), np.full((200, 3), 90))


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": (0, 1)},
        {"scale": (2, 1)},
        {"scale": (1, float("inf"))},
        {"scale": (float("nan"), 1)},
        {"flip": -0.1},
        {"flip": 1.1},
        {"brightness": 1.5},
        {"contrast": -1},
        {"saturation": 2},
        {"hue": 181},
        {"hue": float("nan")},
        {"rotate": 181},
        {"zoom": 0.95},
        {"gridmask": 1.5},
        {"gridmask_d": (0, 0.5)},
        {"gridmask_ratio": 1},
        {"gridmask_angle": 46},
        {"gridmask_ramp": -1},
        {"copy_paste": float("nan")},
    ],
)
def test_impossible_settings_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Augmentation(**wrong)  # type: ignore[arg-type]


def test_the_number_of_opencv_threads_changes_nothing() -> None:
    threads = cv2.getNumThreads()
    large = np.ascontiguousarray(np.tile(PHOTO, (4, 4, 1)))
    try:
        results = []
        for number in (1, 2, 3):
            cv2.setNumThreads(number)
            augmentation = Augmentation((0.7, 0.8), hue=10, rotate=10, blur=1, sharpness=1, clahe=1, gridmask=1)
            results.append(run((512, 512), augmentation, image=large)[0])
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
