"""The stopwatch: what it counts, what its figures are, and several calls at the same time."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from example_spec import SPEC

from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.evaluation.benchmark import benchmark, latency_stats, measure_latency, measure_together
from deeplabv3p.inference import InferenceOptions
from deeplabv3p.spec import ClassInfo, ModelInfo

CLASSES = tuple(ClassInfo(name, (0, 0, 0)) for name in ("background", "thing", "stuff"))
LOGITS_SPEC = SPEC.replace(
    model=ModelInfo("levels", None),
    input={"size_hw": (8, 12), "resize": "stretch"},
    output={"kind": "logits", "stride": 4},
    classes=CLASSES,
)


class Clock:
    """A clock that only calls move forward."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def call_of(self, *seconds):
        """A call that takes those seconds, one after the other, the last one from then on."""
        left = list(seconds)

        def run():
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_figures_by_hand():
    stats = latency_stats([0.010, 0.030, 0.020, 0.040, 0.100], 0.25)
    assert stats.count == 5
    assert stats.duration == 0.25
    assert stats.median == pytest.approx(30)
    assert stats.average == pytest.approx(40)
    # Between the two highest: 40 + 0.6 · (100 − 40).
    assert stats.p90 == pytest.approx(76)
    assert (stats.minimum, stats.maximum) == (pytest.approx(10), pytest.approx(100))


def test_warm_up_does_not_count(monkeypatch):
    clock = Clock(monkeypatch)
    stats = measure_latency(clock.call_of(9, 9, 9, 0.5), warmup=3, seconds=4)
    assert stats.count == 8
    assert stats.maximum == pytest.approx(500)
    assert stats.duration == pytest.approx(4)


def test_it_goes_on_for_the_time_and_finishes_the_last_call(monkeypatch):
    clock = Clock(monkeypatch)
    stats = measure_latency(clock.call_of(0.3), warmup=0, seconds=2)
    assert stats.count == 7
    assert stats.duration == pytest.approx(2.1)


def test_slow_calls_are_made_a_few_times_all_the_same(monkeypatch):
    clock = Clock(monkeypatch)
    stats = measure_latency(clock.call_of(10.0), warmup=0, seconds=1, min_count=3)
    assert (stats.count, stats.duration) == (3, pytest.approx(30))


@pytest.mark.parametrize("wrong", [{"warmup": -1}, {"seconds": -1}, {"min_count": 0}])
def test_numbers_that_cannot_be(wrong):
    with pytest.raises(UsageError, match="measurement"):
        measure_latency(lambda: None, **{"warmup": 0, "seconds": 0, "min_count": 1, **wrong})


def test_several_calls_run_at_the_same_time():
    """Each waits for the others, so that one after the other would never end."""
    together = threading.Barrier(3, timeout=30)
    threads = [set(), set(), set()]

    def call_of(index):
        def run():
            if threading.current_thread() is not threading.main_thread():  # warm-up is one after the other
                threads[index].add(threading.current_thread())
                together.wait()

        return run

    stats = measure_together([call_of(index) for index in range(3)], warmup=1, seconds=0, min_count=6)
    assert stats.count == 6
    assert all(len(own) == 1 for own in threads)
    assert len(set.union(*threads)) == 3


def test_the_duration_is_that_of_all_together_not_their_sum():
    """Four sleepers sleep four times as long as the clock says; half of that is left to a machine with other work."""
    stats = measure_together([lambda: time.sleep(0.01)] * 4, warmup=0, seconds=0.3)
    assert stats.minimum >= 10
    assert stats.count * stats.average / 1000 > 2 * stats.duration


def test_an_error_in_a_thread_is_raised():
    def fail():
        raise DataError("the engine has failed.")

    with pytest.raises(DataError, match="engine has failed"):
        measure_together([fail, lambda: None], warmup=0, seconds=0)


class Engine:
    """Takes 2 ms; scores by brightness."""

    name, device, spec = "numpy", "cpu", LOGITS_SPEC

    def __init__(self):
        self.batches = []

    def run(self, batch):
        self.batches.append(batch)
        time.sleep(0.002)
        mean = batch.reshape(1, 2, 4, 3, 4, 3).mean(axis=(2, 4, 5))
        return np.stack([mean * 0, mean, -mean], axis=-1).astype(np.float32)

    def close(self):
        pass


def picture():
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def test_the_engine_alone_and_the_whole_path_see_the_same_tensor():
    engine = Engine()
    result = benchmark([engine], picture(), warmup=2, seconds=0)
    assert (result.engine.count, result.whole.count) == (5, 5)
    assert len(engine.batches) == 2 * (2 + 5)
    for batch in engine.batches:
        np.testing.assert_array_equal(batch, engine.batches[0])
    assert engine.batches[0].shape == (1, 8, 12, 3)
    assert result.engine.minimum >= 2


def test_options_are_those_of_the_whole_path():
    engine = Engine()
    benchmark([engine], picture(), options=InferenceOptions(flip=True), warmup=0, seconds=0)
    assert len(engine.batches) == 5 + 2 * 5


def test_several_engines_share_the_runs():
    engines = [Engine(), Engine()]
    result = benchmark(engines, picture(), warmup=0, seconds=0)
    assert all(engine.batches for engine in engines)
    assert result.engine.count >= 5
