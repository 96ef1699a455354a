"""Polygons, lines and run lengths against definitions that are written differently."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplabv3p.data.convert.raster import (
    brush_mask,
    coco_mask,
    draw_line,
    fill_polygon,
    fill_runs,
    points_of,
)
from deeplabv3p.errors import DataError

H, W = 20, 24
COORDINATE = st.integers(-80, 280).map(lambda n: n / 8 + 1 / 64)  # never exactly at a pixel's centre


def inside(points: list[tuple[float, float]]) -> np.ndarray:
    """By the crossings of a ray to the right of every pixel's centre, one edge and pixel at a time."""
    result = np.zeros((H, W), bool)
    for row in range(H):
        for column in range(W):
            x, y = column + 0.5, row + 0.5
            for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
                if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                    result[row, column] ^= True
    return result


@given(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=7))
def test_a_pixel_belongs_to_a_polygon_if_its_centre_does(points):
    label = np.zeros((H, W), np.uint8)
    fill_polygon(label, points, 3)
    np.testing.assert_array_equal(label, np.where(inside(points), 3, 0))


@given(st.tuples(COORDINATE, COORDINATE), st.integers(3, 12))
def test_polygons_that_share_edges_tile_the_picture(center, count):
    """Slices of the whole picture around any point: each pixel is in exactly one."""
    angles = 2 * np.pi * np.arange(count + 1) / count
    far = [(center[0] + 1000 * np.cos(a), center[1] + 1000 * np.sin(a)) for a in angles]
    total = np.zeros((H, W), np.uint8)
    for first, second in itertools.pairwise(far):
        part = np.zeros((H, W), np.uint8)
        fill_polygon(part, [center, first, second], 1)
        total += part
    assert (total == 1).all()


def test_rectangles_are_exact_and_cut_off():
    label = np.zeros((H, W), np.uint8)
    fill_polygon(label, [(2, 3), (7, 3), (7, 9), (2, 9)], 1)
    assert label.sum() == 5 * 6
    assert label[3:9, 2:7].all()
    fill_polygon(label, [(-50, -50), (1e5, -50), (1e5, 1), (-50, 1)], 2)
    assert (label[0] == 2).all()
    assert not (label[1:] == 2).any()
    before = label.copy()
    fill_polygon(label, [(-9, -9), (-2, -9), (-2, -2)], 5)
    fill_polygon(label, [(90, 3), (99, 3), (99, 9)], 5)
    fill_polygon(label, [(3, 3), (3, 3), (3, 3)], 5)
    np.testing.assert_array_equal(label, before)


def test_a_ring_with_a_bridge_has_a_hole():
    outer, inner = [(2, 2), (12, 2), (12, 12), (2, 12), (2, 2)], [(5, 5), (5, 9), (9, 9), (9, 5), (5, 5)]
    label = np.zeros((H, W), np.uint8)
    fill_polygon(label, outer + inner, 1)
    assert label.sum() == 100 - 16
    assert not label[5:9, 5:9].any()


@pytest.mark.parametrize("thickness", [1, 2, 3, 4, 7])
def test_lines_are_as_thick_as_asked(thickness):
    label = np.zeros((H, W), np.uint8)
    middle = 10.5 if thickness % 2 else 10.0
    draw_line(label, [(6, middle), (18, middle)], 1, thickness)
    assert label[:, 12].sum() == thickness
    diagonal = np.zeros((H, W), np.uint8)
    draw_line(diagonal, [(0, 0), (20, 20)], 1, thickness)
    assert diagonal.diagonal().all()


def test_lines_far_outside_draw_nothing():
    label = np.zeros((H, W), np.uint8)
    draw_line(label, [(-50, -50), (-20, -30)], 1, 5)
    draw_line(label, [(500, 5)], 1, 5)
    assert not label.any()


@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_coco_run_lengths_go_down_the_columns(bits):
    mask = np.array(bits).reshape(3, 4)
    flat = mask.T.ravel().tolist()
    counts, value, count = [], False, 0
    for pixel in flat:
        if pixel != value:
            counts.append(count)
            value, count = pixel, 0
        count += 1
    counts.append(count)
    np.testing.assert_array_equal(coco_mask({"size": [3, 4], "counts": counts}, "x"), mask)


def test_compressed_run_lengths_as_coco_writes_them():
    """By hand: 6 is '6'; 40 is 8 and 1, so 'X1' (8 | 32 = 40 → 'X', 1 → '1'); the fourth is the difference to the
    second, 2 - 40 = -38, which is 26 and -2 (26 | 32 = 58 → 'j', 30 → 'N')."""
    mask = coco_mask({"size": [10, 9], "counts": "6X1X1jN"}, "x")
    runs = [6, 40, 40, 2]
    np.testing.assert_array_equal(mask, fill_runs(runs, 90, "x").reshape(9, 10).T)


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        (None, "neither polygons nor run lengths"),
        ({"size": [3, 4]}, "neither polygons nor run lengths"),
        ({"size": [3], "counts": []}, "mask of size"),
        ({"size": [60000, 60000], "counts": [1]}, "mask of size"),
        ({"size": [3, 4], "counts": [13]}, "runs of 13 pixels in a mask of 12"),
        ({"size": [3, 4], "counts": [-1, 5]}, "no whole numbers from 0 up"),
        ({"size": [3, 4], "counts": [1 << 50]}, "no whole numbers from 0 up"),
        ({"size": [3, 4], "counts": 7}, "of type int"),
        ({"size": [3, 4], "counts": "X"}, "cut off"),
        ({"size": [3, 4], "counts": "é"}, "damaged"),
        ({"size": [3, 4], "counts": "XXXXXXXXXXXXXXXXX"}, "damaged"),
    ],
)
def test_run_lengths_that_lie(segmentation, reason):
    with pytest.raises(DataError, match=reason):
        coco_mask(segmentation, "x")


@given(st.binary(max_size=40).map(list))
def test_any_brush_is_read_or_refused(data):
    with contextlib.suppress(DataError):
        assert brush_mask(data, (2, 2), "x").shape == (2, 2)


@given(st.text(max_size=12))
def test_any_compressed_text_is_read_or_refused(text):
    with contextlib.suppress(DataError):
        assert coco_mask({"size": [5, 4], "counts": text}, "x").shape == (5, 4)


@pytest.mark.parametrize("values", [[[1, 2], [3]], "abc", [[1, None]], [[float("nan"), 1]], [[1e7, 0]], {}, None])
def test_points_that_lie(values):
    with pytest.raises(DataError, match=r"^x holds"):
        points_of(values, "x", least=1)
