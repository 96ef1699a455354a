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
