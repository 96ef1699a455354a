"""Score an opened model on a dataset, at each picture's own resolution; decoding, the engine and scoring overlap."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deeplabv3p.data.dataset import Dataset, Sample
from deeplabv3p.errors import UsageError
from deeplabv3p.inference import PLAIN, InferenceOptions, finish, prepare, protocol, run
from deeplabv3p.metrics import Scores, confusion_matrix
from deeplabv3p.progress import Progress, silent
from deeplabv3p.runtime import Runtime
from deeplabv3p.runtime.artifact import ArtifactRef, open_artifact
from deeplabv3p.spec import ClassInfo, ModelSpec

Pixels = npt.NDArray[np.uint8]
PictureCallback = Callable[[Sample, Pixels, Pixels, Pixels], None]
"""Called with (sample, image [H, W, 3], truth [H, W], prediction [H, W])."""

# Each engine holds a copy of the model's weights and of what lies between its layers.
_MOST_ENGINES = 8
# Runtimes whose models all run on one set of threads, the process's.
_SHARED_THREADS = frozenset({"keras", "savedmodel", "pb", "opencv"})
# Pictures that are finished or begun ahead of the one whose turn it is, beyond one a thread: they ride out a slow one.
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


@dataclass(frozen=True)
class _Segmented:
    sample: Sample
    image: Pixels
    truth: Pixels
    prediction: Pixels
    counts: npt.NDArray[np.int64]


def open_engines(
    artifact: ArtifactRef, spec: ModelSpec, *, threads: int | None = None, workers: int | None = None
) -> tuple[Runtime, ...]:
    """Open a model as often as :func:`evaluate` can make use of it on this machine.

    Several engines of one thread each get more done than one of several threads: nothing waits inside a picture. Only
    where all models of a process share the engine's threads, or on a device other than the processor, one is opened.

    Args:
        artifact: the model file.
        spec: its spec.
        threads: processor threads of all engines together; null for as many as this process may use.
        workers: how many engines; null for what is best: one a thread, but not more than 8, or a single one.

    Raises:
        DeeplabError: as :func:`deeplabv3p.runtime.artifact.open_artifact`.
    """
    shared = artifact.runtime in _SHARED_THREADS
    if workers is None:
        elsewhere = artifact.device is not None and artifact.device.partition(":")[0].lower() != "cpu"
        workers = 1 if shared or elsewhere else min(threads or _processors(), _MOST_ENGINES)
    each = threads if shared or workers == 1 else max(1, (threads or _processors()) // workers)
    with contextlib.ExitStack() as opened:
        engines = []
        for _ in range(workers):
            engines.append(open_artifact(artifact, threads=each, spec=spec))
            opened.callback(engines[-1].close)
        opened.pop_all()
    return tuple(engines)


def evaluate(
    runtime: Runtime,
    dataset: Dataset,
    *,
    options: InferenceOptions = PLAIN,
    workers: Sequence[Runtime] = (),
    progress: Progress = silent,
    on_picture: PictureCallback | None = None,
) -> Evaluation:
    """Segment every picture of a dataset and count right and wrong pixels, each once, ignored ones left out.

    Truth and prediction are compared at the picture's own size. Threads take one picture after the other: each decodes
    it, waits for an engine that is free, runs it, samples the labels and counts. Memory does not grow with the number
    of pictures, apart from one :class:`PictureScore` each.

    Args:
        runtime: the model.
        dataset: the pictures, with as many classes as the model.
        options: sliding window, flip and the like.
        workers: further engines with the same model, to work beside the first (see :func:`open_engines`).
        progress: called after each picture, in the dataset's order, with the mIoU so far.
        on_picture: called in the dataset's order with each picture and its result, for saving them; both are called in
            the thread of the caller.

    Raises:
        UsageError: the model and the dataset have different numbers of classes, or the model cannot be used with these
            options.
        DataError: a picture or a label map cannot be used.
    """
    num_classes = runtime.spec.num_classes
    if num_classes != len(dataset.classes):
        raise UsageError(
            f"the model '{runtime.spec.model.name}' has {num_classes} classes, but the dataset {dataset.source} has "
            f"{len(dataset.classes)}. Pass the class list that the model was trained with."
        )
    how = protocol(runtime, options)
    started = time.perf_counter()
    confusion = np.zeros((num_classes, num_classes), np.int64)
    per_picture = []
    with closing(_segmented((runtime, *workers), dataset, options)) as results:
        for done, result in enumerate(results, start=1):
            confusion += result.counts
            picture = Scores(result.counts, dataset.ignored_class)
            per_picture.append(PictureScore(result.sample.name, picture.pa, picture.miou))
            if on_picture is not None:
                on_picture(result.sample, result.image, result.truth, result.prediction)
            progress(done, len(dataset), {"mIoU": Scores(confusion, dataset.ignored_class).miou})
    seconds = time.perf_counter() - started
    return Evaluation(
        scores=Scores(confusion, dataset.ignored_class),
        classes=dataset.classes,
        protocol=how,
        dataset=dataset.source,
        pictures=len(dataset),
        seconds=seconds,
        per_picture=tuple(per_picture),
    )


def _segmented(
    engines: Sequence[Runtime], dataset: Dataset, options: InferenceOptions
) -> Generator[_Segmented, None, None]:
    """The pictures in order, worked on by threads that are a few of them in front. The threads have ended when the
    iterator is exhausted, closed or has raised."""
    spec = engines[0].spec
    free: queue.SimpleQueue[Runtime] = queue.SimpleQueue()
    for engine in engines:
        free.put(engine)

    def segment(index: int) -> _Segmented:
        image, truth = dataset.load(index)
        prepared = prepare(spec, image, options)
        engine = free.get()
        try:
            raw = run(engine, prepared)
        finally:
            free.put(engine)
        prediction = finish(spec, raw, options)
        counts = confusion_matrix(truth, prediction, spec.num_classes)
        return _Segmented(dataset.samples[index], image, truth, prediction, counts)

    # One thread more than engines, so that no engine waits for a picture; more where the engine is not the processor.
    threads = max(len(engines) + 1, min(_processors(), _MOST_ENGINES))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="evaluate")
    pending: deque[Future[_Segmented]] = deque()
    try:
        for index in range(len(dataset)):
            pending.append(pool.submit(segment, index))
            if len(pending) == threads + _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _processors() -> int:
    """How many this process may use, which a container may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
