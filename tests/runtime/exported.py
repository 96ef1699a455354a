"""The tiny model at a fixed size in every format, with what Keras makes of two pictures."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tiny_model import make_batch, make_model, make_spec

from deeplabv3p.export.export import export
from deeplabv3p.export.formats import ExportOptions
from deeplabv3p.spec import ModelSpec

SIZE = (64, 96)
# What writes and opens each file.
FILES = {
    "keras": ("m.keras", ()),
    "pb": ("m.pb", ()),
    "savedmodel": ("m", ()),
    "onnx": ("m.onnx", ("onnx", "tf2onnx", "onnxruntime")),
    "tflite": ("m.tflite", ("ai_edge_litert",)),
    "mnn": ("m.mnn", ("MNN",)),
    "openvino": ("m.xml", ("openvino",)),
}
# Runtime → the format it opens here, by name; the default runtime of a format first.
ROUTES = {
    "keras": "keras",
    "pb": "pb",
    "savedmodel": "savedmodel",
    "onnx": "onnx",
    "tflite": "tflite",
    "mnn": "mnn",
    "openvino": "openvino",
    "opencv": "onnx",
    "opencv-pb": "pb",
    "openvino-onnx": "onnx",
}


@dataclass(frozen=True)
class Exported:
    """The folder of the files, two different pictures [2, H, W, 3] as the network gets them, and their logits."""

    folder: Path
    pictures: np.ndarray
    logits: np.ndarray

    def path(self, kind: str) -> Path:
        """The file of a format; skips the test where it cannot be written."""
        name, packages = FILES[kind]
        for package in packages:
            if importlib.util.find_spec(package) is None:
                pytest.skip(f"{package} is not installed")
        return self.folder / name

    def name(self, route: str) -> str:
        """``path@runtime`` for a key of ROUTES."""
        return f"{self.path(ROUTES[route])}@{route.partition('-')[0]}"

    def run(self, runtime, pictures=None) -> np.ndarray:
        """The logits of a runtime, [B, h, w, K], whatever its layout."""
        pictures = self.pictures if pictures is None else pictures
        first = runtime.spec.input.layout == "NCHW"
        output = runtime.run(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)) if first else pictures)
        return output.transpose(0, 2, 3, 1) if runtime.spec.output.layout == "NCHW" else output


def export_all(folder: Path) -> Exported:
    """Write every format whose packages are here."""
    model, spec = make_model(SIZE), make_spec(SIZE)
    for kind, (name, packages) in FILES.items():
        if all(importlib.util.find_spec(package) for package in packages):
            export(model, spec, folder / name, kind, ExportOptions())
    pictures = np.concatenate([make_batch(1, *SIZE, seed=seed) for seed in (1, 2)])
    logits = np.asarray(model(pictures, training=False))
    assert np.abs(logits[0] - logits[1]).max() > 0.5, "the model must see the picture"
    return Exported(folder, pictures, logits)


def spec_of(exported: Exported, route: str) -> ModelSpec:
    """The spec of a route's file."""
    from deeplabv3p.runtime.artifact import load_spec

    return load_spec(exported.path(ROUTES[route]))
