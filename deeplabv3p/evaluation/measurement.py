"""Everything that a certificate says of one model file, measured in one pass over the pictures and one stopwatch run.

It runs in a process of its own (``isolation.call``), so a job and a measurement are plain data.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deeplabv3p.data.dataset import Dataset
from deeplabv3p.evaluation.benchmark import LatencyStats, measure_latency
from deeplabv3p.evaluation.comparison import (
    Counts,
    LogitError,
    Share,
    agreement,
    float_output,
    iou_parts,
)
from deeplabv3p.evaluation.isolation import peak_memory
from deeplabv3p.inference import predict, protocol
from deeplabv3p.runtime import Runtime
from deeplabv3p.runtime.artifact import ArtifactRef, open_artifact
from deeplabv3p.spec import ModelSpec

WARMUP = 5
"""Calls of the engine before those that are timed."""

LOGIT_BYTES = 2 * 2**30
"""The reference's logits that are kept on disk at most. Pictures beyond that are compared by labels alone."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Job:
    """One model file to run over the pictures. ``store`` is the folder that holds what the reference said, or shall
    hold it; ``compare_logits`` whether logits can be subtracted from the reference's (``same_geometry``)."""

    artifact: ArtifactRef
    spec: ModelSpec
    dataset: Dataset
    store: Path
    is_reference: bool
    compare_logits: bool
    threads: int | None
    seconds: float


@dataclass(frozen=True)
class MachineState:
    """What else the machine did while latencies were taken. ``load`` is the load average of the last minute before and
    after (which counts our own work), ``others`` the share of all cores that other processes used meanwhile, 0 to 1."""

    load_before: float | None
    load_after: float | None
    others: float | None


@dataclass(frozen=True)
class Measurement:
    """What one model file did. ``parts`` are those of ``comparison.iou_parts``, int64 [pictures, 3, K].

    ``error`` is None where the output cannot be subtracted from the reference's (another grid or kind). For the
    reference itself, that and the agreements are None. ``worst`` is the picture that agrees least, by its index.
    ``peak_memory`` is that of the whole process in bytes: Python, the engine, the model and the pictures.
    """

    runtime: str
    device: str
    protocol: str
    parts: Counts
    error: LogitError | None
    everywhere: Share | None
    band: Share | None
    worst: int
    latency: LatencyStats
    warmup: int
    state: MachineState
    peak_memory: int | None


def run_job(send: Callable[[int], None], job: Job) -> Measurement:
    """Open the file and measure it; ``send`` gets the number of pictures done.

    Raises:
        DeeplabError: as ``open_artifact`` and ``predict``.
    """
    with closing(open_artifact(job.artifact, threads=job.threads, spec=job.spec)) as runtime:
        return measure(runtime, job, send)


def measure(runtime: Runtime, job: Job, progress: Callable[[int], None]) -> Measurement:
    """The same with an opened model."""
    recorder = Recorder(runtime)
    store = Store(job.store)
    error = LogitError()
    everywhere = band = Share(0, 0)
    worst, least = 0, float("inf")
    parts = []
    for index in range(len(job.dataset)):
        image, truth = job.dataset.load(index)
        recorder.outputs.clear()
        labels = predict(recorder, image)
        parts.append(iou_parts(truth, labels, runtime.spec.num_classes, job.dataset.ignored_class))
        # A sliding window runs the engine several times: then there is no one output to compare.
        logits = None
        if job.compare_logits and len(recorder.outputs) == 1:
            logits = float_output(recorder.outputs[0], runtime.spec.output)
        if job.is_reference:
            store.put(index, labels, logits)
        else:
            agreed = agreement(store.labels(index), labels)
            everywhere, band = everywhere + agreed.everywhere, band + agreed.band
            if agreed.everywhere.percent < least:
                worst, least = index, agreed.everywhere.percent
            expected = None if logits is None else store.logits(index)
            if expected is not None and logits is not None and expected.shape == logits.shape:
                error.add(expected, logits)
        progress(index + 1)
    batch = recorder.batch
    assert batch is not None  # a dataset is never empty
    latency, state = _stopwatch(lambda: runtime.run(batch), job.seconds)
    return Measurement(
        runtime=runtime.name,
        device=runtime.device,
        protocol=protocol(runtime),
        parts=np.stack(parts),
        error=error if error.pictures else None,
        everywhere=None if job.is_reference else everywhere,
        band=None if job.is_reference else band,
        worst=worst,
        latency=latency,
        warmup=WARMUP,
        state=state,
        peak_memory=peak_memory(),
    )


class Recorder:
    """A runtime that remembers what went through it: labels come from the one path that everybody uses, and the logits
    behind them can still be compared."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.spec, self.name, self.device = runtime.spec, runtime.name, runtime.device
        self.batch: npt.NDArray[np.generic] | None = None
        """The first input."""
        self.outputs: list[npt.NDArray[np.generic]] = []
        """Every picture's output since the list was last cleared, without the batch axis."""

    def run(self, batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """See :meth:`deeplabv3p.runtime.Runtime.run`."""
        output = self._runtime.run(batch)
        if self.batch is None:
            self.batch = batch[:1].copy()
        self.outputs += list(output)
        return output

    def close(self) -> None:
        """Close the runtime."""
        self._runtime.close()


class Store:
    """The reference's labels and logits on disk, picture by picture, so that the reference runs once and memory does
    not grow with the number of pictures."""

    def __init__(self, folder: Path, limit: int = LOGIT_BYTES) -> None:
        self._folder, self._left = folder, limit

    def put(self, index: int, labels: Pixels, logits: npt.NDArray[np.float32] | None) -> None:
        """Keep one picture's; the logits only while they fit into the limit."""
        np.save(self._path(index, "labels"), labels)
        if logits is not None and logits.nbytes <= self._left:
            self._left -= logits.nbytes
            np.save(self._path(index, "logits"), logits)

    def labels(self, index: int) -> Pixels:
        """uint8 [H, W]."""
        return np.asarray(np.load(self._path(index, "labels"), allow_pickle=False), np.uint8)

    def logits(self, index: int) -> npt.NDArray[np.float32] | None:
        """float32 [h, w, K]; None where none were kept."""
        path = self._path(index, "logits")
        return np.asarray(np.load(path, allow_pickle=False), np.float32) if path.exists() else None

    def _path(self, index: int, kind: str) -> Path:
        return self._folder / f"{index:06}.{kind}.npy"


def _stopwatch(run: Callable[[], object], seconds: float) -> tuple[LatencyStats, MachineState]:
    load_before, cpu_before, own_before = _load(), _cpu_seconds(), time.process_time()
    latency = measure_latency(run, warmup=WARMUP, seconds=seconds)
    load_after, cpu_after, own = _load(), _cpu_seconds(), time.process_time() - own_before
    others = None
    if cpu_before is not None and cpu_after is not None and cpu_after[1] > cpu_before[1]:
        busy, whole = (after - before for after, before in zip(cpu_after, cpu_before, strict=True))
        others = min(max(0.0, busy - own) / whole, 1.0)
    return latency, MachineState(load_before, load_after, others)


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _cpu_seconds() -> tuple[float, float] | None:
    """(busy, busy and idle) seconds of all cores together since the machine started; None where /proc has no word."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
        ticks = [int(word) for word in line.split()[1:9]]  # guests are counted within user time
    except (OSError, ValueError, IndexError):
        return None
    whole = sum(ticks) / os.sysconf("SC_CLK_TCK")
    return whole - (ticks[3] + ticks[4]) / os.sysconf("SC_CLK_TCK"), whole
