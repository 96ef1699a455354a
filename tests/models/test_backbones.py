"""The networks of keras.applications as backbones: equal to the originals at stride 32, and to themselves dilated."""

from __future__ import annotations

import functools
import subprocess
import sys

import cv2
import keras
import numpy as np
import pytest
from keras import layers, ops

from deeplabv3p.models import batchnorm, graph
from deeplabv3p.models.backbones import BACKBONES
from deeplabv3p.models.blocks import scaled
from deeplabv3p.models.dilation import dilate
from deeplabv3p.models.narrow import narrow
from deeplabv3p.runtime.keras_safety import check_model_file

APPLICATIONS = {
    "mobilenetv2": keras.applications.MobileNetV2,
    "mobilenetv3large": keras.applications.MobileNetV3Large,
    "mobilenetv3small": keras.applications.MobileNetV3Small,
    "resnet50": keras.applications.ResNet50,
    "resnet101": keras.applications.ResNet101,
    "efficientnetv2b0": keras.applications.EfficientNetV2B0,
    "convnext_tiny": keras.applications.ConvNeXtTiny,
}
NATIVE_ALPHA = ("mobilenetv2", "mobilenetv3large", "mobilenetv3small")
# Where preprocessing is not a part of the network.
PREPROCESSING = {
    "mobilenetv2": keras.applications.mobilenet_v2.preprocess_input,
    "resnet50": keras.applications.resnet.preprocess_input,
    "resnet101": keras.applications.resnet.preprocess_input,
}
# The code of resnet50 is that of resnet101, which is twice as deep.
NETWORKS = [pytest.param(name, marks=pytest.mark.slow if name == "resnet101" else ()) for name in APPLICATIONS]
ALPHA = 0.25
# Sizes whose maps at strides 8 to 32 are odd and even in turn, 39, 20, 10 and 40, 20, 10; and 45, 23, 12 and 34, 17, 9.
SHAPES = [(305, 320), pytest.param((353, 272), marks=pytest.mark.slow)]


@functools.cache
def published(name: str, size_hw: tuple[int, int]) -> keras.Model:
    """A narrow network at its published stride: {stride: features}. Tests share it and leave it as it is."""
    keras.utils.set_random_seed(0)
    image, features = BACKBONES[name].features(size_hw, 32, ALPHA)
    return keras.Model(image, features)


def pictures(photographs: np.ndarray, name: str, size_hw: tuple[int, int]) -> np.ndarray:
    """Two photographs as the network gets them."""
    resized = [cv2.resize(p, size_hw[::-1], interpolation=cv2.INTER_AREA) for p in photographs[:2]]
    return preprocessed(np.stack(resized), name)


def preprocessed(rgb: np.ndarray, name: str) -> np.ndarray:
    expected = BACKBONES[name].preprocessing
    ordered = rgb[..., ::-1] if expected.color == "BGR" else rgb
    return ((ordered.astype(np.float32) - expected.mean) / expected.std).astype(np.float32)


def enliven(model: keras.Model, batch: np.ndarray) -> None:
    """Weights with which different pictures give different features: batch norms measured on them, and the layer scales
    of ConvNeXt, which start at 1e-6 so that its blocks do nothing, at 0.5 to 1.5."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if layer.name.endswith("layer_scale"):
            layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.weights])
    batchnorm.reestimate(model, [batch])


def spread(features: np.ndarray) -> float:
    """How much the features of two pictures differ, as a share of their size."""
    return float(np.abs(features[0] - features[1]).mean() / np.abs(features).mean())


def width(name: str, channels: int) -> int:
    """``channels`` at ALPHA. MobileNets' own rule never rounds down by more than 10 %."""
    result = scaled(channels, ALPHA)
    return result + 8 if name in NATIVE_ALPHA and result < 0.9 * channels * ALPHA else result


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size_hw", SHAPES)
def test_features_have_the_declared_strides_and_channels(name, size_hw):
    features = published(name, size_hw).output
    assert set(features) == {4, 8, 16, 32}
    for stride, tensor in features.items():
        assert tensor.shape[1:3] == (-(-size_hw[0] // stride), -(-size_hw[1] // stride)), stride
        assert tensor.shape[3] == width(name, BACKBONES[name].channels[stride]), stride


@pytest.mark.slow
@pytest.mark.parametrize("name", list(APPLICATIONS))
@pytest.mark.parametrize("size_hw", [(65, 97), (64, 96), (33, 50)])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_features_have_the_declared_strides_at_small_sizes(name, size_hw, output_stride):
    image, features = BACKBONES[name].features(size_hw, output_stride, ALPHA)
    assert image.name == "image"
    assert set(features) == {stride for stride in (4, 8, 16, 32) if stride <= output_stride}
    for stride, tensor in features.items():
        deepest = stride == output_stride
        assert tensor.shape[1:3] == (-(-size_hw[0] // stride), -(-size_hw[1] // stride)), stride
        assert tensor.shape[3] == width(name, BACKBONES[name].channels[32 if deepest else stride]), stride


@pytest.fixture
def no_download(monkeypatch):
    """The names of the files that keras.applications asks for. None is read: weights stay random."""
    names: list[str] = []
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda name, *args, **named: names.append(name))
    monkeypatch.setattr(keras.Model, "load_weights", lambda *args, **named: None)
    return names


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined")  # these weights would be of 224x224
@pytest.mark.parametrize("name", NETWORKS)
def test_at_stride_32_the_backbone_is_keras_applications(name, photographs, no_download):
    """At alpha 1, with the weights of the original copied by name: its features, for pictures prepared as the record
    says. And the record names the file that Keras would load."""
    size_hw, record = (96, 128), BACKBONES[name]
    original = APPLICATIONS[name](input_shape=(*size_hw, 3), include_top=False, weights="imagenet")
    assert no_download == [record.imagenet_file.format(alpha=1.0)]
    image, features = BACKBONES[name].features(size_hw, 32, 1.0)
    ours = keras.Model(image, features)
    assert {stride: tensor.shape[3] for stride, tensor in ours.output.items()} == record.channels

    rgb = np.stack([cv2.resize(p, size_hw[::-1], interpolation=cv2.INTER_AREA) for p in photographs[:2]])
    first = next(layer for layer in original.layers if layer.weights or isinstance(layer, layers.ZeroPadding2D))
    inside = keras.Model(original.input, first.input)  # the original's own preprocessing, where it is a part of it
    theirs = np.asarray(inside(PREPROCESSING.get(name, np.asarray)(rgb.astype(np.float32))))
    batch = preprocessed(rgb, name)
    assert np.abs(theirs - batch).max() < 1e-4 * np.abs(batch).max(), "float32, of (x/255 - mean)/std in another order"

    # The last tap of ConvNeXt has no name in the original: a layer norm, which is no part of ours, follows it.
    deepest = original.layers[-1].input if name == "convnext_tiny" else original.get_layer(record.taps[32]).output
    trunk = keras.Model(first.input, deepest)
    enliven(trunk, batch)
    nested = [inner for layer in trunk.layers if isinstance(layer, keras.Sequential) for inner in layer.layers]
    weights = {layer.name: layer.get_weights() for layer in [*trunk.layers, *nested]}
    for layer in ours.layers:
        if layer.weights:
            new = weights[layer.name]
            # Same order, same count: only ConvNeXt's depthwise kernels and scales have other shapes.
            assert name == "convnext_tiny" or [w.shape for w in new] == [tuple(w.shape) for w in layer.weights]
            layer.set_weights([v.reshape(w.shape) for v, w in zip(new, layer.weights, strict=True)])

    expected, found = np.asarray(trunk(batch, training=False)), np.asarray(ours(batch, training=False)[32])
    assert spread(expected) > 0.1, "different pictures must differ, or nothing is tested"
    if name == "convnext_tiny":  # grouped and depthwise convolutions add their products in another order
        assert np.abs(expected - found).max() < 1e-5 * np.abs(expected).max()
    else:
        np.testing.assert_array_equal(expected, found)


class Pinned(layers.GlobalAveragePooling2D):
    """Squeeze that sees no picture. The mean over a dense map is not the mean over every k-th of its pixels, so squeeze
    and excitation has no à trous property; all else in a network has it, and with this layer it shows."""

    def call(self, inputs):
        return ops.ones_like(super().call(inputs))


def pin(layer: layers.Layer) -> layers.Layer | None:
    is_squeeze = isinstance(layer, layers.GlobalAveragePooling2D)
    return Pinned.from_config(layer.get_config()) if is_squeeze else None


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size_hw", SHAPES)
def test_a_trous_property(name, size_hw, photographs):
    """Dense features, sampled, equal those of the published stride up to the border, at even and odd sizes."""
    network = published(name, size_hw)
    sparse = graph.clone(keras.Model(network.input, network.output[32]), pin)
    batch = pictures(photographs, name, size_hw)
    enliven(sparse, batch)
    expected = np.asarray(sparse(batch, training=False))
    assert spread(expected) > 0.1, "different pictures must differ, or nothing is tested"
    for output_stride in (16, 8):
        dense = np.asarray(dilate(sparse, output_stride)(batch, training=False))
        assert dense.shape[1:3] == tuple(-(-side // output_stride) for side in size_hw)
        step = 32 // output_stride
        rows, columns = (slice(phase(sparse, output_stride, axis), None, step) for axis in (1, 2))
        sampled = dense[:, rows, columns]
        height, width = sampled.shape[1:3]
        if expected.shape[1] > height:
            # Convolutions 2x2 have no middle: at this size the last feature of stride 32 lies between two dense ones
            # beyond the border. Three convolutions 7x7 carry that nine features inwards.
            assert name == "convnext_tiny"
            height -= 9
        assert min(height, width) >= 2
        error = np.abs(expected[:, :height, :width] - sampled[:, :height, :width]).max()
        # Float32: products are added in another order by dilated convolutions, through up to a hundred layers.
        assert error < 1e-4 * np.abs(expected).max(), output_stride


def phase(sparse: keras.Model, output_stride: int, axis: int) -> int:
    """The dense pixel of the first feature of stride 32, from the paddings of the published network.

    A strided layer of a kernel of k pixels reads, for its output i, inputs from 2i - b on, where b pixels are padded in
    front. When the stride is removed, f dense pixels lie from one input to the next, and output p reads dense inputs
    from p - floor(f (k - 1) / 2) on ("same"). Both read the same if p = phase + 2fi with the phase below.
    """
    stride, phases = {}, {}
    for operation in sparse.operations:
        above = [] if isinstance(operation, layers.InputLayer) else graph.parents(operation)
        stride[operation] = max((stride[p] for p in above), default=1)
        found = {phases[p] for p in above} or {0}
        assert len(found) == 1, f"the branches that meet in {operation.name} are shifted"
        (phases[operation],) = found
        own = getattr(operation, "strides", (1, 1))[0]
        if own > 1 and stride[operation] >= output_stride:
            kernel = operation.kernel_size[axis - 1]
            factor = stride[operation] // output_stride
            front = padded_in_front(operation, above[0], kernel, axis)
            phases[operation] += factor * (kernel - 1) // 2 - factor * front
        stride[operation] *= own
    return phases[sparse.operations[-1]]


def padded_in_front(layer: layers.Layer, above: layers.Layer, kernel: int, axis: int) -> int:
    if layer.padding == "same":
        size = layer.input.shape[axis]
        return max((-(-size // 2) - 1) * 2 + kernel - size, 0) // 2
    return above.padding[axis - 1][0] if isinstance(above, layers.ZeroPadding2D) else 0


def test_nested_layers_and_names_that_keras_made_up_become_plain_ones(photographs):
    image = keras.Input((32, 48, 3), name="image")
    stem = keras.Sequential([layers.Conv2D(8, 3, name="conv"), layers.BatchNormalization(name="bn")], name="stem")
    x = layers.ReLU()(stem(image))
    model = keras.Model(image, layers.Activation("relu")(x * 2.0 + x))
    flat = graph.flatten(model, lambda layer: None)
    names = ["image", "conv", "bn", "stem_relu", "stem_relu_multiply", "stem_relu_add", "stem_relu_add_activation"]
    assert [operation.name for operation in flat.operations] == names
    batch = pictures(photographs, "mobilenetv2", (32, 48))
    np.testing.assert_array_equal(np.asarray(model(batch)), np.asarray(flat(batch)))
    again = graph.flatten(model, lambda layer: None)
    assert [operation.name for operation in again.operations] == names


def test_narrow_scales_every_width():
    """Convolutions, dense layers, and the reshape of squeeze and excitation; widths never fall below 8."""
    image = keras.Input((32, 48, 3))
    x = layers.BatchNormalization()(layers.Conv2D(64, 3)(image))
    gate = layers.Reshape((1, 1, 64))(layers.GlobalAveragePooling2D()(x))
    gate = layers.Conv2D(64, 1)(layers.Conv2D(12, 1)(gate))
    model = keras.Model(image, layers.Dense(96)(layers.DepthwiseConv2D(3)(x * gate)))
    assert narrow(model, 1.0) is model
    for alpha, (middle, least, last) in {0.25: (16, 8, 24), 0.5: (32, 8, 48), 1.4: (88, 16, 136)}.items():
        other = narrow(model, alpha)
        found = {layer.name: layer.output.shape[-1] for layer in other.layers if "conv2d" in layer.name}
        assert list(found.values()) == [middle, least, middle, middle]
        assert other.output.shape[-1] == last


@functools.cache
def convnext_part() -> keras.Model:
    """Stem, two stages and a downsampling: every kind of layer that ConvNeXt has."""
    network = published("convnext_tiny", (305, 320))
    return keras.Model(network.input, network.output[8])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_saved_convnext_holds_plain_layers(suffix, tmp_path):
    """Keras' own network holds a layer of a private module, which a .h5 cannot name."""
    convnext_part().save(tmp_path / f"model{suffix}")
    check_model_file(tmp_path / f"model{suffix}")
    assert all(
        type(operation).__module__.startswith(("keras.src.layers", "keras.src.ops", "keras.src.models"))
        for operation in convnext_part().operations
    )


@pytest.mark.slow  # a fresh interpreter
def test_a_saved_convnext_loads_in_an_isolated_process(photographs, tmp_path):
    model, batch = convnext_part(), pictures(photographs, "convnext_tiny", (305, 320))
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "in.npy", batch)
    code = (
        "import sys, keras, numpy as np; m = keras.models.load_model(sys.argv[1]); "
        "np.save(sys.argv[3], m(np.load(sys.argv[2]), training=False)); "
        "assert not any(n.startswith('deeplabv3p') for n in sys.modules)"
    )
    arguments = [str(tmp_path / name) for name in ("model.keras", "in.npy", "out.npy")]
    subprocess.run([sys.executable, "-I", "-c", code, *arguments], check=True, cwd=tmp_path, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.asarray(model(batch, training=False)))
