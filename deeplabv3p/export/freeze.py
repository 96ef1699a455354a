"""From a Keras model to one frozen TensorFlow graph, which all writers but keras' start from.

Batch norms are folded, every layer is traced for inference, sizes are numbers, and what the options ask for behind the
logits (upsampling, softmax, argmax) is inside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from deeplabv3p.errors import UsageError
from deeplabv3p.export import graphdef
from deeplabv3p.export.fold import fold_batch_norms
from deeplabv3p.export.formats import ExportOptions
from deeplabv3p.runtime.keras_engine import import_keras, weights_sha256
from deeplabv3p.spec import ModelSpec


@dataclass(frozen=True)
class Frozen:
    """A model as one graph of plain operations.

    ``graph_def`` (a ``GraphDef``) has one placeholder, ``input_name``, and the result is the first output of the node
    ``output_name``. ``concrete`` is the same as a TensorFlow function, what converters take. ``spec`` is that of a
    float file in NHWC: [B, H, W, 3] → [B, h, w, K], or int32 [B, h, w] for labels.
    """

    graph_def: Any
    concrete: Any
    input_name: str
    output_name: str
    spec: ModelSpec


def freeze(model: Any, spec: ModelSpec, options: ExportOptions) -> Frozen:
    """Fold, trace and freeze a Keras model.

    Args:
        model: a built functional or ``Sequential`` model with one picture input, [B, H, W, 3].
        spec: that of the model.
        options: ``output_kind``, ``output_size``, ``batch`` and ``dynamic`` are used.

    Raises:
        UsageError: the model has no fixed size, or cannot be left open in size, or does not put out what is asked for.
    """
    import_keras()
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from deeplabv3p.models import walk

    shape = _input_shape(model, spec, options)
    tail = _Tail(spec, options)
    input_name, output_name = _node_name(spec.input.name), _node_name(tail.name)
    if input_name == output_name:
        output_name = f"{output_name}_out"
    folded = fold_batch_norms(model)

    def forward(image: Any) -> Any:
        outputs = walk.finish(walk.walk(folded, [image], _call))[1]
        return tf.identity(tail(outputs[0], image), name="result")

    signature = tf.TensorSpec(shape, spec.input.dtype, name=input_name)
    traced = tf.function(forward, input_signature=[signature], autograph=False).get_concrete_function()
    constant = convert_variables_to_constants_v2(traced)
    result = constant.outputs[0].op.name
    # Keras opens a scope of the layer's name twice, and TensorFlow numbers the second.
    known = {operation.name for operation in folded.operations}
    scopes = {f"{name}_1": name for name in known if f"{name}_1" not in known}
    graph_def = graphdef.tidy(constant.graph.as_graph_def(), constant.inputs[0].op.name, result, output_name, scopes)
    frozen_spec = spec.replace(
        input={"name": input_name, "size_hw": None if options.dynamic else spec.input.size_hw},
        output={"name": output_name, "kind": options.output_kind, "stride": tail.stride},
        provenance={"weights_sha256": spec.provenance.weights_sha256 or weights_sha256(model)},
    )
    return Frozen(graph_def, _concrete(graph_def, input_name, output_name), input_name, output_name, frozen_spec)


def _input_shape(model: Any, spec: ModelSpec, options: ExportOptions) -> list[int | None]:
    if spec.input.layout != "NHWC":
        raise UsageError("only models that take NHWC can be exported. Build the network with channels last.")
    built_hw = tuple(model.inputs[0].shape[1:3])
    if options.dynamic:
        if built_hw != (None, None):
            raise UsageError(
                f"'{model.name}' was built for {built_hw[0]}x{built_hw[1]} and computes with these numbers inside, so "
                "that its size cannot be left open. Export it once for each size (--model_input_shape)."
            )
        return [options.batch, None, None, 3]
    if spec.input.size_hw is None:
        raise UsageError(
            f"'{model.name}' takes pictures of any size. Choose one (--model_input_shape HxW), or leave it open "
            "(--dynamic)."
        )
    return [options.batch, *spec.input.size_hw, 3]


class _Tail:
    """What comes behind the model's own output, and what that makes of its spec."""

    def __init__(self, spec: ModelSpec, options: ExportOptions) -> None:
        kind, wanted = spec.output.kind, options.output_kind
        order = ("logits", "probabilities", "labels")
        if order.index(wanted) < order.index(kind):
            raise UsageError(f"the model puts out {kind}: {wanted} cannot be had from it. Use --output_kind {kind}.")
        self._enlarge = options.output_size == "input" and spec.output.stride != 1
        if self._enlarge and kind == "labels":
            raise UsageError("the model puts out labels, which cannot be resized smoothly. Use --output_size native.")
        self._softmax = kind == "logits" and wanted == "probabilities"
        self._argmax = kind != "labels" and wanted == "labels"
        self._align_corners = spec.output.align_corners
        self.stride = 1 if self._enlarge else spec.output.stride
        self.name = spec.output.name if kind == wanted else wanted

    def __call__(self, scores: Any, image: Any) -> Any:
        import tensorflow as tf

        if self._enlarge:
            size = image.shape[1:3] if None not in image.shape[1:3] else tf.shape(image)[1:3]
            scores = tf.raw_ops.ResizeBilinear(
                images=scores,
                size=size,
                align_corners=self._align_corners,
                half_pixel_centers=not self._align_corners,
                name="to_input_size",
            )
        if self._softmax:
            scores = tf.nn.softmax(scores, axis=-1, name="softmax")
        if self._argmax:
            scores = tf.argmax(scores, axis=-1, output_type=tf.int32, name="argmax")
        return scores


def _call(operation: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Trace an operation for inference, nodes under its name."""
    import keras
    import tensorflow as tf

    from deeplabv3p.models import walk

    if isinstance(operation, keras.layers.UpSampling2D) and operation.interpolation == "nearest":
        return _repeat(args[0], operation)
    if type(operation) is keras.layers.LayerNormalization and _is_plain(operation, args[0]):
        return _normalize(args[0], operation)
    if isinstance(operation, keras.layers.Layer):
        return walk.run(operation, args, named)
    with tf.name_scope(operation.name):
        return walk.run(operation, args, named)


def _repeat(x: Any, layer: Any) -> Any:
    """Whole pixels repeated, as one operation; Keras makes it of tiles and reshapes."""
    import tensorflow as tf

    if layer.data_format != "channels_last":
        return layer(x)
    sides = x.shape[1:3]
    if None in sides:
        size = tf.shape(x)[1:3] * tf.constant(layer.size)
    else:
        size = [side * factor for side, factor in zip(sides, layer.size, strict=True)]
    # Both conventions repeat pixels. The plain one is what every importer knows, but its rounding is only safe at 1x1.
    plain = tuple(sides) == (1, 1)
    name = f"{layer.name}/Resize"
    return tf.raw_ops.ResizeNearestNeighbor(images=x, size=size, half_pixel_centers=not plain, name=name)


def _is_plain(layer: Any, x: Any) -> bool:
    """Whether a layer normalization works over channels, the last axis, and has a scale and an offset."""
    whole = layer.gamma is not None and layer.beta is not None and not layer.rms_scaling
    return whole and list(layer.axis) in ([-1], [len(x.shape) - 1])


def _normalize(x: Any, layer: Any) -> Any:
    """γ·(x − mean) / sqrt(variance + ε) + β, in the order that importers know as one operation. Keras' own order has a
    negation, which TFLite cannot do in whole numbers."""
    import tensorflow as tf

    with tf.name_scope(layer.name):
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
        return centred * tf.math.rsqrt(variance + layer.epsilon) * layer.gamma.value + layer.beta.value


def _concrete(graph_def: Any, input_name: str, output_name: str) -> Any:
    """The graph as a TensorFlow function of one tensor."""
    import tensorflow as tf

    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph_def, name=""), [])
    return wrapped.prune(f"{input_name}:0", f"{output_name}:0")


def _node_name(name: str) -> str:
    """A name that TensorFlow takes for a node, close to ``name``."""
    name = re.sub(r"[^A-Za-z0-9_.]", "_", name.partition(":")[0])
    return name if re.match(r"[A-Za-z0-9]", name) else f"x{name}"
