"""Every network of the registry: shapes, the à trous property, gradients, saving, weights carried to other sizes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from keras import layers

from deeplabv3p.errors import UsageError
from deeplabv3p.losses import CrossEntropy
from deeplabv3p.models import backbones, batchnorm, factory, graph, heads
from deeplabv3p.models.dilation import dilate
from deeplabv3p.models.registry import BACKBONES, MODELS, ModelName
from deeplabv3p.spec import ClassInfo, ModelSpec

NAMES = list(MODELS)
SMALL = (65, 97)
CLASSES = tuple(ClassInfo(f"class {i}", (i, 0, 0)) for i in range(5))


def small(name: str, size_hw: tuple[int, int] = SMALL, output_stride: int = 16) -> keras.Model:
    return factory.build_model(f"{name}:alpha=0.35", num_classes=5, size_hw=size_hw, output_stride=output_stride)


def batch(photographs: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    resized = [cv2.resize(p, size_hw[::-1], interpolation=cv2.INTER_AREA) for p in photographs]
    return np.stack(resized).astype(np.float32) / 127.5 - 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("size_hw", [(65, 97), (64, 96), (33, 50)])
def test_logits_have_the_declared_stride_at_any_size(name, output_stride, size_hw):
    model = small(name, size_hw, output_stride)
    stride = factory.logit_stride(name, output_stride)
    assert model.output.shape == (None, -(-size_hw[0] // stride), -(-size_hw[1] // stride), 5)
    assert model.input.name == "image"


@pytest.mark.parametrize("backbone", list(BACKBONES))
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_features_have_the_declared_strides(backbone, output_stride):
    _, features = backbones.BUILDERS[backbone](SMALL, output_stride, 0.35)
    assert max(features) == output_stride
    for stride, tensor in features.items():
        assert tensor.shape[1:3] == (-(-SMALL[0] // stride), -(-SMALL[1] // stride)), stride


def _trunk(size_hw: tuple[int, int]) -> keras.Model:
    network = keras.applications.MobileNetV2(input_shape=(*size_hw, 3), alpha=0.35, include_top=False, weights=None)
    return keras.Model(network.inputs[0], network.get_layer("block_16_project_BN").output)


def _phase(size: int, output_stride: int) -> int:
    """Where the dense features meet those of stride 32: each removed stride adds its padding's offset, 1 feature at an
    even size and 0 at an odd one, counted in features of the dense map."""
    phase, at = 0, -(-size // output_stride)
    for step in range((32 // output_stride).bit_length() - 1):
        phase += (1 if at % 2 == 0 else 0) << step
        at = -(-at // 2)
    return phase


@pytest.mark.parametrize("size", [257, 256, 320, 289])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_trous_property(photographs, size, output_stride):
    """Dense features, sampled, equal those of the published stride away from the border, at even and odd sizes."""
    sparse = _trunk((size, size))
    pictures = batch(photographs, (size, size))
    batchnorm.reestimate(sparse, [pictures])  # a raw random network gives every picture the same features
    dense = dilate(sparse, output_stride)
    expected = np.asarray(sparse(pictures, training=False))
    features = np.asarray(dense(pictures, training=False))
    k, phase = 32 // output_stride, _phase(size, output_stride)
    sampled = features[:, phase::k, phase::k][:, : expected.shape[1], : expected.shape[2]]
    inside = slice(3, -3)  # the receptive field of the last stage reaches three features over the border
    expected, sampled = expected[:, inside, inside], sampled[:, inside, inside]
    spread = np.abs(expected[0] - expected[1]).mean()
    assert spread > 0.1, "different pictures must differ, or nothing is tested"
    assert np.abs(expected - sampled).max() < 1e-3 * np.abs(expected).max()  # float32 through 50 layers


def test_at_stride_32_the_backbone_is_keras_applications_bit_for_bit(photographs):
    original = _trunk((96, 128))
    pictures = batch(photographs, (96, 128))
    same = dilate(original, 32)
    np.testing.assert_array_equal(np.asarray(original(pictures)), np.asarray(same(pictures)))


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_reaches_every_trainable_weight(name, photographs):
    import tensorflow as tf

    model = batchnorm.for_training(small(name))
    pictures = batch(photographs, SMALL)
    labels = np.random.default_rng(0).integers(0, 5, (3, *SMALL)).astype(np.uint8)
    with tf.GradientTape() as tape:
        loss = CrossEntropy()(labels, model(pictures, training=True))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    dead = [v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if g is None or not np.any(g)]
    assert not dead


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".keras"])
def test_a_saved_model_needs_keras_alone(name, suffix, photographs, tmp_path):
    """The training form is swapped back, so another process loads the file without this package."""
    model = small(name)
    path, pictures = tmp_path / f"model{suffix}", batch(photographs, SMALL)
    model.save(path)
    np.save(tmp_path / "in.npy", pictures)
    code = (
        "import sys, keras, numpy as np; m = keras.saving.load_model(sys.argv[1]); "
        "np.save(sys.argv[3], m.predict(np.load(sys.argv[2]), verbose=0)); "
        "assert not any(n.startswith('deeplabv3p') for n in sys.modules)"
    )
    arguments = [str(path), str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd=tmp_path, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), np.asarray(model(pictures)), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_rebuild_carries_all_weights_to_another_size_and_stride(name):
    model = small(name)
    spec = factory.model_spec(f"{name}:alpha=0.35", size_hw=SMALL, output_stride=16, classes=CLASSES)
    spec = spec.replace(provenance={"miou": 0.5})
    rebuilt, changed = factory.rebuild(model, spec, size_hw=(128, 64), output_stride=8)
    assert changed.input.size_hw == (128, 64)
    assert changed.model.output_stride == 8
    assert changed.output.stride == factory.logit_stride(name, 8)
    assert changed.provenance.miou is None, "a score belongs to the network it was measured on"
    for layer in rebuilt.layers:
        for ours, theirs in zip(layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    again, same = factory.rebuild(model, spec)
    assert same == spec
    x = np.random.default_rng(0).random((1, *SMALL, 3), np.float32)
    np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(model(x)))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_freeze_levels_freeze_what_they_say(level, photographs):
    model = batchnorm.for_training(small("mobilenetv2"))
    factory.freeze(model, level)
    trainable = {v.path.split("/")[0] for v in model.trainable_variables}
    if level == 2:
        assert trainable == {"logits"}
    if level == 1:
        assert trainable
        assert all(name.startswith(heads.PREFIXES) for name in trainable)
    if level == 0:
        assert "Conv1" in trainable
    before = model.get_layer("bn_Conv1").get_weights()
    model(batch(photographs, SMALL), training=True)
    moved = any((a != b).any() for a, b in zip(before, model.get_layer("bn_Conv1").get_weights(), strict=True))
    assert moved == (level == 0), "frozen batch norm keeps its statistics"


@pytest.mark.parametrize("kind", ["fused", "synchronized", "plain"])
def test_training_batch_norm_equals_the_stock_layer(kind, photographs):
    """One training step of each form: same output, same moving statistics (population variance)."""
    stock = keras.Sequential([keras.Input((32, 48, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(momentum=0.9)])
    stock = keras.Model(stock.inputs[0], stock.outputs[0])
    other = batchnorm.for_training(stock, fused=kind == "fused", synchronized=kind == "synchronized")
    norm = other.layers[-1]
    assert type(norm) is (batchnorm.FusedBatchNormalization if kind == "fused" else layers.BatchNormalization)
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
    for name in (ModelName("mobilenetv2", 0.5, 64), ModelName("mobilenetv2", width=96), ModelName("mobilenetv2")):
        assert ModelName.parse(str(name)) == name
    assert str(ModelName("mobilenetv2_lite", 0.35)) == "mobilenetv2_lite:alpha=0.35"
    for wrong in (
        "resnet9000",
        "mobilenetv2:beta=1",
        "mobilenetv2:alpha=x",
        "mobilenetv2:alpha=0",
        "mobilenetv2:alpha=nan",
    ):
        with pytest.raises(UsageError):
            ModelName.parse(wrong)


@pytest.mark.parametrize(("size_hw", "output_stride"), [((31, 64), 16), ((64, 64), 4)])
def test_impossible_networks_are_refused(size_hw, output_stride):
    with pytest.raises(UsageError):
        factory.build_model("mobilenetv2", num_classes=2, size_hw=size_hw, output_stride=output_stride)


def test_the_spec_of_a_network_round_trips():
    spec = factory.model_spec("mobilenetv2_lite", size_hw=(33, 64), output_stride=8, classes=CLASSES)
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert spec.output.stride == 8


def test_weights_are_copied_by_name_not_by_order():
    model = small("mobilenetv2")
    other = graph.clone(model, lambda layer: None)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))


def test_the_registry_needs_no_keras():
    code = "import sys, deeplabv3p.models.registry; print('keras' in sys.modules or 'tensorflow' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.check_output([sys.executable, "-c", code], cwd=root, text=True).strip() == "False"


def test_the_jax_backend_agrees(photographs, tmp_path):
    """The same file, run on the JAX backend in another process, gives the same logits."""
    pytest.importorskip("jax")
    model = small("mobilenetv2")
    pictures = batch(photographs, SMALL)
    batchnorm.reestimate(model, [pictures])
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "in.npy", pictures)
    code = (
        "import sys, keras, numpy as np; m = keras.saving.load_model(sys.argv[1]); "
        "np.save(sys.argv[3], np.asarray(m(np.load(sys.argv[2]), training=False))); print(keras.backend.backend())"
    )
    arguments = [str(tmp_path / "model.keras"), str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "jax"
    expected = np.asarray(model(pictures, training=False))
    assert np.abs(expected[0] - expected[1]).max() > 1e-2
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-4 * np.abs(expected).max())
