"""The layouts of Keras files, and the older layer names of keras.applications."""

from __future__ import annotations

import json

import foreign
import h5py
import keras
import numpy as np
import pytest

from deeplabv3p import weights
from deeplabv3p.errors import DataError
from deeplabv3p.weights import names


def test_layers_of_a_model_in_a_model_are_found_by_their_own_names(tmp_path):
    """As Keras 2 stored the stem of ConvNeXt, a Sequential: one group, the layers' names in the weights' names."""
    rng = np.random.default_rng(0)
    stem = {
        "net_stem/net_stem_conv/kernel:0": rng.random((4, 4, 3, 8)),
        "net_stem/net_stem_conv/bias:0": rng.random(8),
        "net_stem/net_stem_layernorm/gamma:0": rng.random(8),
        "net_stem/net_stem_layernorm/beta:0": rng.random(8),
    }
    block = {"net_block_conv_1/kernel:0": rng.random((1, 1, 8, 8))}  # TensorFlow numbered a name that came twice
    foreign.write_keras2(tmp_path / "net.h5", {"net_stem": stem, "net_block_conv": block})
    layers = weights.read_source(tmp_path / "net.h5").layers
    assert set(layers) == {"net_stem_conv", "net_stem_layernorm", "net_block_conv"}
    np.testing.assert_array_equal(layers["net_stem_layernorm"][1], stem["net_stem/net_stem_layernorm/beta:0"])
    np.testing.assert_array_equal(layers["net_block_conv"][0], block["net_block_conv_1/kernel:0"])


@pytest.mark.parametrize("name", ["net.keras", "net.h5", "net.weights.h5"])
def test_models_in_models_of_keras_3_are_found_too(name, tmp_path):
    image = keras.Input((8, 8, 3))
    inner = keras.Sequential([keras.layers.Conv2D(4, 1, name="conv"), keras.layers.LayerNormalization(name="norm")])
    model = keras.Model(image, keras.layers.Conv2D(2, 1, name="logits")(inner(image)))
    (model.save_weights if name == "net.weights.h5" else model.save)(tmp_path / name)
    layers = weights.read_source(tmp_path / name).layers
    assert set(layers) == {"conv", "norm", "logits"}
    np.testing.assert_array_equal(layers["conv"][0], inner.layers[0].get_weights()[0])


def test_long_lists_of_names_are_read_in_all_their_parts(tmp_path):
    """HDF5 holds 64 KiB in an attribute; Keras writes what is longer as several."""
    with h5py.File(tmp_path / "net.h5", "w") as file:
        for index, name in enumerate(("first", "second")):
            file.attrs[f"layer_names{index}"] = [name.encode()]
            group = file.create_group(name)
            group.attrs["weight_names0"] = [f"{name}/kernel:0".encode()]
            group.attrs["weight_names1"] = [f"{name}/bias:0".encode()]
            group.create_dataset(f"{name}/kernel:0", data=np.zeros((1, 1, 2, 3)))
            group.create_dataset(f"{name}/bias:0", data=np.zeros(3))
    layers = weights.read_source(tmp_path / "net.h5").layers
    assert {name: [t.shape for t in tensors] for name, tensors in layers.items()} == {
        "first": [(1, 1, 2, 3), (3,)],
        "second": [(1, 1, 2, 3), (3,)],
    }


def test_epsilons_are_read_from_a_whole_model_of_keras_2(tmp_path):
    path = tmp_path / "net.h5"
    foreign.write_keras2(path, {"norm": {name: np.ones(3) for name in foreign.NORM}}, "model_weights")
    layer = {"class_name": "BatchNormalization", "config": {"name": "norm", "epsilon": 2e-4}}
    config = {
        "class_name": "Functional",
        "config": {"layers": [{"class_name": "Model", "config": {"layers": [layer]}}]},
    }
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
    assert weights.read_source(path).epsilons == {"norm": 2e-4}


def test_every_layer_of_mobilenetv3_is_found_under_its_older_name():
    """Keras 2 built its names from TF's scopes: ``expanded_conv_3/squeeze_excite/Conv_1``."""
    model = keras.applications.MobileNetV3Small(weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.75)
    old = {"Conv", "Conv/BatchNorm", "Conv_1", "Conv_1/BatchNorm"}
    for index in range(11):
        prefix = f"expanded_conv_{index}" if index else "expanded_conv"
        old |= {f"{prefix}/{part}{norm}" for part in ("depthwise", "project") for norm in ("", "/BatchNorm")}
        old |= {f"{prefix}/expand", f"{prefix}/expand/BatchNorm"} if index else set()
        if index not in (1, 2):  # those without squeeze and excitation
            old |= {f"{prefix}/squeeze_excite/Conv", f"{prefix}/squeeze_excite/Conv_1"}
    assert names.is_old_mobilenetv3(old)
    assert {names.from_old_mobilenetv3(name) for name in old} == {layer.name for layer in model.layers if layer.weights}
    assert not names.is_old_mobilenetv3(layer.name for layer in model.layers)


@pytest.mark.parametrize("damage", ["order", "attribute", "config", "cut"])
def test_damaged_files_are_one_clear_error(damage, tmp_path):
    path = tmp_path / "net.h5"
    foreign.write_keras2(path, {"conv": {"kernel": np.zeros((1, 1, 3, 3))}})
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        with h5py.File(path, "a") as file:
            if damage == "order":
                file["conv"].attrs["weight_names"] = [b"conv/bias:0"]
            elif damage == "attribute":
                file.attrs["layer_names"] = 3
            else:
                file.attrs["model_config"] = "{"
    with pytest.raises(DataError, match=r"net\.h5 is not a readable") as error:
        weights.read_source(path)
    assert "\n" not in str(error.value)
