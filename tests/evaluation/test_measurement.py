"""One pass over the pictures, with engines of NumPy in place of real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from example_spec import SPEC

from deeplabv3p.data.dataset import Sample
from deeplabv3p.evaluation import measurement
from deeplabv3p.evaluation.comparison import Share, miou
from deeplabv3p.evaluation.measurement import Job, Store, measure
from deeplabv3p.inference import predict
from deeplabv3p.runtime.artifact import ArtifactRef

HEIGHT, WIDTH, STRIDE = 64, 96, 4


class Engine:
    """Logits are the colours themselves, averaged over the output's pixels; ``change`` spoils them."""

    name, device = "numpy", "cpu"

    def __init__(self, change=lambda logits: logits, spec=SPEC):
        self.spec, self.change, self.runs, self.closed = spec, change, 0, False

    def run(self, batch):
        self.runs += 1
        pooled = batch.reshape(len(batch), HEIGHT // STRIDE, STRIDE, WIDTH // STRIDE, STRIDE, 3).mean(axis=(2, 4))
        return self.change(pooled.astype(np.float32))

    def close(self):
        self.closed = True


class Pictures:
    """Three pictures of coloured blocks, and the labels of the colour that is strongest."""

    source, classes, ignored_class = "blocks.txt", SPEC.classes, None

    def __init__(self, count=3):
        self.images = [self.blocks(seed) for seed in range(count)]
        self.samples = [Sample(f"p{i}", Path(f"p{i}.png"), Path(f"l{i}.png")) for i in range(count)]

    @staticmethod
    def blocks(seed):
        small = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
        return small.repeat(HEIGHT // 4, axis=0).repeat(WIDTH // 6, axis=1)

    def __len__(self):
        return len(self.images)

    def load(self, index):
        return self.images[index], self.images[index].argmax(axis=-1).astype(np.uint8)


def job(store, *, reference, compare=True):
    return Job(ArtifactRef(Path("m.onnx"), "onnx", None), SPEC, Pictures(), store, reference, compare, None, 0.01)


def run(tmp_path, engine, *, compare=True):
    """The measurements of the plain engine as the reference, and of another one."""
    reference = measure(Engine(), job(tmp_path, reference=True), lambda done: None)
    done = []
    return reference, measure(engine, job(tmp_path, reference=False, compare=compare), done.append), done


def test_an_equal_engine_agrees_everywhere(tmp_path):
    reference, other, done = run(tmp_path, Engine())
    pixels = 3 * HEIGHT * WIDTH
    assert other.everywhere == Share(pixels, pixels)
    assert other.band.part == other.band.whole > 0
    assert (other.error.maximum, other.error.pictures) == (0, 3)
    np.testing.assert_array_equal(other.parts, reference.parts)
    assert done == [1, 2, 3]
    assert reference.everywhere is None
    assert 0.8 < miou(reference.parts.sum(axis=0)) < 1, "labels of blurred logits are nearly, not all, right"


def test_a_constant_on_all_logits_is_an_error_that_changes_no_label(tmp_path):
    _, other, _ = run(tmp_path, Engine(lambda logits: logits + 0.125))
    assert other.everywhere.part == other.everywhere.whole
    assert other.error.maximum == pytest.approx(0.125, rel=1e-6)
    assert other.error.mean == pytest.approx(0.125, rel=1e-6)


def test_one_class_too_strong_changes_labels_where_a_count_finds_them(tmp_path):
    spoil = lambda logits: logits + np.array([0.3, 0, 0], np.float32)  # noqa: E731
    _, other, _ = run(tmp_path, Engine(spoil))
    same = [(predict(Engine(), image) == predict(Engine(spoil), image)).mean() for image in Pictures().images]
    assert other.everywhere.percent == pytest.approx(100 * np.mean(same))
    assert other.worst == int(np.argmin(same))
    assert other.everywhere.percent < 99


def test_logits_on_another_grid_are_not_subtracted(tmp_path):
    _, other, _ = run(tmp_path, Engine(lambda logits: logits + 1), compare=False)
    assert other.error is None
    assert other.everywhere.part == other.everywhere.whole


def test_quantized_logits_are_compared_as_real_numbers(tmp_path):
    spec = SPEC.replace(output={"scale": 2 / 255, "zero_point": 0})
    quantize = lambda logits: np.rint(logits / np.float32(2 / 255)).clip(-128, 127).astype(np.int8)  # noqa: E731
    _, other, _ = run(tmp_path, Engine(quantize, spec))
    assert 0 < other.error.maximum <= 1 / 255 * 1.01, "half a step; values lie within −1 and 1"


def test_the_reference_runs_once_a_picture_and_latencies_are_taken_apart(tmp_path):
    engine = Engine()
    found = measure(engine, job(tmp_path, reference=True), lambda done: None)
    assert engine.runs == 3 + measurement.WARMUP + found.latency.count
    assert found.latency.count >= 5
    assert found.warmup == measurement.WARMUP
    assert found.latency.minimum <= found.latency.median <= found.latency.p90 <= found.latency.maximum
    assert found.state.others is None or 0 <= found.state.others <= 1
    assert not engine.closed, "who opened it closes it"


def test_logits_on_disk_end_at_their_limit_and_labels_go_on(tmp_path):
    logits = np.zeros((4, 4, 3), np.float32)
    store = Store(tmp_path, limit=2 * logits.nbytes)
    for index in range(3):
        store.put(index, np.full((2, 2), index, np.uint8), logits)
    assert [store.logits(index) is not None for index in range(3)] == [True, True, False]
    assert [int(store.labels(index)[0, 0]) for index in range(3)] == [0, 1, 2]
    assert len(list(tmp_path.iterdir())) == 5
