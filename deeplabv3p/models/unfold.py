"""Give batch norms that were folded into their convolutions statistics again, and keep what the network computes.

A frozen graph often holds y = scale·conv(x) + offset and no statistics. Imported, its batch norms have mean 0 and
variance 1, which is exact for inference and wrong for training: the first training step would normalise by the batch
and lose the function. Here the mean m and variance v of each norm's input are measured on pictures, and
γ' = γ·sqrt((v + ε) / (v₀ + ε)), β' = β + γ·(m − m₀) / sqrt(v₀ + ε) keep the output as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers


def is_folded(model: keras.Model, belongs: Callable[[str], bool] = lambda name: True) -> bool:
    """Whether the batch norms (those whose layer name ``belongs``) all have mean 0 and variance 1: no statistics."""
    norms = _norms(model, belongs)
    return bool(norms) and all(
        not np.any(norm.moving_mean) and np.all(np.asarray(norm.moving_variance) == 1) for norm in norms
    )


def measure_statistics(
    model: keras.Model,
    batches: Iterable[npt.NDArray[np.float32]],
    belongs: Callable[[str], bool] = lambda name: True,
) -> int:
    """Measure the moving statistics of the batch norms (those whose layer name ``belongs``) and keep the function.

    Args:
        model: a functional model in which each batch norm is called once.
        batches: normalised pictures, float32 [B, H, W, 3]. All inputs of all norms of a batch are in memory together:
            about 0.7 GB a picture for MobileNetV2 at 513x513 and output stride 8.
        belongs: chooses batch norms by layer name.

    Returns:
        How many pictures were measured.
    """
    norms = _norms(model, belongs)
    probe = keras.Model(model.inputs[0], [norm.input for norm in norms])
    sums = [np.zeros((2, norm.input.shape[-1])) for norm in norms]
    weights = np.zeros(len(norms))
    pictures = 0
    for batch in batches:
        for index, features in enumerate(keras.tree.flatten(probe(batch, training=False))):
            rows = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
            sums[index] += rows.sum(0), np.square(rows).sum(0)
            weights[index] += len(rows)
        pictures += len(batch)
    for norm, (total, squares), count in zip(norms, sums, weights, strict=True):
        mean = total / count
        _set_statistics(norm, mean, np.maximum(squares / count - mean**2, 0))
    return pictures


def _norms(model: keras.Model, belongs: Callable[[str], bool]) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization) and belongs(layer.name)]


def _set_statistics(norm: Any, mean: npt.NDArray[np.float64], variance: npt.NDArray[np.float64]) -> None:
    """New statistics, and the γ and β that make up for them."""
    old_mean, old_variance = (np.asarray(w, np.float64) for w in (norm.moving_mean, norm.moving_variance))
    slope = np.asarray(norm.gamma, np.float64) / np.sqrt(old_variance + norm.epsilon)
    norm.beta.assign(np.asarray(norm.beta, np.float64) + slope * (mean - old_mean))
    norm.gamma.assign(slope * np.sqrt(variance + norm.epsilon))
    norm.moving_mean.assign(mean)
    norm.moving_variance.assign(variance)
