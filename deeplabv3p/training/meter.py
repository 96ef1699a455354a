"""What the progress line shows: mean IoU of the epoch so far, pictures per second, and time spent waiting for data."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from deeplabv3p.errors import DeeplabError
from deeplabv3p.pixels import IGNORE


class StreamingMeanIoU(keras.metrics.Metric):
    """Mean IoU over the batches since the last reset, at the stride of the logits: each logit is compared with the
    label pixel at its centre. Cheap and close to, but not, the score at the picture's resolution."""

    def __init__(self, num_classes: int, name: str = "miou") -> None:
        super().__init__(name=name, dtype="float32")
        self.num_classes = num_classes
        self.confusion = self.add_variable((num_classes, num_classes), initializer="zeros", name="confusion")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """``y_true``: [B, H, W]; ``y_pred``: logits [B, h, w, K]."""
        truth = _centres(_centres(y_true, y_pred.shape[1], 1), y_pred.shape[2], 2)
        truth = ops.reshape(ops.cast(truth, "int32"), (-1,))
        prediction = ops.reshape(ops.cast(ops.argmax(y_pred, axis=-1), "int32"), (-1,))
        valid = truth != IGNORE
        cells = ops.where(valid, truth * self.num_classes + prediction, 0)
        weights = ops.cast(valid, "float32")
        counts = ops.segment_sum(weights, cells, num_segments=self.num_classes**2)
        # Shares of a batch, not pixels: float32 cannot count past 2**24.
        share = counts / ops.maximum(ops.sum(weights), 1.0)
        self.confusion.assign_add(ops.reshape(share, self.confusion.shape))

    def result(self) -> Any:
        hits = ops.diagonal(self.confusion)
        union = ops.sum(self.confusion, axis=0) + ops.sum(self.confusion, axis=1) - hits
        present = ops.cast(union > 0, "float32")
        return ops.sum(present * hits / ops.maximum(union, 1e-12)) / ops.maximum(ops.sum(present), 1.0)


def _centres(label: Any, size: int, axis: int) -> Any:
    """Along ``axis``, the label pixels nearest to the centres of ``size`` equal cells."""
    length = label.shape[axis]
    return ops.take(label, [int((i + 0.5) * length / size) for i in range(size)], axis=axis)


class Feed:
    """An iterator over batches that remembers when each became ready, for the share of time a step waited for it.

    ``error`` is what ended it, if anything did: Keras may pull batches in a thread of TensorFlow, which wraps errors.
    """

    def __init__(self, batches: Iterator[tuple[Any, Any]]) -> None:
        self._batches = batches
        self._ready: deque[float] = deque()
        self.error: DeeplabError | None = None

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        try:
            for batch in self._batches:
                self._ready.append(time.perf_counter())
                yield batch
        except DeeplabError as error:
            self.error = error
            raise

    def waited(self, step_began: float) -> float:
        """Seconds that the step begun at ``step_began`` (``perf_counter``) waited for its batch. Call once a step, in
        order. Batches that lay ready cost nothing."""
        return max(0.0, self._ready.popleft() - step_began) if self._ready else 0.0
