"""Whether a model file and a spec fit each other: the one check that every engine makes before it runs anything."""

from __future__ import annotations

import math

from deeplabv3p.errors import DataError
from deeplabv3p.runtime.facts import TensorFacts
from deeplabv3p.spec import ModelSpec

MAX_SIDE = 16384
"""The longest side of an input, in pixels. More is a damaged spec, and its tensor would not fit anywhere."""

_LABEL_TYPES = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float16"}

Size = tuple[int | None, int | None]


def check_fit(picture: TensorFacts, output: TensorFacts, spec: ModelSpec, where: object) -> None:
    """Compare the tensors of a file with its spec.

    Args:
        picture: the input, [B, H, W, 3] or [B, 3, H, W].
        output: the output that the spec means.
        spec: what they should be.
        where: names the file in messages.

    Raises:
        DataError: layout, size, type, quantization, stride or the number of classes differ.
    """
    if len(picture.shape) != 4:
        raise DataError(f"{where} does not take one batch of pictures.")
    size_hw, channels = split(picture.shape, spec.input.layout)
    # An engine that knows no shape at all says nothing against the spec.
    if channels not in (3, None):
        raise DataError(f"{where} takes {channels} channels, not 3 in the layout {spec.input.layout} of its spec.")
    wanted: Size = spec.input.size_hw or (None, None)
    if any(side not in (want, None) for side, want in zip(size_hw, wanted, strict=True)):
        raise DataError(f"{where} takes pictures of {size_text(size_hw)}, but its spec says {size_text(wanted)}.")
    if max(*(side or 0 for side in wanted), spec.input.max_side or 0) > MAX_SIDE:
        raise DataError(f"{where}: its spec says pictures of more than {MAX_SIDE} pixels a side.")
    if picture.dtype != spec.input.dtype:
        raise DataError(f"{where} takes {picture.dtype}, but its spec says {spec.input.dtype}.")
    _check_quantization("input", picture, spec.input.scale, spec.input.zero_point, where)
    _check_output(output, size_hw, spec, where)


def _check_output(output: TensorFacts, size_hw: Size, spec: ModelSpec, where: object) -> None:
    if spec.output.kind == "labels":
        if len(output.shape) not in (0, 3, 4) or output.dtype not in _LABEL_TYPES:
            raise DataError(f"{where} does not put out labels, as its spec says.")
        return
    if len(output.shape) != 4:
        raise DataError(
            f"{where} does not put out a score per class and pixel: its output has {len(output.shape)} axes."
        )
    output_hw, classes = split(output.shape, spec.output.layout)
    if classes not in (spec.num_classes, None):
        raise DataError(f"{where} has {classes} classes, but its spec lists {spec.num_classes}.")
    for size, whole in zip(output_hw, size_hw, strict=True):
        # Halving an odd size rounds up or down by the padding of the network.
        if size and whole and size not in (whole // spec.output.stride, -(-whole // spec.output.stride)):
            raise DataError(
                f"{where} puts out {size_text(output_hw)} for pictures of {size_text(size_hw)}, "
                f"but its spec says stride {spec.output.stride}."
            )
    if not output.dtype.startswith("float") and output.scale is None and spec.output.scale is None:
        raise DataError(f"{where} puts out {output.dtype}, but its spec gives no scale for it.")
    _check_quantization("output", output, spec.output.scale, spec.output.zero_point, where)


def _check_quantization(side: str, tensor: TensorFacts, scale: float | None, zero: int | None, where: object) -> None:
    """A file that says its own quantization must say that of the spec."""
    if tensor.scale is None:
        return
    if scale is None or zero != tensor.zero_point or not math.isclose(scale, tensor.scale, rel_tol=1e-5):
        raise DataError(
            f"{where} has an {side} of scale {tensor.scale:.6g} and zero point {tensor.zero_point}, but its spec says "
            f"{'none' if scale is None else f'{scale:.6g} and {zero}'}."
        )


def split(shape: tuple[int | None, ...], layout: str) -> tuple[Size, int | None]:
    """((height, width), channels) of a batch shape."""
    if layout == "NHWC":
        return (shape[1], shape[2]), shape[3]
    return (shape[2], shape[3]), shape[1]


def size_text(size_hw: Size) -> str:
    """``360x480``, ``any size``, or ``360x?`` where one side is open."""
    return "any size" if size_hw == (None, None) else "x".join("?" if side is None else str(side) for side in size_hw)
