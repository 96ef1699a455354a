"""Frozen graphs, checkpoints and arrays under TF-slim's names: those made here, and Google's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import foreign
import numpy as np
import pytest
import tensorflow as tf

from deeplabv3p import weights
from deeplabv3p.errors import DataError
from deeplabv3p.models import factory
from deeplabv3p.spec import SYMMETRIC

Arrays = dict[str, np.ndarray]
ALPHA = 0.25


@pytest.fixture(scope="module")
def variables() -> Arrays:
    """Every weight of a narrow DeepLab by its name in Google's code, random."""
    rng = np.random.default_rng(0)
    shapes = foreign.slim_mobilenetv2(ALPHA, classes=2)
    return {name: foreign.random_weights(name, shape, rng) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def network():
    return factory.build_model(f"deeplabv3_mobilenetv2:alpha={ALPHA}", num_classes=2, size_hw=(33, 33))


def write_graph(path: Path, constants: Arrays, norms: dict[str, float] | None = None) -> Path:
    """A graph of constants, and of batch norms (scope → epsilon) that nothing is connected to."""
    graph = tf.compat.v1.GraphDef()
    for name, value in constants.items():
        node = graph.node.add(op="Const", name=name)
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    for scope, epsilon in (norms or {}).items():
        graph.node.add(op="FusedBatchNormV3", name=f"{scope}/BatchNorm/FusedBatchNormV3").attr["epsilon"].f = epsilon
    path.write_bytes(graph.SerializeToString())
    return path


def write_checkpoint(prefix: Path, variables: Arrays) -> None:
    names = list(variables)
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=list(variables.values())
    )


def test_a_checkpoint_fills_the_network_without_its_training_state(variables, network, tmp_path):
    state = {"global_step": np.array(30000), "logits/semantic/weights/Momentum": np.zeros((1, 1, 256, 2), np.float32)}
    state |= {"MobilenetV2/Conv/weights/ExponentialMovingAverage": np.zeros((3, 3, 3, 8), np.float32)}
    write_checkpoint(tmp_path / "model.ckpt-30000", variables | state)
    for name in ("model.ckpt-30000", "model.ckpt-30000.index", "model.ckpt-30000.data-00000-of-00001"):
        loaded = weights.load_weights(network, tmp_path / name)
        assert loaded.layers == sum(bool(layer.weights) for layer in network.layers)
        assert (loaded.skipped, loaded.unused, loaded.preprocessing) == ((), (), SYMMETRIC)
    np.testing.assert_array_equal(network.get_layer("logits").get_weights()[0], variables["logits/semantic/weights"])
    kernel = variables["MobilenetV2/expanded_conv_3/depthwise/depthwise_weights"]
    np.testing.assert_array_equal(network.get_layer("block_3_depthwise").get_weights()[0], kernel)


def test_a_checkpoint_without_its_data_is_one_clear_error(variables, network, tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", variables)
    (tmp_path / "model.ckpt.data-00000-of-00001").unlink()
    with pytest.raises(DataError, match=r"model\.ckpt is not a readable TensorFlow checkpoint") as error:
        weights.load_weights(network, tmp_path / "model.ckpt")
    assert "\n" not in str(error.value)


def test_a_graph_says_the_epsilon_of_each_batch_norm(variables, network, tmp_path):
    path = write_graph(tmp_path / "graph.pb", variables, {"aspp0": 1e-2, "MobilenetV2/Conv": 1e-3})
    source = weights.read_source(path)
    assert source.num_classes == 2
    assert source.epsilons["aspp_1x1_bn"] == pytest.approx(1e-2)
    assert source.epsilons["aspp_pool_bn"] == 1e-5, "Google's own where the graph does not say"
    weights.load_weights(network, source)
    gamma, variance = (variables[f"aspp0/BatchNorm/{part}"] for part in ("gamma", "moving_variance"))
    ours = network.get_layer("aspp_1x1_bn").get_weights()[0]
    np.testing.assert_allclose(ours, gamma * np.sqrt((variance + 1e-3) / (variance + 1e-2)), rtol=1e-6)


def test_a_folded_batch_norm_computes_the_same(variables, network, tmp_path):
    """Folded as TensorFlow does it: into the kernel of a full convolution, to scale and offset of a depthwise one."""
    folded: Arrays = {}
    for name, value in variables.items():
        scope, _, part = name.rpartition("/")
        if f"{scope}/BatchNorm/gamma" not in variables:
            if "BatchNorm" not in name:
                folded[name] = value
            continue
        gamma, beta, mean, variance = (variables[f"{scope}/BatchNorm/{end}"] for end in foreign.NORM)
        scale = gamma / np.sqrt(variance + (1e-3 if scope.startswith("MobilenetV2") else 1e-5))
        if part == "depthwise_weights":
            folded[name] = value
            folded[f"{scope}/BatchNorm/FusedBatchNorm/Scaled"] = scale
        else:
            folded[f"{scope}/Conv2D/merged_input"] = value * scale
        folded[f"{scope}/BatchNorm/FusedBatchNorm/Offset"] = beta - mean * scale
    picture = np.random.default_rng(1).uniform(-1, 1, (1, 33, 33, 3)).astype(np.float32)
    weights.load_weights(network, weights.read_source(write_graph(tmp_path / "whole.pb", variables)))
    expected = np.asarray(network(picture, training=False))
    source = weights.read_source(write_graph(tmp_path / "folded.pb", folded))
    assert "folded" in source.kind
    assert set(source.epsilons.values()) == {0.0}
    weights.load_weights(network, source)
    assert np.ptp(expected) > 0.1
    # float32 over 50 layers, multiplied in another order
    np.testing.assert_allclose(network(picture, training=False), expected, atol=1e-4 * np.abs(expected).max())
    norm = network.get_layer("bn_Conv1")
    assert not np.any(norm.moving_mean)
    assert np.all(np.asarray(norm.moving_variance) == 1), "no statistics are made up"


def test_a_weight_of_unknown_name_is_not_passed_over(variables, network, tmp_path):
    """A graph that keeps an offset under another name would load without it and compute something else."""
    constants = variables | {"MobilenetV2/Conv/Conv2D_bn_offset": np.ones(8, np.float32)}
    constants |= {"mean": np.float32([127.5] * 3), "size": np.int32([513, 513]), "steps": np.arange(100)}
    path = write_graph(tmp_path / "graph.pb", constants)
    with pytest.raises(DataError, match="has layers that the network has not: 'MobilenetV2/Conv/Conv2D_bn_offset'"):
        weights.load_weights(network, path)


def test_other_graphs_are_one_clear_error(tmp_path):
    oversize = tf.compat.v1.GraphDef()
    tensor = oversize.node.add(op="Const", name="a/weights").attr["value"].tensor
    tensor.dtype = tf.float32.as_datatype_enum
    tensor.float_val.append(0.0)
    for _ in range(4):
        tensor.tensor_shape.dim.add(size=1 << 16)
    cases = {
        "text.pb": b"not a graph",
        "empty.pb": b"",
        "other.pb": write_graph(tmp_path / "other.pb", {"dense/kernel": np.zeros((8, 8), np.float32)}).read_bytes(),
        "cut.pb": write_graph(tmp_path / "cut.pb", {"aspp0/weights": np.zeros((8, 8), np.float32)}).read_bytes()[:-9],
        "oversize.pb": oversize.SerializeToString(),
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name) as error:
            weights.read_source(tmp_path / name)
        assert "\n" not in str(error.value)


def graph_function(path: Path, start: str, end: str) -> Callable[[np.ndarray], np.ndarray]:
    """A frozen graph from one tensor to another, run by TensorFlow itself."""
    graph = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    whole = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    function = whole.prune(whole.graph.get_tensor_by_name(f"{start}:0"), whole.graph.get_tensor_by_name(f"{end}:0"))
    return lambda batch: function(tf.constant(batch)).numpy()


@pytest.mark.parametrize(
    ("folder", "file", "name", "classes", "start"),
    [
        ("deeplabv3_mnv2_pascal_trainval", "frozen_inference_graph_rebuilt.pb", "deeplabv3_mobilenetv2", 21, "sub_7"),
        ("portrait_deeplab", "frozen_inference_graph.pb", "deeplabv3_mobilenetv2:alpha=0.5", 2, "sub_2"),
    ],
)
def test_logits_equal_those_of_the_graph(folder, file, name, classes, start, deeplab_data, photographs):
    """Google's VOC network (batch norms folded) and one trained by others with its code (not folded), as published."""
    path = deeplab_data / "weights" / folder / file
    source = weights.read_source(path)
    assert source.num_classes == classes
    model = factory.build_model(name, num_classes=classes, size_hw=(513, 513))
    loaded = weights.load_weights(model, source)
    assert loaded.layers == sum(bool(layer.weights) for layer in model.layers)
    assert (loaded.skipped, loaded.unused) == ((), ())
    theirs = graph_function(path, start, "logits/semantic/BiasAdd")
    for picture in photographs:
        batch = np.zeros((1, 513, 513, 3), np.float32)  # 0 is the mean picture, with which Google pads
        batch[0, : picture.shape[0], : picture.shape[1]] = picture / np.float32(127.5) - 1
        expected = theirs(batch)
        assert np.ptp(expected) > 5, "the logits must say something"
        # Found: 1.3e-4 on logits up to 40. Convolutions add in another order.
        np.testing.assert_allclose(model(batch, training=False), expected, atol=1e-3)


def test_the_graph_and_its_arrays_are_the_same_weights(deeplab_data):
    folder = deeplab_data / "weights/deeplabv3_mnv2_pascal_trainval"
    graph, arrays = (
        weights.read_source(folder / name) for name in ("frozen_inference_graph_rebuilt.pb", "weights_bn_folded.npz")
    )
    assert (graph.unused, arrays.unused) == ((), ())
    assert graph.epsilons == arrays.epsilons
    assert graph.layers.keys() == arrays.layers.keys()
    for name, tensors in graph.layers.items():
        for ours, theirs in zip(tensors, arrays.layers[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)
