"""Small sources in the exact structure of the published ones, drawn here."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.run import convert
from deeplabv3p.data.convert.state import Conversion
from deeplabv3p.data.dataset import Dataset, open_dataset

SIZE = (24, 32)  # height, width of most pictures


def photo(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth random picture, uint8 [H, W, 3]."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


def regions(count: int, size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    """A label map of blocks with the numbers 0 to count - 1, uint8 [H, W]."""
    small = np.random.default_rng(seed).integers(0, count, (size[0] // 4, size[1] // 4), np.uint8)
    return np.kron(small, np.ones((4, 4), np.uint8))


def encode(pixels: np.ndarray, suffix: str = ".png", **options: Any) -> bytes:
    out = io.BytesIO()
    kind = {".png": "PNG", ".jpg": "JPEG", ".bmp": "BMP"}[suffix.lower()]
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def palette_png(label: np.ndarray, colors: np.ndarray) -> bytes:
    picture = Image.fromarray(label)
    picture.putpalette(colors.astype(np.uint8).tobytes())
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def to_folder(root: Path, content: dict[str, bytes | str]) -> Path:
    for name, data in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def to_zip(path: Path, content: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def to_tar(path: Path, content: dict[str, bytes | str], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, text in content.items():
            data = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def run(format_name: str, sources: Path | list[Path], output: Path, **options: Any) -> Conversion:
    sources = [sources] if isinstance(sources, Path) else sources
    return convert(format_name, sources, output, Options(**options))


def opened(result: Conversion, split: str) -> Dataset:
    """A list of the result, as training opens it."""
    return open_dataset(result.root, result.root / f"{split}.txt", load_classes(result.root / "classes.txt"), 255)


def labels_of(result: Conversion, split: str) -> dict[str, np.ndarray]:
    """The label maps by name, each loaded with its picture, so that sizes are checked."""
    dataset = opened(result, split)
    return {sample.name: dataset.load(index)[1] for index, sample in enumerate(dataset.samples)}


def class_names(result: Conversion) -> list[str]:
    return [item.name for item in result.classes]
