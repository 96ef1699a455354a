"""Trained networks in the C++ runner: the shipped one in every engine, and Google's on PASCAL VOC."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import device
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import load_spec

ROOT = Path(__file__).parents[2]
BUILD = Path(os.environ.get("DEEPLAB_DEVICE_BUILD", device.BUILD))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BUILD / device.PROGRAM).exists(), reason=f"{BUILD} holds no runner (make device)"),
]
GOOGLE = "weights/deeplabv3_mnv2_pascal_trainval/frozen_inference_graph_rebuilt.pb"


def test_fifty_pictures_of_odd_sizes_in_every_engine(tmp_path):
    shipped = ROOT / "weights/camvid_mobilenetv2.keras"
    pictures = device.draw_pictures(tmp_path / "pictures")
    model, spec = keras_engine.load_model(shipped), load_spec(shipped)
    for path in device.export_files(model, spec, tmp_path / "files", device.FILES, pictures):
        row = device.measure_parity(BUILD, path, pictures)
        assert row["pictures"] == 50
        assert row["pixels"] > 3_000_000
        # The same library computes the same bits for both, and what is around it is equal bit by bit.
        assert row["differing"] == 0, row


def test_the_voc_network_has_its_score(deeplab_data, tmp_path):
    """0.834 within 0.001: what the frozen graph itself scores on these 164 pictures."""
    tools = ROOT / "tools/model_converter"
    keras_file = tmp_path / "voc.keras"
    imported = [tools / "import_weights.py", deeplab_data / GOOGLE, "--model_type", "deeplabv3_mobilenetv2"]
    converted = [tools / "convert.py", keras_file, "--to", "tflite", "--output_path", tmp_path]
    for command in ([*imported, "--output", keras_file], converted):
        subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True)
    voc = deeplab_data / "VOC2012"
    command = [BUILD / device.PROGRAM, "eval", "-m", tmp_path / "voc.tflite", "-i", voc / "JPEGImages", "--json"]
    command += ["--labels", voc / "SegmentationClass", "--list", voc / "ImageSets/Segmentation/val.txt"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert found["pictures"] == 164
    assert found["pixels"] == 27_639_034
    assert found["miou"] == pytest.approx(0.8344, abs=0.001)
    assert found["pa"] == pytest.approx(0.9650, abs=0.001)
