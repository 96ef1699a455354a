"""Score an opened model on a dataset, at each picture's own resolution."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deeplabv3p.data.dataset import Dataset, Sample
from deeplabv3p.errors import UsageError
from deeplabv3p.inference import predict, protocol
from deeplabv3p.metrics import Scores, confusion_matrix
from deeplabv3p.progress import Progress, silent
from deeplabv3p.runtime import Runtime
from deeplabv3p.spec import ClassInfo

Pixels = npt.NDArray[np.uint8]
PictureCallback = Callable[[Sample, Pixels, Pixels, Pixels], None]
"""Called with (sample, image [H, W, 3], truth [H, W], prediction [H, W])."""

# Pictures decoded ahead of the engine. One is enough to overlap the two; two ride out a picture that takes longer.
_AHEAD = 2


@dataclass(frozen=True)
class PictureScore:
    """Scores of one picture: fractions, nan where all of it is ignored."""

    name: str
    pa: float
    miou: float


@dataclass(frozen=True)
class Evaluation:
    """What was scored, how, and the result. ``seconds`` is wall time with decoding, ``dataset`` the list file."""

    scores: Scores
    classes: tuple[ClassInfo, ...]
    protocol: str
    dataset: str
    pictures: int
    seconds: float
    per_picture: tuple[PictureScore, ...]


def evaluate(
    runtime: Runtime,
    dataset: Dataset,
    *,
    progress: Progress = silent,
    on_picture: PictureCallback | None = None,
) -> Evaluation:
    """Segment every picture of a dataset and count right and wrong pixels, each once, ignored ones left out.

    Truth and prediction are compared at the picture's own size. Pictures are decoded in a thread while the engine
    works; memory does not grow with their number, apart from one :class:`PictureScore` each.

    Args:
        runtime: the model.
        dataset: the pictures, with as many classes as the model.
        progress: called after each picture, with the mIoU so far.
        on_picture: called in the dataset's order with each picture and its result, for saving them.

    Raises:
        UsageError: the model and the dataset have different numbers of classes.
        DataError: a picture or a label map cannot be used.
    """
    num_classes = runtime.spec.num_classes
    if num_classes != len(dataset.classes):
        raise UsageError(
            f"the model '{runtime.spec.model.name}' has {num_classes} classes, but the dataset {dataset.source} has "
            f"{len(dataset.classes)}. Pass the class list that the model was trained with."
        )
    started = time.perf_counter()
    confusion = np.zeros((num_classes, num_classes), np.int64)
    per_picture = []
    with closing(_decode_ahead(dataset)) as samples:
        for done, (sample, image, truth) in enumerate(samples, start=1):
            prediction = predict(runtime, image)
            counts = confusion_matrix(truth, prediction, num_classes)
            confusion += counts
            picture = Scores(counts)
            per_picture.append(PictureScore(sample.name, picture.pa, picture.miou))
            if on_picture is not None:
                on_picture(sample, image, truth, prediction)
            progress(done, len(dataset), {"mIoU": Scores(confusion).miou})
    seconds = time.perf_counter() - started
    return Evaluation(
        scores=Scores(confusion),
        classes=dataset.classes,
        protocol=protocol(runtime),
        dataset=dataset.source,
        pictures=len(dataset),
        seconds=seconds,
        per_picture=tuple(per_picture),
    )


def _decode_ahead(dataset: Dataset) -> Generator[tuple[Sample, Pixels, Pixels], None, None]:
    """The samples in order, decoded by one thread that is at most ``_AHEAD`` of them in front. The thread has ended
    when the iterator is exhausted, closed or has raised."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
    pending: deque[Future[tuple[Pixels, Pixels]]] = deque()
    try:
        for index in range(len(dataset) + _AHEAD):
            if index < len(dataset):
                pending.append(pool.submit(dataset.load, index))
            if index >= _AHEAD:
                image, truth = pending.popleft().result()
                yield dataset.samples[index - _AHEAD], image, truth
    finally:
        pool.shutdown(cancel_futures=True)
