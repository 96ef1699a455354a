"""Every network of the registry: shapes, gradients, saving, other backends, freezing, weights at other sizes."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest
from keras import layers
from skimage import data

from deeplabv3p.errors import UsageError
from deeplabv3p.losses.make import LossSum
from deeplabv3p.models import batchnorm, factory, graph, heads
from deeplabv3p.models.registry import MODELS, ModelName
from deeplabv3p.spec import ClassInfo, ModelSpec

NAMES = list(MODELS)
# The slow suite has all. What another network proves, too, is left to it: resnet101 is built by the code of resnet50, a
# network that shares its backbone adds a head that others have. JAX compiles every shape anew, half a minute a network.
TWINS = {name for name, record in MODELS.items() if name != record.backbone} | {"resnet101"}
ON_JAX = {"mobilenetv2", "mobilenetv3small_lite", "unet"}
NETWORKS = [pytest.param(name, marks=pytest.mark.slow if name == "resnet101" else ()) for name in NAMES]
DISTINCT = [pytest.param(name, marks=pytest.mark.slow if name in TWINS else ()) for name in NAMES]
JAX = [pytest.param(name, marks=() if name in ON_JAX else pytest.mark.slow) for name in NAMES]
SMALL = (65, 97)
CLASSES = tuple(ClassInfo(f"class {i}", (i, 0, 0)) for i in range(5))
# Heads that the registry's own names do not have.
OPTIONS = ["head=none", "decoder=0", "subpixel=2", "subpixel=4,decoder=0", "head=aspp_lite,decoder=1"]


def tiny_name(name: str) -> str:
    return f"{name}:alpha=0.25,width=16"


@functools.cache
def tiny(name: str, size_hw: tuple[int, int] = SMALL, output_stride: int | None = None) -> keras.Model:
    """A narrow network with random weights; tests share it and leave it as it is."""
    keras.utils.set_random_seed(0)
    full_name = name if ":" in name else tiny_name(name)
    return factory.build_model(full_name, num_classes=5, size_hw=size_hw, output_stride=output_stride)


@functools.cache
def lively(name: str) -> keras.Model:
    """The same with batch-norm statistics of photographs: a raw random network gives every picture equal features."""
    model = graph.clone(tiny(name), lambda layer: None)
    pictures = (data.astronaut(), data.chelsea(), data.coffee())
    batchnorm.reestimate(model, [np.concatenate([batch(picture[None], SMALL) for picture in pictures])])
    return model


def batch(photographs: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    resized = [cv2.resize(p, size_hw[::-1], interpolation=cv2.INTER_AREA) for p in photographs]
    return np.stack(resized).astype(np.float32) / 127.5 - 1


def builds() -> list[Any]:
    """Every network at every output stride at an odd size, and at its usual one at an even and at a tiny size."""
    result = []
    for name, record in MODELS.items():
        for size, stride in (
            *((SMALL, stride) for stride in record.output_strides),
            *((size, record.output_stride) for size in ((64, 96), (33, 50))),
        ):
            usual = (size, stride) == (SMALL, record.output_stride) and name != "resnet101"
            slow = name in TWINS and not usual
            result.append(pytest.param(name, size, stride, marks=pytest.mark.slow if slow else ()))
    return result


@pytest.mark.parametrize(("name", "size_hw", "output_stride"), builds())
def test_logits_have_the_declared_stride_at_any_size(name, size_hw, output_stride):
    model = tiny(name, size_hw, output_stride)
    stride = factory.logit_stride(name, output_stride)
    assert model.output.shape == (None, -(-size_hw[0] // stride), -(-size_hw[1] // stride), 5)
    assert model.input.name == "image"
    assert model.output.dtype == "float32"


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size_hw", [SMALL, (64, 96)])
def test_heads_of_other_shapes_are_options(options, size_hw):
    name = f"mobilenetv2:alpha=0.25,width=16,{options}"
    model = tiny(name, size_hw, 16)
    stride = factory.logit_stride(name, 16)
    assert model.output.shape == (None, -(-size_hw[0] // stride), -(-size_hw[1] // stride), 5)
    assert stride == {"head=none": 4, "decoder=0": 16, "subpixel=2": 2, "subpixel=4,decoder=0": 4}.get(options, 4)
    names = {layer.name for layer in model.layers}
    assert ("aspp_rate1_depthwise" in names) == ("head" not in options)
    assert ("decoder_refine2_depthwise" in names) == ("decoder=0" not in options)
    assert ModelName.parse(str(ModelName.parse(name))) == ModelName.parse(name)


def test_the_subpixel_classifier_starts_without_a_checkerboard(photographs):
    """ICNR: all scores of a feature start equal, and the shuffle lays each class's scores side by side."""
    model = tiny("mobilenetv2:alpha=0.25,width=16,subpixel=4", SMALL, 16)
    logits = np.asarray(model(batch(photographs, SMALL)))
    assert logits.shape[1:3] == SMALL
    blocks = logits[:, :64, :96].reshape(-1, 16, 4, 24, 4, 5)
    assert np.ptp(blocks, axis=(2, 4)).max() == 0
    assert np.ptp(blocks, axis=(1, 3, 5)).min() > 0
    kernel, bias = model.get_layer("logits").get_weights()
    mark = np.zeros_like(bias)
    mark[(1 * 4 + 2) * 5 + 3] = 1.0  # row 1, column 2 of the 4x4 block, class 3
    marked = graph.clone(model, lambda layer: None)
    marked.get_layer("logits").set_weights([np.zeros_like(kernel), mark])
    shown = np.asarray(marked(batch(photographs, SMALL)))
    assert (shown[:, 1::4, 2::4, 3] == 1).all()
    assert shown.sum() == shown[:, 1::4, 2::4, 3].size


@pytest.mark.parametrize("name", NETWORKS)
def test_a_gradient_reaches_every_trainable_weight(name, photographs):
    import tensorflow as tf

    model = batchnorm.for_training(lively(name))
    for layer in model.layers:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.0  # EfficientNetV2 drops whole branches: of three pictures all may lose one
    pictures = batch(photographs, SMALL)
    labels = np.random.default_rng(0).integers(0, 5, (3, *SMALL)).astype(np.uint8)
    with tf.GradientTape() as tape:
        loss = LossSum()(labels, model(pictures, training=True))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    dead = [v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if g is None or not np.any(g)]
    assert not dead


def wanted(request: pytest.FixtureRequest, fixture: str) -> list[str]:
    """The networks whose tests use a fixture and were selected."""
    own = [item for item in request.session.items if item.path == request.path]
    return sorted({item.callspec.params["name"] for item in own if fixture in item.fixturenames})


@pytest.fixture(scope="module")
def saved(request, tmp_path_factory, photographs) -> Path:
    """The networks to be tested as .keras files, a batch of photographs, and each network's logits for it."""
    folder = tmp_path_factory.mktemp("saved")
    pictures = batch(photographs, SMALL)
    np.save(folder / "in.npy", pictures)
    for name in wanted(request, "saved"):
        model = lively(name)
        model.save(folder / f"{name}.keras")
        np.save(folder / f"{name}.expected.npy", np.asarray(model(pictures, training=False)))
    return folder


RUN_ALL = """
import pathlib, sys
sys.modules["deeplabv3p"] = None  # as if it was not installed: importing it fails
import keras, numpy as np
folder = pathlib.Path(sys.argv[1])
pictures = np.load(folder / "in.npy")
for name in sys.argv[2:]:
    model = keras.saving.load_model(folder / f"{name}.keras")
    np.save(folder / f"{name}.{keras.backend.backend()}.npy", np.asarray(model(pictures, training=False)))
"""


@pytest.fixture(scope="module")
def run_by_keras_alone(request, saved) -> Path:
    """The files opened by another process with Keras alone, which cannot import this package."""
    command = [sys.executable, "-c", RUN_ALL, str(saved), *wanted(request, "run_by_keras_alone")]
    subprocess.run(command, check=True, cwd=saved, capture_output=True)
    return saved


@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_model_needs_keras_alone(name, run_by_keras_alone):
    found, expected = (np.load(run_by_keras_alone / f"{name}.{kind}.npy") for kind in ("tensorflow", "expected"))
    np.testing.assert_array_equal(found, expected)
    assert np.abs(expected[0] - expected[1]).max() > 1e-2 * np.abs(expected).max(), "pictures must differ"


@pytest.fixture(scope="module")
def run_by_jax(request, saved) -> Path:
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", RUN_ALL, str(saved), *wanted(request, "run_by_jax")]
    subprocess.run(command, check=True, cwd=saved, env=environment, capture_output=True)
    return saved


@pytest.mark.parametrize("name", JAX)
def test_the_jax_backend_agrees(name, run_by_jax):
    found, expected = (np.load(run_by_jax / f"{name}.{kind}.npy") for kind in ("jax", "expected"))
    # The random resnet101 magnifies rounding: TensorFlow's own float32 logits are 1.1e-3 from those in float64, JAX's
    # are 2.6e-4 from TensorFlow's. (resnet50: 5e-5.)
    tolerance = 1e-3 if name == "resnet101" else 1e-4
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", DISTINCT)
def test_rebuild_carries_all_weights_to_another_size_and_stride(name):
    model, record = tiny(name), MODELS[name]
    spec = factory.model_spec(
        tiny_name(name), size_hw=SMALL, output_stride=record.output_stride, classes=CLASSES
    ).replace(provenance={"miou": 0.5})
    other = record.output_strides[0]
    rebuilt, changed = factory.rebuild(model, spec, size_hw=(128, 64), output_stride=other)
    assert changed.input.size_hw == (128, 64)
    assert changed.model.output_stride == other
    assert changed.output.stride == factory.logit_stride(name, other)
    assert changed.provenance.miou is None, "a score belongs to the network it was measured on"
    for layer in rebuilt.layers:
        if layer.weights:  # padding and pooling layers may come and go with the size
            for ours, theirs in zip(layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True):
                np.testing.assert_array_equal(ours, theirs)
    again, same = factory.rebuild(model, spec)
    assert same == spec
    x = np.random.default_rng(0).random((1, *SMALL, 3), np.float32)
    np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(model(x)))


@pytest.mark.parametrize("name", NETWORKS)
def test_freeze_levels_freeze_what_they_say(name):
    model = batchnorm.for_training(tiny(name))
    encoder = {layer.name for layer in model.layers if layer.weights and not layer.name.startswith(heads.PREFIXES)}
    for level, expected in enumerate(
        (
            {layer.name for layer in model.layers if layer.weights},
            {layer.name for layer in model.layers if layer.weights} - encoder,
            {"logits"},
        )
    ):
        factory.freeze(model, level)
        assert {layer.name for layer in model.layers if layer.trainable_variables} == expected
    assert len(encoder) > 10


@pytest.mark.parametrize("level", [0, 1])
def test_frozen_batch_norm_keeps_its_statistics(level, photographs):
    model = batchnorm.for_training(tiny("mobilenetv2"))
    factory.freeze(model, level)
    before = model.get_layer("bn_Conv1").get_weights()
    model(batch(photographs, SMALL), training=True)
    moved = any((a != b).any() for a, b in zip(before, model.get_layer("bn_Conv1").get_weights(), strict=True))
    assert moved == (level == 0)


@pytest.mark.parametrize("name", DISTINCT)
def test_synchronized_batch_norm_switches_on_everywhere(name):
    model = tiny(name)
    other = batchnorm.for_training(model, synchronized=True)
    norms = [layer for layer in other.layers if isinstance(layer, layers.BatchNormalization)]
    assert len(norms) == sum(isinstance(layer, layers.BatchNormalization) for layer in model.layers) > 0
    assert all(norm.synchronized for norm in norms)
    x = np.random.default_rng(0).random((1, *SMALL, 3), np.float32)
    np.testing.assert_array_equal(np.asarray(other(x)), np.asarray(model(x)))


@pytest.mark.parametrize("kind", ["fused", "synchronized", "plain"])
def test_training_batch_norm_equals_the_stock_layer(kind, photographs):
    """One training step of each form: same output, same moving statistics (population variance)."""
    stock = keras.Sequential([keras.Input((32, 48, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(momentum=0.9)])
    stock = keras.Model(stock.inputs[0], stock.outputs[0])
    other = batchnorm.for_training(stock, fused=kind == "fused", synchronized=kind == "synchronized")
    norm = other.layers[-1]
    ramped = batchnorm.RampedBatchNormalization
    assert type(norm) is (batchnorm.FusedBatchNormalization if kind == "fused" else ramped)
    batchnorm.settle(other)
    assert norm.synchronized == (kind == "synchronized")
    x = batch(photographs, (32, 48))
    np.testing.assert_allclose(other(x, training=True), stock(x, training=True), atol=2e-5)
    for ours, theirs in zip(norm.get_weights(), stock.layers[-1].get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_momentum_is_set_everywhere():
    model = factory.build_model("mobilenetv2", num_classes=2, size_hw=(32, 32), bn_momentum=0.9)
    assert {layer.momentum for layer in model.layers if isinstance(layer, layers.BatchNormalization)} == {0.9}


def test_reestimated_statistics_are_the_mean_over_the_batches(photographs):
    image = keras.Input((32, 48, 3))
    model = keras.Model(image, layers.BatchNormalization()(image))
    x = batch(photographs, (32, 48))
    batchnorm.reestimate(model, [x[:1], x[1:2], x[2:]])
    np.testing.assert_allclose(model.layers[-1].moving_mean, x.mean((0, 1, 2)), atol=1e-5)
    assert model.layers[-1].momentum == 0.99


def test_names_carry_their_options():
    assert str(ModelName.parse("mobilenetv2")) == "mobilenetv2"
    assert ModelName.parse("mobilenetv2:alpha=0.5") == ModelName("mobilenetv2", 0.5)
    for name in (
        ModelName("mobilenetv2", 0.5, 64),
        ModelName("mobilenetv2", width=96),
        ModelName("mobilenetv2"),
        ModelName("mobilenetv2", head="aspp_lite", decoder=False, subpixel=4),
    ):
        assert ModelName.parse(str(name)) == name
    assert str(ModelName("mobilenetv2_lite", 0.35)) == "mobilenetv2_lite:alpha=0.35"
    assert str(ModelName("mobilenetv2", head="aspp", decoder=True)) == "mobilenetv2", "equal networks, equal names"
    for wrong in (
        "resnet9000",
        "mobilenetv2:beta=1",
        "mobilenetv2:alpha=x",
        "mobilenetv2:alpha=0",
        "mobilenetv2:alpha=nan",
        "mobilenetv2:head=big",
        "mobilenetv2:decoder=yes",
        "mobilenetv2:subpixel=3",
    ):
        with pytest.raises(UsageError):
            ModelName.parse(wrong)


@pytest.mark.parametrize(
    ("name", "size_hw", "output_stride"),
    [
        ("mobilenetv2", (31, 64), 16),
        ("mobilenetv2", (64, 64), 4),
        ("mobilenetv2:subpixel=8", (64, 64), 16),
        ("fast_scnn", (64, 64), 16),
        ("unet:decoder=1", (64, 64), 16),
    ],
)
def test_impossible_networks_are_refused(name, size_hw, output_stride):
    with pytest.raises(UsageError):
        factory.build_model(name, num_classes=2, size_hw=size_hw, output_stride=output_stride)


@pytest.mark.parametrize("name", NAMES)
def test_the_spec_of_a_network_round_trips(name):
    record = MODELS[name]
    spec = factory.model_spec(name, size_hw=(33, 64), output_stride=record.output_stride, classes=CLASSES)
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert spec.output.stride == factory.logit_stride(name, record.output_stride)
    assert spec.input.preprocessing == ModelName.parse(name).backbone.preprocessing
    assert (spec.input.resize, spec.output.align_corners) == (record.resize, record.align_corners)


def test_resnet_takes_blue_first_and_only_google_s_release_aligns_corners():
    caffe = {name for name in NAMES if ModelName.parse(name).backbone.preprocessing.color == "BGR"}
    assert caffe == {"resnet50", "resnet101"}
    assert {name for name in NAMES if MODELS[name].align_corners} == {"deeplabv3_mobilenetv2"}


def test_weights_are_copied_by_name_not_by_order():
    model = tiny("mobilenetv2")
    other = graph.clone(model, lambda layer: None)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))


def test_the_registry_needs_no_keras():
    code = "import sys, deeplabv3p.models.registry; print('keras' in sys.modules or 'tensorflow' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.check_output([sys.executable, "-c", code], cwd=root, text=True).strip() == "False"
