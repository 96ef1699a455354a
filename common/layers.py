"""What a layer does with a picture, and what its kernels are: figures per channel, and pictures of both."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from deeplabv3p import visualize
from deeplabv3p.errors import UsageError

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]

_SHEET = 1600  # pixels of a side that a sheet of tiles may about fill
_MAX_TILES = 1024
_TILE = (16, 256)  # smallest and largest side of a tile in pixels
_GAP, _NUMBER = 3, 15  # pixels between tiles, and above those that carry their number
_DEAD = (229, 57, 53)


@dataclasses.dataclass(frozen=True)
class Channel:
    """One channel of a layer's output over one picture: its values, and the share of those that are exactly 0.

    ``dead``: all values are the same, so the channel tells nothing of this picture.
    """

    index: int
    minimum: float
    maximum: float
    mean: float
    deviation: float
    zeros: float
    dead: bool


def activations(model: Any, layer: str, batch: npt.NDArray[np.generic]) -> Values:
    """The output of a layer at inference, float32 [h, w, C], for a batch of one picture.

    ``layer`` is a name as :func:`deeplabv3p.models.statistics.count` lists it: nested ones are ``outer/inner``, the
    second call of a layer is ``name#2``. Nothing behind it is run. An output without height and width becomes 1x1.

    Raises:
        UsageError: the model has no such layer, or its output is not a map of channels.
    """
    import keras

    from deeplabv3p.models.walk import run, walk

    for step in walk(model, [keras.ops.convert_to_tensor(batch)], run):
        if step.name == layer:
            values: Values = np.asarray(keras.ops.convert_to_numpy(step.outputs[0]), np.float32)[0]
            if values.ndim == 1:
                values = values[None, None]
            if values.ndim != 3:
                raise UsageError(f"layer '{layer}' puts out {values.ndim} axes a picture, not a map of channels.")
            return values
    raise UsageError(f"the model has no layer '{layer}'. --list names them all.")


def kernels(operation: Any) -> dict[str, Values]:
    """The kernels, float32 [h, w, in, out], and matrices, float32 [in, out], of a layer, by their names."""
    found = {weight.name: np.asarray(weight.numpy(), np.float32) for weight in getattr(operation, "weights", ())}
    return {name: values for name, values in found.items() if values.ndim in (2, 4)}


def channel_figures(values: Values) -> list[Channel]:
    """Figures of each channel of float32 [h, w, C]."""
    flat = values.reshape(-1, values.shape[-1])
    low, high = flat.min(axis=0), flat.max(axis=0)
    figures = (low, high, flat.mean(axis=0), flat.std(axis=0), (flat == 0).mean(axis=0))
    rows = zip(*(figure.tolist() for figure in figures), (low == high).tolist(), strict=True)
    return [Channel(index, *row) for index, row in enumerate(rows)]


def draw_activations(values: Values, title: str) -> Pixels:
    """A sheet with a tile for each channel of float32 [h, w, C], numbered; each from its own minimum (dark) to its own
    maximum (bright). Dead channels are framed in red. Of very many channels only the first are drawn, and the title
    says so."""
    low, high = values.min(axis=(0, 1)), values.max(axis=(0, 1))
    shares = (values - low) / np.where(high > low, high - low, 1)
    grey = np.ascontiguousarray((255 * shares).round().astype(np.uint8).transpose(2, 0, 1))
    shown = grey[:_MAX_TILES]
    columns = _columns(len(shown), values.shape[0] / values.shape[1])
    size_hw = _tile_size(values.shape[:2], columns)
    numbered = size_hw[1] >= 32
    tiles = []
    for index, tile in enumerate(shown):
        colored = cv2.cvtColor(cv2.applyColorMap(_scale(tile, size_hw), cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
        if low[index] == high[index]:
            cv2.rectangle(colored, (0, 0), (size_hw[1] - 1, size_hw[0] - 1), _DEAD, 2)
        if numbered:
            colored = cv2.copyMakeBorder(colored, _NUMBER, 0, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))
            visualize.write_text(colored, str(index), (1, _NUMBER - 3), 11)
        tiles.append(np.asarray(colored, np.uint8))
    if len(shown) < len(grey):
        title += f", the first {len(shown)} of {len(grey)} channels"
    return _titled(_sheet(tiles, columns, 255), title)


def draw_kernel(values: Values, title: str) -> Pixels:
    """A kernel of :func:`kernels`, on one scale from blue (the most negative) over white (0) to red.

    A 1x1 kernel, or a matrix, is a heat map with inputs as rows and outputs as columns. One that spans pixels is a
    sheet of tiles: inputs as rows, outputs as columns, or, where one of these is 1 as in depthwise convolutions, one
    tile a channel, line by line. Of very many tiles only the first inputs and outputs are drawn, and the title says so.
    """
    limit = float(np.abs(values).max()) or 1.0
    title += f", blue {-limit:.3g} to red {limit:.3g}"
    if values.ndim == 2:
        values = values[None, None]
    height, width, inputs, outputs = values.shape
    if height == width == 1:
        matrix = values[0, 0]
        factor = max(1, _SHEET // 2 // max(matrix.shape))
        return _titled(_diverging(_scale(matrix, (inputs * factor, outputs * factor)) / limit), f"{title}, in x out")
    if min(inputs, outputs) == 1:
        stack = values.reshape(height, width, -1)[..., :_MAX_TILES]
        columns = _columns(stack.shape[-1], height / width)
    else:
        side = math.isqrt(_MAX_TILES)
        columns = min(outputs, side)
        stack = values[:, :, :side, :side].reshape(height, width, -1)
    if stack.shape[-1] < inputs * outputs:
        title += f", the first {stack.shape[-1]} of {inputs * outputs} tiles"
    size_hw = _tile_size((height, width), columns)
    tiles = [_diverging(_scale(tile, size_hw) / limit) for tile in np.ascontiguousarray(stack.transpose(2, 0, 1))]
    return _titled(_sheet(tiles, columns, 170), title)  # white is a weight of 0


def _columns(count: int, aspect: float) -> int:
    """Columns that make a sheet of ``count`` tiles (height / width ``aspect``) about square."""
    return max(1, min(count, round(math.sqrt(count * aspect))))


def _tile_size(map_hw: tuple[int, ...], columns: int) -> tuple[int, int]:
    """A tile's height and width: the map's own times, or divided by, a whole number where it can be."""
    wanted = min(max(_SHEET // columns - _GAP, _TILE[0]), _TILE[1])
    longest = max(map_hw)
    if longest <= wanted:
        factor: float = wanted // longest
    else:
        factor = wanted / longest
    return max(1, round(map_hw[0] * factor)), max(1, round(map_hw[1] * factor))


def _scale(values: npt.NDArray[Any], size_hw: tuple[int, int]) -> npt.NDArray[Any]:
    """Pixels stay sharp when they are enlarged."""
    rule = cv2.INTER_AREA if size_hw[0] < values.shape[0] else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(values, size_hw[::-1], interpolation=rule))


def _diverging(values: npt.NDArray[Any]) -> Pixels:
    """−1 blue, 0 white, 1 red: uint8 [h, w, 3]."""
    ends = np.where(values[..., None] < 0, np.array((33, 102, 172)), np.array((178, 24, 43)))
    return np.asarray((255 + (ends - 255) * np.abs(values)[..., None]).round(), np.uint8)


def _sheet(tiles: list[Pixels], columns: int, gap: int) -> Pixels:
    """Tiles line by line, with grey level ``gap`` between them."""
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), gap, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + _GAP), index % columns * (width + _GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _titled(picture: Pixels, title: str) -> Pixels:
    """The picture under its title, widened where the title is longer."""
    room = max(0, 8 * len(title) - picture.shape[1])
    picture = np.pad(picture, ((0, 0), (0, room), (0, 0)), constant_values=255)
    return visualize.side_by_side([picture], [title])
