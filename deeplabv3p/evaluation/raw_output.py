"""From the bytes of a tensor that a device dumped to labels, by the model's spec."""

from __future__ import annotations

import itertools
import math
import os

import numpy as np
import numpy.typing as npt

from deeplabv3p import files, pixels
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.spec import ModelSpec


def default_dtype(spec: ModelSpec) -> str:
    """The type of a model's output as far as its spec tells: float32 where it is neither quantized nor labels.

    Raises:
        UsageError: the spec does not tell.
    """
    if spec.output.kind == "labels":
        raise UsageError("the spec says that labels come out, but not in which type. Name it, such as int32 or uint8.")
    if spec.output.scale is not None:
        raise UsageError("the spec says that the output is quantized, but not in which type. Name it: int8 or uint8.")
    return "float32"


def labels_from_raw(
    path: str | os.PathLike[str], spec: ModelSpec, dtype: str, picture_hw: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """The labels of a picture from the dumped output of the model: uint8 [H, W] at the picture's own size, by
    :func:`deeplabv3p.pixels.labels_from_output`.

    Args:
        path: the bare tensor, with or without a batch axis of 1, in the layout of the spec. Its grid is the input's
            size divided by the output's stride.
        spec: of the model.
        dtype: NumPy's name of a real type; numbers of several bytes are little-endian.
        picture_hw: height and width of the picture, which the device brought to the input's size as the spec says.

    Raises:
        UsageError: the spec asks for a sliding window, whose outputs are many.
        DataError: the file cannot be read, has not as many bytes as the spec asks for, or holds NaN, infinity or
            labels that are no classes.
    """
    if spec.input.resize == "window":
        raise UsageError("the spec asks for a sliding window: one dump does not hold the outputs of all windows.")
    geometry = pixels.place(picture_hw, spec.input)
    data = files.read_bytes(path)
    values = np.dtype(dtype).newbyteorder("<")
    depth = 1 if spec.output.kind == "labels" else spec.num_classes
    grids = _grids(geometry.tensor_hw, spec.output.stride)
    grid = next((grid for grid in grids if len(data) == math.prod(grid) * depth * values.itemsize), None)
    if grid is None:
        height, width = grids[0]
        raise DataError(
            f"{path} has {len(data):,} bytes, but an output of {height}x{width}x{depth} {dtype} "
            f"({spec.output.layout}, kind {spec.output.kind}, stride {spec.output.stride}) for a picture of "
            f"{picture_hw[0]}x{picture_hw[1]} has {height * width * depth * values.itemsize:,}. "
            "Check the type, the spec, and that the picture is the one the device saw."
        )
    shape = (depth, *grid) if spec.output.layout == "NCHW" else (*grid, depth)
    output = np.frombuffer(data, values).astype(np.dtype(dtype), copy=False).reshape(shape)
    try:
        labels = pixels.labels_from_output(output, geometry, spec.output)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if labels.max() >= spec.num_classes:
        raise DataError(f"{path} holds the label {labels.max()}, but the spec lists {spec.num_classes} classes.")
    return labels


def _grids(tensor_hw: tuple[int, int], stride: int) -> list[tuple[int, int]]:
    """The sizes that an output may have, the usual one first: networks round up, some from elsewhere down."""
    sides = [list(dict.fromkeys((-(-side // stride), max(1, side // stride)))) for side in tensor_hw]
    return [(height, width) for height, width in itertools.product(*sides)]
