"""The networks that benchmarks compare with PyTorch are the same network in both."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import network_graph
from deeplabv3p.models import batchnorm, factory

ROOT = Path(__file__).parents[1]


def described(model: keras.Model, folder: Path) -> dict:
    network_graph.write(model, folder)
    return json.loads((folder / "network.json").read_text())


def test_the_description_holds_every_layer_and_weight(tmp_path):
    model = factory.build_model("mobilenetv2:alpha=0.35,width=16", num_classes=3, size_hw=(65, 96))
    steps = described(model, tmp_path)["steps"]
    assert {step["name"] for step in steps} == {op.name for op in model.operations[1:]}
    for index, step in enumerate(steps):
        assert all(number <= index for number in step["reads"]), "a step reads what is there"
    with np.load(tmp_path / "weights.npz") as arrays:
        assert sum(array.size for array in arrays.values()) == model.count_params()


def test_a_layer_without_a_twin_is_refused(tmp_path):
    image = keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match="PReLU"):
        network_graph.write(keras.Model(image, keras.layers.PReLU()(image)), tmp_path)


@pytest.mark.parametrize("name", ["mobilenetv2", "peleenet", "fast_scnn"])
@pytest.mark.parametrize("size_hw", [(96, 128), (65, 97)])
def test_the_twin_has_our_parameters_and_logits(name, size_hw, photographs, tmp_path):
    """TORCH_PYTHON: an interpreter with torch. At even and odd sizes, because the padding depends on it."""
    interpreter = os.environ.get("TORCH_PYTHON")
    if not interpreter:
        pytest.skip("TORCH_PYTHON is not set")
    model = factory.build_model(f"{name}:alpha=0.35,width=16", num_classes=3, size_hw=size_hw)
    pictures = photographs[:, : size_hw[0], : size_hw[1]].astype(np.float32) / 127.5 - 1
    batchnorm.reestimate(model, [pictures])
    logits = np.asarray(model(pictures, training=False))
    assert np.abs(logits[0] - logits[1]).max() > 0.1, "different pictures must differ, or nothing is tested"
    network_graph.write(model, tmp_path)
    np.savez(tmp_path / "pictures.npz", pictures=pictures, logits=logits)
    command = [interpreter, str(ROOT / "benchmarks" / "torch_twin.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["parameters"] == model.count_params()
    assert result["max_abs_difference"] < 1e-4 * np.abs(logits).max()  # float32 through a hundred layers
