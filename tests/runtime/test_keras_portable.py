"""Keras files in the oldest Keras release that the docs promise: what they say, and what it makes of them.

KERAS_OLDEST_PYTHON: an interpreter with that release, NumPy, h5py and JAX. Without it the slow test makes one, which
needs a network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tiny_model import make_model, make_spec

from deeplabv3p.models import factory
from deeplabv3p.models.registry import MODELS
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.keras_portable import OLDEST, portable_config
from deeplabv3p.spec import ClassInfo

keras = keras_engine.import_keras()

ROOT = Path(__file__).parents[2]
SIZE_HW = (64, 96)

# What the classes that our networks are made of take in Keras 3.4.1, as inspect.signature says; a layer also LAYER's.
LAYER = "name trainable dtype activity_regularizer autocast"
_KERNEL = "activation use_bias bias_initializer bias_regularizer bias_constraint"
_FILTERS = f"{_KERNEL} filters kernel_size strides padding data_format dilation_rate groups"
_NORM = "axis epsilon center scale beta_initializer gamma_initializer beta_regularizer gamma_regularizer"
_NORM += " beta_constraint gamma_constraint"
_OWN_KERNEL = "kernel_initializer kernel_regularizer kernel_constraint"
_POOL = "pool_size strides padding data_format"
KNOWN = {
    "DTypePolicy": "name",
    "Constant": "value",
    "GlorotUniform": "seed",
    "Ones": "",
    "VarianceScaling": "distribution mode scale seed",
    "Zeros": "",
    "Activation": f"activation {LAYER}",
    "Add": LAYER,
    "Average": LAYER,
    "AveragePooling2D": f"{_POOL} {LAYER}",
    "BatchNormalization": f"{_NORM} momentum moving_mean_initializer moving_variance_initializer synchronized {LAYER}",
    "Concatenate": f"axis {LAYER}",
    "Conv2D": f"{_FILTERS} {_OWN_KERNEL} {LAYER}",
    "Conv2DTranspose": f"{_FILTERS} {_OWN_KERNEL} output_padding {LAYER}",
    "Cropping2D": f"cropping data_format {LAYER}",
    "Dense": f"units {_KERNEL} {_OWN_KERNEL} {LAYER}",
    "DepthwiseConv2D": f"{_KERNEL} kernel_size strides padding data_format dilation_rate depth_multiplier "
    f"depthwise_initializer depthwise_regularizer depthwise_constraint {LAYER}",
    "Dropout": f"rate noise_shape seed {LAYER}",
    "GlobalAveragePooling2D": f"data_format keepdims {LAYER}",
    "Identity": LAYER,
    "InputLayer": f"batch_shape batch_size dtype input_tensor name optional shape sparse {LAYER}",
    "LayerNormalization": f"{_NORM} rms_scaling {LAYER}",
    "MaxPooling2D": f"{_POOL} {LAYER}",
    "Multiply": LAYER,
    "ReLU": f"max_value negative_slope threshold {LAYER}",
    "Reshape": f"target_shape {LAYER}",
    "UpSampling2D": f"size interpolation data_format {LAYER}",
    "ZeroPadding2D": f"padding data_format {LAYER}",
    "Functional": "name trainable layers input_layers output_layers",
    "Resize": "size interpolation antialias crop_to_aspect_ratio pad_to_aspect_ratio fill_mode fill_value data_format",
}


def objects(config: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(class name, config) of every object in a model's description."""
    if isinstance(config, list):
        for item in config:
            yield from objects(item)
    elif isinstance(config, dict):
        if isinstance(config.get("config"), dict) and config["class_name"] != "__keras_tensor__":
            yield config["class_name"], config["config"]
        for value in config.values():
            yield from objects(value)


def check_known(config: dict[str, Any]) -> set[str]:
    """Assert that the oldest release knows every key; the class names that were seen."""
    seen = set()
    for name, keys in objects(config):
        seen.add(name)
        assert name in KNOWN, f"look up what {name} takes in Keras {OLDEST} and add it"
        assert set(keys) <= set(KNOWN[name].split()), name
    return seen


def description(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return dict(json.loads(archive.read("config.json")))


def extra(x: Any) -> Any:
    """One of each kind of layer whose description has grown since."""
    x = keras.layers.DepthwiseConv2D(3, padding="same", depthwise_initializer=keras.initializers.HeNormal())(x)
    x = keras.layers.Dense(8)(keras.layers.LayerNormalization()(x))
    return keras.ops.image.resize(x, (16, 24), interpolation="bilinear") + 1.0


@pytest.mark.parametrize("half", [False, True])
def test_a_dump_says_nothing_that_the_oldest_release_does_not_know(tmp_path, half):
    model = make_model(SIZE_HW, extra)
    keras_engine.save_model(model, make_spec(SIZE_HW), tmp_path / "m.keras", half=half)
    seen = {name for name, _ in objects(description(tmp_path / "m.keras"))}
    known = KNOWN | {"HeNormal": "seed"}
    assert {"Dense", "BatchNormalization", "Resize", "HeNormal", "GlorotUniform", "LayerNormalization"} <= seen
    for name, keys in objects(description(tmp_path / "m.keras")):
        assert set(keys) <= set(known[name].split()), name


def test_it_is_the_same_model_in_this_release(tmp_path):
    model = make_model(SIZE_HW, extra)
    model.save(tmp_path / "plain.keras")
    keras_engine.save_model(model, make_spec(SIZE_HW), tmp_path / "m.keras")
    plain, ours = (keras_engine.load_model(tmp_path / name) for name in ("plain.keras", "m.keras"))
    batch = np.random.default_rng(0).normal(size=(2, *SIZE_HW, 3)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(plain(batch)), np.asarray(ours(batch)))
    # The operation's own name is a counter of the process, the names of layers and weights are not.
    assert [type(item) for item in plain.operations] == [type(item) for item in ours.operations]
    assert [layer.name for layer in plain.layers] == [layer.name for layer in ours.layers]
    assert [weight.path for weight in plain.weights] == [weight.path for weight in ours.weights]


def test_h5_files_say_no_more(tmp_path):
    keras_engine.save_model(make_model(SIZE_HW), make_spec(SIZE_HW), tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        check_known(json.loads(file.attrs["model_config"]))


def test_what_is_new_and_used_stays():
    layer = keras.layers.BatchNormalization(renorm=True, renorm_momentum=0.5)
    config = keras.saving.serialize_keras_object(layer)
    kept = portable_config(config)["config"]
    assert (kept["renorm"], kept["renorm_momentum"]) == (True, 0.5)
    axes = keras.saving.serialize_keras_object(keras.initializers.GlorotUniform(input_axes=(0,), output_axes=(1,)))
    assert portable_config(axes) == axes


# Opens files with plain Keras and writes what the model makes of the batch.
WORKER = """
import sys
import jax
import keras
import numpy as np
print(keras.__version__)
batch = np.load(sys.argv[1])
for path in sys.argv[2:]:
    model = keras.saving.load_model(path, compile=False)
    np.save(path + ".npy", np.asarray(jax.jit(lambda values: model(values, training=False))(batch)))
"""


@pytest.fixture(scope="module")
def oldest_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with the oldest release."""
    given = os.environ.get("KERAS_OLDEST_PYTHON")
    if given:
        return given
    folder = tmp_path_factory.mktemp("oldest")
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    packages = [f"keras=={OLDEST}.*", "jax[cpu]<0.5", "numpy<2", "h5py"]
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    done = subprocess.run([python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"Keras {OLDEST} cannot be installed here, and KERAS_OLDEST_PYTHON is not set")
    return str(python)


@pytest.mark.slow
def test_the_oldest_release_opens_every_network(oldest_python, tmp_path):
    batch = np.random.default_rng(0).normal(size=(2, *SIZE_HW, 3)).astype(np.float32)
    np.save(tmp_path / "batch.npy", batch)
    classes = tuple(ClassInfo(f"class {label}", (label, 0, 0)) for label in range(3))
    expected, seen = {}, set()
    for name, record in MODELS.items():
        keras.utils.clear_session()
        model = factory.build_model(name, num_classes=3, size_hw=SIZE_HW)
        rng = np.random.default_rng(1)
        for weight in model.weights:  # or all pictures would give the same logits
            if weight.path.endswith(("gamma", "moving_variance")):
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        spec = factory.model_spec(name, size_hw=SIZE_HW, output_stride=record.output_stride, classes=classes)
        path = tmp_path / f"{name}.keras"
        keras_engine.save_model(model, spec, path)
        seen |= check_known(description(path))
        expected[path] = np.asarray(model(batch, training=False))
        assert np.abs(expected[path][0] - expected[path][1]).max() > 1e-3, name
    assert seen == set(KNOWN)
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    environment.pop("PYTHONPATH", None)
    command = [oldest_python, "-c", WORKER, str(tmp_path / "batch.npy"), *map(str, expected)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{OLDEST}.")
    for path, logits in expected.items():
        # Another backend sums in another order, through a hundred layers.
        limit = 1e-4 * np.abs(logits).max()
        np.testing.assert_allclose(np.load(f"{path}.npy"), logits, rtol=0, atol=limit, err_msg=path.name)
