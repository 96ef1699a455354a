"""Layers that Keras computes in many passes over memory, or by a slow kernel, as training on a CPU wants them.

Keras 3 composes most of these from elementary operations. On a CPU each one is a pass over the whole tensor, and
several more backward, so their time is that of the memory. TensorFlow has no kernel for them, but XLA makes one from
the same formula: it compiles a single activation or normalization well, though not a whole network (its convolutions
on a CPU are several times slower). ``benchmarks/profiles.json`` shows what is left.

Each layer here has the function, the gradients and the weights of the stock layer that it stands for, and *is* the
stock layer on another backend, on a GPU, and in half precision. Saved models hold the stock layers:
:func:`deeplabv3p.models.batchnorm.for_training` swaps these in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from deeplabv3p.backend import on_tensorflow_cpu


class FusedActivation(layers.Activation):
    """An activation that has no kernel of its own (GELU, SiLU, hard SiLU), as one pass forward and one backward. Only
    its input is kept for the gradient."""

    def call(self, inputs: Any) -> Any:
        if not on_tensorflow_cpu(inputs):
            return super().call(inputs)
        return _elementwise(self.activation, tuple(inputs.shape))(inputs)


class FastDepthwiseConv2D(layers.DepthwiseConv2D):
    """A depthwise convolution whose kernel's gradient takes TensorFlow's own routine instead of oneDNN's, which needs
    two to three times as long for kernels of 5x5 and 7x7 (for 3x3 both are equal). Half precision is as in the stock
    layer."""

    def call(self, inputs: Any) -> Any:
        strided, dilated = max(self.strides) > 1, max(self.dilation_rate) > 1
        open_size = None in inputs.shape[1:]
        if (strided and dilated) or open_size or self.data_format != "channels_last" or not on_tensorflow_cpu(inputs):
            return super().call(inputs)
        import tensorflow as tf

        kernel = tf.convert_to_tensor(self.kernel)

        def convolve(x: Any, padding: str) -> Any:
            return _depthwise_conv(x, kernel, [1, *self.strides, 1], padding)

        padding = self.padding.upper()
        if dilated:
            filter_shape, rate = self.kernel_size, list(self.dilation_rate)
            outputs = tf.compat.v1.nn.with_space_to_batch(
                inputs, rate, padding, lambda x, _, padding: convolve(x, padding), filter_shape=filter_shape
            )
        else:
            outputs = convolve(inputs, padding)
        if self.bias is not None:
            outputs = tf.nn.bias_add(outputs, self.bias.value)
        return outputs if self.activation is None else self.activation(outputs)


class FusedLayerNormalization(layers.LayerNormalization):
    """Layer normalization over the last axis (Ba et al. 2016, arXiv:1607.06450) as one kernel forward and one backward.
    Only its input is kept for the gradient; mean and variance are computed again."""

    def call(self, inputs: Any) -> Any:
        last = list(self.axis) in ([-1], [len(inputs.shape) - 1])
        whole = self.gamma is not None and self.beta is not None and not self.rms_scaling
        if not (last and whole and on_tensorflow_cpu(inputs)):
            return super().call(inputs)
        return _layer_normalization(self.epsilon, tuple(inputs.shape))(inputs, self.gamma.value, self.beta.value)


def replacement(layer: layers.Layer) -> type[layers.Layer] | None:
    """The class of the fused layer that stands for a stock layer in training; None if the stock layer is one kernel
    already. Subclasses of stock layers are left alone."""
    if type(layer) is layers.Activation and layer.activation in _COMPOSED:
        return FusedActivation
    if type(layer) is layers.LayerNormalization:
        return FusedLayerNormalization
    if type(layer) is layers.DepthwiseConv2D and max(layer.kernel_size) > 3:
        return FastDepthwiseConv2D
    return None


_COMPOSED = (keras.activations.gelu, keras.activations.silu, keras.activations.hard_silu)


_Shape = tuple[int | None, ...]


@functools.cache  # one compilation a shape, however many layers share it
def _elementwise(function: Callable[[Any], Any], shape: _Shape) -> Any:
    """``function``, of one tensor, compiled with its derivative for tensors of ``shape``."""
    del shape
    import tensorflow as tf

    def derivative(x: Any, upstream: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x, upstream)

    forward = tf.function(function, jit_compile=True, autograph=False)
    backward = tf.function(derivative, jit_compile=True, autograph=False)

    def fused(x: Any) -> Any:
        return forward(x), lambda upstream: backward(x, upstream)

    return tf.custom_gradient(fused)


def _depthwise_conv(x: Any, kernel: Any, strides: list[int], padding: str) -> Any:
    """Depthwise convolution of [B, H, W, C] by [h, w, C, M], ``padding`` as TensorFlow names it."""
    import tensorflow as tf

    explicit = [0, 0]
    for size, extent, stride in zip(x.shape[1:3], kernel.shape[:2], strides[1:3], strict=True):
        missing = max(0, (-(-size // stride) - 1) * stride + extent - size) if padding == "SAME" else 0
        explicit += [missing // 2, missing - missing // 2]

    def convolve(x: Any, kernel: Any) -> Any:
        def gradient(upstream: Any) -> tuple[Any, Any]:
            to_input = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, strides=strides, padding=padding
            )
            # The same padding, in numbers: only where it has a name is the operation given to oneDNN.
            to_kernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=x,
                filter_sizes=kernel.shape,
                out_backprop=upstream,
                strides=strides,
                padding="EXPLICIT",
                explicit_paddings=[*explicit, 0, 0],
            )
            return to_input, to_kernel

        return tf.raw_ops.DepthwiseConv2dNative(input=x, filter=kernel, strides=strides, padding=padding), gradient

    return tf.custom_gradient(convolve)(x, kernel)


@functools.cache
def _layer_normalization(epsilon: float, shape: _Shape) -> Any:
    """(x [..., C], gamma [C], beta [C]) → gamma (x − mean) / sqrt(variance + epsilon) + beta, over the last axis,
    compiled for tensors of ``shape``."""
    del shape
    import tensorflow as tf

    def mean(rows: Any) -> Any:  # as a product with a vector: XLA runs it over all lanes, unlike a sum along a row
        channels = rows.shape[-1]
        return tf.matmul(rows, tf.fill((channels, 1), 1.0 / channels))

    def normalized(x: Any) -> tuple[Any, Any]:
        """Rows with mean 0 and variance 1, [N, C], and what they were multiplied by, [N, 1]."""
        rows = tf.reshape(x, (-1, x.shape[-1]))
        centred = rows - mean(rows)
        inverse = tf.math.rsqrt(mean(tf.square(centred)) + epsilon)
        return centred * inverse, inverse

    def forward(x: Any, gamma: Any, beta: Any) -> Any:
        return tf.reshape(normalized(x)[0] * gamma + beta, tf.shape(x))

    def backward(x: Any, gamma: Any, upstream: Any) -> tuple[Any, Any, Any]:
        rows, inverse = normalized(x)
        upstream = tf.reshape(upstream, tf.shape(rows))
        scaled = upstream * gamma
        gradient = inverse * (scaled - mean(scaled) - rows * mean(scaled * rows))
        return tf.reshape(gradient, tf.shape(x)), tf.reduce_sum(upstream * rows, 0), tf.reduce_sum(upstream, 0)

    run_forward = tf.function(forward, jit_compile=True, autograph=False)
    run_backward = tf.function(backward, jit_compile=True, autograph=False)

    def fused(x: Any, gamma: Any, beta: Any) -> Any:
        return run_forward(x, gamma, beta), lambda upstream: run_backward(x, gamma, upstream)

    return tf.custom_gradient(fused)
