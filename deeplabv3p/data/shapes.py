"""A dataset drawn by the program: textured shapes and thin cables on cluttered backgrounds, with exact labels.

It needs no download, so it is what the demo and the end-to-end tests train on. Six classes stand before a background:

- ``disc`` striped, ``box`` checkered, ``triangle`` dotted, ``ring`` with concentric grooves;
- ``cable`` thin and branching, never under 3 pixels wide, with a core of another colour;
- ``cross`` with chevrons, the rare one: exactly one picture in six holds one.

Colour says nothing about the class: every object draws its colours at random. Neither shape nor texture alone tells it,
because the background holds plain discs, boxes, triangles and crosses, bare outlines and hairlines, and soft patches of
the same stripes, checks and dots. One pixel around each object is marked as ignored. See :mod:`deeplabv3p.data.scenes`.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from deeplabv3p import documents, files
from deeplabv3p.data.classes import VOID_COLOR, save_classes
from deeplabv3p.data.scenes import U8, draw_scene
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
"""The classes in label order; colours that differ to colour-blind eyes, too."""

SPLITS = ("train", "val", "test")
RARE_EVERY = 6
"""One picture in this many holds a cross."""

_VERSION = 1  # raise it whenever a picture or a label would change
_MANIFEST = "shapes.json"


@dataclass(frozen=True)
class ShapesSet:
    """Where a generated set lies. ``reused``: it was already there, whole and made with the same arguments."""

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

    ``train``, ``val`` and ``test`` are picture counts; ``size_hw`` is in pixels. A set made with the same arguments
    that is still whole is reused; one made with others is replaced. Files of others are never touched.

    Raises:
        UsageError: a negative count, no pictures at all, a side under 64 pixels, a negative seed.
        DataError: the folder cannot be written, or holds files of somebody else under the names needed here.
    """
    counts = {"train": train, "val": val, "test": test}
    if min(train, val, test) < 0 or train + val + test == 0:
        raise UsageError(f"a shapes dataset cannot have {train} + {val} + {test} pictures. Give positive counts.")
    if min(size_hw) < 64 or seed < 0:
        raise UsageError(
            f"a shapes dataset of {size_hw[0]}x{size_hw[1]} pixels with seed {seed} cannot be made. "
            "Sides start at 64 and seeds at 0."
        )
    root = Path(folder)
    manifest = {"generator": __name__, "version": _VERSION, "seed": seed, "size_hw": list(size_hw), **counts}
    result = ShapesSet(
        root, root / "classes.txt", root / "train.txt", root / "val.txt", root / "test.txt", reused=False
    )
    try:
        old = _read_manifest(root)
        if old == {**manifest, "sha256": _digest(root, counts)}:
            return replace(result, reused=True)
        _make_room(root, old, counts)
        # From here on the folder is known to be ours, and unfinished: an interrupted run can be repeated.
        _write_manifest(root, {**manifest, "sha256": ""})
        _write_pictures(root, counts, size_hw, seed, progress)
        save_classes(result.classes_file, CLASSES)
        _write_manifest(root, {**manifest, "sha256": _digest(root, counts)})
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"cannot write the shapes dataset to {root}: {reason}. Choose another folder.") from error
    return result


def scene(seed: int, split: str, index: int, size_hw: tuple[int, int]) -> tuple[U8, U8]:
    """Picture ``index`` of a split: image uint8 [H, W, 3] RGB and label uint8 [H, W] with 0 to 6 and IGNORE."""
    return draw_scene((seed, SPLITS.index(split), index), size_hw, rare=index % RARE_EVERY == 0)


def _names(counts: dict[str, int], split: str) -> list[str]:
    return [f"{split}_{index:05d}" for index in range(counts[split])]


def _paths(root: Path, counts: dict[str, int]) -> list[Path]:
    """Every file of a set but the manifest, in a fixed order."""
    names = [name for split in SPLITS for name in _names(counts, split)]
    pictures = [path for name in names for path in (root / "images" / f"{name}.jpg", root / "labels" / f"{name}.png")]
    return [*pictures, *(root / f"{split}.txt" for split in SPLITS), root / "classes.txt"]


def _write_pictures(
    root: Path, counts: dict[str, int], size_hw: tuple[int, int], seed: int, progress: Progress
) -> None:
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(CLASSES)] = [item.color for item in CLASSES]
    palette[IGNORE] = VOID_COLOR
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    done, total = 0, sum(counts.values())
    for split in SPLITS:
        names = _names(counts, split)
        for index, name in enumerate(names):
            image, label = scene(seed, split, index, size_hw)
            # Written in place and not flushed to disk one by one: the digest tells a whole set from a broken one.
            jpeg = cv2.imencode(".jpg", image[..., ::-1], quality)[1]
            (root / "images" / f"{name}.jpg").write_bytes(jpeg.tobytes())
            indexed = Image.fromarray(label)
            indexed.putpalette(palette.tobytes())
            indexed.save(root / "labels" / f"{name}.png")
            done += 1
            progress(done, total)
        files.write_text(root / f"{split}.txt", "".join(f"{name}\n" for name in names))


def _write_manifest(root: Path, manifest: dict[str, Any]) -> None:
    files.write_text(root / _MANIFEST, json.dumps(manifest, indent=2) + "\n")


def _read_manifest(root: Path) -> dict[str, Any] | None:
    """What an earlier run left in ``root``; None where there is no manifest of this generator."""
    try:
        manifest = documents.read_json(root / _MANIFEST)
        ours = manifest["generator"] == __name__ and all(type(manifest[split]) is int for split in SPLITS)
    except (DataError, KeyError, TypeError):
        return None
    return manifest if ours else None


def _make_room(root: Path, old: dict[str, Any] | None, counts: dict[str, int]) -> None:
    """Remove the files of an earlier set, and refuse to write over anybody else's."""
    if old is not None:
        for path in _paths(root, old):
            path.unlink(missing_ok=True)
    taken = [root / _MANIFEST] if old is None else []
    for path in [*taken, *_paths(root, counts)]:
        if path.exists():
            raise DataError(f"{path} already exists and is not part of a shapes dataset. Choose an empty folder.")


def _digest(root: Path, counts: dict[str, int]) -> str | None:
    """SHA-256 over all files of a set, or None where one is missing."""
    digest = hashlib.sha256()
    for path in _paths(root, counts):
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
