"""What the progress line shows: mean IoU of the epoch so far, pictures per second, and time spent waiting for data."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras import ops

from deeplabv3p.backend import mean_over_devices
from deeplabv3p.errors import DeeplabError
from deeplabv3p.pixels import IGNORE

SAVE_SHARE = 0.01  # of a run's time at most goes into states that are saved by time


class StreamingMeanIoU(keras.metrics.Metric):
    """Mean IoU over the batches since the last reset, at the stride of the logits: each logit is compared with the
    label pixel at its centre. Cheap and close to, but not, the score at the picture's resolution. ``ignored`` is the
    class whose number is the ignored label, which has no IoU; None where there is none."""

    def __init__(self, num_classes: int, ignored: int | None = None, name: str = "miou") -> None:
        super().__init__(name=name, dtype="float32")
        self.num_classes = num_classes
        self._scored = [float(label != ignored) for label in range(num_classes)]
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
        share = counts / ops.maximum(mean_over_devices(ops.sum(weights)), 1.0)
        self.confusion.assign_add(ops.reshape(share, self.confusion.shape))

    def result(self) -> Any:
        hits = ops.diagonal(self.confusion)
        union = ops.sum(self.confusion, axis=0) + ops.sum(self.confusion, axis=1) - hits
        present = ops.cast(union > 0, "float32") * ops.convert_to_tensor(self._scored, "float32")
        return ops.sum(present * hits / ops.maximum(union, 1e-12)) / ops.maximum(ops.sum(present), 1.0)


def _centres(label: Any, size: int, axis: int) -> Any:
    """Along ``axis``, the label pixels nearest to the centres of ``size`` equal cells."""
    length = label.shape[axis]
    return ops.take(label, [int((i + 0.5) * length / size) for i in range(size)], axis=axis)


class Feed:
    """Batches, with the memory of when each became ready, for the share of time a step waited for it. Where the batches
    can be begun again, this can: the times are those of the last beginning.

    ``error`` is what ended it, if anything did: Keras may pull batches in a thread of TensorFlow, which wraps errors.
    """

    def __init__(self, batches: Iterable[tuple[Any, Any]]) -> None:
        self._batches = batches
        self._ready: deque[float] = deque()
        self.error: DeeplabError | None = None

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        ready = self._ready = deque()
        try:
            for batch in self._batches:
                ready.append(time.perf_counter())
                yield batch
        except DeeplabError as error:
            self.error = error
            raise

    def waited(self, step_began: float) -> float:
        """Seconds that the step begun at ``step_began`` (``perf_counter``) waited for its batch. Call once a step, in
        order. Batches that lay ready cost nothing."""
        return max(0.0, self._ready.popleft() - step_began) if self._ready else 0.0


class EpochClock:
    """Wall time, steps and time spent waiting for data of one epoch, over all processes that worked on it."""

    def __init__(self) -> None:
        self.start()

    def start(self, state: dict[str, float] | None = None) -> None:
        """Begin an epoch, or go on with one whose :meth:`state` was saved."""
        before = state or {"seconds": 0.0, "waited": 0.0, "steps": 0}
        self._began = time.perf_counter() - before["seconds"]
        self._waited, self._steps = before["waited"], before["steps"]

    def end_step(self, waited: float) -> None:
        """A step is done; ``waited`` seconds of it were spent waiting for data."""
        self._waited += waited
        self._steps += 1

    def state(self) -> dict[str, float]:
        """Ready for JSON."""
        return {"seconds": self.seconds, "waited": self._waited, "steps": self._steps}

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.perf_counter() - self._began

    def rates(self, batch_size: int) -> tuple[float, float]:
        """Pictures per second and the share of time that steps waited for data, over the epoch so far."""
        seconds = max(self.seconds, 1e-9)
        return self._steps * batch_size / seconds, self._waited / seconds


class SaveClock:
    """When the state is due inside an epoch: every so many steps, or after so many minutes; 0 is never.

    By time it is due later where writing it is slow: no more than ``SAVE_SHARE`` of a run goes into it.
    """

    def __init__(self, steps: int, minutes: float) -> None:
        self._steps, self._seconds = steps, 60 * minutes
        self.saved(0.0)

    def saved(self, took: float) -> None:
        """The state has just been written, which took so many seconds."""
        self._last = time.monotonic()
        self._wait = max(self._seconds, took / SAVE_SHARE)

    def due(self, step: int) -> bool:
        """Whether to write it after this step."""
        by_step = self._steps > 0 and step % self._steps == 0
        return by_step or (self._seconds > 0 and time.monotonic() - self._last >= self._wait)
