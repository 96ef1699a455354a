"""Damaged files of every kind that is read: each is read right or refused by a DataError, never anything else."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from example_spec import SPEC
from PIL import Image

from deeplabv3p.data.classes import ClassList, default_colors, load_classes
from deeplabv3p.data.decode import read_image, read_label
from deeplabv3p.errors import DataError
from deeplabv3p.spec import ClassInfo, ModelSpec
from deeplabv3p.training.checkpoint import load_state, save_state

FEW, MANY = 60, 3000

CLASSES = ClassList(tuple(ClassInfo(f"c{i}", color) for i, color in enumerate(default_colors(5))), False)


def _picture(suffix: str) -> bytes:
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    return bytes(cv2.imencode(suffix, cv2.GaussianBlur(picture, (5, 5), 0))[1].tobytes())


def _label() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 5, (24, 32)).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _state() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.npz"
        save_state(path, {"model": [np.zeros((3, 4), np.float32)]}, {"step": 1})
        return path.read_bytes()


KINDS: dict[str, tuple[str, Callable[[], bytes], Callable[[Path], object]]] = {
    "jpeg": ("a.jpg", lambda: _picture(".jpg"), read_image),
    "png": ("a.png", lambda: _picture(".png"), read_image),
    "label": ("a.png", _label, lambda path: read_label(path, CLASSES, 255)),
    "spec": ("a.spec.json", lambda: SPEC.to_json().encode(), ModelSpec.load),
    "classes": ("classes.txt", lambda: b"sky 1 2 3\nroad 4 5 6\ncar 7 8 9\n", load_classes),
    "state": ("state.npz", _state, load_state),
}


def _mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, flip bytes, insert, or repeat a part."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        if not changed:
            break
        at = int(rng.integers(len(changed)))
        kind = rng.integers(4)
        if kind == 0:
            changed[at] = int(rng.integers(256))
        elif kind == 1:
            del changed[at : at + int(rng.integers(1, 64))]
        elif kind == 2:
            changed[at:at] = rng.bytes(int(rng.integers(1, 16)))
        else:
            del changed[at:]
    return bytes(changed)


def _error(read: Callable[[Path], object], path: Path) -> str | None:
    try:
        read(path)
    except DataError as error:
        return str(error)
    return None


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(kind, count, tmp_path):
    name, make, read = KINDS[kind]
    path, data, refused = tmp_path / name, make(), 0
    path.write_bytes(data)
    read(path)  # whole, it is read
    for seed in range(count):
        path.write_bytes(_mutate(data, np.random.default_rng(seed)))
        error = _error(read, path)
        if error is not None:
            refused += 1
            assert "\n" not in error
            assert name in error
    assert refused > count // 20, "the mutations must do something"
