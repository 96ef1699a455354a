"""What a network costs: parameters, multiply-adds, and the memory that its activations need.

Counted from the graph and its shapes; nothing is run. The definitions, because published numbers differ by them:

- **Parameters** are all weights, the moving means and variances of batch norms included.
- **A MAC** is one multiplication together with the addition of its result to a sum. Convolutions, dense layers and
  matrix products have them; taps that fall on padding count, a bias does not.
- **FLOPs** are 2 · MACs and nothing else. Batch norms are folded into the convolutions before a network is shipped, and
  activations, sums, other norms, pooling, resizing and softmax do no multiply-adds: all of them count as 0.
  TensorFlow's profiler counts some of these, too, which adds a few per cent (``tests/models/test_statistics.py``).
- **Peak activation memory** is the most bytes of tensors that must be there at once, for one picture in float32, when
  Keras' order is followed and each tensor goes when its last reader has run. A step holds its inputs and its outputs.
  It is a property of the graph, good for comparing networks. It is not what a process takes: weights, work space of the
  kernels, several threads and allocators come on top; engines that fuse batch norm and activation into the convolution,
  or work in place, need less.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import layers
from keras.src.applications.convnext import LayerScale

from deeplabv3p.errors import UsageError
from deeplabv3p.models.walk import Step, infer, walk

_BYTES = 4  # of a float32

_CONVOLUTIONS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
# Weights that scale and shift each value, and nothing to sum up.
_ELEMENT_WISE = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.RMSNormalization,
    layers.Normalization,
    layers.PReLU,
    LayerScale,
)
# Operations and layers that multiply and add although they own no weights, and that nobody has needed here yet.
_UNCOUNTED = frozenset(
    {"Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose", "Einsum", "Dot", "Tensordot", "Inner", "Outer", "Vdot"}
    | {"DotProductAttention", "Attention", "AdditiveAttention"}
)
# At inference these hand on the tensor that they get, or another view of it.
_PASS_THROUGH = frozenset(
    {"Identity", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout", "GaussianNoise"}
    | {"StochasticDepth", "Reshape", "Flatten", "ExpandDims", "Squeeze"}
)


@dataclasses.dataclass(frozen=True)
class LayerStatistics:
    """One call of one layer. ``name`` as in :class:`deeplabv3p.models.walk.Step`.

    ``output_shape`` is without the batch axis, of the first output; ``parameters`` are 0 where the layer's weights were
    counted before; ``live_bytes`` are the tensors that are there while it runs.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    live_bytes: int


@dataclasses.dataclass(frozen=True)
class Statistics:
    """The cost of a network for one picture; the module says how each is counted.

    ``moving_statistics`` are those of the parameters that are not trained: moving means and variances of batch norms.
    ``peak_layer`` is the name of the first layer that needs ``peak_activation_bytes``.
    """

    parameters: int
    moving_statistics: int
    macs: int
    peak_activation_bytes: int
    peak_layer: str
    layers: tuple[LayerStatistics, ...]

    @property
    def flops(self) -> int:
        """Floating-point operations: 2 · MACs."""
        return 2 * self.macs


def count(model: keras.Model, size_hw: tuple[int, int] | None = None) -> Statistics:
    """Count a functional model or a built ``Sequential``, with nested models and layers called several times.

    ``size_hw`` is the height and width in pixels for a model that leaves them open.

    Raises:
        UsageError: the size is open and not given, or fixed and another one; or there is a layer with weights, or a
            product of tensors, of a kind that is not known here.
    """
    inputs = _inputs(model, size_hw)
    outputs: list[Any] = []

    def steps_of() -> Iterator[Step]:
        outputs.extend((yield from walk(model, inputs, infer)))

    steps = list(steps_of())
    live = _live_bytes(steps, inputs, outputs)
    rows = []
    counted: set[int] = set()
    moving = 0
    for step, live_bytes in zip(steps, live, strict=True):
        new = {id(weight): weight for weight in _weights(step.operation) if id(weight) not in counted}
        counted.update(new)
        if isinstance(step.operation, layers.BatchNormalization):
            statistics = {id(step.operation.moving_mean), id(step.operation.moving_variance)}
            moving += sum(_size(weight.shape) for key, weight in new.items() if key in statistics)
        rows.append(
            LayerStatistics(
                name=step.name,
                kind=type(step.operation).__name__,
                output_shape=tuple(step.outputs[0].shape[1:]),
                parameters=sum(_size(weight.shape) for weight in new.values()),
                macs=_macs(step),
                live_bytes=live_bytes,
            )
        )
    peak = max(rows, key=lambda row: row.live_bytes)
    return Statistics(
        parameters=sum(row.parameters for row in rows),
        moving_statistics=moving,
        macs=sum(row.macs for row in rows),
        peak_activation_bytes=peak.live_bytes,
        peak_layer=peak.name,
        layers=tuple(rows),
    )


def _inputs(model: keras.Model, size_hw: tuple[int, int] | None) -> list[keras.KerasTensor]:
    """Symbols of one picture each, of the model's own size or of ``size_hw`` where that is open."""
    result = []
    for symbol in model.inputs:
        shape = list(symbol.shape[1:])
        if size_hw is not None and len(shape) == 3:
            height_axis = 1 if shape[0] == 3 and shape[2] != 3 else 0  # [3, H, W] or [H, W, 3]
            for axis, side in enumerate(size_hw, height_axis):
                if shape[axis] not in (None, side):
                    own = f"{shape[height_axis]}x{shape[height_axis + 1]}"
                    raise UsageError(f"'{model.name}' takes {own} pixels, not {size_hw[0]}x{size_hw[1]}.")
                shape[axis] = side
        if None in shape:
            raise UsageError(f"'{model.name}' leaves its input size open: say at which height and width to count.")
        result.append(keras.KerasTensor((1, *shape), symbol.dtype))
    return result


def _macs(step: Step) -> int:
    """Multiply-adds of one step: for a convolution, output positions times the values of its kernel."""
    operation, kind = step.operation, type(step.operation).__name__
    output = step.outputs[0].shape
    if isinstance(operation, _CONVOLUTIONS):  # a kernel of groups holds the inputs of one group per output
        return _positions(operation, output) * _size(operation.kernel.shape)
    if isinstance(operation, _SEPARABLE):
        kernels = (operation.depthwise_kernel, operation.pointwise_kernel)
        return _positions(operation, output) * sum(_size(kernel.shape) for kernel in kernels)
    if isinstance(operation, _TRANSPOSED):  # each input position is spread over a kernel; what is cut off counts
        return _positions(operation, step.inputs[0].shape) * _size(operation.kernel.shape)
    if isinstance(operation, layers.Dense):
        return _size(output[:-1]) * _size(operation.kernel.shape)
    if kind == "Matmul":
        return _size(output) * int(step.inputs[0].shape[-1])
    if kind in _UNCOUNTED or (_weights(operation) and not isinstance(operation, _ELEMENT_WISE)):
        raise UsageError(f"'{step.name}' is a {kind}, whose multiply-adds this version does not know how to count.")
    return 0


def _positions(layer: layers.Layer, shape: Sequence[int]) -> int:
    """Places on the map [1, ..., C], or [1, C, ...] by the layer's layout."""
    return _size(shape[1:-1] if layer.data_format == "channels_last" else shape[2:])


def _weights(operation: keras.Operation) -> list[Any]:
    """Bare operations, such as a resize, have none."""
    return list(getattr(operation, "weights", ()))


def _live_bytes(steps: list[Step], inputs: list[Any], outputs: list[Any]) -> list[int]:
    """Bytes of the tensors that are there at each step. The model's outputs stay to the end."""
    buffer: dict[int, int] = {id(tensor): id(tensor) for tensor in inputs}  # by tensor: the one that holds its values
    last = {id(tensor): 0 for tensor in inputs}  # by buffer: the last step that needs it
    born: list[list[Any]] = [[] for _ in steps]
    for index, step in enumerate(steps):
        passes = type(step.operation).__name__ in _PASS_THROUGH
        for tensor in step.inputs:
            last[buffer[id(tensor)]] = index
        for tensor in step.outputs:
            buffer[id(tensor)] = buffer[id(step.inputs[0])] if passes else id(tensor)
            last[buffer[id(tensor)]] = index
            if not passes:
                born[index].append(tensor)
    last.update((buffer[id(tensor)], len(steps)) for tensor in outputs)
    born[0] = [*inputs, *born[0]]
    result = []
    sizes: dict[int, int] = {}  # of the buffers that are there
    for index, new in enumerate(born):
        sizes.update((id(tensor), _BYTES * _size(tensor.shape)) for tensor in new)
        result.append(sum(sizes.values()))
        sizes = {key: size for key, size in sizes.items() if last[key] > index}
    return result


def _size(shape: Sequence[int]) -> int:
    return math.prod(shape)
