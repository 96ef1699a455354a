"""The opencv runtime under OpenCV 4, which cannot be installed beside what this project asks for.

OPENCV4_PYTHON: an interpreter with OpenCV 4, NumPy and Pillow, and nothing else that is needed here.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from deeplabv3p.export.export import export
from deeplabv3p.export.formats import ExportOptions
from deeplabv3p.models import batchnorm, factory
from deeplabv3p.runtime import keras_engine
from deeplabv3p.spec import ClassInfo

keras = keras_engine.import_keras()
ROOT = Path(__file__).parents[2]
SIZE_HW = (65, 97)

# Runs files on pictures: what it prints is OpenCV's version, what it writes are the outputs.
WORKER = """
import sys
import cv2
import numpy as np
from deeplabv3p import visualize
from deeplabv3p.runtime.artifact import open_artifact
folder, *artifacts = sys.argv[1:]
pictures = np.load(f"{folder}/pictures.npy")
outputs = []
for artifact in artifacts:
    runtime = open_artifact(artifact)
    first = runtime.spec.input.layout == "NCHW"
    output = runtime.run(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)) if first else pictures)
    outputs.append(output.transpose(0, 2, 3, 1) if runtime.spec.output.layout == "NCHW" else output)
np.save(f"{folder}/outputs.npy", outputs)
panel = np.full((40, 60, 3), 255, np.uint8)
drawn = visualize.side_by_side([panel, panel], ["one", "two"])
assert drawn.min() < 100, "there are no titles"
assert "tensorflow" not in sys.modules
print(cv2.__version__)
"""


def test_it_gives_the_logits_of_keras(photographs, tmp_path):
    interpreter = os.environ.get("OPENCV4_PYTHON")
    if not interpreter:
        pytest.skip("OPENCV4_PYTHON is not set")
    name = "mobilenetv2:alpha=0.35,width=16"
    keras.utils.set_random_seed(0)
    model = factory.build_model(name, num_classes=5, size_hw=SIZE_HW)
    pictures = photographs[:, : SIZE_HW[0], : SIZE_HW[1]].astype(np.float32) / 127.5 - 1
    batchnorm.reestimate(model, [pictures])
    classes = tuple(ClassInfo(f"class {label}", (label, 0, 0)) for label in range(5))
    spec = factory.model_spec(name, size_hw=SIZE_HW, output_stride=16, classes=classes)
    logits = np.asarray(model(pictures, training=False))
    assert np.abs(logits[0] - logits[1]).max() > 0.1, "different pictures must differ, or nothing is tested"
    artifacts = []
    for kind in ("onnx", "pb"):
        if kind == "onnx":
            pytest.importorskip("tf2onnx")
        export(model, spec, tmp_path / f"m.{kind}", kind, ExportOptions())
        artifacts.append(f"{tmp_path / f'm.{kind}'}@opencv")
    np.save(tmp_path / "pictures.npy", pictures)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [interpreter, "-c", WORKER, str(tmp_path), *artifacts]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4.")
    # float32 through fifty layers, in another order of sums (Winograd among them), and a random network magnifies it.
    limit = 1e-3 * np.abs(logits).max()
    for output in np.load(tmp_path / "outputs.npy"):
        np.testing.assert_allclose(output, logits, rtol=0, atol=limit)
