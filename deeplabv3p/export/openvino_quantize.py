"""Float OpenVINO models → 8-bit ones by NNCF, on request with control of the accuracy.

Activations get one scale a tensor. NNCF's default is one a channel before depthwise convolutions, for which it takes
the second axis; where a resize is computed in NHWC that is the height, and rows were quantized by their place in the
calibration pictures. Measured on 30 CamVid pictures with the MobileNetV2 model at 360x480, 12 pictures to calibrate,
points of mIoU lost against float32 (0.7204): 6.70 by default, 0.12 with one scale a tensor, 0.17 with concatenations in
float, 0.13 with depthwise convolutions in float. Other ranges of the activations, or no correction of biases, changed
the default by 0.2 at most.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.export.formats import Calibration, ExportOptions
from deeplabv3p.runtime.openvino_import import unreported

Run = Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]]
Validate = Callable[[Run], float]

_COUNTED = (
    "Convolution", "GroupConvolution", "MatMul", "ReduceMean", "AvgPool", "Interpolate", "Concat", "Add", "Softmax",
)  # fmt: skip
_MOVES = ("Transpose", "Reshape", "Pad", "MaxPool", "Squeeze", "Unsqueeze", "StridedSlice", "Broadcast", "Tile")


def quantize(
    model: Any, calibration: Calibration, options: ExportOptions, validate: Validate | None, max_drop: float
) -> tuple[Any, str]:
    """Quantize a model: weights symmetric per channel, activations with a zero point where they need one ("mixed").

    Args:
        model: a float32 model.
        calibration: tensors as the model takes them.
        options: ``float_layers`` and ``reduce_range`` are used.
        validate: see :func:`deeplabv3p.export.openvino.write`.
        max_drop: in units of the score.

    Returns:
        The model, whose input and output are float32 as before, and a note about what stayed float.

    Raises:
        DataError: there are no pictures.
        UsageError: there is no layer of a name in ``float_layers``.
    """
    nncf = _import_nncf()
    pictures = _Pictures(calibration)
    if not len(pictures):
        raise DataError("there is no picture to calibrate with.")
    with unreported():
        from nncf.quantization.advanced_parameters import QuantizationParameters

    one_scale = QuantizationParameters(per_channel=False)
    advanced = nncf.AdvancedQuantizationParameters(
        activations_quantization_params=one_scale,
        overflow_fix=nncf.OverflowFix.ENABLE if options.reduce_range else None,  # None: of the first layer only
    )
    common = {
        "preset": nncf.QuantizationPreset.MIXED,
        "subset_size": len(pictures),
        "ignored_scope": nncf.IgnoredScope(names=_operations_of(model, options.float_layers)),
    }
    if validate is None:
        quantized = nncf.quantize(model, nncf.Dataset(pictures), advanced_parameters=advanced, **common)
    else:

        def score(compiled: Any, items: Iterable[Any]) -> tuple[float, list[float]]:
            for _ in items:  # the caller has the pictures, but NNCF divides by how many of these were taken
                pass
            value = validate(lambda batch: np.array(compiled(batch)[0]))
            return value, [value]

        quantized = nncf.quantize_with_accuracy_control(
            model,
            nncf.Dataset(pictures),
            nncf.Dataset([0]),
            score,
            max_drop=max_drop,
            advanced_quantization_parameters=advanced,
            **common,
        )
    return quantized, _float_operations(quantized)


def start(model: Any) -> Run:
    """Compile a model for the CPU, in float32; returns what runs a batch."""
    with unreported():
        import openvino

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        return np.array(compiled(batch)[0])

    return run


def _import_nncf() -> Any:
    with unreported():
        import nncf
    nncf.set_log_level(logging.ERROR)
    return nncf


class _Pictures:
    """The calibration tensors as something that can be gone through again and again, as NNCF does."""

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration
        self._count = sum(1 for _ in calibration())

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        return self._calibration()


def _operations_of(model: Any, layers: tuple[str, ...]) -> list[str]:
    """The names of the operations that come from some Keras layers."""
    names = [node.get_friendly_name() for node in model.get_ops() if node.get_type_name() not in ("Constant", "Result")]
    found = []
    for layer in layers:
        own = [name for name in names if layer in (name, name.partition("/")[0])]
        if not own:
            raise UsageError(f"the model has no layer '{layer}' that could stay float.")
        found += own
    return found


def _float_operations(model: Any) -> str:
    """A sentence: which operations get numbers that were not quantized, and how many of each. Biases and activation
    functions belong to the operation before them."""
    kept = Counter(
        node.get_type_name() for node in model.get_ops() if node.get_type_name() in _COUNTED and not is_8_bit(node)
    )
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kept.items()))
    return f"stayed float: {listed}" if kept else "all operations are 8-bit"


def is_8_bit(node: Any) -> bool:
    """Whether all that an operation takes, but for constants, consists of quantized numbers."""
    return all(_is_quantized(source) for source in _activations(node))


def _activations(node: Any) -> list[Any]:
    """The nodes whose results a node takes, but for constants; nothing for the sum of a bias."""
    sources = [value.get_source_output().get_node() for value in node.inputs()]
    moving = [source for source in sources if not is_constant(source)]
    return [] if node.get_type_name() == "Add" and len(moving) < 2 else moving


def is_constant(node: Any) -> bool:
    """Weights, whether they are stored as they are or behind operations that restore them."""
    return node.get_type_name() != "Parameter" and all(
        is_constant(value.get_source_output().get_node()) for value in node.inputs()
    )


def _is_quantized(node: Any) -> bool:
    """Whether a node's result consists of quantized numbers, though they may have been moved since."""
    if node.get_type_name() == "Concat":
        return all(_is_quantized(source) for source in _activations(node))
    while node.get_type_name() in _MOVES:
        node = node.inputs()[0].get_source_output().get_node()
    return bool(node.get_type_name() in ("FakeQuantize", "Interpolate"))
