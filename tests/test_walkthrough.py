"""docs/walkthrough.md as it stands: its commands, on twenty drawn pictures with labelme's files beside them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[1]
PICTURES, SIZE_HW = 20, (180, 240)
KINDS = {"leaf": (40, 160, 60), "stone": (120, 120, 130)}
# In `make test` the road is walked in little shoes: less training of smaller pictures.
SHORTER = {"--total_epoch 60": "--total_epoch 1", "256x256": "64x64", "--eval_epoch_interval 20": "--no-eval_online"}


def commands() -> list[tuple[str, bool]]:
    """(command, whether it needs the C++ runner) in the order of the page."""
    text = (ROOT / "docs/walkthrough.md").read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- walkthrough(: device)? -->\n```sh\n(.*?)```", text, re.DOTALL)
    return [(line, bool(device)) for device, block in blocks for line in block.strip().splitlines()]


def draw(rng: np.random.Generator) -> tuple[np.ndarray, list[dict[str, object]]]:
    """A picture of leaves and stones on a brown ground, and their outlines as labelme writes them."""
    ground = rng.normal((120, 90, 60), 18, (*SIZE_HW, 3))
    picture = np.clip(cv2.GaussianBlur(ground, (5, 5), 0), 0, 255).astype(np.uint8)
    shapes: list[dict[str, object]] = []
    for kind in rng.permutation([*KINDS, *KINDS]):
        center = rng.uniform((40, 40), (SIZE_HW[1] - 40, SIZE_HW[0] - 40))
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(18, 38, 9) * (0.6 if kind == "leaf" else 1)
        points = center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
        color = tuple(int(value) for value in rng.normal(KINDS[str(kind)], 12).clip(0, 255))
        cv2.fillPoly(picture, [points.round().astype(np.int32)], color)
        shapes.append({"label": str(kind), "points": points.tolist(), "shape_type": "polygon", "flags": {}})
    return picture, shapes


@pytest.fixture
def folder(tmp_path) -> Path:
    """What the page says one needs, beside the project's own folders."""
    for name in ("tools", "weights", "inference", "train.py", "deeplab.py", "eval.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    rng = np.random.default_rng(3)
    jsons = tmp_path / "my_jsons"
    jsons.mkdir()
    for number in range(PICTURES):
        picture, shapes = draw(rng)
        Image.fromarray(picture).save(jsons / f"scene {number}.jpg", quality=95)
        size = {"imageHeight": SIZE_HW[0], "imageWidth": SIZE_HW[1]}
        content = {"version": "5.4.1", "imagePath": f"scene {number}.jpg", "imageData": None, "shapes": shapes, **size}
        (jsons / f"scene {number}.json").write_text(json.dumps(content))
    Image.fromarray(draw(rng)[0]).save(tmp_path / "new.jpg", quality=95)
    return tmp_path


def walk(folder: Path, shorter: dict[str, str]) -> str:
    """Run the page's commands; returns all that they print."""
    said = []
    for command, device in commands():
        line = command
        for long, short in shorter.items():
            line = line.replace(long, short)
        words = shlex.split(line)
        if words[0] == "python":
            words[0] = sys.executable
        elif device and not (folder / words[0]).exists():
            continue
        done = subprocess.run(
            words, cwd=folder, capture_output=True, text=True, env=os.environ | {"DEEPLABV3P_TRUST": "1"}
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
    return "\n".join(said)


def check(folder: Path) -> None:
    """What the page promises is there."""
    assert (folder / "mydata/classes.txt").read_text().split()[::4] == ["background", "leaf", "stone"]
    assert len((folder / "mydata/all.txt").read_text().splitlines()) == PICTURES
    assert (folder / "look/gallery.html").is_file()
    assert (folder / "certificate/report.html").is_file()
    if (ROOT / "inference/cpp/build/host/deeplabSegment").exists():
        with Image.open(folder / "mask.png") as mask:
            assert mask.size == SIZE_HW[::-1]
        assert (folder / "mask_overlay.png").is_file()


def test_the_page_has_all_its_commands():
    found = " ".join(command for command, _ in commands())
    for part in (
        "dataset.py",
        "doctor.py",
        "browse.py",
        "train.py",
        "deeplab.py",
        "convert.py",
        "certify.py",
        "deeplabSegment",
    ):
        assert part in found
    for long in SHORTER:
        assert long in found


def test_the_walk_in_short(folder):
    walk(folder, SHORTER)
    check(folder)


@pytest.mark.slow
def test_the_walk_as_it_stands_ends_with_a_model_that_has_learned(folder):
    said = walk(folder, {})
    check(folder)
    scores = [float(score) for score in re.findall(r"best validation mIoU (\d\.\d+)", said)]
    assert scores
    assert scores[-1] > 0.6, "twenty pictures of two kinds of blots are learned"
