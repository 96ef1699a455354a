"""Batch norms that stand behind a convolution become part of it: the same function with fewer operations.

At inference y = γ·(conv(x) − μ) / sqrt(σ² + ε) + β is a convolution again, with the kernel times s = γ / sqrt(σ² + ε),
an output channel each, and the bias s·(b − μ) + β. It is computed in float64 and rounded once.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deeplabv3p.runtime.keras_engine import import_keras

if TYPE_CHECKING:
    from deeplabv3p.models.walk import Step


def fold_batch_norms(model: Any) -> Any:
    """The same function, at inference, without batch norms behind convolutions; nested models are laid flat.

    A convolution is folded where nothing else reads what it puts out. A layer that is called several times is folded
    call by call: calls followed by different batch norms become different layers. All other batch norms stay, and with
    them those of models in which nothing can be folded.

    Args:
        model: a functional model or a built ``Sequential``, with others inside or not. It is not changed.

    Returns:
        A new functional model with inputs of the same names, shapes and types.

    Raises:
        UsageError: the model, or one inside it, is not a graph of layers.
    """
    keras = import_keras()
    from deeplabv3p.models import walk

    steps, outputs = _steps(model)
    builder = _Builder(steps, _pairs(steps, outputs))
    images = [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor._keras_history.operation.name)
        for tensor in model.inputs
    ]
    results = walk.finish(walk.walk(model, images, builder.call))[1]
    builder.copy_weights()
    return keras.Model(_alone(images), _alone(results), name=model.name)


def norms_behind_convolutions(model: Any) -> list[str]:
    """The names of the batch norms that :func:`fold_batch_norms` would fold away, one for each call."""
    steps, outputs = _steps(model)
    return [steps[index].name for index in _pairs(steps, outputs).values()]


@dataclasses.dataclass
class _Builder:
    """Calls new layers for the old ones, in the order of ``steps``. ``pairs``: see :func:`_pairs`."""

    steps: list[Step]
    pairs: dict[int, int]
    position: int = 0
    made: dict[tuple[int, int], tuple[Any, Any, Any]] = dataclasses.field(default_factory=dict)
    names: Counter[str] = dataclasses.field(default_factory=Counter)

    def call(self, operation: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        index, self.position = self.position, self.position + 1
        if index in self.pairs.values():
            return args[0]  # a batch norm that is inside the convolution now
        norm = self.steps[self.pairs[index]].operation if index in self.pairs else None
        key = (id(operation), id(norm))
        if key not in self.made:
            config = {**operation.get_config(), "name": self._free_name(operation.name)}
            if norm is not None:
                config["use_bias"] = True
            self.made[key] = (operation.__class__.from_config(config), operation, norm)
        return self.made[key][0](*args, **named)

    def copy_weights(self) -> None:
        for new, old, norm in self.made.values():
            if norm is not None:
                new.set_weights(_folded(old, norm))
            elif getattr(old, "weights", None):  # bare operations, such as a resize, have none
                new.set_weights(old.get_weights())

    def _free_name(self, name: str) -> str:
        self.names[name] += 1
        return name if self.names[name] == 1 else self._free_name(f"{name}_{self.names[name]}")


def _folded(convolution: Any, norm: Any) -> list[npt.NDArray[np.floating[Any]]]:
    """The weights of a convolution with bias that stands for both."""
    mean, variance = (np.asarray(w, np.float64) for w in (norm.moving_mean, norm.moving_variance))
    slope = 1.0 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        slope = slope * np.asarray(norm.gamma, np.float64)
    *kernels, bias = convolution.get_weights() if convolution.use_bias else [*convolution.get_weights(), 0.0]
    bias = slope * (bias - mean) + (np.asarray(norm.beta, np.float64) if norm.center else 0.0)
    last = kernels[-1]  # of a separable convolution, the pointwise one
    kind = type(convolution).__name__
    if kind == "DepthwiseConv2D":
        scaled = last * slope.reshape(last.shape[2:])  # [h, w, input, multiplier]
    elif kind == "Conv2DTranspose":
        scaled = last * slope[:, None]  # [h, w, output, input]
    else:
        scaled = last * slope  # [h, w, input, output]
    return [*kernels[:-1], scaled.astype(last.dtype), bias.astype(last.dtype)]


def _pairs(steps: list[Step], outputs: list[Any]) -> dict[int, int]:
    """The step of each convolution that can be folded, and that of its batch norm."""
    from keras import layers

    readers = Counter(id(tensor) for step in steps for tensor in step.inputs) + Counter(map(id, outputs))
    makers = {id(tensor): index for index, step in enumerate(steps) for tensor in step.outputs}
    found = {}
    for index, step in enumerate(steps):
        source = makers.get(id(step.inputs[0])) if isinstance(step.operation, layers.BatchNormalization) else None
        if source is not None and readers[id(step.inputs[0])] == 1 and _fit(steps[source].operation, step.operation):
            found[source] = index
    return found


def _fit(convolution: Any, norm: Any) -> bool:
    """Whether the norm's channels are those that the convolution puts out, with nothing between."""
    import keras
    from keras import layers

    known = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Conv2DTranspose)
    # A subclass may do something else than convolve.
    if type(convolution) not in known or convolution.activation is not keras.activations.linear:
        return False
    return norm.axis in ((-1, 3) if convolution.data_format == "channels_last" else (1, -3))


def _steps(model: Any) -> tuple[list[Step], list[Any]]:
    from deeplabv3p.models import walk

    return walk.finish(walk.walk(model, model.inputs, walk.infer))


def _alone(items: list[Any]) -> Any:
    return items[0] if len(items) == 1 else items
