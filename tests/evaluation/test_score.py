"""Scores at the picture's own resolution, decoding beside the engine, and how it ends when something is wrong."""

from __future__ import annotations

import dataclasses
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from example_spec import SPEC
from PIL import Image

from deeplabv3p.data.classes import ClassList
from deeplabv3p.data.dataset import Sample, open_dataset
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.evaluation import score
from deeplabv3p.evaluation.score import evaluate, open_engines
from deeplabv3p.inference import InferenceOptions
from deeplabv3p.metrics import Scores
from deeplabv3p.pixels import IGNORE
from deeplabv3p.runtime.artifact import parse_artifact
from deeplabv3p.spec import ClassInfo, ModelInfo

CLASSES = tuple(ClassInfo(name, (i * 40, 0, 0)) for i, name in enumerate(("background", "thing", "stuff")))
LABELS_SPEC = SPEC.replace(
    model=ModelInfo("thresholds", None),
    input={"size_hw": None, "dtype": "uint8", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "pad_value": 0.0},
    output={"name": "labels", "kind": "labels", "stride": 1},
    classes=CLASSES,
)


class RedIsTheLabel:
    """An engine that reads the label out of the red channel, 50 levels a class."""

    name, device = "numpy", "cpu"

    def __init__(self, spec=LABELS_SPEC):
        self.spec, self.runs = spec, 0

    def run(self, batch):
        self.runs += 1
        return batch[..., 0] // 50

    def close(self):
        pass


class InMemory:
    """A dataset of arrays that notes when what is decoded."""

    source = "memory.txt"
    ignored_class: int | None = None

    def __init__(self, pairs, classes=CLASSES):
        self.pairs, self.classes = pairs, classes
        self.samples = [Sample(f"p{i}", Path(f"p{i}.png"), Path(f"l{i}.png")) for i in range(len(pairs))]
        self.loaded, self.threads = [], set()

    def __len__(self):
        return len(self.samples)

    def load(self, index):
        self.loaded.append(index)
        self.threads.add(threading.current_thread())
        pair = self.pairs[index]
        if isinstance(pair, Exception):
            raise pair
        return pair


def picture_of(label):
    image = np.zeros((*label.shape, 3), np.uint8)
    image[..., 0] = label * 50
    return image


def pair(truth, prediction=None):
    truth = np.asarray(truth, np.uint8)
    shown = np.where(truth == IGNORE, 0, truth) if prediction is None else np.asarray(prediction)
    return picture_of(shown.astype(np.uint8)), truth


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    left = set(threading.enumerate()) - before
    assert not left


def test_scores_by_hand():
    """Two pictures of different sizes: the pixels add up, the ignored one counts nowhere."""
    first = pair([[0, 0, 1], [1, 1, IGNORE]], [[0, 1, 1], [1, 1, 2]])  # one wrong of five
    second = pair([[1], [0]], [[1], [0]])  # all right
    result = evaluate(RedIsTheLabel(), InMemory([first, second]))
    np.testing.assert_array_equal(result.scores.confusion, [[2, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert result.scores.pa == pytest.approx(6 / 7)
    assert result.scores.miou == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert result.scores.classes_counted == 2
    assert [item.name for item in result.per_picture] == ["p0", "p1"]
    assert result.per_picture[0].pa == pytest.approx(4 / 5)
    assert result.per_picture[0].miou == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert (result.per_picture[1].pa, result.per_picture[1].miou) == (1.0, 1.0)
    assert result.pictures == 2
    assert result.classes == CLASSES
    assert result.dataset == "memory.txt"
    assert result.protocol == "thresholds, own size, single scale, no flip, whole picture, numpy (cpu)"
    assert result.seconds > 0


def test_truth_is_not_resized():
    """One wrong pixel in a large picture counts although the model works at a quarter of its size."""
    truth = np.zeros((64, 64), np.uint8)
    truth[5, 7] = 1
    spec = LABELS_SPEC.replace(input={"size_hw": (16, 16)})
    result = evaluate(RedIsTheLabel(spec), InMemory([pair(truth, np.zeros_like(truth))]))
    np.testing.assert_array_equal(result.scores.confusion, [[64 * 64 - 1, 0, 0], [1, 0, 0], [0, 0, 0]])


def test_a_picture_that_is_all_ignored_has_no_score():
    result = evaluate(RedIsTheLabel(), InMemory([pair(np.full((3, 3), IGNORE)), pair(np.ones((2, 2)))]))
    assert np.isnan(result.per_picture[0].pa)
    assert np.isnan(result.per_picture[0].miou)
    assert result.scores.pa == 1.0


def test_callbacks_come_in_order_with_the_result_so_far():
    pairs = [pair(np.full((2, 2), i % 3)) for i in range(7)]
    seen, reported = [], []

    def on_picture(sample, image, truth, prediction):
        index = len(seen)
        assert sample.name == f"p{index}"
        assert image is pairs[index][0]
        assert truth is pairs[index][1]
        np.testing.assert_array_equal(prediction, truth)
        seen.append(sample)

    def progress(done, total, info=None):
        reported.append((done, total, dict(info)))

    evaluate(RedIsTheLabel(), InMemory(pairs), progress=progress, on_picture=on_picture)
    assert reported == [(i, 7, {"mIoU": 1.0}) for i in range(1, 8)]
    assert len(seen) == 7


def test_other_numbers_of_classes_name_both():
    with pytest.raises(UsageError) as caught:
        evaluate(RedIsTheLabel(), InMemory([pair([[0]])], classes=CLASSES[:2]))
    assert "'thresholds' has 3 classes" in str(caught.value)
    assert "memory.txt has 2" in str(caught.value)


def test_an_ignored_class_is_in_no_mean():
    truth = np.array([[IGNORE, IGNORE], [1, 1]])  # 0 in the files
    dataset = InMemory([pair(truth, np.array([[0, 1], [0, 1]]))])
    dataset.ignored_class = 0
    found = evaluate(RedIsTheLabel(), dataset)
    assert np.isnan(found.scores.iou[0])
    assert found.scores.miou == found.scores.miou_in_truth == found.per_picture[0].miou == 0.5
    assert found.scores.classes_counted == 1


def test_decoding_overlaps_the_engine():
    """While the engine works on a picture the next one is decoded: the first runs wait for it."""

    class Announcing(InMemory):
        def __init__(self, pairs):
            super().__init__(pairs)
            self.changed = threading.Condition()

        def load(self, index):
            with self.changed:
                result = super().load(index)
                self.changed.notify_all()
            return result

    dataset = Announcing([pair([[0]])] * 6)

    class Waiting(RedIsTheLabel):
        def run(self, batch):
            wanted = min(self.runs + 2, 3)  # later pictures are begun only when the first ones are done
            with dataset.changed:
                waited = dataset.changed.wait_for(lambda: len(dataset.loaded) >= wanted, timeout=30)
            assert waited, "the next picture waits for this one"
            return super().run(batch)

    evaluate(Waiting(), dataset)
    assert threading.main_thread() not in dataset.threads


def test_several_engines_work_at_the_same_time_each_for_one_thread():
    """Every run waits until all engines are at work; none is entered twice; the pictures stay in order."""
    together = threading.Barrier(3, timeout=30)

    class Busy(RedIsTheLabel):
        inside = 0

        def run(self, batch):
            self.inside += 1
            assert self.inside == 1, "an engine was run from two threads at the same time"
            together.wait()
            result = super().run(batch)
            self.inside -= 1
            return result

    pairs = [pair(np.full((2, 2), i % 3), np.full((2, 2), 0)) for i in range(9)]
    engines = [Busy() for _ in range(3)]
    result = evaluate(engines[0], InMemory(pairs), workers=engines[1:])
    assert sum(engine.runs for engine in engines) == 9
    assert all(engine.runs > 0 for engine in engines)
    assert [item.name for item in result.per_picture] == [f"p{i}" for i in range(9)]
    assert [item.pa for item in result.per_picture] == [1.0, 0.0, 0.0] * 3


def test_a_slow_picture_does_not_change_the_order():
    class Slow(InMemory):
        def load(self, index):
            time.sleep(0.05 if index == 0 else 0)
            return super().load(index)

    seen = []
    dataset = Slow([pair(np.full((1, 1), i % 3)) for i in range(8)])
    engines = [RedIsTheLabel() for _ in range(2)]
    evaluate(engines[0], dataset, workers=engines[1:], on_picture=lambda sample, *_: seen.append(sample.name))
    assert seen == [f"p{i}" for i in range(8)]


IN_FLIGHT = 8 + 1 + 2  # the most threads, on a machine of many processors, and the pictures ahead of them


def test_the_threads_stay_a_few_pictures_ahead():
    dataset = InMemory([pair([[0]])] * 50)
    ahead = []

    def progress(done, total, info=None):
        time.sleep(0.002)  # long enough for the threads to run away if nothing held them
        ahead.append(len(dataset.loaded) - done)

    evaluate(RedIsTheLabel(), dataset, progress=progress)
    assert max(ahead) <= IN_FLIGHT
    assert sorted(dataset.loaded) == list(range(50))


def test_memory_does_not_grow_with_the_number_of_pictures():
    class Endless(InMemory):
        def load(self, index):
            return pair(np.full((200, 200), index % 3))

    def peak(count):
        tracemalloc.start()
        evaluate(RedIsTheLabel(), Endless([None] * count))
        _, result = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return result

    peak(5)  # first-time imports
    # 300 more pictures are 48 MB; what varies is how many of them, each 0.5 MB with its tensors, are in flight.
    assert peak(320) - peak(20) < 0.5e6 * IN_FLIGHT


@pytest.mark.parametrize("bad", [0, 1, 5, 29])
def test_a_bad_picture_stops_at_once(bad):
    pairs = [pair([[0]])] * 60
    pairs[bad] = DataError(f"p{bad}.png is truncated.")
    dataset, seen = InMemory(pairs), []
    with pytest.raises(DataError, match=rf"p{bad}\.png is truncated"):
        evaluate(RedIsTheLabel(), dataset, on_picture=lambda sample, *_: seen.append(sample.name))
    assert seen == [f"p{i}" for i in range(bad)], "the pictures before it, and no more"
    assert len(dataset.loaded) <= bad + 1 + IN_FLIGHT


@pytest.mark.parametrize("error", [DataError("the output folder is full."), KeyboardInterrupt()])
def test_an_error_in_a_callback_stops_at_once(error):
    dataset = InMemory([pair([[0]])] * 50)

    def on_picture(*_):
        raise error

    with pytest.raises(type(error)):
        evaluate(RedIsTheLabel(), dataset, on_picture=on_picture)
    assert len(dataset.loaded) <= 1 + IN_FLIGHT


def test_an_error_in_the_engine_stops_at_once():
    dataset = InMemory([pair([[0]]), (picture_of(np.full((2, 2), 4, np.uint8)), np.zeros((2, 2), np.uint8))] * 20)
    with pytest.raises(DataError, match="label 4"):
        evaluate(RedIsTheLabel(), dataset)
    assert len(dataset.loaded) <= 2 + IN_FLIGHT


def test_a_dataset_on_disk(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 3, (9, 7 + i)).astype(np.uint8) for i in range(3)]
    for i, label in enumerate(labels):
        Image.fromarray(picture_of(label)).save(tmp_path / "images" / f"p{i}.png")
        Image.fromarray(label).save(tmp_path / "labels" / f"p{i}.png")
    (tmp_path / "list.txt").write_text("p0\np1\np2\n")
    dataset = open_dataset(tmp_path, tmp_path / "list.txt", ClassList(CLASSES, False), 255)
    result = evaluate(RedIsTheLabel(), dataset)
    assert result.scores.pa == 1.0
    np.testing.assert_array_equal(
        result.scores.pixels, np.bincount(np.concatenate([label.ravel() for label in labels]), minlength=3)
    )
    (tmp_path / "images" / "p1.png").write_text("not a picture")
    with pytest.raises(DataError, match=r"p1\.png"):
        evaluate(RedIsTheLabel(), dataset)


def test_the_result_is_plain_data():
    result = evaluate(RedIsTheLabel(), InMemory([pair([[0, 1, 2]])]))
    assert isinstance(result.scores, Scores)
    assert dataclasses.is_dataclass(result)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.pictures = 2


def test_options_reach_the_engine_and_the_protocol():
    """A model of the left half, where the red channel counts only there: with flip the right half counts as well."""
    spec = SPEC.replace(
        model=ModelInfo("halves", None),
        input={"size_hw": (4, 4), "dtype": "uint8", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
        output={"kind": "logits", "stride": 1},
        classes=CLASSES[:2],
    )

    class LeftHalf(RedIsTheLabel):
        def run(self, batch):
            self.runs += 1
            red = (batch[..., 0] > 0) * (np.arange(4) < 2) * 10.0
            return np.stack([np.full_like(red, 4.0), red], axis=-1).astype(np.float32)

    truth = np.ones((4, 4), np.uint8)
    dataset = InMemory([pair(truth)], classes=CLASSES[:2])
    plain = evaluate(LeftHalf(spec), dataset)
    assert plain.scores.pa == 0.5
    assert "no flip" in plain.protocol
    engine = LeftHalf(spec)
    flipped = evaluate(engine, dataset, options=InferenceOptions(flip=True))
    assert flipped.scores.pa == 1.0
    assert engine.runs == 2
    assert ", flip," in flipped.protocol


class TestOpenEngines:
    @pytest.fixture
    def opened(self, monkeypatch):
        calls = []

        class Engine(RedIsTheLabel):
            closed = False

            def close(self):
                self.closed = True

        def open_artifact(artifact, *, threads, spec):
            if len(calls) == 5:
                raise DataError("no more memory.")
            calls.append((threads, Engine(spec)))
            return calls[-1][1]

        monkeypatch.setattr(score, "open_artifact", open_artifact)
        monkeypatch.setattr(score, "_processors", lambda: 4)
        return calls

    def threads(self, opened, text, **settings):
        engines = open_engines(parse_artifact(text), LABELS_SPEC, **settings)
        assert list(engines) == [engine for _, engine in opened]
        assert not any(engine.closed for engine in engines)
        return [threads for threads, _ in opened]

    def test_one_engine_a_thread(self, opened):
        assert self.threads(opened, "m.onnx") == [1, 1, 1, 1]

    @pytest.mark.parametrize("text", ["m.tflite", "m.xml@openvino:CPU:bf16"])
    def test_as_many_as_threads_asked_for(self, opened, text):
        assert self.threads(opened, text, threads=2) == [1, 1]

    def test_workers_share_the_threads(self, opened):
        assert self.threads(opened, "m.tflite", threads=6, workers=2) == [3, 3]

    def test_engines_on_shared_threads_have_all_of_them(self, opened):
        assert self.threads(opened, "m.keras", threads=4, workers=2) == [4, 4]

    @pytest.mark.parametrize("text", ["m.keras", "m.pb", "m.onnx@opencv", "m.xml@openvino:GPU"])
    def test_one_where_threads_are_shared_or_on_another_device(self, opened, text):
        assert self.threads(opened, text) == [None]

    def test_a_failure_closes_those_that_are_open(self, opened):
        with pytest.raises(DataError, match="memory"):
            open_engines(parse_artifact("m.onnx"), LABELS_SPEC, workers=8)
        assert len(opened) == 5
        assert all(engine.closed for _, engine in opened)
