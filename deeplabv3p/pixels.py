"""The arithmetic of pixels: a picture becomes an input tensor, an output tensor becomes labels.

C++ mirrors this file, so every step is defined to the bit: sizes are rounded in integers (halves up), pictures are
resized as uint8 by OpenCV's fixed-point ``INTER_LINEAR_EXACT``, coordinates are float64, and scores are mixed in
float32 as :mod:`deeplabv3p.sampling` says.

Coordinates count pixel centres: pixel i of an axis lies at i, and the axis spans −0.5 to size − 0.5.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from deeplabv3p import sampling
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.spec import FULL_RANGE, InputSpec, OutputSpec

IGNORE = 255
"""The label in memory of a pixel that counts for nothing, whatever number the label file used."""


@dataclass(frozen=True)
class AxisMap:
    """Where picture pixels fall on one axis of the input tensor: tensor coordinate = scale · picture pixel + offset.
    Both count pixel centres; the result is continuous and may lie outside the tensor (a cropped picture)."""

    scale: float
    offset: float


@dataclass(frozen=True)
class Geometry:
    """How a picture of ``picture_hw`` lies on an input tensor of ``tensor_hw``, one linear map per axis."""

    picture_hw: tuple[int, int]
    tensor_hw: tuple[int, int]
    y: AxisMap
    x: AxisMap


def resize_image(image: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resize a uint8 [H, W, C] picture to (height, width), bilinear in OpenCV's exact fixed-point arithmetic.

    Half-pixel centres, no smoothing before shrinking.
    """
    height, width = size_hw
    if image.shape[:2] == (height, width):
        return image
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return np.asarray(resized, np.uint8)


def to_bytes(values: npt.NDArray[np.uint16], picture_max: int) -> npt.NDArray[np.uint8]:
    """Picture values of 16 bits as bytes: min(v, picture_max) · 256 // (picture_max + 1), any shape.

    For a camera of b bits (picture_max 2^b − 1) these are its upper 8 bits; for 65535 the upper byte.
    """
    return np.asarray(_byte_table(picture_max)[values], np.uint8)


@functools.lru_cache(maxsize=4)
def _byte_table(picture_max: int) -> npt.NDArray[np.uint8]:
    values = np.minimum(np.arange(FULL_RANGE + 1, dtype=np.int64), picture_max)
    return np.asarray(values * 256 // (picture_max + 1), np.uint8)


def normalize(image: npt.NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    """(x − mean) / std in float32 for uint8 [..., 3]; ``mean`` and ``std`` per channel, in units of 0 to 255."""
    return np.asarray(_look_up(np.ascontiguousarray(image).reshape(1, -1, 3), _levels(mean, std)), np.float32).reshape(
        image.shape
    )


def prepare(image: npt.NDArray[np.uint8], input_spec: InputSpec) -> tuple[npt.NDArray[np.generic], Geometry]:
    """Turn a picture into the input tensor of a model, without the batch axis.

    The rules of ``input_spec.resize`` at a fixed size:

    - stretch: each axis to the size asked for.
    - fit: the aspect is kept, the picture just fits inside, the rest (right and bottom) is ``pad_value``.
    - pad: the picture keeps its scale, the rest (right and bottom) is ``pad_value``; a picture larger than the tensor
      on either axis is shrunk as in fit first.
    - crop: the aspect is kept, the picture just covers the tensor, its centre is used. Labels of the pixels outside are
      those of the nearest pixel inside (see :func:`labels_from_output`).

    Without a fixed size the picture keeps its own, or is shrunk with its aspect until the longer side is ``max_side``.

    Args:
        image: uint8 [H, W, 3], RGB.
        input_spec: size, rule, colour order, mean and std, layout and type of the tensor.

    Returns:
        The tensor, [h, w, 3] or [3, h, w] by the layout, in the spec's type: (x − mean) / std for floats. Integers hold
        round(that / scale) + zero_point, or round(that) where scale is null, halves to even, clipped to the type.
        And where the picture lies on it.

    Raises:
        DataError: the picture is not uint8 [H, W, 3] or is empty.
        UsageError: the rule is window.
    """
    check_picture(image)
    if input_spec.resize == "window":
        raise UsageError("the spec asks for a sliding window: deeplabv3p.inference cuts a picture into these.")
    picture_hw = (image.shape[0], image.shape[1])
    scaled_hw, tensor_hw = _sizes(picture_hw, input_spec)
    top, left = (max(scaled - tensor, 0) // 2 for scaled, tensor in zip(scaled_hw, tensor_hw, strict=True))
    inside = resize_image(image, scaled_hw)[top : top + tensor_hw[0], left : left + tensor_hw[1]]
    if input_spec.color == "BGR":
        inside = np.asarray(cv2.cvtColor(inside, cv2.COLOR_RGB2BGR), np.uint8)
    # A byte has 256 values: a table of them in the tensor's type gives the same bits as the formula on every pixel.
    table = quantize(_levels(input_spec.mean, input_spec.std), input_spec)
    pad = quantize(_normalized(np.float32(input_spec.pad_value), input_spec.mean, input_spec.std), input_spec)
    fill = _fill_nhwc if input_spec.layout == "NHWC" else _fill_nchw
    return fill(inside, table, tensor_hw, pad), place(picture_hw, input_spec)


def check_picture(image: npt.NDArray[np.generic]) -> None:
    """Raise DataError unless the picture is uint8 [H, W, 3] and not empty."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise DataError(f"a picture must be uint8 [height, width, 3], this is {image.dtype} {list(image.shape)}.")


def place(picture_hw: tuple[int, int], input_spec: InputSpec) -> Geometry:
    """How a picture of that size lies on the input tensor that :func:`prepare` makes of it."""
    scaled_hw, tensor_hw = _sizes(picture_hw, input_spec)
    y, x = (
        axis_map(picture, scaled, max(scaled - tensor, 0) // 2)
        for picture, scaled, tensor in zip(picture_hw, scaled_hw, tensor_hw, strict=True)
    )
    return Geometry(picture_hw, tensor_hw, y, x)


def labels_from_output(
    output: npt.NDArray[np.generic], geometry: Geometry, output_spec: OutputSpec
) -> npt.NDArray[np.uint8]:
    """Labels at the picture's own pixels from a model's output: one bilinear sampling, then argmax.

    The output grid of size o lies on the tensor of size t so that both span the same length: o' = (t' + 0.5)·o/t − 0.5,
    or with ``align_corners`` so that their corner pixels coincide: o' = t'·(o − 1)/(t − 1), which is 0 for t = 1.
    Composed with the geometry this is one linear map per axis. Coordinates outside the grid are clamped to its edge.
    ``scale`` and ``zero_point`` of a quantized output play no part: the same rising linear map of every class does not
    move the argmax.

    Args:
        output: [h, w, K] or [K, h, w] by the layout, any real type, without a batch axis. For kind ``labels``:
            whole numbers [h, w] (a class axis of length 1 may stand where the layout has it), sampled at the nearest
            grid point, halves up.
        geometry: what :func:`prepare` returned for the picture.
        output_spec: layout, kind and align_corners are used.

    Returns:
        uint8 [H, W] by the rules of :mod:`deeplabv3p.sampling`; equal scores go to the lowest class.

    Raises:
        DataError: the output has another rank or more than 255 classes, or holds NaN or infinity.
    """
    if output_spec.kind == "labels":
        class_axis = 2 if output_spec.layout == "NHWC" else 0
        if output.ndim == 3 and output.shape[class_axis] == 1:
            output = output.squeeze(class_axis)
        return _sample_labels(output, geometry, output_spec.align_corners)
    planes = class_planes(output, output_spec)
    y, x = coordinates(geometry, planes.shape[1:], output_spec.align_corners)
    return sampling.sample_argmax(
        planes, sampling.neighbours(y, planes.shape[1]), sampling.neighbours(x, planes.shape[2])
    )


def quantize(tensor: npt.NDArray[np.float32], input_spec: InputSpec) -> npt.NDArray[np.generic]:
    """Real numbers as a model's input has them, in its type: round(x / scale) + zero_point, or round(x) where the spec
    has no scale, halves to even, clipped to the type; as they are for floats."""
    dtype = np.dtype(input_spec.dtype)
    if dtype.kind == "f":
        return tensor.astype(dtype, copy=False)
    if input_spec.scale is not None:
        tensor = tensor / np.float32(input_spec.scale)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(tensor) + np.float32(input_spec.zero_point or 0), limits.min, limits.max).astype(dtype)


def dequantize(output: npt.NDArray[np.generic], output_spec: OutputSpec) -> npt.NDArray[np.float32]:
    """A model's output as real numbers, float32 of the same shape: (q − zero_point)·scale in float32 where the spec has
    a scale, else the numbers themselves (not copied if they are float32 already)."""
    real = output.astype(np.float32, copy=False)
    if output_spec.scale is None:
        return real
    real = real - np.float32(output_spec.zero_point or 0)
    real *= np.float32(output_spec.scale)
    return real


def class_planes(output: npt.NDArray[np.generic], output_spec: OutputSpec) -> npt.NDArray[np.float32]:
    """A model's output without the batch axis, any layout and real type, as float32 [K, h, w], not dequantized.

    Raises:
        DataError: as :func:`labels_from_output`.
    """
    class_axis = 2 if output_spec.layout == "NHWC" else 0
    if output.ndim != 3 or output.size == 0 or output.shape[class_axis] > IGNORE:
        raise DataError(
            f"the model's output is {list(output.shape)}, expected {output_spec.layout} without the batch axis "
            f"and at most {IGNORE} classes."
        )
    planes = sampling.classes_first(output) if class_axis == 2 else np.ascontiguousarray(output, np.float32)
    if output.dtype.kind == "f" and not np.isfinite(planes).all():
        raise DataError("the model's output holds NaN or infinity. The model file is damaged or was converted wrongly.")
    return planes


def _sizes(picture_hw: tuple[int, int], spec: InputSpec) -> tuple[tuple[int, int], tuple[int, int]]:
    """(size of the whole scaled picture, size of the tensor)."""
    height, width = picture_hw
    if spec.size_hw is None:
        longest = max(height, width)
        if spec.max_side is None or longest <= spec.max_side:
            return picture_hw, picture_hw
        scaled = (_scaled(height, spec.max_side, longest), _scaled(width, spec.max_side, longest))
        return scaled, scaled
    tensor_hw = spec.size_hw
    if spec.resize == "stretch":
        return tensor_hw, tensor_hw
    if spec.resize == "pad" and height <= tensor_hw[0] and width <= tensor_hw[1]:
        return picture_hw, tensor_hw
    # The axis that decides the scale: the tighter one when the picture must fit inside, the looser one when it covers.
    taller = height * tensor_hw[1] >= width * tensor_hw[0]
    axis = 0 if taller != (spec.resize == "crop") else 1
    wanted, has = tensor_hw[axis], picture_hw[axis]
    return (_scaled(height, wanted, has), _scaled(width, wanted, has)), tensor_hw


def _scaled(size: int, wanted: int, has: int) -> int:
    """size · wanted / has in exact integer arithmetic, halves up, at least 1."""
    return max(1, (2 * size * wanted + has) // (2 * has))


def axis_map(picture: int, scaled: int, cropped: int) -> AxisMap:
    """An axis of ``picture`` pixels that is resized to ``scaled``, of which the first ``cropped`` are left out."""
    scale = scaled / picture
    return AxisMap(scale, 0.5 * scale - 0.5 - cropped)


def _normalized(
    values: npt.NDArray[np.float32] | np.float32, mean: Sequence[float], std: Sequence[float]
) -> npt.NDArray[np.float32]:
    return np.asarray((values - np.asarray(mean, np.float32)) / np.asarray(std, np.float32), np.float32)


def _levels(mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    """What the values of a byte become, float32 [256, 3]."""
    return _normalized(np.arange(256, dtype=np.float32)[:, None], mean, std)


def _look_up(image: npt.NDArray[np.uint8], table: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The entries of a table, [256] or [256, C], for every value of [H, W] or [H, W, C], in the type of the table."""
    # OpenCV copies entries whatever they mean; it does not know float16 as such.
    entries = table.view(np.uint16) if table.dtype == np.float16 else table
    return np.asarray(cv2.LUT(image, entries.reshape(1, 256, *table.shape[1:]))).view(table.dtype)


def _fill_nhwc(
    inside: npt.NDArray[np.uint8],
    table: npt.NDArray[np.generic],
    tensor_hw: tuple[int, int],
    pad: npt.NDArray[np.generic],
) -> npt.NDArray[np.generic]:
    """The picture in the upper left corner of a tensor [h, w, 3], ``pad`` [3] in the rest."""
    height, width = inside.shape[:2]
    values = _look_up(inside, table)
    if (height, width) == tensor_hw:
        return values
    # Rows of numbers: assigning pixels of three would be a loop of its own for each.
    tensor = np.empty((tensor_hw[0], tensor_hw[1] * 3), table.dtype)
    tensor[:height, : width * 3] = values.reshape(height, width * 3)
    tensor[:height, width * 3 :] = np.tile(pad, tensor_hw[1] - width)
    tensor[height:] = np.tile(pad, tensor_hw[1])
    return tensor.reshape(*tensor_hw, 3)


def _fill_nchw(
    inside: npt.NDArray[np.uint8],
    table: npt.NDArray[np.generic],
    tensor_hw: tuple[int, int],
    pad: npt.NDArray[np.generic],
) -> npt.NDArray[np.generic]:
    """The same as [3, h, w]."""
    height, width = inside.shape[:2]
    tensor = np.empty((3, *tensor_hw), table.dtype)
    # Planes of bytes are taken apart, not those of the wider numbers.
    for plane, channel, values, value in zip(tensor, cv2.split(inside), table.T, pad, strict=True):
        plane[:height, :width] = _look_up(np.asarray(channel, np.uint8), np.ascontiguousarray(values))
        plane[:height, width:] = value
        plane[height:] = value
    return tensor


def _grid_coordinates(
    axis: AxisMap, picture: int, tensor: int, grid: int, align_corners: bool
) -> npt.NDArray[np.float64]:
    """Where each pixel of the picture falls on the output grid, clamped to it: float64 [picture]."""
    if align_corners:
        ratio, shift = (grid - 1) / (tensor - 1) if tensor > 1 else 0.0, 0.0
    else:
        ratio = grid / tensor
        shift = 0.5 * ratio - 0.5
    where = (axis.scale * ratio) * np.arange(picture, dtype=np.float64) + (axis.offset * ratio + shift)
    return np.clip(where, 0.0, grid - 1.0)


def coordinates(
    geometry: Geometry, grid_hw: tuple[int, ...], align_corners: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Where the rows and the columns of the picture fall on an output grid, clamped to it: float64 [H] and [W]."""
    (height, width), (tensor_h, tensor_w) = geometry.picture_hw, geometry.tensor_hw
    y = _grid_coordinates(geometry.y, height, tensor_h, grid_hw[0], align_corners)
    x = _grid_coordinates(geometry.x, width, tensor_w, grid_hw[1], align_corners)
    return y, x


def _sample_labels(output: npt.NDArray[np.generic], geometry: Geometry, align_corners: bool) -> npt.NDArray[np.uint8]:
    if output.ndim != 2 or output.size == 0:
        raise DataError(f"the model's output is {list(output.shape)}, expected labels [height, width].")
    if not (output.min() >= 0 and output.max() <= IGNORE):
        raise DataError(f"the model's labels run from {output.min()} to {output.max()}, expected 0 to {IGNORE}.")
    y, x = coordinates(geometry, (output.shape[0], output.shape[1]), align_corners)
    rows, columns = np.floor(y + 0.5).astype(np.intp), np.floor(x + 0.5).astype(np.intp)
    return output.astype(np.uint8)[rows[:, None], columns]
