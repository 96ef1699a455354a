"""tools/model_converter/import_weights.py: from a file of others to a model of ours, or one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import foreign
import keras
import numpy as np
import pytest

import eval as evaluation
from common import cli
from deeplabv3p.models import factory
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import find_spec, load_spec
from deeplabv3p.spec import IMAGENET_STATISTICS, ClassInfo
from tools.model_converter import import_weights

NARROW = ("--model_type", "deeplabv3_mobilenetv2", "--alpha", "0.25", "--model_input_shape", "33x49")


@pytest.fixture(scope="module")
def arrays(tmp_path_factory) -> Path:
    """Weights of a narrow DeepLab under Google's names."""
    rng = np.random.default_rng(0)
    shapes = foreign.slim_mobilenetv2(0.25, classes=2)
    path = tmp_path_factory.mktemp("source") / "weights.npz"
    np.savez(path, **{n.replace("/", "|"): foreign.random_weights(n, shape, rng) for n, shape in shapes.items()})
    return path


def run(*arguments: object) -> int:
    return cli.exit_code(lambda: import_weights.main([str(argument) for argument in arguments]))


def test_a_model_with_its_spec_comes_out_and_the_command_says_what_matched(arrays, tmp_path, capsys):
    target = tmp_path / "model.keras"
    assert run(arrays, *NARROW, "--output", target) == 0
    said = capsys.readouterr().out
    assert "layers filled                          109" in said
    assert "without a place   0" in said
    assert "2 classes (without names" in said
    spec = load_spec(target)
    assert (spec.model.name, spec.model.output_stride) == ("deeplabv3_mobilenetv2:alpha=0.25", 8)
    assert (spec.input.size_hw, spec.input.resize, spec.output.align_corners) == ((33, 49), "pad", True)
    assert [item.name for item in spec.classes] == ["class 0", "class 1"]
    with np.load(arrays) as source:
        kernel = keras.models.load_model(target).get_layer("logits").get_weights()[0]
        np.testing.assert_array_equal(kernel, source["logits|semantic|weights"])


def test_class_names_come_from_the_class_file(arrays, tmp_path, capsys):
    (tmp_path / "two.txt").write_text("background\nperson\n")
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    target = tmp_path / "model.keras"
    flags = (arrays, *NARROW, "--output", target, "--classes_path")
    assert run(*flags, tmp_path / "two.txt") == 0
    assert [item.name for item in load_spec(target).classes] == ["background", "person"]
    target.unlink()
    assert run(*flags, tmp_path / "three.txt") == 2
    assert "3 classes" in capsys.readouterr().err
    assert not target.exists()
    assert run(*flags, tmp_path / "three.txt", "--partial") == 0
    assert "without weights  1: logits" in capsys.readouterr().out
    assert load_spec(target).num_classes == 3


def test_what_does_not_fit_is_one_line_and_writes_nothing(arrays, tmp_path, capsys):
    target = tmp_path / "out" / "model.keras"
    cases = (
        ((arrays, "--model_type", "mobilenetv2_lite", "--output", target), 3, "--alpha"),
        ((tmp_path / "nothing.pb", *NARROW, "--output", target), 3, "no weights file"),
        ((tmp_path, *NARROW, "--output", target), 3, "no weights file"),
        ((arrays, "--model_type", "vgg", "--output", target), 2, "unknown model type"),
        ((arrays, *NARROW, "--output", tmp_path / "model.onnx"), 2, ".keras"),
    )
    for arguments, code, message in cases:
        assert run(*arguments) == code
        error = capsys.readouterr().err.splitlines()
        assert len(error) == 1
        assert message in error[0]
    assert not target.parent.exists()


def test_a_model_of_ours_keeps_its_classes_and_preprocessing(tmp_path):
    name = "deeplabv3_mobilenetv2:alpha=0.25"
    model = factory.build_model(name, num_classes=1, size_hw=(33, 33))
    classes = (ClassInfo("sky", (1, 2, 3)),)
    spec = factory.model_spec(
        name, size_hw=(33, 33), output_stride=8, classes=classes, preprocessing=IMAGENET_STATISTICS
    )
    keras_engine.save_model(model, spec, tmp_path / "mine.keras")
    assert run(tmp_path / "mine.keras", *NARROW, "--output", tmp_path / "again.keras") == 0
    again = find_spec(tmp_path / "again.keras")
    assert (again.classes, again.input.preprocessing) == (classes, IMAGENET_STATISTICS)


@pytest.mark.slow
def test_google_s_network_scores_on_voc_what_it_should(deeplab_data, tmp_path):
    """The figures of the frozen graph itself, run by nothing of this project: README of the data."""
    source = deeplab_data / "weights/deeplabv3_mnv2_pascal_trainval/frozen_inference_graph_rebuilt.pb"
    model, voc = tmp_path / "voc.keras", deeplab_data / "VOC2012"
    assert run(source, "--model_type", "deeplabv3_mobilenetv2", "--output", model) == 0
    assert [item.name for item in load_spec(model).classes][-1] == "tvmonitor"
    evaluation.main(
        [
            *("--model_path", str(model), "--dataset_path", str(voc), "--output_path", str(tmp_path / "result")),
            *("--dataset_file", str(voc / "ImageSets/Segmentation/val.txt")),
        ]
    )
    scores = json.loads((tmp_path / "result/scores.json").read_text(encoding="utf-8"))
    assert scores["scored_pixels"] == 27_639_034
    assert scores["miou"] == pytest.approx(0.8344, abs=0.001)
    assert scores["pa"] == pytest.approx(0.9650, abs=0.001)
    assert scores["mpa"] == pytest.approx(0.8917, abs=0.001)
    assert scores["fwiou"] == pytest.approx(0.9342, abs=0.001)
