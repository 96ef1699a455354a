"""Scores at the pixels of a picture, from what the network put out: windows and views are averaged here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deeplabv3p import pixels
from deeplabv3p.inference.views import Span, Tensor, Tile, View
from deeplabv3p.sampling import Floats, Neighbours, neighbours, sample_scores
from deeplabv3p.spec import ModelSpec, OutputSpec


class PictureScores:
    """The scores of a picture, for any rectangle of its pixels.

    - Windows: where several cover a pixel, the scores are their mean. Each is sampled bilinearly from the output of its
      own window, as the output grids of windows do not coincide.
    - Views (scales and mirrored pictures): the mean of their probabilities, softmax(scores / temperature) each.

    Rectangles are asked for from top to bottom: no later one may begin above an earlier one. So outputs are taken one
    after the other as they are needed, and those of tiles that have been passed are dropped.
    """

    def __init__(
        self,
        spec: ModelSpec,
        views: Sequence[View],
        outputs: Sequence[Iterator[Tensor]],
        temperature: float,
    ) -> None:
        self._output = spec.output
        self._temperature = temperature
        self._views = [_ViewScores(spec.output, view, feed) for view, feed in zip(views, outputs, strict=True)]

    def ranking(self, rows: Span, columns: Span) -> Floats:
        """Scores whose argmax is the label: float32 [K, rows, columns]; probabilities only where they are needed."""
        if len(self._views) == 1:
            return self._views[0].scores(rows, columns)
        return self.probabilities(rows, columns)

    def probabilities(self, rows: Span, columns: Span) -> Floats:
        """Float32 [K, rows, columns], 0 to 1, over the classes adding up to 1 (but for rounding of the model's own)."""
        total = self._probabilities_of(self._views[0], rows, columns)
        for view in self._views[1:]:
            total += self._probabilities_of(view, rows, columns)
        if len(self._views) > 1:
            total /= np.float32(len(self._views))
        return total

    def _probabilities_of(self, view: _ViewScores, rows: Span, columns: Span) -> Floats:
        scores = view.scores(rows, columns)
        if self._output.kind == "probabilities":
            return _sharpen(scores, self._temperature)
        return _softmax(scores, self._temperature)


@dataclass(frozen=True)
class _Placed:
    """The output of a tile as [K, h, w], and where its pixels fall on it."""

    tile: Tile
    planes: Floats
    y: Neighbours
    x: Neighbours

    def sample(self, rows: Span, columns: Span) -> Floats:
        return sample_scores(
            self.planes, _part(self.y, rows, self.tile.rows[0]), _part(self.x, columns, self.tile.columns[0])
        )


class _ViewScores:
    """Scores of one view; sums and counts over the windows that cover a pixel."""

    def __init__(self, output: OutputSpec, view: View, outputs: Iterator[Tensor]) -> None:
        self._output = output
        self._view = view
        self._coming = iter(zip(view.tiles, outputs, strict=True))
        self._begun = deque(view.tiles)
        self._open: list[_Placed] = []

    def scores(self, rows: Span, columns: Span) -> Floats:
        """[K, rows, columns] of the picture as it is, not mirrored."""
        if not self._view.flip:
            return self._sum(rows, columns)
        width = self._view.tiles[0].geometry.picture_hw[1]
        return self._sum(rows, (width - columns[1], width - columns[0]))[..., ::-1]

    def _sum(self, rows: Span, columns: Span) -> Floats:
        self._open = [placed for placed in self._open if placed.tile.rows[1] > rows[0]]
        while self._begun and self._begun[0].rows[0] < rows[1]:
            self._begun.popleft()
            self._open.append(self._place(*next(self._coming)))
        parts = [
            (placed, _overlap(placed.tile.rows, rows), _overlap(placed.tile.columns, columns)) for placed in self._open
        ]
        parts = [(placed, y, x) for placed, y, x in parts if y[0] < y[1] and x[0] < x[1]]
        if len(parts) == 1:  # a whole picture, or a rectangle within one window
            return parts[0][0].sample(rows, columns)
        total = np.zeros((len(parts[0][0].planes), rows[1] - rows[0], columns[1] - columns[0]), np.float32)
        count = np.zeros(total.shape[1:], np.float32)
        for placed, y, x in parts:
            where = np.s_[y[0] - rows[0] : y[1] - rows[0], x[0] - columns[0] : x[1] - columns[0]]
            total[:, *where] += placed.sample(y, x)
            count[where] += 1
        total /= count
        return total

    def _place(self, tile: Tile, output: Tensor) -> _Placed:
        planes = pixels.class_planes(pixels.dequantize(output, self._output), self._output)
        y, x = pixels.coordinates(tile.geometry, (planes.shape[1], planes.shape[2]), self._output.align_corners)
        return _Placed(
            tile,
            planes,
            neighbours(y[slice(*tile.rows)], planes.shape[1]),
            neighbours(x[slice(*tile.columns)], planes.shape[2]),
        )


def _softmax(scores: Floats, temperature: float) -> Floats:
    """Over the first axis, a new array."""
    scores = scores - scores.max(axis=0)
    if temperature != 1.0:
        scores /= np.float32(temperature)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=0)
    return scores


def _sharpen(probabilities: Floats, temperature: float) -> Floats:
    """What softmax(logits / temperature) would be: p^(1 / temperature), divided by the sum."""
    if temperature == 1.0:
        return probabilities
    # The smallest normal number stands for 0, so that a class is never ruled out and no sum is 0.
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return _softmax(logits, temperature)


def _overlap(one: Span, other: Span) -> Span:
    return max(one[0], other[0]), min(one[1], other[1])


def _part(axis: Neighbours, span: Span, first: int) -> Neighbours:
    """The coordinates of a span of pixels, of those of an axis that begin at pixel ``first``."""
    part = slice(span[0] - first, span[1] - first)
    return Neighbours(axis.low[part], axis.high[part], axis.low_weight[part], axis.high_weight[part])
