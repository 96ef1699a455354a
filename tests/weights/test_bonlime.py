"""The weights of keras-deeplab-v3-plus (bonlime), which are not here: files under its names, as it would write them."""

from __future__ import annotations

import dataclasses

import foreign
import h5py
import keras
import numpy as np
import pytest
from keras import layers

from deeplabv3p import weights
from deeplabv3p.models import factory
from deeplabv3p.spec import SYMMETRIC

SIZE_HW = (65, 97)
HEAD_EPSILON = 1e-5  # of its head's batch norms; those of its backbones have 1e-3, as ours


@pytest.fixture(scope="module")
def mobilenet() -> dict[str, dict[str, np.ndarray]]:
    """Every weight of its MobileNetV2 network, random."""
    rng = np.random.default_rng(0)
    return {
        layer: {name: foreign.random_weights(name, shape, rng) for name, shape in shapes.items()}
        for layer, shapes in foreign.bonlime_mobilenetv2().items()
    }


def rebuild(values: dict[str, dict[str, np.ndarray]]) -> keras.Model:
    """Its network in plain Keras: rates, epsilons, residual sums and activations as in its ``model.py``."""
    image = keras.Input((*SIZE_HW, 3))

    def norm(x, name, epsilon=1e-3):
        return layers.BatchNormalization(epsilon=epsilon, name=f"{name}_BN")(x)

    def conv(x, name, **options):
        return layers.Conv2D(values[name]["kernel"].shape[-1], use_bias=False, padding="same", name=name, **options)(x)

    x = layers.ReLU(6)(norm(conv(image, "Conv", kernel_size=3, strides=2), "Conv"))
    for index, inputs, _, outputs in foreign.mobilenet_blocks():
        prefix = f"expanded_conv_{index}" if index else "expanded_conv"
        y = x
        if index:
            y = layers.ReLU(6)(norm(conv(y, f"{prefix}_expand", kernel_size=1), f"{prefix}_expand"))
        name = f"{prefix}_depthwise"
        stride, rate = (2 if index in (1, 3) else 1), (4 if index >= 14 else 2 if index >= 7 else 1)
        y = layers.DepthwiseConv2D(3, strides=stride, dilation_rate=rate, padding="same", use_bias=False, name=name)(y)
        y = norm(conv(layers.ReLU(6)(norm(y, name)), f"{prefix}_project", kernel_size=1), f"{prefix}_project")
        x = layers.Add()([x, y]) if inputs == outputs and stride == 1 else y
    size = x.shape[1:3]
    pooled = layers.Reshape((1, 1, x.shape[-1]))(layers.GlobalAveragePooling2D()(x))
    branches = []
    for name, y in (("image_pooling", pooled), ("aspp0", x)):
        branches.append(layers.ReLU()(norm(conv(y, name, kernel_size=1), name, HEAD_EPSILON)))
    branches[0] = layers.UpSampling2D(size)(branches[0])  # one pixel, resized
    x = conv(layers.Concatenate()(branches), "concat_projection", kernel_size=1)
    x = layers.ReLU()(norm(x, "concat_projection", HEAD_EPSILON))
    model = keras.Model(image, layers.Conv2D(21, 1, name="logits_semantic")(x))
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(list(values[layer.name].values()))
    return model


@pytest.mark.parametrize(("name", "group"), [("deeplabv3_mobilenetv2", None), ("mobilenetv2_lite", "model_weights")])
def test_mobilenetv2_computes_the_same_logits(name, group, mobilenet, tmp_path):
    path = tmp_path / "deeplabv3_mobilenetv2_tf_dim_ordering_tf_kernels.h5"
    foreign.write_keras2(path, mobilenet, group)
    model = factory.build_model(name, num_classes=21, size_hw=SIZE_HW, output_stride=8)
    source = weights.read_source(path)
    loaded = weights.load_weights(model, source)
    assert loaded.layers == len(mobilenet), "every layer of the file has its place"
    assert loaded.layers == sum(bool(layer.weights) for layer in model.layers), "every layer of ours is filled"
    assert (loaded.skipped, loaded.unused, loaded.preprocessing) == ((), (), SYMMETRIC)

    picture = np.random.default_rng(1).uniform(-1, 1, (1, *SIZE_HW, 3)).astype(np.float32)
    theirs = np.asarray(rebuild(mobilenet)(picture, training=False))
    ours = np.asarray(model(picture, training=False))
    assert np.ptp(theirs) > 0.1, "the logits must say something"
    # float32 over 50 layers, and gamma rounded once.
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())

    weights.load_weights(model, dataclasses.replace(source, epsilons={}))
    wrong = np.asarray(model(picture, training=False))
    assert np.abs(wrong - theirs).max() > 1e-2 * np.abs(theirs).max(), "the test must notice the head's epsilon"


@pytest.fixture(scope="module")
def xception() -> keras.Model:
    return factory.build_model("xception", num_classes=21, size_hw=(33, 33), output_stride=16)


def test_xception_map_is_complete_both_ways(xception, tmp_path):
    """Each tensor of the file holds a number of its own (unwritten, so the file is small): all arrive, each once."""
    shapes = foreign.bonlime_xception()
    path = tmp_path / "deeplabv3_xception_tf_dim_ordering_tf_kernels.h5"
    values = {}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in shapes]
        for layer, tensors in shapes.items():
            folder = file.create_group(layer)
            folder.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in tensors]
            for name, shape in tensors.items():
                value = np.float32(len(values) + 1)
                values[layer, name] = value
                folder.create_dataset(f"{layer}/{name}:0", shape, "float32", fillvalue=value)
    loaded = weights.load_weights(xception, path)
    assert loaded.layers == len(shapes) == sum(bool(layer.weights) for layer in xception.layers)
    assert (loaded.skipped, loaded.unused, loaded.preprocessing) == ((), (), SYMMETRIC)

    ours = {}
    for layer in xception.layers:
        for weight in layer.weights:
            tensor = np.asarray(weight)
            assert np.ptp(tensor) == 0
            ours[layer.name, weight.name] = tensor.flat[0]
    assert len(set(ours.values())) == len(values), "each tensor of the file is in one place"
    exact = {key: value for key, value in ours.items() if key[1] != "gamma"}
    assert set(exact.values()) == {value for key, value in values.items() if key[1] != "gamma"}
    backbone = {key: value for key, value in values.items() if key[0].startswith(("entry_", "middle_", "exit_"))}
    assert len(backbone) > 400
    assert all(
        ours[layer, name.replace("depthwise_kernel", "kernel")] == value for (layer, name), value in backbone.items()
    )
    for theirs, our in (
        ("image_pooling", "aspp_pool"),
        ("aspp0", "aspp_1x1"),
        ("aspp2_pointwise", "aspp_rate2_pointwise"),
        ("concat_projection", "aspp_project"),
        ("feature_projection0", "decoder_low_level"),
        ("decoder_conv0_pointwise", "decoder_refine1_pointwise"),
        ("decoder_conv1_pointwise", "decoder_refine2_pointwise"),
    ):
        assert ours[our, "kernel"] == values[theirs, "kernel"]
        assert ours[f"{our}_bn", "moving_mean"] == values[f"{theirs}_BN", "moving_mean"]
        variance = values[f"{theirs}_BN", "moving_variance"]
        gamma = values[f"{theirs}_BN", "gamma"] * np.sqrt((variance + 1e-3) / (variance + HEAD_EPSILON))
        assert ours[f"{our}_bn", "gamma"] == pytest.approx(gamma, rel=1e-6)
    assert ours["logits", "bias"] == values["logits_semantic", "bias"]


def test_google_s_names_of_xception_are_known_all(xception, tmp_path):
    """The variables of the original release, as arrays: every one has its place in the network, and fits."""
    shapes = foreign.slim_xception()
    arrays = {name.replace("/", "|"): np.broadcast_to(np.float32(1), shape) for name, shape in shapes.items()}
    source = weights.load.tensorflow_files.read_slim_arrays(arrays, tmp_path / "x.npz")
    loaded = weights.load_weights(xception, source)
    assert loaded.layers == sum(bool(layer.weights) for layer in xception.layers)
    assert (loaded.skipped, loaded.unused) == ((), ())


def test_its_classifier_for_other_classes_has_another_name(mobilenet, tmp_path):
    values = dict(mobilenet)
    values.pop("logits_semantic")
    rng = np.random.default_rng(2)
    values["custom_logits_semantic"] = {
        "kernel": foreign.random_weights("kernel", (1, 1, 256, 4), rng),
        "bias": foreign.random_weights("bias", (4,), rng),
    }
    foreign.write_keras2(tmp_path / "mine.h5", values)
    model = factory.build_model("deeplabv3_mobilenetv2", num_classes=4, size_hw=(33, 33))
    assert weights.load_weights(model, tmp_path / "mine.h5").unused == ()
    kernel = values["custom_logits_semantic"]["kernel"]
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[0], kernel)
