"""The real train.py on the JAX backend where TensorFlow is not installed: trains, scores, is interrupted, resumes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deeplabv3p.data.shapes import generate

ROOT = Path(__file__).parents[2]

# Importing TensorFlow, or what needs it, fails as it does where it is not installed. Ctrl-C comes when the first epoch
# is done, so that the run stops inside the second one. Argument 1: the two command lines of train.py.
DRIVER = """
import importlib.abc, json, signal, sys

HIDDEN = ("tensorflow", "tf_keras", "tensorboard")

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

class Interrupts:
    done = False
    def __getattr__(self, name):
        return getattr(sys.__stdout__, name)
    def write(self, text):
        if text.startswith("epoch 1:") and not self.done:
            self.done = True
            signal.raise_signal(signal.SIGINT)
        return sys.__stdout__.write(text)

sys.meta_path.insert(0, Hide())
sys.stdout = Interrupts()

import train
from common import cli

print("CODES", *(cli.exit_code(lambda: train.main(argv)) for argv in json.loads(sys.argv[1])))
print("LOADED", sorted({name.split(".")[0] for name in sys.modules} & {*HIDDEN, "jax"}))
"""


def test_training_is_interrupted_and_resumed_where_tensorflow_is_missing(tmp_path):
    """With options whose code has a road of its own on TensorFlow, or might have."""
    pytest.importorskip("jax")
    shapes = generate(tmp_path / "shapes", train=12, val=3, test=0, size_hw=(64, 80), seed=2).root
    logs = tmp_path / "logs"
    started = [
        *("--model_type", "mobilenetv2", "--alpha", "0.35", "--head_width", "16", "--backbone_weights", "none"),
        *("--model_input_shape", "64x64", "--batch_size", "4", "--transfer_epoch", "0", "--total_epoch", "3"),
        *("--eval_epoch_interval", "1", "--bn_momentum", "0.9", "--learning_rate", "2e-3", "--optimizer", "adamw"),
        *("--loss", "ce+0.5*dice", "--weighted_type", "balanced", "--clip_norm", "1", "--average_type", "ema"),
        *("--mixed_precision", "bfloat16", "--deterministic", "--dataset_path", str(shapes)),
        *("--dataset_file", str(shapes / "train.txt"), "--val_dataset_file", str(shapes / "val.txt")),
        *("--classes_path", str(shapes / "classes.txt"), "--log_dir", str(logs)),
    ]
    resumed = ["--log_dir", str(logs), "--resume"]
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": str(ROOT),
        # Compiling is most of the time: do it once for both commands, and in a hurry.
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    command = [sys.executable, "-c", DRIVER, json.dumps([started, resumed])]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    said = f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    assert done.returncode == 0, said
    assert "CODES 130 0\n" in done.stdout, said
    assert "LOADED ['jax']\n" in done.stdout, said

    with (logs / "000" / "training.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert all(0 <= float(row["val_miou"]) <= 1 for row in rows), "each epoch was scored"
    names = {path.name for path in (logs / "000").iterdir()}
    assert {"best.keras", "trained_final.keras", "report.html"} <= names
