"""A dataset drawn by the program: textured shapes and thin cables on cluttered backgrounds, with exact labels.

It needs no download, so it is what the demo and the end-to-end tests train on. Six classes stand before a background:

- ``disc`` striped, ``box`` checkered, ``triangle`` dotted, ``ring`` with concentric grooves;
- ``cable`` thin and branching, never under 3 pixels wide, with a lighter or darker core;
- ``cross`` with chevrons, the rare one: exactly one picture in six holds one.

Colour says nothing about the class: every object draws its colours at random. Neither shape nor texture alone tells it,
because the background holds plain discs, boxes, triangles and crosses, bare outlines and hairlines, and soft patches of
the same stripes, checks and dots. One pixel around each object is marked as ignored.

A picture is a pure function of (seed, split, index, size), the same on every machine: array arithmetic is limited to
operations that IEEE 754 rounds exactly, and OpenCV to its integer paths.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from deeplabv3p import files
from deeplabv3p.data.classes import save_classes
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.pixels import IGNORE
from deeplabv3p.progress import Progress, silent
from deeplabv3p.spec import ClassInfo

CLASSES = (
    ClassInfo("background", (0, 0, 0)),
    ClassInfo("disc", (230, 159, 0)),
    ClassInfo("box", (86, 180, 233)),
    ClassInfo("triangle", (0, 158, 115)),
    ClassInfo("ring", (240, 228, 66)),
    ClassInfo("cable", (204, 121, 167)),
    ClassInfo("cross", (213, 94, 0)),
)
SPLITS = ("train", "val", "test")
RARE_EVERY = 6  # one picture in this many holds a cross

_VERSION = 1  # raise it whenever a picture or a label would change
_MANIFEST = "shapes.json"
_IGNORE_COLOR = (224, 224, 192)
_FINE = 4  # outlines are rasterised on a grid this many times finer, then averaged
_CABLE, _CROSS = 5, 6

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Texture = Callable[[F32, F32, float], F32]
Rng = np.random.Generator


@dataclass(frozen=True)
class ShapesSet:
    """Where a generated set lies. ``reused`` is true when it was already there, whole and with the same arguments."""

    root: Path
    classes_file: Path
    train_list: Path
    val_list: Path
    test_list: Path
    reused: bool


def generate(
    folder: str | os.PathLike[str],
    *,
    train: int = 1200,
    val: int = 150,
    test: int = 60,
    size_hw: tuple[int, int] = (128, 160),
    seed: int = 0,
    progress: Progress = silent,
) -> ShapesSet:
    """Write ``images/*.jpg``, ``labels/*.png`` (8-bit palette), ``train.txt``, ``val.txt``, ``test.txt`` and
    ``classes.txt`` (names and colours) into ``folder``.

    ``train``, ``val`` and ``test`` are picture counts. A set with the same arguments that is still whole is reused; one
    with other arguments is replaced. Files that this function did not write are never touched.

    Raises:
        UsageError: a negative count, no pictures at all, a side under 64 pixels, a negative seed.
        DataError: the folder cannot be written, or holds files of somebody else under the names needed here.
    """
    counts = {"train": train, "val": val, "test": test}
    if min(train, val, test) < 0 or train + val + test == 0:
        raise UsageError(f"a shapes dataset cannot have {train} + {val} + {test} pictures. Give positive counts.")
    if min(size_hw) < 64 or seed < 0:
        raise UsageError(
            f"a shapes dataset needs sides of at least 64 pixels and a seed of at least 0, not "
            f"{size_hw[0]}x{size_hw[1]} and {seed}."
        )
    root = Path(folder)
    manifest = {
        "generator": __name__, "version": _VERSION, "seed": seed, "size_hw": list(size_hw), **counts, "sha256": None,
    }  # fmt: skip
    lists = {f"{split}_list": root / f"{split}.txt" for split in SPLITS}
    result = ShapesSet(root, root / "classes.txt", **lists, reused=False)
    try:
        old = _read_manifest(root)
        if old is not None and old["sha256"] is not None and old == {**manifest, "sha256": _digest(root, counts)}:
            return replace(result, reused=True)
        _make_room(root, old, counts)
        # From here on the folder is known to be ours, and unfinished: an interrupted run can be repeated.
        files.write_text(root / _MANIFEST, json.dumps(manifest, indent=2) + "\n")
        _write_pictures(root, counts, size_hw, seed, progress)
        save_classes(result.classes_file, CLASSES)
        files.write_text(root / _MANIFEST, json.dumps({**manifest, "sha256": _digest(root, counts)}, indent=2) + "\n")
    except OSError as error:
        raise DataError(f"cannot write the shapes dataset to {root}: {error.strerror or error}.") from error
    return result


def scene(seed: int, split: str, index: int, size_hw: tuple[int, int]) -> tuple[U8, U8]:
    """Draw one picture: image uint8 [H, W, 3] RGB and label uint8 [H, W] with 0..6 and IGNORE."""
    height, width = size_hw
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    unit = min(size_hw) / 128.0  # everything but the ignore ring grows with the picture
    canvas = _background(rng, height, width)
    label = np.zeros(size_hw, np.uint8)
    for _ in range(int(rng.integers(3, 7))):
        _draw_decoy(rng, canvas, unit)
    kinds = [int(kind) for kind in rng.integers(1, _CABLE, int(rng.integers(3, 6)))]
    kinds += [_CABLE] * int(rng.integers(0, 4) > 0)
    rng.shuffle(kinds)
    kinds += [_CROSS] * (index % RARE_EVERY == 0)  # last, so that nothing hides it
    placed: list[tuple[float, float, float]] = []
    for kind in kinds:
        if kind == _CABLE:
            _draw_cable(rng, canvas, label, unit)
        else:
            _draw_shape(rng, canvas, label, kind, unit, placed)
    return _expose(rng, canvas), label


# ---------------------------------------------------------------------------------------------------- drawing


def _background(rng: Rng, height: int, width: int) -> F32:
    """Random colours in blotches of several sizes, float32 [H, W, 3] in 0..255."""
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = int(rng.integers(60, 196)) + rng.integers(-30, 31, 3)
    for cells, strength in ((2, 55), (5, 45), (13, 35), (40, 25)):
        grid = rng.integers(0, 256, (cells, cells + cells // 4, 3), np.uint8)
        grid = ((3 * grid[..., :1].astype(np.int32) + 2 * grid) // 5).astype(np.uint8)  # mostly grey
        blotches = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.float32)
        canvas += (blotches - np.float32(127.5)) * np.float32(rng.random() * strength / 127.5)
    return np.clip(canvas, 0, 255)


def _draw_decoy(rng: Rng, canvas: F32, unit: float) -> None:
    """Something that looks like an object in one respect and is not: it leaves the label as it is."""
    height, width = canvas.shape[:2]
    center = (rng.random() * width, rng.random() * height)
    radius = (10 + 18 * rng.random()) * unit
    what = int(rng.integers(0, 8))
    if what < 2:  # a hairline
        path = _walk(rng, center, rng.random() * 2 * math.pi, 8, 10 * unit)
        alpha = _stroke(path, 1.2, (height, width))
        canvas += (_color(rng) - canvas) * alpha[..., None]
        return
    outline = _outline(rng, int(rng.choice([1, 2, 3, _CROSS])), radius)
    if what < 4:  # a plain shape
        box, alpha = _fill([outline], center, (height, width))
        paint: F32 = _color(rng)
    elif what == 4:  # a bare outline
        inner = outline * (1 - 1.5 / radius)
        box, alpha = _fill([outline, inner], center, (height, width))
        paint = _color(rng)
    else:  # a soft patch of a texture, or of nothing
        box, alpha = _glow(rng, center, radius * 1.3, (height, width))
        paint = _paint(rng, _TEXTURES[int(rng.integers(1, 4))], box, center, unit) if what == 5 else _color(rng)
    region = canvas[box]
    region += (paint - region) * alpha[..., None]


def _draw_shape(
    rng: Rng, canvas: F32, label: U8, kind: int, unit: float, placed: list[tuple[float, float, float]]
) -> None:
    """Draw an object of class ``kind`` where it does not cover the middle of an earlier one, if such a place is found."""
    height, width = label.shape
    for _ in range(12):
        radius = (17 + 13 * rng.random()) * unit if kind != _CROSS else (17 + 9 * rng.random()) * unit
        margin = radius * (0.5 if kind != _CROSS else 1.0)
        center = (margin + rng.random() * (width - 2 * margin), margin + rng.random() * (height - 2 * margin))
        if all(math.dist(center, other[:2]) > 0.75 * (radius + other[2]) for other in placed):
            break
    placed.append((*center, radius))
    outline = _outline(rng, kind, radius)
    rings = [outline, outline * (0.45 + 0.1 * rng.random())] if kind == 4 else [outline]
    box, alpha = _fill(rings, center, (height, width))
    paint = _paint(rng, _TEXTURES[kind], box, center, unit)
    region = canvas[box]
    region += (paint - region) * alpha[..., None]
    _mark(label, box, alpha, kind)


def _draw_cable(rng: Rng, canvas: F32, label: U8, unit: float) -> None:
    """Draw a winding line with one or two branches, its core in a second colour."""
    height, width = label.shape
    start = (rng.random() * width, rng.random() * height)
    heading = math.atan2(height / 2 - start[1], width / 2 - start[0]) + rng.random() - 0.5  # inwards
    thick = max(3.0, (4.0 + 1.6 * rng.random()) * unit)
    trunk = _walk(rng, start, heading, int(rng.integers(10, 18)), 8 * unit)
    strokes = [(trunk, thick)]
    for _ in range(int(rng.integers(1, 3))):
        joint = int(rng.integers(2, len(trunk) - 2))
        along = math.atan2(*(trunk[joint + 1] - trunk[joint])[::-1])
        turn = (0.6 + 0.6 * rng.random()) * (1 if rng.random() < 0.5 else -1)
        branch = _walk(rng, (trunk[joint][0], trunk[joint][1]), along + turn, int(rng.integers(4, 8)), 8 * unit)
        strokes.append((branch, max(3.0, thick - 0.6)))
    alpha = np.zeros((height, width), np.float32)
    core = np.zeros((height, width), np.float32)
    for path, thickness in strokes:
        alpha = np.maximum(alpha, _stroke(path, thickness, (height, width)))
        core = np.maximum(core, _stroke(path, thickness * 0.4, (height, width)))
    rim_color, core_color = _color_pair(rng)
    paint = rim_color + (core_color - rim_color) * core[..., None]
    canvas += (paint - canvas) * alpha[..., None]
    _mark(label, (slice(0, height), slice(0, width)), alpha, _CABLE)


def _mark(label: U8, box: tuple[slice, slice], alpha: F32, kind: int) -> None:
    """Write ``kind`` where at least half of a pixel is covered, and IGNORE one pixel around that."""
    rows, columns = box
    grown = (slice(max(rows.start - 1, 0), rows.stop + 1), slice(max(columns.start - 1, 0), columns.stop + 1))
    region = label[grown]
    mask = np.zeros(region.shape, np.uint8)
    top, left = rows.start - grown[0].start, columns.start - grown[1].start
    mask[top : top + alpha.shape[0], left : left + alpha.shape[1]] = alpha >= 0.5
    region[cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 0] = IGNORE
    region[mask > 0] = kind


def _expose(rng: Rng, canvas: F32) -> U8:
    """Uneven light, a little blur in some pictures, grain: canvas float32 in 0..255 to uint8."""
    height, width = canvas.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    slope_y, slope_x = (rng.random(2) - 0.5) * 0.5
    light = np.float32(0.75 + 0.4 * rng.random()) + y * np.float32(slope_y) + x * np.float32(slope_x)
    tint = (0.85 + 0.3 * rng.random(3)).astype(np.float32)
    image = np.clip(canvas * light * tint, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (3, 3), 0.6)
    grain = rng.integers(-6, 7, image.shape, np.int16) * int(rng.integers(1, 3))
    return np.clip(image + grain, 0, 255).astype(np.uint8)


# ------------------------------------------------------------------------------------- outlines and coverage


def _turned(points: Points, angle: float) -> Points:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.stack([points[:, 0] * cosine - points[:, 1] * sine, points[:, 0] * sine + points[:, 1] * cosine], axis=1)


_CIRCLE = np.array([(math.cos(i * math.pi / 24), math.sin(i * math.pi / 24)) for i in range(48)])


def _outline(rng: Rng, kind: int, radius: float) -> Points:
    """The outline of a class as a polygon around (0, 0), float64 [N, 2] (x, y) in pixels, turned at random."""
    if kind == 2:
        points = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (0.9, 0.55 + 0.3 * rng.random())
    elif kind == 3:
        points = _CIRCLE[[0, 16, 32]] * 1.15 + (rng.random((3, 2)) - 0.5) * 0.3
    elif kind == _CROSS:
        arm = 0.26 + 0.08 * rng.random()
        corner = np.array([(arm, -1), (arm, -arm), (1, -arm)])
        points = np.concatenate([corner, corner[::-1] * (1, -1), -corner, corner[::-1] * (-1, 1)])
    else:
        points = _CIRCLE * (1.0, 1.0 if kind == 4 else 0.8 + 0.2 * rng.random())
    return _turned(points * radius, rng.random() * 2 * math.pi)


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
    """Pixel coordinates (pixel i spans i to i + 1) on the fine grid, with 4 fractional bits, as OpenCV takes them."""
    return np.rint((points * _FINE - 0.5) * 16).astype(np.int32)


def _coverage(fine: U8) -> F32:
    """The share of each pixel that is covered, float32 0..1."""
    size = (fine.shape[1] // _FINE, fine.shape[0] // _FINE)
    return cv2.resize(fine, size, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


def _window(center: tuple[float, float], radius: float, size_hw: tuple[int, int]) -> tuple[slice, slice]:
    """The rows and columns of the picture within ``radius`` of ``center``."""
    (x, y), (height, width) = center, size_hw
    rows = slice(max(0, math.floor(y - radius)), min(height, math.ceil(y + radius)))
    return rows, slice(max(0, math.floor(x - radius)), min(width, math.ceil(x + radius)))


def _fill(
    outlines: list[Points], center: tuple[float, float], size_hw: tuple[int, int]
) -> tuple[tuple[slice, slice], F32]:
    """Fill polygons (even-odd: a second one inside the first is a hole) around ``center``: where, and the coverage."""
    box = _window(center, float(np.abs(outlines[0]).max()) * 1.5, size_hw)
    origin = (center[0] - box[1].start, center[1] - box[0].start)
    fine = np.zeros(((box[0].stop - box[0].start) * _FINE, (box[1].stop - box[1].start) * _FINE), np.uint8)
    cv2.fillPoly(fine, [_on_fine_grid(outline + origin) for outline in outlines], 255, shift=4)
    return box, _coverage(fine)


def _stroke(path: Points, thickness: float, size_hw: tuple[int, int]) -> F32:
    """Coverage float32 [H, W] of a line of ``thickness`` pixels with round ends."""
    fine = np.zeros((size_hw[0] * _FINE, size_hw[1] * _FINE), np.uint8)
    cv2.polylines(fine, [_on_fine_grid(path)], False, 255, max(1, round(thickness * _FINE)), shift=4)
    return _coverage(fine)


def _glow(rng: Rng, center: tuple[float, float], radius: float, size_hw: tuple[int, int]) -> tuple[tuple[slice, slice], F32]:
    """A spot without an edge, of irregular outline: where, and the coverage."""
    box = _window(center, radius, size_hw)
    y = (np.arange(box[0].start, box[0].stop, dtype=np.float32)[:, None] + np.float32(0.5 - center[1])) / np.float32(radius)
    x = (np.arange(box[1].start, box[1].stop, dtype=np.float32)[None, :] + np.float32(0.5 - center[0])) / np.float32(radius)
    lumps = cv2.resize(rng.integers(0, 256, (4, 4), np.uint8), (x.size, y.size), interpolation=cv2.INTER_LINEAR_EXACT)
    rim = np.float32(1) - x * x - y * y - lumps.astype(np.float32) * np.float32(0.5 / 255)
    return box, np.clip(rim * np.float32(1.7), 0, 1)


# --------------------------------------------------------------------------------------------------- textures


def _wave(turns: F32, sharpness: float) -> F32:
    """0 and 1 in equal parts as ``turns`` grows by 1, with edges 1 / ``sharpness`` half-periods wide."""
    folded = np.abs((turns - np.floor(turns)) * np.float32(2) - np.float32(1))
    return np.clip((folded - np.float32(0.5)) * np.float32(sharpness) + np.float32(0.5), 0, 1)


def _stripes(u: F32, v: F32, sharpness: float) -> F32:
    return _wave(u, sharpness)


def _checks(u: F32, v: F32, sharpness: float) -> F32:
    a, b = _wave(u * np.float32(0.6), sharpness * 1.6), _wave(v * np.float32(0.6), sharpness * 1.6)
    return a + b - 2 * a * b


def _dots(u: F32, v: F32, sharpness: float) -> F32:
    a, b = u - np.floor(u) - np.float32(0.5), v - np.floor(v) - np.float32(0.5)
    return np.clip((np.float32(0.3) - np.sqrt(a * a + b * b)) * np.float32(2 * sharpness) + np.float32(0.5), 0, 1)


def _grooves(u: F32, v: F32, sharpness: float) -> F32:
    return _wave(np.sqrt(u * u + v * v), sharpness)


def _chevrons(u: F32, v: F32, sharpness: float) -> F32:
    return _wave(u + np.abs(v - np.floor(v) - np.float32(0.5)), sharpness)


_TEXTURES: dict[int, Texture] = {1: _stripes, 2: _checks, 3: _dots, 4: _grooves, _CROSS: _chevrons}


def _paint(
    rng: Rng, texture: Texture, box: tuple[slice, slice], center: tuple[float, float], unit: float
) -> F32:
    """Two random colours in the pattern of ``texture``, turned at random and shaded, float32 [h, w, 3]."""
    y = np.arange(box[0].start, box[0].stop, dtype=np.float32)[:, None] + np.float32(0.5 - center[1])
    x = np.arange(box[1].start, box[1].stop, dtype=np.float32)[None, :] + np.float32(0.5 - center[0])
    period = (6.5 + 3 * rng.random()) * unit
    angle = rng.random() * 2 * math.pi
    along, across = np.float32(math.cos(angle) / period), np.float32(math.sin(angle) / period)
    pattern = texture(x * along + y * across, y * along - x * across, period / 2)
    first, second = _color_pair(rng)
    shade = np.float32(0.9 + 0.2 * rng.random()) + y * np.float32((rng.random() - 0.5) * 0.016 / unit)
    paint: F32 = (first + (second - first) * pattern[..., None]) * shade[..., None]
    return paint


def _color(rng: Rng) -> F32:
    return rng.integers(20, 236, 3).astype(np.float32)


def _color_pair(rng: Rng) -> tuple[F32, F32]:
    """Two colours that differ by 70 to 128 in every channel."""
    first = rng.integers(0, 256, 3)
    second = (first + rng.integers(70, 187, 3)) % 256
    return first.astype(np.float32), second.astype(np.float32)


# ------------------------------------------------------------------------------------------------------- files


def _names(counts: dict[str, int], split: str) -> list[str]:
    return [f"{split}_{index:05d}" for index in range(counts[split])]


def _paths(root: Path, counts: dict[str, int]) -> list[Path]:
    """Every file of a set but the manifest, in a fixed order."""
    names = [name for split in SPLITS for name in _names(counts, split)]
    pairs = [path for name in names for path in (root / "images" / f"{name}.jpg", root / "labels" / f"{name}.png")]
    return [*pairs, *(root / f"{split}.txt" for split in SPLITS), root / "classes.txt"]


def _write_pictures(root: Path, counts: dict[str, int], size_hw: tuple[int, int], seed: int, progress: Progress) -> None:
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(CLASSES)] = [item.color for item in CLASSES]
    palette[IGNORE] = _IGNORE_COLOR
    total, done = sum(counts.values()), 0
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        names = _names(counts, split)
        for index, name in enumerate(names):
            image, label = scene(seed, split, index, size_hw)
            # Written in place, without the fsync of `files`: the manifest's digest tells a whole set from a broken one.
            options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
            (root / "images" / f"{name}.jpg").write_bytes(cv2.imencode(".jpg", image[..., ::-1], options)[1].tobytes())
            palette_image = Image.fromarray(label, mode="P")
            palette_image.putpalette(palette.tobytes())
            palette_image.save(root / "labels" / f"{name}.png", compress_level=1)
            done += 1
            progress(done, total)
        files.write_text(root / f"{split}.txt", "".join(f"{name}\n" for name in names))


def _read_manifest(root: Path) -> dict[str, Any] | None:
    """What an earlier run left in ``root``, or None where there is no readable manifest of this generator."""
    try:
        manifest = json.loads((root / _MANIFEST).read_bytes())
        return manifest if manifest["generator"] == __name__ else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def _make_room(root: Path, old: dict[str, Any] | None, counts: dict[str, int]) -> None:
    """Remove the files of an earlier set; refuse to overwrite anybody else's."""
    if old is None:
        for path in [root / _MANIFEST, *_paths(root, counts)]:
            if path.exists():
                raise DataError(f"{path} already exists and was not made here. Choose an empty folder.")
    else:
        for path in _paths(root, {split: int(old[split]) for split in SPLITS}):
            path.unlink(missing_ok=True)


def _digest(root: Path, counts: dict[str, int]) -> str | None:
    """SHA-256 over all files of a set, or None where one is missing."""
    digest = hashlib.sha256()
    for path in _paths(root, counts):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
