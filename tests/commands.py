"""Every command of the project on a toy of a model and a dataset, as words of a command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from deeplabv3p.export.formats import FORMATS

ROOT = Path(__file__).parents[1]

_DATA = ["--dataset_path", "{folder}", "--dataset_file", "{folder}/val.txt"]
_CLASSES = ["--classes_path", "{folder}/classes.txt"]
_CONVERTER = "tools/model_converter"
_WRITTEN = {"onnx": "colors.onnx", "tflite": "colors.tflite", "mnn": "colors.mnn", "openvino": "colors.xml"}
_WRITTEN |= {"pb": "colors.pb", "savedmodel": "colors_savedmodel"}


def _formats(precision: str) -> list[str]:
    return [name for name, kind in FORMATS.items() if precision in kind.precisions]


COMMANDS: dict[str, list[str]] = {
    "convert f32": [f"{_CONVERTER}/convert.py", "{model}", "--to", "all", "--output_path", "{folder}/all"],
    **{
        f"convert {precision}": [
            *(
                f"{_CONVERTER}/convert.py",
                "{model}",
                "--to",
                *_formats(precision),
                "--no-check",
                "--precision",
                precision,
            ),
            *("--output_path", "{folder}/" + precision, *_DATA, "--sample_num", "2"),
        ]
        for precision in ("f16", "w8", "int8", "int16x8")
    },
    "segment": ["deeplab.py", "--image", "{folder}/images/p0.png", "--model_path", "{model}"],
    "dump": ["deeplab.py", "--dump_model", "--model_path", "{model}", "--output_model_file", "{folder}/dump.keras"],
    "eval": ["eval.py", "--model_path", "{model}", *_DATA, "--save_result"],
    "certify": ["tools/evaluation/certify.py", "{model}", *_DATA, "--seconds", "0.2", "--bisect"],
    "layer_check": [
        "tools/evaluation/layer_check.py",
        "{model}",
        "--layer",
        "logits",
        "--image",
        "{folder}/images/p0.png",
    ],
    "statistics": ["tools/evaluation/model_statistics.py", "--model_type", "mobilenetv2_lite", "--no-latency"],
    "doctor": ["tools/dataset_converter/doctor.py", "{folder}", *_CLASSES, "--dataset_file", "{folder}/val.txt"],
    "stats": ["tools/dataset_converter/stats.py", *_DATA, *_CLASSES],
    "browse": ["tools/dataset_converter/browse.py", *_DATA, *_CLASSES],
    "label_errors": ["tools/dataset_converter/label_errors.py", "--model_path", "{model}", *_DATA],
    "augment_test": ["tools/misc/augment_test.py", *_DATA, *_CLASSES, "--count", "2", "--model_input_shape", "64x64"],
    "train": [
        *("train.py", "--model_type", "mobilenetv2_lite", "--alpha", "0.35", "--head_width", "8", *_CLASSES),
        *("--dataset_path", "{folder}", "--dataset_file", "{folder}/train.txt", "--val_dataset_file"),
        *("{folder}/val.txt", "--model_input_shape", "64x64", "--batch_size", "2", "--backbone_weights", "none"),
        *("--transfer_epoch", "0", "--total_epoch", "1"),
    ],
}
for _engine, _file in _WRITTEN.items():
    COMMANDS[f"segment {_engine}"] = [
        *("deeplab.py", "--image", "{folder}/images/p0.png", "--model_path"),
        "{folder}/all/" + _file,
    ]
    # Some seconds: onnxruntime 1.32 reported to its makers after a while only.
    COMMANDS[f"benchmark {_engine}"] = ["tools/benchmark.py", "{folder}/all/" + _file, "--seconds", "3"]


CODES: dict[str, set[int]] = {"certify": {0, 4}, "doctor": {0, 3}}
"""Exit codes that are as good: a toy misses budgets, and a dataset of equal pictures has findings."""


def make_folder(folder: Path) -> Path:
    """A dataset of four small pictures, and the toy model as ``colors.keras``."""
    import toy_model  # imports Keras

    toy_model.save(folder / "colors.keras")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for index in range(4):
        label = np.full((64, 96), 2, np.uint8)
        label[:, : 36 + 4 * index] = 1
        label[:4] = 0
        Image.fromarray(toy_model.halves()).save(folder / "images" / f"p{index}.png")
        Image.fromarray(label).save(folder / "labels" / f"p{index}.png")
    (folder / "classes.txt").write_text("dark 0 0 0\nred 200 0 0\nblue 0 0 200\n")
    (folder / "train.txt").write_text("p0\np1\np2\n")
    (folder / "val.txt").write_text("p2\np3\n")
    return folder


def words(name: str, folder: Path) -> list[str]:
    """The command line of a command on that folder."""
    places = {"folder": str(folder), "model": str(folder / "colors.keras")}
    script, *arguments = COMMANDS[name]
    return [sys.executable, str(ROOT / script), *(word.format(**places) for word in arguments)]


def environment(home: Path) -> dict[str, str]:
    """As a user has it: a home of its own, nothing that tells engines of a test or of continuous integration."""
    left_out = {"CI", "TF_BUILD", "JENKINS_URL", "NNCF_CI", "NNCF_DEV", "ORT_DISABLE_TELEMETRY", "PYTHONPATH"}
    left_out |= {"DEEPLABV3P_TRUST", "DEEPLABV3P_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"HOME": str(home), "TMPDIR": str(home / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
