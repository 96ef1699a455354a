"""How long a call takes, and how long a model takes for a picture: the one stopwatch of benchmarks and certificates."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deeplabv3p import inference
from deeplabv3p.errors import UsageError
from deeplabv3p.inference import PLAIN, InferenceOptions
from deeplabv3p.runtime import Runtime

Call = Callable[[], object]


@dataclass(frozen=True)
class LatencyStats:
    """Latencies of ``count`` calls, in milliseconds; ``duration`` is the wall time of all of them, in seconds."""

    count: int
    duration: float
    median: float
    average: float
    p90: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Benchmark:
    """Of a model: the engine alone (tensor to output) and the whole path (picture to labels)."""

    engine: LatencyStats
    whole: LatencyStats


def benchmark(
    engines: Sequence[Runtime],
    image: npt.NDArray[np.uint8],
    *,
    options: InferenceOptions = PLAIN,
    warmup: int = 5,
    seconds: float = 10.0,
) -> Benchmark:
    """Run a picture again and again, first through the engine alone, then through the whole path.

    Args:
        engines: one: the next run starts when the last has ended. Several with the same model: as many run at the same
            time, each started again as soon as it has ended.
        image: uint8 [H, W, 3] RGB.
        options: of the whole path. The engine alone is given the first tensor that they make of the picture.
        warmup: runs of each engine before those that count.
        seconds: wall time of each of the two measurements.

    Raises:
        DeeplabError: as :func:`deeplabv3p.inference.predict`.
        UsageError: the picture is so large that its tensors are made one at a time.
    """
    prepared = inference.prepare(engines[0].spec, image, options)
    if prepared.tensors is None:
        raise UsageError("the picture is too large to measure the engine alone. Take a smaller one.")
    batch = prepared.tensors[0][0][None]

    def measure(work: Callable[[Runtime], object]) -> LatencyStats:
        calls = [functools.partial(work, engine) for engine in engines]
        return measure_together(calls, warmup=warmup, seconds=seconds)

    return Benchmark(
        engine=measure(lambda engine: engine.run(batch)),
        whole=measure(lambda engine: inference.predict(engine, image, options)),
    )


def measure_latency(run: Call, *, warmup: int, seconds: float, min_count: int = 5) -> LatencyStats:
    """Call ``run`` again and again and time each call.

    Args:
        run: what is timed; its result is thrown away.
        warmup: calls before the first one that counts: engines settle their memory and threads in the first.
        seconds: wall time to go on for. The call in progress when it is over still counts.
        min_count: calls to make however long they take.

    Raises:
        UsageError: a number that cannot be worked with.
    """
    return measure_together([run], warmup=warmup, seconds=seconds, min_count=min_count)


def measure_together(runs: Sequence[Call], *, warmup: int, seconds: float, min_count: int = 5) -> LatencyStats:
    """As :func:`measure_latency`, for one call or several, each called again and again in a thread of its own while the
    others are. They warm up one after the other. The latencies are those of single calls; count / duration is the
    throughput of all together."""
    if warmup < 0 or seconds < 0 or min_count < 1:
        raise UsageError("a measurement takes 0 or more calls to warm up, 0 or more seconds and 1 or more calls.")
    for run in runs:
        for _ in range(warmup):
            run()
    started = time.perf_counter()
    if len(runs) == 1:
        latencies = _latencies(runs[0], started + seconds, min_count)
    else:
        each = -(-min_count // len(runs))
        with ThreadPoolExecutor(len(runs), thread_name_prefix="benchmark") as pool:
            parts = pool.map(lambda run: _latencies(run, started + seconds, each), runs)
            latencies = [latency for part in parts for latency in part]
    return latency_stats(latencies, time.perf_counter() - started)


def latency_stats(latencies: Sequence[float], duration: float) -> LatencyStats:
    """Statistics of latencies in seconds, of one call or more, that took ``duration`` seconds together."""
    milliseconds = 1000 * np.asarray(latencies, np.float64)
    return LatencyStats(
        count=len(latencies),
        duration=duration,
        median=float(np.median(milliseconds)),
        average=float(milliseconds.mean()),
        p90=float(np.percentile(milliseconds, 90)),
        minimum=float(milliseconds.min()),
        maximum=float(milliseconds.max()),
    )


def _latencies(run: Call, end: float, min_count: int) -> list[float]:
    """Seconds of each call until the clock shows ``end``."""
    latencies: list[float] = []
    now = time.perf_counter()
    while len(latencies) < min_count or now < end:
        run()
        before, now = now, time.perf_counter()
        latencies.append(now - before)
    return latencies
