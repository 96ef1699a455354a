"""The frozen graph: the model's function, plain operations, numbers for sizes, whole constants, and a true spec."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest
import toy_model
from skimage import data

from deeplabv3p import pixels
from deeplabv3p.errors import UsageError
from deeplabv3p.export.formats import ExportOptions
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import load_spec
from deeplabv3p.spec import ClassInfo

keras = keras_engine.import_keras()

import tensorflow as tf  # noqa: E402

from deeplabv3p.export.freeze import freeze  # noqa: E402
from deeplabv3p.models import batchnorm, factory  # noqa: E402
from deeplabv3p.models.registry import MODELS  # noqa: E402

# What a graph of fixed size has no reason to hold. OpenCV and OpenVINO fail on some of it.
CLUTTER = {
    "Identity", "NoOp", "Shape", "StridedSlice", "Pack", "Tile", "ExpandDims", "Fill", "Range", "Cast", "Transpose",
    "AddN", "StopGradient", "ReadVariableOp", "PartitionedCall", "StatefulPartitionedCall", "FusedBatchNormV3",
    "Squeeze",
}  # fmt: skip
PARITY = 5e-4  # of the largest logit: float32 through 50 layers of a random network; 6e-5 was measured


def operations(graph_def) -> Counter[str]:
    return Counter(node.op for node in graph_def.node)


def run(frozen, pictures: np.ndarray) -> np.ndarray:
    """The graph as TensorFlow runs it from its bytes, picture by picture."""
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(frozen.graph_def, name="")
        with tf.compat.v1.Session() as session:
            names = (f"{frozen.output_name}:0", f"{frozen.input_name}:0")
            return np.concatenate([session.run(names[0], {names[1]: picture[None]}) for picture in pictures])


def test_the_graph_computes_what_the_model_computes(network, frozen):
    got = run(frozen, network.pictures)
    assert np.abs(got - network.logits).max() < PARITY * np.abs(network.logits).max()
    # The function for converters is the very same graph.
    again = np.concatenate([np.asarray(frozen.concrete(tf.constant(picture[None]))) for picture in network.pictures])
    np.testing.assert_allclose(again, got, atol=1e-6 * np.abs(got).max())


def test_it_holds_plain_operations_only(frozen):
    found = operations(frozen.graph_def)
    assert not CLUTTER & set(found)
    # The whole network: 44 + 22 convolutions, each with one bias, which is a constant already.
    assert (found["Conv2D"], found["DepthwiseConv2dNative"], found["BiasAdd"]) == (44, 22, 66)
    assert (found["Placeholder"], found["ResizeBilinear"], found["ResizeNearestNeighbor"]) == (1, 1, 1)
    assert not frozen.graph_def.library.function
    assert all(not name.startswith("_") for node in frozen.graph_def.node for name in node.attr)


def test_the_resize_inside_has_half_pixel_centres_and_a_size_in_numbers(frozen):
    nodes = {node.name: node for node in frozen.graph_def.node}
    (resize,) = [node for node in nodes.values() if node.op == "ResizeBilinear"]
    assert (resize.attr["half_pixel_centers"].b, resize.attr["align_corners"].b) == (True, False)
    assert tf.make_ndarray(nodes[resize.input[1]].attr["value"].tensor).tolist() == [17, 25]


def test_nodes_are_called_after_their_layers(network, frozen):
    scopes = {node.name.partition("/")[0] for node in frozen.graph_def.node if node.op in ("Conv2D", "BiasAdd")}
    assert scopes <= {layer.name for layer in network.model.layers}


def test_constants_are_written_in_full(frozen):
    """A constant of one repeated value too, which TensorFlow shortens and OpenCV does not read."""
    several = 0
    for node in frozen.graph_def.node:
        if node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum:
            tensor = node.attr["value"].tensor
            count = int(np.prod([side.size for side in tensor.tensor_shape.dim]))
            if count > 1:
                several += 1
                assert len(tensor.tensor_content) == 4 * count, node.name
    assert several > 100


def test_a_splat_constant_is_spelled_out():
    image = keras.Input((8, 8, 3), name="image")
    ones = keras.layers.Conv2D(3, 3, kernel_initializer="ones", bias_initializer="ones", name="logits")
    model = keras.Model(image, ones(image))
    frozen = freeze(model, toy_spec((8, 8), stride=1), ExportOptions())
    sizes = {node.name: len(node.attr["value"].tensor.tensor_content) for node in frozen.graph_def.node}
    assert 4 * 81 in sizes.values()


def toy_spec(size_hw, stride=4):
    spec = factory.model_spec("mobilenetv2", size_hw=size_hw, output_stride=16, classes=toy_model.CLASSES)
    return spec.replace(output={"stride": stride})


def test_the_spec_is_that_of_the_file(network, frozen):
    assert (
        (frozen.spec.input.name, frozen.spec.output.name)
        == ("image", "logits")
        == (
            frozen.input_name,
            frozen.output_name,
        )
    )
    assert frozen.spec.provenance.weights_sha256 == keras_engine.weights_sha256(network.model)
    assert frozen.spec == network.spec.replace(provenance={"weights_sha256": frozen.spec.provenance.weights_sha256})


@pytest.mark.parametrize("align_corners", [False, True])
def test_upsampling_inside_is_that_of_the_pixels(network, frozen, align_corners):
    """``output_size`` input: labels are those that one sampling of the native logits gives, but for ties."""
    spec = network.spec.replace(output={"align_corners": align_corners})
    inside = freeze(network.model, spec, ExportOptions(output_size="input"))
    assert inside.spec.output.stride == 1
    assert operations(inside.graph_def)["ResizeBilinear"] == 2
    picture = cv2.resize(data.chelsea(), (97, 65))
    tensor, geometry = pixels.prepare(picture, spec.input)
    wanted = pixels.labels_from_output(run(frozen, tensor[None])[0], geometry, spec.output)
    scores = run(inside, tensor[None])
    assert scores.shape == (1, 65, 97, 5)
    got = pixels.labels_from_output(scores[0], geometry, inside.spec.output)
    assert len(np.unique(wanted)) > 1
    # Both mix in float32 in another order: only scores that are equal to seven digits may fall the other way.
    assert (got == wanted).mean() > 0.999


def test_probabilities_and_labels_inside(toy):
    model, spec = toy
    batch = np.random.default_rng(0).normal(size=(1, *toy_model.SIZE_HW, 3)).astype(np.float32)
    probabilities = freeze(model, spec, ExportOptions(output_kind="probabilities"))
    labels = freeze(model, spec, ExportOptions(output_kind="labels", output_size="input"))
    assert (probabilities.spec.output.kind, probabilities.output_name) == ("probabilities", "probabilities")
    assert (labels.spec.output.kind, labels.spec.output.stride, labels.output_name) == ("labels", 1, "labels")
    logits = np.asarray(model(batch))
    np.testing.assert_allclose(run(probabilities, batch), np.asarray(keras.ops.softmax(logits)), atol=1e-6)
    got = run(labels, batch)
    assert (got.dtype, got.shape) == (np.int32, (1, *toy_model.SIZE_HW))
    scores = run(freeze(model, spec, ExportOptions(output_size="input")), batch)
    np.testing.assert_array_equal(got, scores.argmax(-1))
    assert len(np.unique(got)) == 3


def test_the_model_of_google_has_aligned_corners(photographs):
    """``deeplabv3_mobilenetv2``: 513x513 there, smaller here; output stride 8, no decoder."""
    name, size_hw = "deeplabv3_mobilenetv2:alpha=0.35,width=16", (65, 65)
    keras.utils.set_random_seed(0)
    model = factory.build_model(name, num_classes=3, size_hw=size_hw)
    pictures = np.stack([cv2.resize(picture, size_hw) for picture in photographs]).astype(np.float32) / 127.5 - 1
    batchnorm.reestimate(model, [pictures])
    classes = tuple(ClassInfo(str(index), (index, 0, 0)) for index in range(3))
    spec = factory.model_spec(name, size_hw=size_hw, output_stride=8, classes=classes)
    frozen = freeze(model, spec, ExportOptions(output_size="input"))
    assert not CLUTTER & set(operations(frozen.graph_def))
    (resize,) = [node for node in frozen.graph_def.node if node.op == "ResizeBilinear"]
    assert (resize.attr["half_pixel_centers"].b, resize.attr["align_corners"].b) == (False, True)
    got, logits = run(frozen, pictures), np.asarray(model(pictures, training=False))
    # Aligned corners: every eighth pixel of the large grid is a point of the small one.
    assert np.abs(got[:, ::8, ::8] - logits).max() < PARITY * np.abs(logits).max()


def resizing_model():
    """Batch norm behind a Resizing layer, which runs in training mode unless it is told otherwise."""
    image = keras.Input((*toy_model.SIZE_HW, 3), name="image")
    x = keras.layers.Conv2D(4, 3, strides=4, padding="same", activation="relu")(image)
    x = keras.layers.Resizing(16, 24)(x)
    x = keras.layers.BatchNormalization()(x)
    model = keras.Model(image, keras.layers.Conv2D(3, 1, name="logits")(x))
    rng = np.random.default_rng(0)
    for weight in model.layers[-2].weights:
        weight.assign(rng.uniform(0.5, 2, weight.shape))
    return model


def test_batch_norm_behind_a_resizing_layer_uses_its_statistics():
    """Keras' ``Resizing`` makes what follows train: exports of such models used to agree on 12 to 78 % of pixels."""
    model = resizing_model()
    statistics = [np.asarray(weight) for weight in model.layers[-2].weights]
    batch = np.random.default_rng(1).normal(size=(1, *toy_model.SIZE_HW, 3)).astype(np.float32)
    frozen = freeze(model, toy_spec(toy_model.SIZE_HW, stride=2), ExportOptions())
    features = keras.Model(model.inputs[0], model.layers[-3].output)(batch, training=False)
    gamma, beta, mean, variance = statistics
    normal = (np.asarray(features) - mean) / np.sqrt(variance + model.layers[-2].epsilon) * gamma + beta
    kernel, bias = (np.asarray(weight) for weight in model.layers[-1].weights)
    np.testing.assert_allclose(run(frozen, batch), normal @ kernel[0, 0] + bias, atol=1e-4)  # float32
    for before, weight in zip(statistics, model.layers[-2].weights, strict=True):
        np.testing.assert_array_equal(before, np.asarray(weight))


def test_an_open_batch_and_an_open_size_where_the_model_has_one(tmp_path):
    path = toy_model.save(tmp_path / "open.keras", any_size=True)
    model, spec = keras_engine.load_model(path), load_spec(path)
    frozen = freeze(model, spec, ExportOptions(dynamic=True, batch=None, output_size="input"))
    assert frozen.concrete.inputs[0].shape.as_list() == [None, None, None, 3]
    assert frozen.spec.input.size_hw is None
    for size_hw in ((32, 48), (64, 40)):
        batch = np.random.default_rng(0).normal(size=(2, *size_hw, 3)).astype(np.float32)
        want = tf.image.resize(model(batch), size_hw)
        np.testing.assert_allclose(np.asarray(frozen.concrete(tf.constant(batch))), want, atol=1e-5)
    with pytest.raises(UsageError, match=r"--model_input_shape HxW"):
        freeze(model, spec, ExportOptions())
    fixed = freeze(model, spec.replace(input={"size_hw": (40, 40)}), ExportOptions(batch=2))
    assert fixed.concrete.inputs[0].shape.as_list() == [2, 40, 40, 3]


def test_repeated_pixels_become_one_operation():
    """``UpSampling2D``: at 1x1, where every importer agrees, and elsewhere, where rounding matters (factor 49)."""
    for side, factor in ((1, 5), (3, (49, 7))):
        image = keras.Input((side, side, 3), name="image")
        model = keras.Model(image, keras.layers.UpSampling2D(factor)(image))
        frozen = freeze(model, toy_spec((side, side), stride=1), ExportOptions())
        assert operations(frozen.graph_def) == {"Placeholder": 1, "Const": 1, "ResizeNearestNeighbor": 1}
        batch = np.random.default_rng(0).normal(size=(1, side, side, 3)).astype(np.float32)
        np.testing.assert_array_equal(run(frozen, batch), np.asarray(model(batch)))


@pytest.mark.parametrize("whole", [True, False])
def test_layer_normalization_keeps_its_function_and_has_no_negation(whole):
    """TFLite has no negation in whole numbers. A layer without an offset is left to Keras."""
    image = keras.Input((6, 8, 3), name="image")
    layer = keras.layers.LayerNormalization(epsilon=1e-3, center=whole)
    model = keras.Model(image, keras.layers.Activation("gelu")(layer(keras.layers.Conv2D(8, 1)(image))))
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(rng.uniform(0.5, 2, weight.shape))
    classes = tuple(ClassInfo(str(index), (index, 0, 0)) for index in range(8))
    frozen = freeze(model, toy_spec((6, 8), stride=1).replace(classes=classes), ExportOptions())
    batch = rng.normal(size=(1, 6, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(run(frozen, batch), np.asarray(model(batch)), atol=1e-5)  # float32, two layers
    found = operations(frozen.graph_def)
    assert "StopGradient" not in found
    if whole:
        assert (found["Rsqrt"], found["Sub"]) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_network_freezes_to_plain_operations(name, photographs):
    options = ":width=16" if MODELS[name].head != "none" else ""
    keras.utils.set_random_seed(0)
    model = factory.build_model(f"{name}{options}", num_classes=3, size_hw=(65, 97))
    pictures = np.stack([cv2.resize(picture, (97, 65)) for picture in photographs]).astype(np.float32) / 127.5 - 1
    batchnorm.reestimate(model, [pictures])
    stride = MODELS[name].output_stride
    spec = factory.model_spec(f"{name}{options}", size_hw=(65, 97), output_stride=stride, classes=toy_model.CLASSES)
    frozen = freeze(model, spec, ExportOptions())
    cuts = sum(isinstance(layer, keras.layers.Cropping2D) for layer in model.layers)
    found = operations(frozen.graph_def)
    assert not (CLUTTER - {"StridedSlice"}) & set(found)
    assert found["StridedSlice"] == cuts  # with constants: what PeleeNet and U-Net cut off odd sizes
    assert all(node.op != "StridedSlice" or len(node.input) == 4 for node in frozen.graph_def.node)
    logits = np.asarray(model(pictures, training=False))
    # float32 through up to 200 layers of a random network; 7e-4 was measured for resnet101
    assert np.abs(run(frozen, pictures) - logits).max() < 3e-3 * np.abs(logits).max()


def test_a_built_size_is_not_left_open(network):
    with pytest.raises(UsageError, match="built for 65x97"):
        freeze(network.model, network.spec, ExportOptions(dynamic=True))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("labels", ExportOptions(), "logits cannot be had from it"),
        ("probabilities", ExportOptions(), "Use --output_kind probabilities"),
        ("labels", ExportOptions(output_kind="labels", output_size="input"), "cannot be resized"),
    ],
)
def test_what_a_model_does_not_put_out_is_refused(network, kind, options, message):
    with pytest.raises(UsageError, match=message):
        freeze(network.model, network.spec.replace(output={"kind": kind}), options)


def test_channels_first_is_refused(network):
    with pytest.raises(UsageError, match="NHWC"):
        freeze(network.model, network.spec.replace(input={"layout": "NCHW"}), ExportOptions())


def test_names_that_tensorflow_does_not_take_are_made_ones_that_it_does(network):
    spec = network.spec.replace(input={"name": "serving default:0"}, output={"name": "/logits"})
    frozen = freeze(network.model, spec, ExportOptions())
    assert (frozen.input_name, frozen.output_name) == ("serving_default", "x_logits")
    assert (frozen.spec.input.name, frozen.spec.output.name) == (frozen.input_name, frozen.output_name)
    assert run(frozen, network.pictures).shape == network.logits.shape


def test_a_model_that_puts_out_its_input_keeps_both_names():
    image = keras.Input((8, 8, 3), name="image")
    frozen = freeze(keras.Model(image, keras.layers.Identity()(image)), toy_spec((8, 8), stride=1), ExportOptions())
    batch = np.ones((1, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(run(frozen, batch), batch)
