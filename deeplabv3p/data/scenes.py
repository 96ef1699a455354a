"""Drawing one picture of the shapes dataset: textured shapes and thin cables on a cluttered background.

A picture is a pure function of its seeds and size, the same on every machine: array arithmetic keeps to operations that
IEEE 754 rounds exactly, and OpenCV to integer paths whose results need no rounding or are defined to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from deeplabv3p.pixels import IGNORE

DISC, BOX, TRIANGLE, RING, CABLE, CROSS = range(1, 7)

_FINE = 4  # outlines are rasterised on a grid this many times finer, then averaged
_FULL = 240  # "inside" on the fine grid: a multiple of 4 · 4, so that the averages are whole numbers

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Area = tuple[slice, slice]
Texture = Callable[[F32, F32, float], F32]
Rng = np.random.Generator


def draw_scene(seeds: Sequence[int], size_hw: tuple[int, int], *, rare: bool) -> tuple[U8, U8]:
    """Draw a picture; ``rare`` puts a cross into it.

    Returns:
        image uint8 [H, W, 3] RGB, and its label uint8 [H, W]: 0 background, 1 to 6 the objects, IGNORE one pixel around
        each of them.
    """
    height, width = size_hw
    rng = np.random.default_rng(list(seeds))
    canvas = _background(rng, height, width)
    label = np.zeros(size_hw, np.uint8)
    for _ in range(int(rng.integers(3, 7))):
        _draw_decoy(rng, canvas)
    kinds = [int(kind) for kind in rng.integers(DISC, RING + 1, int(rng.integers(3, 6)))]
    kinds += [CABLE] * int(rng.random() < 0.75)
    rng.shuffle(kinds)
    kinds += [CROSS] * int(rare)  # last, so that nothing hides it
    placed: list[tuple[float, float, float]] = []
    for kind in kinds:
        if kind == CABLE:
            _draw_cable(rng, canvas, label)
        else:
            _draw_shape(rng, canvas, label, kind, placed)
    return _expose(rng, canvas), label


def _unit(picture: npt.NDArray[np.generic]) -> float:
    """The scale of everything but the ignored ring: it grows with the picture."""
    return float(min(picture.shape[:2])) / 128.0


def _background(rng: Rng, height: int, width: int) -> F32:
    """Muted blotches of several sizes, float32 [H, W, 3] in 0..255."""
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = int(rng.integers(60, 196)) + rng.integers(-30, 31, 3)
    for cells, strength in ((2, 55), (5, 45), (13, 35), (40, 25)):
        colors = rng.integers(0, 256, (cells, cells + cells // 4, 3))
        muted = ((3 * colors[..., :1] + 2 * colors) // 5).astype(np.uint8)
        blotches = cv2.resize(muted, (width, height), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.float32)
        canvas += (blotches - np.float32(127.5)) * np.float32(rng.random() * strength / 127.5)
    return np.clip(canvas, 0, 255)


def _draw_decoy(rng: Rng, canvas: F32) -> None:
    """Draw something that looks like an object in one respect and is not one: it gets no label."""
    size_hw, unit = (canvas.shape[0], canvas.shape[1]), _unit(canvas)
    center = (rng.random() * size_hw[1], rng.random() * size_hw[0])
    radius = (10 + 18 * rng.random()) * unit
    what = int(rng.integers(0, 8))
    paint = _color(rng)
    if what < 2:  # a hairline
        path = _walk(rng, center, rng.random() * 2 * math.pi, 8, 10 * unit)
        area, alpha = _stroke([(path, 1.2)], size_hw)
    elif what < 5:  # a plain shape, or its bare outline
        outline = _outline(rng, int(rng.choice([DISC, BOX, TRIANGLE, CROSS])), radius)
        outlines = [outline] if what < 4 else [outline, outline * (1 - 1.5 / radius)]
        area, alpha = _fill(outlines, center, size_hw)
    else:  # a soft spot; one in three has the texture of a class
        area, alpha = _glow(rng, center, radius * 1.3, size_hw)
        if what == 5:
            paint = _paint(rng, _TEXTURES[int(rng.integers(DISC, TRIANGLE + 1))], area, center, unit)
    _blend(canvas[area], paint, alpha)


def _draw_shape(rng: Rng, canvas: F32, label: U8, kind: int, placed: list[tuple[float, float, float]]) -> None:
    """Draw an object where it does not cover the middle of an earlier one, if such a place is found."""
    height, width = label.shape
    unit = _unit(label)
    smallest, spread, inside = (17, 9, 1.0) if kind == CROSS else (17, 13, 0.5)
    for _ in range(12):
        radius = (smallest + spread * rng.random()) * unit
        margin = radius * inside
        center = (margin + rng.random() * (width - 2 * margin), margin + rng.random() * (height - 2 * margin))
        if all(math.dist(center, other[:2]) > 0.75 * (radius + other[2]) for other in placed):
            break
    placed.append((*center, radius))
    outline = _outline(rng, kind, radius)
    outlines = [outline, outline * (0.45 + 0.1 * rng.random())] if kind == RING else [outline]
    area, alpha = _fill(outlines, center, (height, width))
    _blend(canvas[area], _paint(rng, _TEXTURES[kind], area, center, unit), alpha)
    _mark(label, area, alpha, kind)


def _draw_cable(rng: Rng, canvas: F32, label: U8) -> None:
    """Draw a winding line with one or two branches, its core in a second colour."""
    (height, width), unit = label.shape, _unit(label)
    start = (rng.random() * width, rng.random() * height)
    inwards = math.atan2(height / 2 - start[1], width / 2 - start[0])
    thickness = max(3.0, (4.0 + 1.6 * rng.random()) * unit)
    trunk = _walk(rng, start, inwards + rng.random() - 0.5, int(rng.integers(10, 18)), 8 * unit)
    strokes = [(trunk, thickness)]
    for _ in range(int(rng.integers(1, 3))):
        joint = int(rng.integers(2, len(trunk) - 2))
        (x, y), (next_x, next_y) = trunk[joint].tolist(), trunk[joint + 1].tolist()
        turn = (0.6 + 0.6 * rng.random()) * (1 if rng.random() < 0.5 else -1)
        branch = _walk(rng, (x, y), math.atan2(next_y - y, next_x - x) + turn, int(rng.integers(4, 8)), 8 * unit)
        strokes.append((branch, max(3.0, thickness - 0.6)))
    area, alpha = _stroke(strokes, (height, width))
    _, core = _stroke([(path, wide * 0.4) for path, wide in strokes], (height, width), area)
    rim_color, core_color = _color_pair(rng)
    _blend(canvas[area], rim_color + (core_color - rim_color) * core[..., None], alpha)
    _mark(label, area, alpha, CABLE)


def _blend(region: F32, paint: F32, alpha: F32) -> None:
    region += (paint - region) * alpha[..., None]


def _mark(label: U8, area: Area, alpha: F32, kind: int) -> None:
    """Write ``kind`` where at least half of a pixel is covered, and IGNORE one pixel around that."""
    mask = np.pad((alpha >= 0.5).astype(np.uint8), 1)
    grown = cv2.dilate(mask, np.ones((3, 3), np.uint8))
    top, left = area[0].start - 1, area[1].start - 1
    rows = slice(max(top, 0), min(top + mask.shape[0], label.shape[0]))
    columns = slice(max(left, 0), min(left + mask.shape[1], label.shape[1]))
    inner = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    region = label[rows, columns]
    region[grown[inner] > 0] = IGNORE
    region[mask[inner] > 0] = kind


def _expose(rng: Rng, canvas: F32) -> U8:
    """Uneven tinted light, a little blur in some pictures, grain: float32 in 0..255 to uint8."""
    height, width = canvas.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    level = np.float32(0.75 + 0.4 * rng.random())
    light = level + y * np.float32(0.5 * rng.random() - 0.25) + x * np.float32(0.5 * rng.random() - 0.25)
    tint = (0.85 + 0.3 * rng.random(3)).astype(np.float32)
    image = np.clip(canvas * light * tint, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (3, 3), 0.6, hint=cv2.ALGO_HINT_ACCURATE), np.uint8)
    grain = rng.integers(-6, 7, image.shape, np.int16) * int(rng.integers(1, 3))
    return np.asarray(np.clip(image + grain, 0, 255), np.uint8)


# --- outlines and coverage

_CIRCLE = np.array([(math.cos(i * math.pi / 24), math.sin(i * math.pi / 24)) for i in range(48)])


def _outline(rng: Rng, kind: int, radius: float) -> Points:
    """The outline of a class as a polygon around (0, 0), float64 [N, 2] (x, y) in pixels, turned at random."""
    if kind == BOX:
        points = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (0.9, 0.55 + 0.3 * rng.random())
    elif kind == TRIANGLE:
        points = _CIRCLE[[0, 16, 32]] * 1.15 + (rng.random((3, 2)) - 0.5) * 0.3
    elif kind == CROSS:
        arm = 0.26 + 0.08 * rng.random()
        corner = np.array([(arm, -1), (arm, -arm), (1, -arm)])
        points = np.concatenate([corner, corner[::-1] * (1, -1), -corner, corner[::-1] * (-1, 1)])
    else:
        points = _CIRCLE * (1.0, 1.0 if kind == RING else 0.8 + 0.2 * rng.random())
    angle = rng.random() * 2 * math.pi
    x, y = points.T * radius
    # Written out, because a matrix product may use fused multiply-adds, and those round differently.
    return np.stack([x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)], axis=1)


def _walk(rng: Rng, start: tuple[float, float], heading: float, steps: int, step: float) -> Points:
    """A winding path, float64 [steps + 1, 2] (x, y) in pixels."""
    path = [start]
    bend = 0.0
    for _ in range(steps):
        bend = 0.6 * bend + (rng.random() - 0.5) * 0.7
        heading += bend
        path.append((path[-1][0] + step * math.cos(heading), path[-1][1] + step * math.sin(heading)))
    return np.array(path)


def _on_fine_grid(points: Points) -> npt.NDArray[np.int32]:
    """Picture coordinates (pixel i spans i to i + 1) on the fine grid, with 4 fractional bits, as OpenCV takes them."""
    return np.rint((points * _FINE - 0.5) * 16).astype(np.int32)


def _coverage(fine: U8) -> F32:
    """The share of each pixel that is covered, float32 0..1."""
    size = (fine.shape[1] // _FINE, fine.shape[0] // _FINE)
    return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), np.float32) / np.float32(_FULL)


def _clipped(left_top: Sequence[float], right_bottom: Sequence[float], size_hw: tuple[int, int]) -> Area:
    """The rows and columns between two corners (x, y) that lie in the picture."""
    left, top = (max(0, math.floor(value)) for value in left_top)
    return (
        slice(top, min(size_hw[0], math.ceil(right_bottom[1]))),
        slice(left, min(size_hw[1], math.ceil(right_bottom[0]))),
    )


def _fine_grid(area: Area) -> U8:
    return np.zeros(((area[0].stop - area[0].start) * _FINE, (area[1].stop - area[1].start) * _FINE), np.uint8)


def _fill(outlines: list[Points], center: tuple[float, float], size_hw: tuple[int, int]) -> tuple[Area, F32]:
    """Fill polygons around ``center`` (a second one inside the first is a hole): where, and the coverage there."""
    outlines = [outline + center for outline in outlines]
    area = _clipped(outlines[0].min(axis=0).tolist(), outlines[0].max(axis=0).tolist(), size_hw)
    fine = _fine_grid(area)
    origin = (area[1].start, area[0].start)
    cv2.fillPoly(fine, [_on_fine_grid(outline - origin) for outline in outlines], _FULL, shift=4)
    return area, _coverage(fine)


def _stroke(
    strokes: list[tuple[Points, float]], size_hw: tuple[int, int], area: Area | None = None
) -> tuple[Area, F32]:
    """Draw lines, each (path, thickness in pixels), with round ends: where (or in ``area``), and the coverage there."""
    points = np.concatenate([path for path, _ in strokes])
    reach = max(thickness for _, thickness in strokes) / 2 + 1
    area = area or _clipped((points.min(axis=0) - reach).tolist(), (points.max(axis=0) + reach).tolist(), size_hw)
    fine = _fine_grid(area)
    origin = (area[1].start, area[0].start)
    for path, thickness in strokes:
        cv2.polylines(fine, [_on_fine_grid(path - origin)], False, _FULL, round(thickness * _FINE), shift=4)
    return area, _coverage(fine)


def _glow(rng: Rng, center: tuple[float, float], radius: float, size_hw: tuple[int, int]) -> tuple[Area, F32]:
    """A lumpy spot without an edge: where, and its opacity there."""
    area = _clipped([value - radius for value in center], [value + radius for value in center], size_hw)
    x, y = _offsets(area, center)
    x, y = x / np.float32(radius), y / np.float32(radius)
    lumps = cv2.resize(rng.integers(0, 256, (4, 4), np.uint8), (x.size, y.size), interpolation=cv2.INTER_LINEAR_EXACT)
    inside = np.float32(1) - x * x - y * y - lumps.astype(np.float32) * np.float32(0.5 / 255)
    return area, _clip(inside * np.float32(1.7))


def _offsets(area: Area, center: tuple[float, float]) -> tuple[F32, F32]:
    """Pixel centres of ``area`` relative to ``center``: x float32 [1, w] and y [h, 1]."""
    x = np.arange(area[1].start, area[1].stop, dtype=np.float32)[None, :] + np.float32(0.5 - center[0])
    y = np.arange(area[0].start, area[0].stop, dtype=np.float32)[:, None] + np.float32(0.5 - center[1])
    return x, y


# --- textures: patterns of 0..1 over turned coordinates u and v, counted in periods


def _clip(values: F32) -> F32:
    return np.asarray(np.clip(values, 0, 1), np.float32)


def _wave(turns: F32, sharpness: float) -> F32:
    """0 and 1 in equal parts while ``turns`` grows by 1; the higher ``sharpness``, the steeper the edges."""
    folded = np.abs((turns - np.floor(turns)) * np.float32(2) - np.float32(1))
    return _clip((folded - np.float32(0.5)) * np.float32(sharpness) + np.float32(0.5))


def _stripes(u: F32, v: F32, sharpness: float) -> F32:
    return _wave(u, sharpness)


def _checks(u: F32, v: F32, sharpness: float) -> F32:
    a, b = _wave(u * np.float32(0.6), sharpness * 1.6), _wave(v * np.float32(0.6), sharpness * 1.6)
    return np.asarray(a + b - np.float32(2) * a * b, np.float32)


def _dots(u: F32, v: F32, sharpness: float) -> F32:
    a, b = u - np.floor(u) - np.float32(0.5), v - np.floor(v) - np.float32(0.5)
    return _clip((np.float32(0.3) - np.sqrt(a * a + b * b)) * np.float32(2 * sharpness) + np.float32(0.5))


def _grooves(u: F32, v: F32, sharpness: float) -> F32:
    return _wave(np.sqrt(u * u + v * v), sharpness)


def _chevrons(u: F32, v: F32, sharpness: float) -> F32:
    return _wave(u + np.abs(v - np.floor(v) - np.float32(0.5)), sharpness)


_TEXTURES: dict[int, Texture] = {DISC: _stripes, BOX: _checks, TRIANGLE: _dots, RING: _grooves, CROSS: _chevrons}


def _paint(rng: Rng, texture: Texture, area: Area, center: tuple[float, float], unit: float) -> F32:
    """Two random colours in the pattern of ``texture``, turned at random and shaded, float32 [h, w, 3]."""
    x, y = _offsets(area, center)
    period = (6.5 + 3 * rng.random()) * unit
    angle = rng.random() * 2 * math.pi
    cosine, sine = np.float32(math.cos(angle) / period), np.float32(math.sin(angle) / period)
    pattern = texture(x * cosine + y * sine, y * cosine - x * sine, period / 2)
    first, second = _color_pair(rng)
    shade = np.float32(0.9 + 0.2 * rng.random()) + y * np.float32((rng.random() - 0.5) * 0.016 / unit)
    return np.asarray((first + (second - first) * pattern[..., None]) * shade[..., None], np.float32)


def _color(rng: Rng) -> F32:
    return rng.integers(20, 236, 3).astype(np.float32)


def _color_pair(rng: Rng) -> tuple[F32, F32]:
    """Two colours that differ by at least 70 in every channel."""
    first = rng.integers(0, 256, 3)
    second = (first + rng.integers(70, 187, 3)) % 256
    return first.astype(np.float32), second.astype(np.float32)
