"""The arithmetic of pixels: a picture becomes an input tensor, an output tensor becomes labels.

C++ mirrors this file, so every step is defined to the bit: sizes are rounded in integers (halves up), pictures are
resized as uint8 by OpenCV's fixed-point ``INTER_LINEAR_EXACT``, coordinates are float64, and logits are mixed in
float32 as a·(1 − w) + b·w with every product and sum rounded on its own (no fused multiply-add), along x first, then y.

Coordinates count pixel centres: pixel i of an axis lies at i, and the axis spans −0.5 to size − 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.spec import InputSpec, OutputSpec

IGNORE = 255
"""The label in memory of a pixel that counts for nothing, whatever number the label file used."""

# Picture pixels that are worked on at once: a few buffers of 128 KiB float32 stay in a second-level cache of 1 MiB.
# Measured at 512x512x21 on one core: 8.1 ms; 9.6 with half as many (more Python calls), 10.1 with twice as many.
_BLOCK_PIXELS = 32768


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


def normalize(image: npt.NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    """(x − mean) / std in float32 for uint8 [..., 3]; ``mean`` and ``std`` per channel, in units of 0 to 255."""
    levels = np.arange(256, dtype=np.float32)[:, None]
    table = (levels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    # A byte has 256 values, so a table gives the same bits as the formula, several times faster than broadcasting.
    rows = np.ascontiguousarray(image).reshape(1, -1, 3)
    return np.asarray(cv2.LUT(rows, table.reshape(1, 256, 3)), np.float32).reshape(image.shape)


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
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise DataError(f"a picture must be uint8 [height, width, 3], this is {image.dtype} {list(image.shape)}.")
    if input_spec.resize == "window":
        raise UsageError("the spec asks for a sliding window, which is not available yet. Use another resize rule.")
    picture_hw = (image.shape[0], image.shape[1])
    scaled_hw, tensor_hw = _sizes(picture_hw, input_spec)
    top, left = (max(scaled - tensor, 0) // 2 for scaled, tensor in zip(scaled_hw, tensor_hw, strict=True))
    inside = resize_image(image, scaled_hw)[top : top + tensor_hw[0], left : left + tensor_hw[1]]
    if input_spec.color == "BGR":
        inside = inside[..., ::-1]
    tensor = normalize(inside, input_spec.mean, input_spec.std)
    if tensor.shape[:2] != tensor_hw:
        pad = (np.float32(input_spec.pad_value) - np.asarray(input_spec.mean, np.float32)) / np.asarray(
            input_spec.std, np.float32
        )
        canvas = np.empty((*tensor_hw, 3), np.float32)
        canvas[:] = pad
        canvas[: tensor.shape[0], : tensor.shape[1]] = tensor
        tensor = canvas
    if input_spec.layout == "NCHW":
        tensor = np.ascontiguousarray(tensor.transpose(2, 0, 1))
    geometry = Geometry(
        picture_hw,
        tensor_hw,
        _axis_map(picture_hw[0], scaled_hw[0], top),
        _axis_map(picture_hw[1], scaled_hw[1], left),
    )
    return _to_dtype(tensor, input_spec), geometry


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
        uint8 [H, W]; equal scores go to the lowest class.

    Raises:
        DataError: the output has another rank or more than 255 classes, or holds NaN or infinity.
    """
    class_axis = 2 if output_spec.layout == "NHWC" else 0
    if output_spec.kind == "labels":
        if output.ndim == 3 and output.shape[class_axis] == 1:
            output = output.squeeze(class_axis)
        return _sample_labels(output, geometry, output_spec.align_corners)
    if output.ndim != 3 or output.size == 0 or output.shape[class_axis] > IGNORE:
        raise DataError(
            f"the model's output is {list(output.shape)}, expected {output_spec.layout} without the batch axis "
            f"and at most {IGNORE} classes."
        )
    scores = output.astype(np.float32, copy=False)
    if not np.isfinite(scores).all():
        raise DataError("the model's output holds NaN or infinity. The model file is damaged or was converted wrongly.")
    planes = np.ascontiguousarray(scores.transpose(2, 0, 1) if output_spec.layout == "NHWC" else scores)
    return _sample_argmax(planes, geometry, output_spec.align_corners)


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


def _axis_map(picture: int, scaled: int, cropped: int) -> AxisMap:
    scale = scaled / picture
    return AxisMap(scale, 0.5 * scale - 0.5 - cropped)


def _to_dtype(tensor: npt.NDArray[np.float32], spec: InputSpec) -> npt.NDArray[np.generic]:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return tensor.astype(dtype, copy=False)
    if spec.scale is not None:
        tensor = tensor / np.float32(spec.scale)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(tensor) + np.float32(spec.zero_point or 0), limits.min, limits.max).astype(dtype)


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


def _coordinates(
    geometry: Geometry, grid_hw: tuple[int, int], align_corners: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    (height, width), (tensor_h, tensor_w) = geometry.picture_hw, geometry.tensor_hw
    y = _grid_coordinates(geometry.y, height, tensor_h, grid_hw[0], align_corners)
    x = _grid_coordinates(geometry.x, width, tensor_w, grid_hw[1], align_corners)
    return y, x


def _neighbours(
    where: npt.NDArray[np.float64], grid: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The two grid points around each coordinate, and their float32 weights 1 − w and w."""
    low = np.floor(where).astype(np.intp)
    weight = (where - low).astype(np.float32)
    return low, np.minimum(low + 1, grid - 1), np.float32(1) - weight, weight


def _sample_argmax(planes: npt.NDArray[np.float32], geometry: Geometry, align_corners: bool) -> npt.NDArray[np.uint8]:
    """[K, h, w] → labels. Blocks of picture rows: first the grid rows a block needs are widened, all classes at once,
    then class by class the rows are mixed and compared, so a block stays in the cache and the full-size scores of all
    classes never exist."""
    grid_h, grid_w = planes.shape[1:]
    height, width = geometry.picture_hw
    y, x = _coordinates(geometry, (grid_h, grid_w), align_corners)
    x_low, x_high, x_low_weight, x_high_weight = _neighbours(x, grid_w)
    y_low, y_high, y_low_weight, y_high_weight = _neighbours(y, grid_h)
    labels = np.zeros((height, width), np.uint8)
    step = max(1, _BLOCK_PIXELS // width)
    for start in range(0, height, step):
        block = slice(start, min(start + step, height))
        used, position = np.unique(np.concatenate([y_low[block], y_high[block]]), return_inverse=True)
        above, below = np.split(position, 2)
        rows = planes[:, used]
        wide = rows.take(x_low, axis=2)
        wide *= x_low_weight
        wide_high = rows.take(x_high, axis=2)
        wide_high *= x_high_weight
        wide += wide_high
        _argmax_rows(wide, (above, y_low_weight[block, None]), (below, y_high_weight[block, None]), labels[block])
    return labels


def _argmax_rows(
    wide: npt.NDArray[np.float32],
    above: tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]],
    below: tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]],
    labels: npt.NDArray[np.uint8],
) -> None:
    """Mix rows of [K, n, W], given as (row, weight [r, 1]) above and below, and write the argmax into ``labels``
    [r, W], which is zeros before."""
    best = np.empty(labels.shape, np.float32)
    score, other = np.empty_like(best), np.empty_like(best)
    greater = np.empty(labels.shape, np.bool_)
    label = greater.view(np.uint8)
    for index, plane in enumerate(wide):
        target = score if index else best
        # mode="clip" lets take write straight into `out`; the default buffers it. The indexes are in range.
        np.take(plane, above[0], axis=0, out=target, mode="clip")
        np.take(plane, below[0], axis=0, out=other, mode="clip")
        target *= above[1]
        other *= below[1]
        target += other
        if index:
            np.greater(score, best, out=greater)
            np.maximum(score, best, out=best)
            # Classes come in rising order, so the last one that was greater is the largest number: no masked store.
            label *= np.uint8(index)
            np.maximum(labels, label, out=labels)


def _sample_labels(output: npt.NDArray[np.generic], geometry: Geometry, align_corners: bool) -> npt.NDArray[np.uint8]:
    if output.ndim != 2 or output.size == 0:
        raise DataError(f"the model's output is {list(output.shape)}, expected labels [height, width].")
    if not (output.min() >= 0 and output.max() <= IGNORE):
        raise DataError(f"the model's labels run from {output.min()} to {output.max()}, expected 0 to {IGNORE}.")
    y, x = _coordinates(geometry, (output.shape[0], output.shape[1]), align_corners)
    rows, columns = np.floor(y + 0.5).astype(np.intp), np.floor(x + 0.5).astype(np.intp)
    return output.astype(np.uint8)[rows[:, None], columns]
