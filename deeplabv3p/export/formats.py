"""What can be written: every format, the precisions it has, and the options of an export. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from deeplabv3p.errors import UsageError
from deeplabv3p.spec import Layout, ModelSpec, OutputKind

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Precision = Literal["f32", "f16", "w8", "int8", "int16x8"]
"""f16: weights (and where the engine can, arithmetic) in half precision. w8: 8-bit weights, float arithmetic (TFLite
calls it dynamic range). int8: 8-bit weights per channel and 8-bit activations. int16x8: 16-bit activations, 8-bit
weights."""


class Calibration(Protocol):
    """Starts a pass over the calibration pictures: float32 tensors with a batch axis of 1, prepared by the float
    model's own spec, in the layout that the format's writer is given (:attr:`ExportOptions.layout`). May be called
    several times."""

    def __call__(self) -> Iterator[npt.NDArray[np.float32]]: ...


@dataclass(frozen=True)
class Format:
    """A kind of model file. ``layouts[0]`` is its default; ``extra`` is the pip extra that its writer needs, if any;
    ``runtimes`` can open it, the default first."""

    name: str
    suffix: str
    precisions: tuple[Precision, ...]
    layouts: tuple[Layout, ...]
    extra: str | None
    runtimes: tuple[str, ...]


FORMATS: dict[str, Format] = {
    item.name: item
    for item in (
        Format("keras", ".keras", ("f32",), ("NHWC",), None, ("keras",)),
        Format("savedmodel", "", ("f32",), ("NHWC",), None, ("savedmodel",)),
        Format("pb", ".pb", ("f32",), ("NHWC",), None, ("pb", "opencv")),
        Format("onnx", ".onnx", ("f32", "f16", "int8"), ("NCHW", "NHWC"), "onnx", ("onnx", "opencv", "openvino")),
        Format("tflite", ".tflite", ("f32", "f16", "w8", "int8", "int16x8"), ("NHWC",), "tflite", ("tflite",)),
        Format("mnn", ".mnn", ("f32", "f16", "w8", "int8"), ("NHWC",), "mnn", ("mnn",)),
        Format("openvino", ".xml", ("f32", "f16", "int8"), ("NCHW", "NHWC"), "openvino", ("openvino",)),
    )
}


REDUCIBLE = ("onnx", "openvino")
"""The formats that have ``reduce_range``: their engines overflow on x86 processors without VNNI."""


@dataclass(frozen=True)
class ExportOptions:
    """How a model is written.

    ``output_kind``: logits, probabilities (softmax inside) or labels (argmax inside). ``output_size``: native is the
    head's own stride, input is upsampled to the input's size inside the file. ``batch``: the fixed batch size, None for
    any. ``dynamic``: height and width stay open. ``layout``: of input and output, None for the format's default.
    ``op_set``: of ONNX. ``io_dtype``: of input and output of int8 files (MNN's are uint8 where this is int8).
    ``float_layers``: layers, by name, that an int8 file computes with floats. ``reduce_range``: weights of int8
    files of ONNX and OpenVINO have 7 bits, for x86 processors without VNNI, whose sums of 8-bit products overflow.
    """

    precision: Precision = "f32"
    output_kind: OutputKind = "logits"
    output_size: Literal["native", "input"] = "native"
    batch: int | None = 1
    dynamic: bool = False
    layout: Layout | None = None
    op_set: int = 17
    io_dtype: Literal["float32", "uint8", "int8"] = "int8"
    float_layers: tuple[str, ...] = ()
    reduce_range: bool = False


@dataclass(frozen=True)
class Exported:
    """A file that was written, its spec, and what is worth knowing about it, a sentence each (which operations of an
    int8 model stayed float, for instance)."""

    path: Path
    spec: ModelSpec
    notes: tuple[str, ...] = ()


def float_note(side: str) -> str:
    """What is said of the ``side`` (input or output) of an 8-bit file that stays float32."""
    return f"the {side} is float32: the operation there is not 8-bit"


def find_format(name: str) -> Format:
    """The format of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in FORMATS:
        raise UsageError(f"there is no format '{name}'. Choose of {', '.join(FORMATS)}.")
    return FORMATS[name]


def check_options(form: Format, options: ExportOptions) -> None:
    """Refuse options that a format does not have, before any work.

    Raises:
        UsageError: one line that says what it has.
    """
    if options.precision not in form.precisions:
        raise UsageError(f"{form.name} has no precision {options.precision}. It has {', '.join(form.precisions)}.")
    if options.layout is not None and options.layout not in form.layouts:
        raise UsageError(f"{form.name} files are {' or '.join(form.layouts)}, not {options.layout}.")
    if options.reduce_range and not (options.precision == "int8" and form.name in REDUCIBLE):
        raise UsageError(f"weights of 7 bits are for int8 files of onnx and openvino, not for {form.name}.")
    if options.float_layers and not (options.precision == "int8" and form.name in {"tflite", "onnx", "openvino"}):
        raise UsageError(
            f"layers can be kept in float in int8 files of tflite, onnx and openvino, not in {form.name} "
            f"{options.precision}."
        )
