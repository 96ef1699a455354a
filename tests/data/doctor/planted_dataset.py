"""A small sound dataset, and ways to spoil it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from deeplabv3p.data.doctor import Diagnosis, Finding, diagnose

NAMES = {"train": [f"t{index}" for index in range(8)], "val": [f"v{index}" for index in range(4)]}
SIZE = (48, 64)  # height, width
CLASSES = "sky 128 128 128\nroad 128 64 128\ncar 64 0 128\n"

Change = Callable[[np.ndarray], np.ndarray]


def photo(seed: int, size_hw: tuple[int, int] = SIZE) -> np.ndarray:
    """A picture unlike those of other seeds: random blocks, as a scene has, under fine noise."""
    rng = np.random.default_rng(seed)
    blocks = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(size_hw[::-1], Image.Resampling.BILINEAR)
    return np.clip(np.asarray(blocks, np.int16) + rng.integers(-8, 9, (*size_hw, 3)), 0, 255).astype(np.uint8)


def truth(seed: int, count: int = 3, size_hw: tuple[int, int] = SIZE) -> np.ndarray:
    """A label map with ``count`` classes in stripes of a width that depends on the seed, ignored below."""
    label = np.repeat(np.arange(size_hw[1])[None] // (7 + seed % 5) % count, size_hw[0], axis=0).astype(np.uint8)
    label[-3:] = 255
    return label


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def build(root: Path, count: int = 3, folders: tuple[str, str] = ("images", "labels")) -> Path:
    """The sound dataset."""
    seed = 0
    for split, names in NAMES.items():
        for name in names:
            save(root / folders[0] / f"{name}.jpg", photo(seed), quality=92)
            save(root / folders[1] / f"{name}.png", truth(seed, count))
            seed += 1
        (root / f"{split}.txt").write_text("\n".join(names) + "\n")
    (root / "classes.txt").write_text("".join(line + "\n" for line in CLASSES.splitlines()[:count]))
    return root


def names() -> list[str]:
    return [*NAMES["train"], *NAMES["val"]]


def change(root: Path, which: list[str], function: Change) -> None:
    """Write the label maps of some samples anew."""
    for name in which:
        path = root / "labels" / f"{name}.png"
        save(path, function(np.asarray(Image.open(path))))


def append(path: Path, *lines: str) -> None:
    path.write_text(path.read_text() + "".join(f"{line}\n" for line in lines))


def cut(path: Path, share: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def as_jpeg(pixels: np.ndarray, quality: int = 90) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
    return np.asarray(Image.open(buffer))


def colored(label: np.ndarray) -> np.ndarray:
    """A label map in the colours of CLASSES; ignored pixels in VOC's colour."""
    table = np.zeros((256, 3), np.uint8)
    table[:3] = [[int(part) for part in line.split()[1:]] for line in CLASSES.splitlines()]
    table[255] = (224, 224, 192)
    return table[label]


def plain_classes(root: Path) -> None:
    """A class list without colours."""
    path = root / "classes.txt"
    path.write_text("".join(f"{line.split()[0]}\n" for line in path.read_text().splitlines()))


def kinds(diagnosis: Diagnosis, *severities: str) -> set[str]:
    return {item.kind for item in diagnosis.findings if not severities or item.severity in severities}


def only(diagnosis: Diagnosis, kind: str) -> Finding:
    found = [item for item in diagnosis.findings if item.kind == kind]
    assert len(found) == 1, f"{kind}: {[(item.kind, item.message) for item in diagnosis.findings]}"
    return found[0]


def examine(root: Path, **options: object) -> Diagnosis:
    return diagnose(root, **options)
