"""Files that are no model, damaged, or could run code: each is one clear line, before Keras sees it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import CLASSES, SUFFIXES, keras, make_batch, make_model, make_spec

from deeplabv3p.errors import DataError
from deeplabv3p.runtime import keras_parts
from deeplabv3p.runtime.artifact import load_spec, open_artifact
from deeplabv3p.runtime.keras_engine import load_model, save_model
from deeplabv3p.runtime.keras_safety import check_config, check_model_file
from deeplabv3p.weights.load import read_source

ROOT = Path(__file__).parents[2]

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
        archive.writestr("config.json", '{"config":' * 190 + '{"class_name": "Lambda"}' + "}" * 190)
    with pytest.raises(DataError, match="Lambda"):
        open_artifact(str(path), spec=make_spec())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", '{"config":' * 900 + '{"class_name": "Lambda"}' + "}" * 900)
    with pytest.raises(DataError, match=r"not readable .*deep"):
        open_artifact(str(path), spec=make_spec())


def test_a_folder_named_as_a_model_is_one_line(tmp_path):
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "folder.keras" / "config.json").write_text("{}")
    with pytest.raises(DataError, match="it is a folder, not a file"):
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
    with pytest.raises(DataError, match=r"'mine' needs .*Own, which is not a part of Keras"):
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
    "another registered name": {"registered_name": "Dense"},
    "a class with a package": {"class_name": "builtin>Lambda"},
    "a class by its path": {"class_name": "layers.Lambda", "module": "keras"},
    "a class by its path inside": {"class_name": "src.layers.core.lambda_layer.Lambda", "module": "keras"},
    "a function by its path": {"build_config": function("keras", "utils.get_file")},
    "a good class by its path": {"class_name": "layers.BatchNormalization", "module": "keras"},
    "a good class where it lives": {"module": "keras.src.layers.normalization.batch_normalization"},
    "a module with an end": {"module": "keras.layers."},
    "a module with a space": {"module": "keras.layers "},
    "another spelling": {"class_name": "lambda"},
    "another case": {"class_name": "LAMBDA", "module": "keras.layers"},
    "a small name": {"class_name": "batchnormalization"},
    "no module": {"module": None},
    "a number for a module": {"module": 1},
    "no class": {"class_name": None},
    "a list of classes": {"class_name": ["Lambda"]},
    "an application": {"class_name": "MobileNetV2", "module": "keras.applications"},
    "a function of the layers' module": {"class_name": "deserialize"},
    "a vocabulary": {"class_name": "StringLookup", "module": "keras.layers"},
    "a wrapper": {"class_name": "TimeDistributed", "module": "keras.layers"},
    "a module": {"module": "trap"},
    "a module that begins as Keras does": {"module": "keras_trap"},
    "a module of Python": {"module": "os", "class_name": "system"},
    "a plain module of Python": {"module": "builtins", "class_name": "exec"},
    "another package that Keras knows": {"module": "keras_hub", "class_name": "Backbone"},
    "an empty module": {"module": ""},
    "a module that is no name": {"module": ["trap"]},
    "a function that downloads": {"build_config": function("keras.utils", "get_file")},
    "a function that loads": {"build_config": function("keras.src.saving.saving_api", "load_model")},
    "a function of Python": {"build_config": function("builtins", "exec")},
    "a function registered as another": {
        "build_config": function("keras.activations", "relu") | {"registered_name": "x>y"}
    },
    "a function that is no text": {"build_config": function("keras.activations", ["relu"])},
    "a stored function": {"build_config": {"class_name": "__lambda__", "config": {"value": "..."}}},
    "a stored function deep inside": {"build_config": [{"a": [{"b": {"class_name": "__lambda__", "config": {}}}]}]},
    "a type": {"build_config": {"class_name": "__typespec__", "config": []}},
    "a type of the old format": {"build_config": {"class_name": "TypeSpec", "type_spec": "x", "serialized": []}},
    "an array of any size": {
        "build_config": {"class_name": "__numpy__", "config": {"value": ["a"] * 9, "dtype": "S1000000000"}}
    },
    "a shared object": {"build_config": {"class_name": "Lambda", "config": {}, "shared_object_id": 1}},
    "a nested compilation": {"compile_config": {"loss": {"module": "trap", "class_name": "L", "config": {}}}},
    "a nested plain compilation": {"compile_config": {"optimizer": "adam"}},
    "an activation by name": {"config": {"name": "x", "activation": "get_file"}},
    "an activation by path": {"config": {"name": "x", "activation": "keras.utils.get_file"}},
    "channels without end": {"config": {"name": "x", "filters": 10**9}},
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


def test_the_reading_of_a_crafted_file_imports_nothing(tmp_path):
    """The example that got past a list of refused names: a Lambda by its path, and a function that downloads."""
    layer = {
        "module": "keras",
        "class_name": "layers.Lambda",
        "config": {"name": "got", "function": function("keras.utils", "get_file"), "arguments": {"origin": "http://x"}},
        "registered_name": None,
    }
    path = tmp_path / "dotted.keras"
    with zipfile.ZipFile(path, "w") as archive:
        config = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [layer]}}
        archive.writestr("config.json", json.dumps(config))
    code = (
        "import sys; from deeplabv3p.runtime.keras_safety import check_model_file\n"
        "from deeplabv3p.errors import DataError\n"
        "try: check_model_file(sys.argv[1])\n"
        "except DataError as error: print(error)\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "'got' is a layers.Lambda, which can run code" in done.stdout


@pytest.mark.parametrize("pair", sorted(keras_parts.CLASSES))
def test_what_is_listed_is_what_keras_finds(pair):
    """Keras resolves each listed spelling to a class of that very name, or does not know it at all."""
    from keras.src.saving import serialization_lib

    module, name = pair
    full = {"module": module, "class_name": name, "config": {}, "registered_name": None}
    try:
        found = serialization_lib._retrieve_class_or_fn(name, None, module, "class", full)
    except (TypeError, ValueError):
        assert pair == ("keras", "FloatDTypePolicy")  # of an older Keras
        return
    assert isinstance(found, type)
    assert found.__name__ == name
    assert found.__module__.startswith("keras.src.")


def test_what_is_listed_by_name_alone_is_no_function():
    from keras.src import layers

    for name in keras_parts.BARE_CLASSES:
        assert isinstance(vars(layers).get(name, type), type)
    from keras.src.activations import ALL_OBJECTS_DICT

    assert set(ALL_OBJECTS_DICT) >= keras_parts.ACTIVATIONS


def _public():
    """(module, name) of everything in Keras' public tree, and in the modules that it is made of."""
    pairs = set()
    for path, value in sorted(sys.modules.items()):
        if path.split(".")[0] == "keras" and value is not None:
            pairs |= {(path, name) for name in vars(value)}
    return sorted(pairs)


def test_everything_else_in_keras_is_refused():
    for module, name in _public():
        if (module, name) in keras_parts.CLASSES:
            continue
        package, _, rest = module.partition(".")
        spellings = [
            {"module": module, "class_name": name},
            {"module": package, "class_name": f"{rest}.{name}".lstrip(".")}
            if rest
            else {"module": module, "class_name": name},
            {"module": module, "class_name": "Dense", "registered_name": f"keras>{name}"},
        ]
        if (module, name) != ("keras.activations", name) or name not in keras_parts.ACTIVATIONS:
            spellings.append(function(module, name))
        if name not in keras_parts.BARE_CLASSES:
            spellings.append({"class_name": name, "config": {}})
        for spelling in spellings:
            with pytest.raises(DataError, match="is refused"):
                check_config({"config": {"layers": [spelling]}}, Path("m.keras"))


@given(
    st.sampled_from(["class_name", "module", "registered_name", "config", "compile_config", "build_config"]),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8) | st.sampled_from(["Lambda", "Dense", "keras", "keras.layers"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["class_name", "config"]), inner),
        max_leaves=6,
    ),
)
def test_any_value_anywhere_is_checked_without_a_traceback(key, value):
    layer = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "d"}, "registered_name": None}
    with contextlib.suppress(DataError):
        check_config({"config": {"layers": [layer | {key: value}]}}, Path("m.keras"))


@pytest.mark.parametrize("member", ["model.weights.h5", "config.json", "spec.json"])
@pytest.mark.parametrize("how", ["encrypted", "an unknown method", "a gigabyte", "cut", "a pipe"])
def test_damaged_members_are_one_line(saved, tmp_path, member, how):
    path = tmp_path / "m.keras"
    if how == "a pipe":
        os.mkfifo(path)
    else:
        damage_member(saved[".keras"], path, member, how)
    with pytest.raises(DataError, match=r"m\.keras") as caught:  # noqa: PT012 - one of the two reads the member
        load_spec(path)
        load_model(path)
    assert "\n" not in str(caught.value)


def damage_member(source, target, member, how):
    """Copy an archive with one member that is not what it should be."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name == member and how == "a gigabyte":
                with new.open(name, "w") as file:
                    for _ in range(1024):
                        file.write(bytes(1 << 20))
            else:
                new.writestr(name, old.read(name))
        start = new.getinfo(member).header_offset
    content = bytearray(target.read_bytes())
    central = content.index(member.encode(), content.index(b"PK\1\2")) - 46
    if how == "encrypted":
        content[start + 6] |= 1
        content[central + 8] |= 1
    elif how == "an unknown method":
        content[start + 8] = content[central + 10] = 98
    elif how == "cut":
        content[start + 60 : start + 90] = bytes(30)
    target.write_bytes(content)


def test_weights_that_reach_outside_are_refused(saved, tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    with h5py.File(tmp_path / "evil.weights.h5", "w") as file:
        file.create_dataset("layers/conv/vars/0", shape=(4,), dtype="f4", external=[("secret.bin", 0, 16)])
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(saved[".keras"]) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            evil = (tmp_path / "evil.weights.h5").read_bytes()
            new.writestr(name, evil if name == "model.weights.h5" else old.read(name))
    with pytest.raises(DataError, match="numbers in another file"):
        load_model(path)
    for source in (path, tmp_path / "evil.weights.h5"):
        with pytest.raises(DataError, match="numbers in another file"):
            read_source(source)
    whole = tmp_path / "m.h5"
    whole.write_bytes(saved[".h5"].read_bytes())
    with h5py.File(whole, "r+") as file:
        file["model_weights/more"] = h5py.ExternalLink("evil.weights.h5", "/")
    with pytest.raises(DataError, match="link to somewhere else"):
        load_model(whole)


def test_an_activation_by_function_is_refused(saved, tmp_path, trap):
    path = tmp_path / "crafted.keras"
    rewrite(saved[".keras"], path, lambda layer: layer["config"].update(beta_initializer=function("trap", "f")))
    with pytest.raises(DataError, match=r"'norm' needs trap\.f,"):
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
