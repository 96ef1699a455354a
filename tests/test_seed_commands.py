"""Every command line in the table of docs/convert.md, run as it stands there, on little data and small inputs.

The table is read from the document, so the two cannot drift apart. A command marked planned must still be refused.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from common import video
from deeplabv3p.data.scenes import draw_scene

ROOT = Path(__file__).parents[1]
SIZE = "64x64"
PICTURE = "2007_000346"

# What stands in the table → what the test runs. The longer a command's value, the shorter the test's.
SHORTER = {
    "512x512": SIZE,
    "--batch_size=16": "--batch_size=2",
    "--transfer_epoch=5": "--transfer_epoch=0",
    "--total_epoch=100": "--total_epoch=1",
    "--sample_num=30": "--sample_num=2",
    "--sample_num 30": "--sample_num 2",
    "--seconds 1": "--seconds 0.1",
    "xception --weights": f"mobilenetv2_lite --model_input_shape={SIZE} --weights",  # 41 million parameters less
}
CONVERTERS = {"model.pb": "--output_model=", "model.onnx": "--op_set", "model.tflite": "_to_tflite"}
"""What the table makes a file with: a part of that command."""

SET_UP = ("--save_eval_checkpoint", "--dump_model")
"""The commands, by a part of each, that the others need the results of."""

TRAIN_MORE = f" --model_input_shape={SIZE} --backbone_weights=none --threads=1"


def rows() -> list[tuple[str, str, str]]:
    """(there, here, remark) of the table; ``here`` without its quotes, empty where there is nothing yet."""
    text = (ROOT / "docs" / "convert.md").read_text(encoding="utf-8")
    table = text.split("<!-- begin seed commands -->")[1].split("<!-- end seed commands -->")[0]
    found = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.strip().splitlines()[2:]]
    assert all(len(row) == 3 for row in found)
    return [(there, here.strip("`"), remark) for there, here, remark in found]


ROWS = rows()


def shortened(command: str) -> str:
    for long, short in SHORTER.items():
        command = command.replace(long, short)
    return command + TRAIN_MORE if command.startswith("python train.py --") else command


def run(command: str) -> int:
    """Run ``python script …`` in this process, as the interpreter would, and return its exit code."""
    python, script, *arguments = shlex.split(shortened(command))
    assert python == "python"
    before = sys.argv
    sys.argv = [str(ROOT / script), *arguments]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def find(part: str) -> str:
    """The one command of the table that holds ``part``."""
    [command] = [here for _, here, remark in ROWS if part in here and remark != "planned"]
    return command


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with VOC2012/, configs/, weights/ and test.mp4, in which the table's own commands have made logs/000,
    model.h5 and its conversions."""
    folder = tmp_path_factory.mktemp("seed")
    shutil.copytree(ROOT / "configs", folder / "configs")
    voc = folder / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / part).mkdir(parents=True)
    names = ["2007_000033", "2007_000042", "2007_000061", PICTURE]
    for index, name in enumerate(names):
        image, label = draw_scene((0, index), (80, 96), rare=False)
        cv2.imwrite(str(voc / "JPEGImages" / f"{name}.jpg"), image[..., ::-1])
        cv2.imwrite(str(voc / "SegmentationClass" / f"{name}.png"), label)
    for split in ("train", "val"):
        (voc / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(names))
    shape = {"label": "aeroplane", "points": [[8, 8], [60, 8], [60, 60]], "shape_type": "polygon"}
    drawn = {
        "imagePath": f"../VOC2012/JPEGImages/{PICTURE}.jpg",
        "imageHeight": 80,
        "imageWidth": 96,
        "shapes": [shape],
    }
    (folder / "json").mkdir()
    (folder / "json" / f"{PICTURE}.json").write_text(json.dumps(drawn))
    with video.open_writer(folder / "test.mp4", 10) as writer:
        for shade in (40, 200):
            writer.write(np.full((64, 96, 3), shade, np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for part in SET_UP:
            assert run(find(part)) == 0
        weights = folder / "weights"
        weights.mkdir()
        shutil.copy(folder / "model.h5", weights / "deeplabv3_xception_tf_dim_ordering_tf_kernels.h5")
        yield folder


def test_the_table_holds_the_commands_of_every_part():
    there = " ".join(row[0] for row in ROWS)
    parts = ["train.py", "eval.py", "deeplab.py", "--dump_model", "--input=", "keras_to_tensorflow", "keras_to_onnx"]
    parts += ["keras_to_tflite", "post_train_quant", "mnnconvert", "tensorboard", "dataset_prepare", "deeplabSegment"]
    assert [part for part in parts if part not in there] == []


def skip_what_cannot_run_here(here, remark, capsys) -> None:
    """Skip commands that need a network, a camera or two GPUs, after what can be checked of them."""
    if not here:
        assert remark.startswith("planned")
        pytest.skip(remark)
    if remark == "planned":
        assert run(here) == 2
        assert "not available yet" in capsys.readouterr().err
        pytest.skip("planned, and refused with a message")
    if here.startswith("pip "):
        assert (ROOT / here.split()[-1]).is_file()
        pytest.skip("installs packages; `make` runs it")
    if "--gpu_num" in here:
        assert run(here) == 2
        assert "there is only 1 device" in capsys.readouterr().err
        pytest.skip("needs two GPUs; refused with a message")
    if "--input=0" in here:
        pytest.skip("needs a camera")
    if here.endswith("dataset_prepare.sh"):
        assert os.access(ROOT / here, os.X_OK)
        pytest.skip("needs a network; test_dataset_converter_cli.py checks what it calls")
    if "download_weights" in here:
        assert run(f"{here} --offline --folder .") == 3  # a test downloads nothing; the message says what to put where
        assert "deeplabv3_xception_tf_dim_ordering_tf_kernels.h5" in capsys.readouterr().err
        pytest.skip("needs a network; refused offline with the file's name")


@pytest.mark.parametrize(
    ("here", "remark"), [row[1:] for row in ROWS], ids=[f"{i}:{row[0][:48]}" for i, row in enumerate(ROWS)]
)
def test_each_command_does_its_work(here, remark, request, monkeypatch, capsys):
    skip_what_cannot_run_here(here, remark, capsys)
    folder = request.getfixturevalue("workspace")
    if any(part in here for part in SET_UP):
        assert (folder / ("logs/000/report.html" if "train.py" in here else "model.h5")).is_file()
        return
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    if here.startswith("tensorboard"):
        pytest.importorskip("tensorboard")
        command = [sys.executable, "-m", "tensorboard.main", *shlex.split(here)[1:], "--inspect"]
        shown = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert re.search(r"loss|mIoU|val", shown.stdout), shown.stderr
        return
    if here.startswith("inference/") and not (ROOT / "inference/cpp/build/host/deeplabSegment").exists():
        pytest.skip("the C++ runner is not built (make device)")
    for engine, part in (("onnxruntime", "onnx"), ("MNN", "mnn"), ("ai_edge_litert", "tflite")):
        if part in here and importlib.util.find_spec(engine) is None:
            pytest.skip(f"needs {engine}")
    for name, converter in CONVERTERS.items():
        is_read = f"={name} --dataset" in here or f"={name} --classes" in here or f" {name} " in here
        if is_read and not (folder / name).exists():
            assert run(find(converter)) == 0
    if "--prediction_path result/labels" in here and not (folder / "result/labels").exists():
        assert run(find("--save_result")) == 0
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"VOC2012/JPEGImages/{PICTURE}.jpg\nq\n"))
    if here.startswith("inference/"):
        command = shlex.split(here)
        done = subprocess.run([ROOT / command[0], *command[1:]], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    else:
        assert run(here) == 0, capsys.readouterr().err
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    if not here.endswith(" -h") and "benchmark" not in here:
        assert after != before, "the command wrote nothing"
