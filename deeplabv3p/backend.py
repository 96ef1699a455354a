"""Which engine Keras runs on, for the few places that have a faster route on one of them."""

from __future__ import annotations

from typing import Any


def on_tensorflow_cpu(values: Any) -> bool:
    """Whether ``values`` is a float32 tensor of TensorFlow on a machine without a GPU, where kernels that XLA makes of
    a formula pay (``benchmarks/profiles.json``). Elsewhere, and in half precision, Keras' own operations are used."""
    import keras

    if keras.backend.backend() != "tensorflow" or keras.backend.standardize_dtype(values.dtype) != "float32":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def mean_over_devices(value: Any) -> Any:
    """The mean of a tensor over the devices that share a batch under TensorFlow's ``MirroredStrategy``, with its
    gradient; the tensor itself anywhere else. On JAX a batch is one, on however many devices."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return value
    import tensorflow as tf

    context = tf.distribute.get_replica_context()  # none where Keras builds a model symbolically
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)
