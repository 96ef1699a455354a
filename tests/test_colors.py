"""Colours: CIEDE2000 against scikit-image, and palettes whose classes can be told apart on the screen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import color as reference

from deeplabv3p import colors
from deeplabv3p.data.classes import default_colors, load_classes
from deeplabv3p.spec import ClassInfo

CHANNEL = st.integers(0, 255)
PALETTES = st.lists(st.tuples(CHANNEL, CHANNEL, CHANNEL), max_size=24, unique=True)


def classes_of(palette):
    return tuple(ClassInfo(f"c{index}", color) for index, color in enumerate(palette))


def nearest(classes):
    """The smallest difference of two of the colours, black ones apart: they are not tinted."""
    places = colors.lab([item.color for item in classes if item.color != (0, 0, 0)])
    found = colors.difference(places[:, None], places[None])
    np.fill_diagonal(found, np.inf)
    return float(found.min())


def test_differences_are_those_of_scikit_image():
    pairs = np.random.default_rng(0).integers(0, 256, (2000, 2, 3)).astype(np.uint8)
    pairs[:50] = pairs[:50, :, :1]  # greys have no hue
    first, second = colors.lab(pairs[:, 0]), colors.lab(pairs[:, 1])
    expected = reference.deltaE_ciede2000(*(reference.rgb2lab(pairs[None, :, side] / 255)[0] for side in (0, 1)))
    # Both round the matrix of sRGB to seven digits, differently.
    np.testing.assert_allclose(colors.difference(first, second), expected, atol=0.02)
    np.testing.assert_allclose(colors.difference(second, first), colors.difference(first, second), atol=1e-9)


def test_the_example_of_the_eye_voc_aeroplane_and_chair():
    pair = classes_of([(0, 0, 0), (128, 0, 0), (192, 0, 0)])
    shown = colors.on_screen(pair)
    assert shown[:2] == pair[:2], "the earlier one keeps its colour, and black stays black"
    assert nearest(shown) > 40
    assert [item.name for item in shown] == ["c0", "c1", "c2"]


@pytest.mark.parametrize("name", ["voc", "camvid", "cityscapes"])
def test_known_palettes_can_be_told_apart_and_mostly_stay(name, pytestconfig):
    classes = load_classes(pytestconfig.rootpath / "configs" / f"{name}_classes.txt").classes
    shown = colors.on_screen(classes)
    assert nearest(shown) >= colors.DISTINCT
    assert sum(a == b for a, b in zip(classes, shown, strict=True)) > len(classes) / 2


@given(PALETTES)
def test_any_two_dozen_colours_can_be_told_apart(palette):
    shown = colors.on_screen(classes_of(palette))
    assert len(shown) == len(palette)
    if len(palette) > 1:
        assert nearest(shown) >= colors.DISTINCT or palette.count((0, 0, 0)) == len(palette) - 1
    for before, after in zip(palette, shown, strict=True):
        assert (before == (0, 0, 0)) == (after.color == (0, 0, 0)), "black means: not tinted"


@given(PALETTES)
def test_colours_that_can_be_told_apart_stay(palette):
    shown = colors.on_screen(classes_of(palette))
    assert colors.on_screen(shown) == shown
    assert colors.on_screen(classes_of(palette)) == shown, "the same in every picture"


def test_any_number_of_classes_has_colours():
    """There are not 255 colours that can be told apart at a glance; these are at least different."""
    assert colors.on_screen(()) == ()
    many = colors.on_screen(classes_of(default_colors(255)))
    assert len({item.color for item in many}) == 255
    assert nearest(many) > nearest(classes_of(default_colors(255)))
