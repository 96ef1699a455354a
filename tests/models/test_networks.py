"""The networks that Keras lacks, against their papers: shapes, sizes, dilation, and the layer names of releases."""

from __future__ import annotations

import functools

import cv2
import keras
import numpy as np
import pytest
from keras import layers

from deeplabv3p.models import batchnorm, blocks, factory, graph, statistics
from deeplabv3p.models.backbones import BACKBONES
from deeplabv3p.models.registry import MODELS

NETWORKS = ("xception", "peleenet", "fast_scnn", "unet")
ODD, EVEN, TINY = (65, 97), (64, 96), (33, 50)


@functools.cache
def trunk(name: str, size_hw: tuple[int, int], output_stride: int, alpha: float = 0.1) -> keras.Model:
    """All features of a network as one model: {stride: tensor}. Tests share it; its weights are anything."""
    keras.utils.set_random_seed(0)
    image, features = BACKBONES[name].features(size_hw, output_stride, alpha)
    return keras.Model(image, features)


def cases() -> list[tuple[str, tuple[int, int], int]]:
    strides = {name: MODELS[name].output_strides for name in NETWORKS}
    found = [(name, size, stride) for name in NETWORKS for size in (ODD, EVEN) for stride in strides[name]]
    return found + [(name, TINY, max(strides[name])) for name in NETWORKS if name != "xception"]  # slow to build


@pytest.mark.parametrize(("name", "size_hw", "output_stride"), cases())
def test_features_have_the_declared_strides_and_channels(name, size_hw, output_stride):
    model, channels = trunk(name, size_hw, output_stride), BACKBONES[name].channels
    deepest = max(channels)
    assert set(model.output) == {stride for stride in channels if stride < output_stride} | {output_stride}
    for stride, tensor in model.output.items():
        published = channels[deepest if stride == output_stride else stride]
        assert tensor.shape[1:3] == (-(-size_hw[0] // stride), -(-size_hw[1] // stride)), stride
        if name == "peleenet":  # each stage adds to the channels before it: multiples of the growth
            assert tensor.shape[3] == published // 32 * blocks.scaled(32, 0.1), stride
        else:
            assert tensor.shape[3] == blocks.scaled(published, 0.1), stride


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_of_keras(name):
    """Also at the smallest stride: a saved model then loads without this package."""
    operations = trunk(name, ODD, min(MODELS[name].output_strides)).operations
    assert {type(operation).__module__.split(".")[0] for operation in operations} == {"keras"}


@pytest.mark.parametrize("alpha", [0.1, 0.35, 0.75, 1.0, 1.4])
def test_widths_are_multiples_of_eight(alpha):
    for width in (3, 32, 48, 64, 96, 728, 1024, 2048):
        scaled = blocks.scaled(width, alpha)
        assert scaled % 8 == 0
        assert scaled == 8 or abs(scaled - width * alpha) <= 4
    assert blocks.scaled(728, 1.0) == 728


def _count(model: keras.Model, batch_norm: bool = True) -> int:
    return sum(
        int(np.prod(variable.shape))
        for layer in model.layers
        if batch_norm or not isinstance(layer, layers.BatchNormalization)
        for variable in layer.trainable_variables
    )


def test_peleenet_has_as_many_parameters_as_published():
    """2.8 M with the 1000 classes of ImageNet (table 3 of the paper)."""
    model = trunk("peleenet", (32, 32), 32, 1.0)
    assert {stride: tensor.shape[3] for stride, tensor in model.output.items()} == BACKBONES["peleenet"].channels
    assert round((_count(model) + 704 * 1000 + 1000) / 1e6, 1) == 2.8


def test_peleenet_computes_as_much_as_published():
    """508 million multiply-accumulates at 224x224, its classifier's among them (table 3 of the paper)."""
    model = trunk("peleenet", (224, 224), 32, 1.0)
    assert round((statistics.count(model).macs + 704 * 1000) / 1e6) == 508


def test_fast_scnn_has_as_many_parameters_as_published():
    """1.11 M with the 19 classes of Cityscapes (table 4 of the paper), batch norms left out (1.14 M with them)."""
    model = factory.build_model("fast_scnn", num_classes=19, size_hw=(32, 32))
    assert round(_count(model, batch_norm=False) / 1e6, 2) == 1.11


def test_unet_has_as_many_parameters_as_published():
    """31.0 M (the paper gives the layers, not the sum)."""
    model = factory.build_model("unet", num_classes=2, size_hw=(32, 32))
    assert round(_count(model) / 1e6, 1) == 31.0


def test_xception_has_the_layers_of_the_release():
    """Names and shapes of every layer with weights: the release loads by name, and nothing of ours stays random. With
    head and decoder it has the 41.06 M parameters that are known of the release."""
    model = factory.build_model("xception", num_classes=21, size_hw=(32, 32), output_stride=32)
    ours = {
        layer.name: [tuple(variable.shape) for variable in layer.weights]
        for layer in model.layers
        if layer.weights and layer.name.split("_")[0] in ("entry", "middle", "exit")
    }
    assert ours == _released_layers()
    assert round(_count(model) / 1e6, 2) == 41.06


def _released_layers() -> dict[str, list[tuple[int, ...]]]:
    """Layer names and weight shapes of the backbone in the public Keras port, written down from its source."""
    found: dict[str, list[tuple[int, ...]]] = {}

    def conv(name: str, kernel: int, inputs: int, outputs: int) -> None:
        found[name] = [(kernel, kernel, inputs, outputs)]
        found[f"{name}_BN"] = [(outputs,)] * 4

    def block(name: str, inputs: int, outputs: tuple[int, int, int], shortcut: bool) -> None:
        if shortcut:
            conv(f"{name}_shortcut", 1, inputs, outputs[2])
        for index, width in enumerate(outputs):
            part = f"{name}_separable_conv{index + 1}"
            found[f"{part}_depthwise"] = [(3, 3, inputs, 1)]
            found[f"{part}_depthwise_BN"] = [(inputs,)] * 4
            conv(f"{part}_pointwise", 1, inputs, width)
            inputs = width

    conv("entry_flow_conv1_1", 3, 3, 32)
    conv("entry_flow_conv1_2", 3, 32, 64)
    block("entry_flow_block1", 64, (128, 128, 128), True)
    block("entry_flow_block2", 128, (256, 256, 256), True)
    block("entry_flow_block3", 256, (728, 728, 728), True)
    for unit in range(16):
        block(f"middle_flow_unit_{unit + 1}", 728, (728, 728, 728), False)
    block("exit_flow_block1", 728, (728, 1024, 1024), True)
    block("exit_flow_block2", 1024, (1536, 1536, 2048), False)
    return found


# Rates of the middle flow and the exit flow's two blocks, and the last block with a stride.
@pytest.mark.parametrize(
    ("output_stride", "rates", "last"),
    [(8, (2, 2, 4), "entry_flow_block2"), (16, (1, 1, 2), "entry_flow_block3"), (32, (1, 1, 1), "exit_flow_block1")],
)
def test_xception_has_the_rates_of_the_release(output_stride, rates, last):
    model = trunk("xception", ODD, output_stride)
    expected = dict(zip(("middle_flow", "exit_flow_block1", "exit_flow_block2"), rates, strict=True))
    strided = set()
    for layer in model.layers:
        if not isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            continue
        rate = next((rate for prefix, rate in expected.items() if layer.name.startswith(prefix)), 1)
        assert layer.dilation_rate == ((rate, rate) if layer.kernel_size == (3, 3) else (1, 1)), layer.name
        if layer.strides == (2, 2):
            strided.add(layer.name)
    blocks_with_stride = ["entry_flow_block1", "entry_flow_block2", "entry_flow_block3", "exit_flow_block1"]
    blocks_with_stride = blocks_with_stride[: blocks_with_stride.index(last) + 1]
    ends = ("separable_conv3_depthwise", "shortcut")
    assert strided == {"entry_flow_conv1_1"} | {f"{block}_{end}" for block in blocks_with_stride for end in ends}
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    assert {norm.epsilon for norm in norms} == {1e-3}


@pytest.mark.parametrize("name", ["xception", "peleenet"])
@pytest.mark.parametrize("size_hw", [ODD, EVEN])
def test_a_trous_property(name, size_hw, photographs):
    """Dense features, sampled, equal those of stride 32, up to the border and at any parity: every removed stride
    starts on the first pixel (phase 0), pads with zeros that lie on the sampled grid, or averages what there is."""
    sparse = trunk(name, size_hw, 32)
    pictures = np.stack([cv2.resize(p, size_hw[::-1], interpolation=cv2.INTER_AREA) for p in photographs])
    pictures = pictures.astype(np.float32) / 127.5 - 1
    batchnorm.reestimate(sparse, [pictures])  # a raw random network gives every picture the same features
    expected = np.asarray(sparse(pictures, training=False)[32])
    largest = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).mean() > 0.03 * largest, "different pictures must differ"
    for output_stride in (8, 16):
        dense = trunk(name, size_hw, output_stride)
        graph.copy_weights(sparse, dense)
        k = 32 // output_stride
        features = np.asarray(dense(pictures, training=False)[output_stride])
        # float32 through 74 layers, in another order of summation
        np.testing.assert_allclose(features[:, ::k, ::k], expected, atol=1e-4 * largest)
        shifted = features[:, k - 1 :: k, k - 1 :: k]
        other = expected[:, : shifted.shape[1], : shifted.shape[2]]
        assert np.abs(shifted - other).max() > 0.1 * largest, "another phase must not fit"


@pytest.mark.parametrize("size_hw", [(512, 512), (360, 2048), ODD, TINY])
def test_the_pyramid_of_fast_scnn_covers_its_map(size_hw):
    """As many parts as asked for, or one a pixel, and every pixel in one of them."""
    model = trunk("fast_scnn", size_hw, 32)
    map_hw = model.output[32].shape[1:3]
    for bins in (1, 2, 3, 6):
        layer = model.get_layer(f"pyramid_{bins}_mean")
        assert layer.output.shape[1:3] == tuple(min(bins, size) for size in map_hw)
        for size, count, window, stride in zip(
            map_hw, layer.output.shape[1:3], layer.pool_size, layer.strides, strict=True
        ):
            assert (count - 1) * stride + window == size
            assert stride <= window


@pytest.mark.parametrize(
    ("name", "encoder"), [("fast_scnn", ("downsample_", "bottleneck", "pyramid_")), ("unet", ("encoder_", "bridge_"))]
)
def test_freezing_the_encoder_of_a_whole_network_leaves_its_decoder(name, encoder):
    model = factory.build_model(f"{name}:alpha=0.1", num_classes=3, size_hw=ODD)
    factory.freeze(model, 1)
    weighted = {layer.name for layer in model.layers if layer.weights}
    frozen = {layer.name for layer in model.layers if layer.weights and not layer.trainable_variables}
    assert frozen == {layer for layer in weighted if layer.startswith(encoder)}
    assert all(layer.startswith("decoder_") or layer == "logits" for layer in weighted - frozen)
    assert len(frozen) > 10
    assert len(weighted - frozen) > 10
