"""Frozen graphs as files: what TensorFlow and OpenCV make of them."""

from __future__ import annotations

import cv2
import numpy as np

from deeplabv3p.export import pb
from deeplabv3p.export.formats import ExportOptions
from deeplabv3p.runtime import keras_engine
from deeplabv3p.spec import ModelSpec, sidecar_path

keras_engine.import_keras()

import tensorflow as tf  # noqa: E402


def test_the_file_is_the_graph_with_its_spec_beside_it(network, frozen, tmp_path):
    exported = pb.write(frozen, tmp_path / "model.pb", ExportOptions())
    assert exported.spec == frozen.spec == ModelSpec.load(sidecar_path(exported.path))
    graph_def = tf.compat.v1.GraphDef.FromString(exported.path.read_bytes())
    assert graph_def == frozen.graph_def
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pb", "model.pb.spec.json"]
    # The same model gives the same bytes.
    before = exported.path.read_bytes()
    assert pb.write(frozen, tmp_path / "model.pb", ExportOptions()).path.read_bytes() == before


def test_opencv_reads_the_file_and_computes_the_same(network, frozen, tmp_path):
    """It needs constants folded and written in full, and no Identity; a raw frozen graph crashes OpenCV 5."""
    path = pb.write(frozen, tmp_path / "model.pb", ExportOptions()).path
    net = cv2.dnn.readNetFromTensorflow(str(path))
    for picture, wanted in zip(network.pictures, network.logits, strict=True):
        net.setInput(picture.transpose(2, 0, 1)[None].copy())
        got = net.forward()[0].transpose(1, 2, 0)
        # float32 through 50 layers of a random network, in another order of sums
        assert np.abs(got - wanted).max() < 1e-3 * np.abs(wanted).max()
