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
from deeplabv3p.evaluation.score import evaluate
from deeplabv3p.metrics import Scores
from deeplabv3p.pixels import IGNORE
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
    assert [score.name for score in result.per_picture] == ["p0", "p1"]
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


def test_decoding_overlaps_the_engine():
    """While the engine works on a picture the next one is decoded, in one other thread: each run waits for it."""
    decoded = [threading.Event() for _ in range(6)]

    class Announcing(InMemory):
        def load(self, index):
            decoded[index].set()
            return super().load(index)

    class Waiting(RedIsTheLabel):
        def run(self, batch):
            if self.runs + 1 < len(decoded):
                assert decoded[self.runs + 1].wait(timeout=30), "the next picture waits for this one"
            return super().run(batch)

    dataset = Announcing([pair([[0]])] * len(decoded))
    evaluate(Waiting(), dataset)
    assert len(dataset.threads) == 1
    assert threading.main_thread() not in dataset.threads


def test_decoding_stays_a_few_pictures_ahead():
    dataset = InMemory([pair([[0]])] * 20)
    ahead = []

    def progress(done, total, info=None):
        time.sleep(0.002)  # long enough for the thread to run away if nothing held it
        ahead.append(len(dataset.loaded) - done)

    evaluate(RedIsTheLabel(), dataset, progress=progress)
    assert max(ahead) <= 3
    assert dataset.loaded == list(range(20))


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
    # 60 more pictures are 60 · 160 kB; their scores and samples are below 1 kB each.
    assert peak(70) - peak(10) < 60_000 + 200_000


@pytest.mark.parametrize("bad", [0, 1, 5, 9])
def test_a_bad_picture_stops_at_once(bad):
    pairs = [pair([[0]])] * 10
    pairs[bad] = DataError(f"p{bad}.png is truncated.")
    dataset, runtime = InMemory(pairs), RedIsTheLabel()
    with pytest.raises(DataError, match=rf"p{bad}\.png is truncated"):
        evaluate(runtime, dataset)
    assert runtime.runs == bad, "the pictures before it, and no more"
    assert len(dataset.loaded) <= bad + 3


@pytest.mark.parametrize("error", [DataError("the output folder is full."), KeyboardInterrupt()])
def test_an_error_in_a_callback_stops_at_once(error):
    dataset = InMemory([pair([[0]])] * 50)

    def on_picture(*_):
        raise error

    with pytest.raises(type(error)):
        evaluate(RedIsTheLabel(), dataset, on_picture=on_picture)
    assert len(dataset.loaded) <= 4


def test_an_error_in_the_engine_stops_at_once():
    dataset = InMemory([pair([[0]]), (picture_of(np.full((2, 2), 4, np.uint8)), np.zeros((2, 2), np.uint8))] * 20)
    with pytest.raises(DataError, match="label 4"):
        evaluate(RedIsTheLabel(), dataset)
    assert len(dataset.loaded) <= 5


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
