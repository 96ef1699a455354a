"""Costs counted by hand on small layers, and against TensorFlow's own profiler on whole networks."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from deeplabv3p.errors import UsageError
from deeplabv3p.models import factory
from deeplabv3p.models.registry import MODELS
from deeplabv3p.models.statistics import Statistics, count
from deeplabv3p.models.walk import infer, run, walk


def single(layer, *shape: int) -> Statistics:
    image = keras.Input(shape)
    return count(keras.Model(image, layer(image)))


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (layers.Conv2D(8, 3, padding="same"), 10 * 14 * 9 * 6 * 8),
        (layers.Conv2D(8, 3, padding="valid", strides=2), 4 * 6 * 9 * 6 * 8),
        (layers.Conv2D(8, 3, padding="same", dilation_rate=2), 10 * 14 * 9 * 6 * 8),
        (layers.Conv2D(8, 1, groups=2), 10 * 14 * 3 * 8),
        (layers.DepthwiseConv2D((3, 5), padding="same"), 10 * 14 * 15 * 6),
        (layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, strides=2), 5 * 7 * 9 * 12),
        (layers.SeparableConv2D(8, 3, padding="same", strides=2), 5 * 7 * (9 * 6 + 6 * 8)),
        (layers.Conv2DTranspose(8, 2, strides=2), 10 * 14 * 4 * 6 * 8),
        (layers.Dense(5), 10 * 14 * 6 * 5),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_multiply_adds_by_hand(layer, macs):
    statistics = single(layer, 10, 14, 6)
    assert statistics.macs == macs
    assert statistics.flops == 2 * macs
    assert statistics.parameters == layer.count_params()


def test_a_matrix_product_of_two_features_counts():
    left, right = keras.Input((7, 5)), keras.Input((5, 11))
    assert count(keras.Model([left, right], ops.matmul(left, right))).macs == 7 * 5 * 11


def test_element_wise_layers_do_no_multiply_adds_but_have_parameters():
    image = keras.Input((8, 8, 4))
    x = layers.LayerNormalization()(layers.BatchNormalization()(image))
    x = layers.ReLU()(layers.PReLU(shared_axes=(1, 2))(x))
    x = ops.image.resize(layers.Multiply()([x, layers.AveragePooling2D(1)(x)]), (16, 16))
    statistics = count(keras.Model(image, x))
    assert statistics.macs == 0
    assert statistics.parameters == 4 * 4 + 2 * 4 + 4
    assert statistics.moving_statistics == 2 * 4


class Mixer(layers.Layer):
    """Does something with a weight that the counter cannot know."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2))

    def call(self, inputs):
        return inputs @ self.kernel

    def compute_output_shape(self, shape):
        return (*shape[:-1], 2)


@pytest.mark.parametrize(
    "operation", [Mixer(name="mixer"), lambda x: ops.einsum("bij,bkj->bik", x, x)], ids=["weights", "product"]
)
def test_what_it_cannot_count_is_an_error_and_not_zero(operation):
    image = keras.Input((6, 4))
    with pytest.raises(UsageError, match="does not know how to count"):
        count(keras.Model(image, operation(image)))


def test_a_layer_called_twice_counts_its_work_twice_and_its_weights_once():
    image, conv = keras.Input((8, 8, 3)), layers.Conv2D(3, 1, name="conv")
    statistics = count(keras.Model(image, conv(conv(image))))
    assert [(row.name, row.parameters, row.macs) for row in statistics.layers] == [
        ("conv", 12, 64 * 9),
        ("conv#2", 0, 64 * 9),
    ]


def test_nested_models_are_counted_layer_by_layer_at_the_size_they_are_called_with():
    inner_image = keras.Input((None, None, 3))
    inner = keras.Model(inner_image, layers.Conv2D(4, 1, name="conv")(inner_image), name="inner")
    stem = keras.Sequential([layers.Conv2D(3, 2, strides=2, name="conv"), layers.ReLU(name="relu")], name="stem")
    image = keras.Input((8, 8, 3))
    statistics = count(keras.Model(image, [inner(stem(image)), inner(image)]))
    assert [row.name for row in statistics.layers] == ["stem/conv", "stem/relu", "inner/conv", "inner/conv#2"]
    assert sorted(row.macs for row in statistics.layers) == [0, 16 * 12, 16 * 36, 64 * 12]
    assert statistics.parameters == 39 + 16


def test_the_peak_is_the_worst_step_of_a_skip_connection_by_hand():
    image = keras.Input((4, 4, 2))  # 32 values
    x = layers.Conv2D(8, 1, name="wide")(image)  # 128, the skip
    y = layers.Conv2D(4, 1, name="narrow")(x)  # 64
    y = layers.Dropout(0.5, name="dropout")(y)  # is the same tensor at inference
    y = layers.Conv2D(8, 1, name="back")(y)  # 128
    statistics = count(keras.Model(image, layers.Add(name="sum")([x, y])))
    assert {row.name: row.live_bytes // 4 for row in statistics.layers} == {
        "wide": 32 + 128,
        "narrow": 128 + 64,  # the picture is gone
        "dropout": 128 + 64,
        "back": 128 + 64 + 128,
        "sum": 128 + 128 + 128,
    }
    assert (statistics.peak_layer, statistics.peak_activation_bytes) == ("sum", 4 * 384)


def test_outputs_stay_although_other_layers_read_them():
    image = keras.Input((4, 4, 1))
    first = layers.Conv2D(10, 1)(image)
    second = layers.Conv2D(1, 1)(first)
    third = layers.Conv2D(1, 1, name="last")(second)
    kept = count(keras.Model(image, [first, third])).layers[-1].live_bytes
    freed = count(keras.Model(image, third)).layers[-1].live_bytes
    assert (kept, freed) == (4 * 16 * 12, 4 * 16 * 2)


def test_an_open_size_must_be_said_and_a_fixed_one_agree():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, layers.Conv2D(2, 1)(image))
    assert count(model, (5, 7)).macs == 35 * 6
    with pytest.raises(UsageError, match="leaves its input size open"):
        count(model)
    fixed = keras.Input((4, 6, 3))
    with pytest.raises(UsageError, match="takes 4x6 pixels, not 6x4"):
        count(keras.Model(fixed, layers.Conv2D(2, 1)(fixed)), (6, 4))


def test_a_model_that_is_no_graph_is_refused():
    class Opaque(keras.Model):
        def call(self, inputs):
            return inputs

    image = keras.Input((4, 4, 3))
    with pytest.raises(UsageError, match="not a graph of layers"):
        count(keras.Model(image, Opaque(name="opaque")(image)))


def profiled(model: keras.Model) -> dict[str, int]:
    """Floating-point operations of one picture by TensorFlow's profiler, by kind of operation, frozen graph."""
    import tensorflow as tf
    from tensorflow.compat.v1.profiler import ProfileOptionBuilder, profile
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = tf.function(lambda image: model(image, training=False))
    frozen = convert_variables_to_constants_v2(
        function.get_concrete_function(tf.TensorSpec((1, *model.input.shape[1:]), tf.float32))
    )
    options = ProfileOptionBuilder(ProfileOptionBuilder.float_operation()).with_empty_output().build()
    node, found = profile(frozen.graph, cmd="op", options=options), {}
    while node.children:  # a chain: each holds itself and all behind it
        (node,) = node.children
        found[node.name] = node.float_ops
    return found


PRODUCTS = {"Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul"}


QUICK = ("mobilenetv2", "mobilenetv2_lite")
PROFILED = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)  # tracing a large network takes seconds
    for name, record in MODELS.items()
    if 32 in record.output_strides
]


@pytest.mark.parametrize("name", PROFILED)
def test_flops_are_those_of_tensorflows_profiler(name):
    """At output stride 32 nothing is dilated but the head, which TensorFlow pads before it counts; the lite heads have
    no dilation, so there the products must be equal. Elsewhere the padding of three small maps is allowed: 1 %. The
    profiler adds element-wise operations (unfolded batch norm, hard swish, sums), for which 8 % are allowed."""
    model = factory.build_model(f"{name}:alpha=0.5", num_classes=5, size_hw=(128, 192), output_stride=32)
    found = profiled(model)
    products = sum(value for kind, value in found.items() if kind in PRODUCTS)
    flops = count(model).flops
    if MODELS[name].head == "aspp":
        assert flops <= products <= 1.01 * flops
    else:
        assert flops == products
    assert flops < sum(found.values()) < 1.08 * flops


def test_nested_layers_are_those_of_tensorflows_profiler():
    """ConvNeXt nests its downsampling; here a narrow one of a block a stage. Its grouped convolutions are left out:
    Keras compiles them apart, where the profiler does not look (by hand above)."""
    from keras.src.applications.convnext import ConvNeXt

    model = ConvNeXt([1] * 4, [8, 8, 16, 16], name="small", include_top=False, weights=None, input_shape=(64, 64, 3))
    statistics, found = count(model), profiled(model)
    flops = {"Conv2D": 0, "Dense": 0}
    for row in statistics.layers:
        if row.macs and "depthwise" not in row.name:
            flops[row.kind] += 2 * row.macs
    assert any("/" in row.name for row in statistics.layers)
    assert flops == {"Conv2D": found["Conv2D"], "Dense": found["MatMul"]}
    assert statistics.parameters == model.count_params()


@pytest.mark.parametrize("name", QUICK)
def test_the_mobilenetv2_networks_have_the_parameters_that_keras_counts(name):
    model = factory.build_model(name, num_classes=21, size_hw=(64, 64))
    statistics = count(model)
    assert statistics.parameters == model.count_params()
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert statistics.parameters - statistics.moving_statistics == trained


def test_a_walk_with_tensors_gives_what_the_model_gives():
    model = factory.build_model("mobilenetv2:alpha=0.35,width=16", num_classes=3, size_hw=(33, 50))
    batch = np.random.default_rng(0).normal(size=(2, 33, 50, 3)).astype(np.float32)
    *_, last = walk(model, [ops.convert_to_tensor(batch)], run)
    assert last.name == "logits"
    # The same kernels in the same order; only that they run one by one.
    np.testing.assert_allclose(last.outputs[0], model(batch, training=False), atol=1e-5)
    *_, symbolic = walk(model, [keras.KerasTensor((1, 33, 50, 3))], infer)
    assert symbolic.outputs[0].shape == (1, *last.outputs[0].shape[1:])
