"""Files that are no model, damaged, or could run code: each is one clear line, before Keras sees it."""

from __future__ import annotations

import json
import sys
import zipfile

import h5py
import pytest
from tiny_model import CLASSES, SUFFIXES, keras, make_batch, make_model, make_spec

from deeplabv3p.errors import DataError
from deeplabv3p.runtime.artifact import open_artifact
from deeplabv3p.runtime.keras_engine import load_model, save_model
from deeplabv3p.runtime.keras_safety import check_model_file

# --- files that hold something else


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_one_line(saved, tmp_path, suffix, share):
    content = saved[suffix].read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"cut short|cannot open") as caught:
        open_artifact(str(path), spec=make_spec())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_text_file_is_one_line(tmp_path, suffix):
    path = tmp_path / f"text{suffix}"
    path.write_text("Dear reader,\nthis is not a model.\n")
    with pytest.raises(DataError, match="cut short") as caught:
        open_artifact(str(path), spec=make_spec())
    assert "\n" not in str(caught.value)


def test_flipped_bytes_in_the_weights_are_one_line(saved, tmp_path):
    content = bytearray(saved[".keras"].read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    path = tmp_path / "flipped.keras"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"flipped\.keras") as caught:
        open_artifact(str(path), spec=make_spec())
    assert "\n" not in str(caught.value)


def test_a_file_of_weights_asks_for_the_model_type(model, tmp_path):
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    with pytest.raises(DataError, match=r"holds weights, not a whole model\. Pass --model_type"):
        open_artifact(str(path), spec=make_spec())


def test_an_archive_of_something_else_is_one_line(tmp_path):
    path = tmp_path / "zip.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match=r"config\.json is missing"):
        open_artifact(str(path), spec=make_spec())


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, "\ufffe"])
def test_a_description_that_is_none_is_one_line(tmp_path, text):
    path = tmp_path / "odd.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", text)
    with pytest.raises(DataError, match="not readable"):
        open_artifact(str(path), spec=make_spec())


def test_a_description_of_any_depth_is_walked(tmp_path):
    path = tmp_path / "deep.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", '{"config":' * 900 + '{"class_name": "Lambda"}' + "}" * 900)
    with pytest.raises(DataError, match="Lambda"):
        open_artifact(str(path), spec=make_spec())


def test_a_folder_named_as_a_model_is_one_line(tmp_path):
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "folder.keras" / "config.json").write_text("{}")
    with pytest.raises(DataError, match="not a Keras model file"):
        open_artifact(f"{tmp_path / 'folder.keras'}@keras", spec=make_spec())


def test_another_extension_is_refused(tmp_path):
    (tmp_path / "m.bin").touch()
    with pytest.raises(DataError, match=r"end in \.keras or \.h5"):
        open_artifact(f"{tmp_path / 'm.bin'}@keras", spec=make_spec())


# --- no file runs code


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_lambda_is_refused(tmp_path, suffix):
    path = tmp_path / f"lambda{suffix}"
    make_model(extra=keras.layers.Lambda(lambda x: x * 2, name="twice")).save(path)
    with pytest.raises(DataError, match="'twice' is a Lambda, which can run code"):
        open_artifact(str(path), spec=make_spec())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_lambda_inside_another_layer_is_refused(tmp_path, suffix):
    inner = keras.Sequential([keras.Input((None, None, 8)), keras.layers.Lambda(lambda x: x, name="hidden")])
    path = tmp_path / f"lambda{suffix}"
    make_model(extra=inner).save(path)
    with pytest.raises(DataError, match="'hidden' is a Lambda"):
        open_artifact(str(path), spec=make_spec())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_layer_of_ones_own_is_refused(tmp_path, suffix):
    class Own(keras.layers.Layer):
        def call(self, x):
            return x

    path = tmp_path / f"own{suffix}"
    make_model(extra=Own(name="mine")).save(path)
    # A .keras file names the module, an .h5 file the class alone, which Keras then does not know.
    with pytest.raises(DataError, match=r"'mine' needs|cannot open"):
        open_artifact(str(path), spec=make_spec())


def rewrite(source, target, change):
    """Copy a model file with its description changed: ``change`` gets the dict of the layer 'norm'."""

    def changed(text):
        config = json.loads(text)
        (layer,) = [item for item in config["config"]["layers"] if item["config"]["name"] == "norm"]
        change(layer)
        return json.dumps(config)

    if source.suffix == ".h5":
        target.write_bytes(source.read_bytes())
        with h5py.File(target, "r+") as file:
            file.attrs["model_config"] = changed(file.attrs["model_config"])
        return
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, changed(content) if name == "config.json" else content)


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported."""
    mark = tmp_path / "ran"
    for name in ("trap", "keras_trap"):
        (tmp_path / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield mark
    assert not mark.exists()
    assert not {"trap", "keras_trap"} & set(sys.modules)


CRAFTED = {
    "TFSMLayer": {"class_name": "TFSMLayer"},
    "TorchModuleWrapper": {"class_name": "TorchModuleWrapper"},
    "JaxLayer": {"class_name": "JaxLayer"},
    "FlaxLayer": {"class_name": "FlaxLayer"},
    "a registered name": {"registered_name": "builtin>Lambda"},
    "a module": {"module": "trap"},
    "a module that begins as Keras does": {"module": "keras_trap"},
    "a module of Python": {"module": "os", "class_name": "system"},
    "an empty module": {"module": ""},
    "a module that is no name": {"module": ["trap"]},
    "a function that downloads": {"build_config": function("keras.utils", "get_file")},
    "a function that loads": {"build_config": function("keras.src.saving.saving_api", "load_model")},
    "a function of Python": {"build_config": function("builtins", "exec")},
    "a stored function": {"build_config": {"class_name": "__lambda__", "config": {"value": "..."}}},
    "a type": {"build_config": {"class_name": "__typespec__", "config": []}},
    "a nested compilation": {"compile_config": {"loss": {"module": "trap", "class_name": "L", "config": {}}}},
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("crafted", CRAFTED)
def test_crafted_descriptions_are_refused(saved, tmp_path, trap, suffix, crafted):
    path = tmp_path / f"crafted{suffix}"
    rewrite(saved[suffix], path, lambda layer: layer.update(CRAFTED[crafted]))
    with pytest.raises(DataError, match="is refused") as caught:
        open_artifact(str(path), spec=make_spec())
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="is refused"):
        load_model(path)


def test_an_activation_by_function_is_refused(saved, tmp_path, trap):
    path = tmp_path / "crafted.keras"
    rewrite(saved[".keras"], path, lambda layer: layer["config"].update(beta_initializer=function("trap", "f")))
    with pytest.raises(DataError, match=r"'norm' needs trap\.function"):
        open_artifact(str(path), spec=make_spec())


def test_the_rewriting_itself_makes_a_good_file(saved, tmp_path):
    for suffix in SUFFIXES:
        path = tmp_path / f"same{suffix}"
        rewrite(saved[suffix], path, lambda layer: layer)
        open_artifact(str(path), spec=make_spec())


def test_what_a_model_was_compiled_with_does_not_matter(tmp_path):
    def own_loss(truth, prediction):
        return keras.ops.mean(keras.ops.square(truth - prediction))

    for suffix in SUFFIXES:
        model = make_model()
        model.compile("adam", own_loss)
        path = tmp_path / f"compiled{suffix}"
        model.save(path)
        assert open_artifact(str(path), spec=make_spec()).run(make_batch(1, 8, 8)).shape == (1, 2, 2, CLASSES)


def test_a_model_that_would_be_refused_is_not_saved(tmp_path):
    with pytest.raises(DataError, match="'twice' is a Lambda"):
        save_model(make_model(extra=keras.layers.Lambda(lambda x: x, name="twice")), make_spec(), tmp_path / "m.keras")
    assert not list(tmp_path.iterdir())


def test_a_network_of_keras_applications_is_let_through(tmp_path):
    """With its nested operations on tensors, rescaling layer and functions as activations."""
    path = tmp_path / "m.keras"
    keras.applications.MobileNetV3Small(input_shape=(32, 32, 3), weights=None, include_top=False).save(path)
    check_model_file(path)
