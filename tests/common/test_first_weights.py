"""The first weights of a run: the classifier goes by the names of the classes, and the console says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.first_weights import make_network
from deeplabv3p.data.classes import ClassList, default_colors
from deeplabv3p.data.dataset import Dataset
from deeplabv3p.runtime.keras_engine import save_model
from deeplabv3p.spec import ClassInfo
from deeplabv3p.training.config import TrainConfig

NAMES = ("sky", "road", "tree")
CONFIG = TrainConfig(alpha=0.35, head_width=16, backbone_weights="none", size_hw=(64, 64))


def dataset(names: tuple[str, ...]) -> Dataset:
    classes = tuple(ClassInfo(name, color) for name, color in zip(names, default_colors(len(names)), strict=True))
    return Dataset(Path("data"), (), ClassList(classes, explicit_colors=False), 255, "data/train.txt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, list[np.ndarray]]:
    model, spec = make_network(CONFIG, dataset(NAMES), offline=True)
    for layer in model.layers:  # statistics of a training, which are not measured anew
        if layer.name.endswith("bn") or "BN" in layer.name or "bn_" in layer.name:
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma, beta, mean + 0.1, variance + 0.5])
    kernel, bias = model.get_layer("logits").get_weights()
    tensors = [kernel, np.arange(1, 1 + len(bias), dtype=np.float32)]
    model.get_layer("logits").set_weights(tensors)
    path = tmp_path_factory.mktemp("model") / "trained.keras"
    save_model(model, spec, path)
    return path, tensors


@pytest.mark.parametrize(
    ("names", "biases", "said"),
    [
        (NAMES, [1, 2, 3], ""),
        (("tree", "sky", "road"), [3, 1, 2], "in another order: each keeps its part of the classifier, by name"),
        (("cat", "dog", "bird"), [0, 0, 0], "all but the classifier is kept, which starts anew"),
        (("cat", "road", "bird", "sky"), [0, 2, 0, 1], "has 2 of these 4 classes by name (road, sky): their part"),
        (("tree",), [3], "has these classes among others"),
    ],
)
def test_the_classifier_goes_by_names(names, biases, said, trained, capsys):
    path, tensors = trained
    config = TrainConfig(**{**vars(CONFIG), "weights_path": str(path)})
    model, spec = make_network(config, dataset(names), offline=True)
    kernel, bias = model.get_layer("logits").get_weights()
    assert bias.tolist() == biases
    for label, name in enumerate(names):
        if name in NAMES:
            np.testing.assert_array_equal(kernel[..., label], tensors[0][..., NAMES.index(name)])
    assert tuple(item.name for item in spec.classes) == names
    out = capsys.readouterr().out
    assert said in out
    assert bool(out) == bool(said)


def test_as_many_classes_without_names_are_said(trained, tmp_path, capsys):
    bare = tmp_path / "bare.weights.h5"
    import keras

    model = keras.saving.load_model(trained[0])
    model.save_weights(bare)
    config = TrainConfig(**{**vars(CONFIG), "weights_path": str(bare)})
    model, _ = make_network(config, dataset(("cat", "dog", "bird")), offline=True)
    assert model.get_layer("logits").get_weights()[1].tolist() == [1, 2, 3]
    assert "does not name its classes and has as many as there are here, 3" in capsys.readouterr().out
