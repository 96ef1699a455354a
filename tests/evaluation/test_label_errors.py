"""Doubtful regions: found where they are, ranked as documented, and planted errors come first."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from example_spec import SPEC
from PIL import Image

from benchmarks import label_errors as benchmark
from deeplabv3p.data.classes import ClassList
from deeplabv3p.data.dataset import Dataset, Sample
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.evaluation.label_errors import Doubt, doubts, find_label_errors
from deeplabv3p.pixels import IGNORE

# Logits are the colours divided by 20: pure colours are sure, greys are not.
COLORS_SPEC = SPEC.replace(input={"size_hw": None, "mean": (0.0, 0.0, 0.0), "std": (20.0, 20.0, 20.0)})


class Colors:
    """An engine at stride 4 whose classes are red, green and blue."""

    name, device = "numpy", "cpu"

    def __init__(self, spec=COLORS_SPEC):
        self.spec = spec

    def run(self, batch):
        count, height, width, _ = batch.shape
        return batch.reshape(count, height // 4, 4, width // 4, 4, 3).mean(axis=(2, 4)).astype(np.float32)

    def close(self):
        pass


def probabilities(label: np.ndarray, sure: float = 0.9, classes: int = 3) -> np.ndarray:
    """Those of a model that says ``label`` with that probability, and the rest evenly."""
    result = np.full((*label.shape, classes), (1 - sure) / (classes - 1), np.float32)
    np.put_along_axis(result, label[..., None].astype(np.int64), sure, axis=2)
    return result


def test_a_region_is_found_where_it_is():
    predicted = np.zeros((20, 30), np.uint8)
    label = predicted.copy()
    label[3:7, 5:11] = 2
    label[7, 10] = 2  # hangs on, below the last column
    (doubt,) = doubts(label, probabilities(predicted), min_pixels=2)
    assert (doubt.labelled, doubt.suggested, doubt.box, doubt.pixels) == (2, 0, (3, 5, 8, 11), 25)
    expected = np.zeros((5, 6), bool)
    expected[:4] = expected[4, 5] = True
    np.testing.assert_array_equal(doubt.mask, expected)
    assert doubt.log_odds == pytest.approx(math.log(0.9 / 0.05), rel=1e-5)
    assert doubt.score == pytest.approx(math.log(0.9 / 0.05) * math.log(25), rel=1e-5)


def test_regions_are_of_one_pair_of_classes_and_connected_by_sides():
    predicted = np.zeros((8, 12), np.uint8)
    label = predicted.copy()
    label[:3, :3] = 1
    label[3:6, 3:6] = 1  # touches the first at a corner
    label[:3, 3:6] = 2  # touches both by a side
    found = sorted((d.labelled, d.suggested, d.box) for d in doubts(label, probabilities(predicted), 2))
    assert found == [(1, 0, (0, 0, 3, 3)), (1, 0, (3, 3, 6, 6)), (2, 0, (0, 3, 3, 6))]


def test_regions_of_one_label_that_touch_are_told_once():
    predicted = np.zeros((8, 12), np.uint8)
    predicted[:, 8:] = 1  # of two suggestions the surer, larger one
    label = np.zeros((8, 12), np.uint8)
    label[2:6, 2:10] = 2
    sure = probabilities(predicted)
    label[7, :2] = 2  # elsewhere
    found = sorted((d.labelled, d.suggested, d.box) for d in doubts(label, sure, 2))
    assert found == [(0, 1, (0, 8, 8, 12)), (2, 0, (2, 2, 6, 8)), (2, 0, (7, 0, 8, 2))]
    sure[2:6, 8:10] = (0.0, 1.0, 0.0)
    found = sorted((d.labelled, d.suggested, d.box) for d in doubts(label, sure, 2))
    assert found == [(0, 1, (0, 8, 8, 12)), (2, 0, (7, 0, 8, 2)), (2, 1, (2, 8, 6, 10))]


def test_nothing_is_said_of_ignored_pixels_and_of_small_regions():
    predicted = np.zeros((20, 20), np.uint8)
    label = predicted.copy()
    label[:8, :8] = 1
    label[12:14, 12:14] = 1
    assert {d.pixels for d in doubts(label, probabilities(predicted), 2)} == {64, 4}
    assert {d.pixels for d in doubts(label, probabilities(predicted), 5)} == {64}
    assert {d.pixels for d in doubts(label, probabilities(predicted), 65)} == set()
    label[:8, :8] = IGNORE
    assert {d.pixels for d in doubts(label, probabilities(predicted), 2)} == {4}


def test_an_ignored_class_is_never_suggested():
    label = np.full((8, 12), 1, np.uint8)
    found = np.full((8, 12), 1, np.uint8)
    found[:4], found[4:, 6:] = 0, 2
    given = probabilities(found)
    assert {doubt.suggested for doubt in doubts(label, given, 2)} <= {0, 2}
    (doubt,) = doubts(label, given, 2, ignored=0)
    assert (doubt.suggested, doubt.pixels) == (2, 24)
    assert given.min() > 0, "the caller's probabilities are as they were"


def test_probabilities_of_zero_do_no_harm():
    label = np.ones((4, 4), np.uint8)
    (doubt,) = doubts(label, probabilities(np.zeros((4, 4), np.uint8), sure=1.0), 2)
    assert doubt.log_odds == pytest.approx(math.log(1e6), rel=1e-5)


def test_sure_before_large_and_large_before_small():
    def score(sure: float, side: int) -> float:
        predicted = np.zeros((40, 40), np.uint8)
        label = predicted.copy()
        label[:side, :side] = 1
        (doubt,) = doubts(label, probabilities(predicted, sure), 2)
        return doubt.score

    assert score(0.99, 10) > score(0.6, 10)
    assert score(0.9, 20) > score(0.9, 10)
    assert score(0.999, 10) > score(0.5, 30), "a sure small region before a large one that the model wavers about"


def write(folder: Path, index: int, image: np.ndarray, label: np.ndarray) -> Sample:
    paths = folder / f"i{index}.png", folder / f"l{index}.png"
    Image.fromarray(image).save(paths[0])
    Image.fromarray(label).save(paths[1])
    return Sample(f"p{index}", *paths)


def generated(folder: Path, pictures: int = 10) -> Dataset:
    """Noisy pictures of rectangles in the three colours, with true labels. Others, as large, look a little like another
    class than they are: there the model is wrong, but not sure."""
    rng = np.random.default_rng(7)
    samples = []
    for index in range(pictures):
        label = np.zeros((96, 128), np.uint8)
        looks, contrast = label.copy(), np.full((96, 128), 200.0)
        for place in range(14):
            top, left = rng.integers(0, 76), rng.integers(0, 108)
            size = rng.integers(10, 20, 2)
            inside = np.s_[top : top + size[0], left : left + size[1]]
            label[inside] = looks[inside] = rng.integers(0, 3)
            contrast[inside] = 200
            if place >= 6:
                looks[inside] = (label[inside] + 1) % 3
                contrast[inside] = rng.uniform(15, 60)
        image = 30 + rng.normal(0, 12, (96, 128, 3))
        image += np.where(np.arange(3) == looks[..., None], contrast[..., None], 0)
        samples.append(write(folder, index, np.clip(image, 0, 255).astype(np.uint8), label))
    return Dataset(folder, tuple(samples), ClassList(SPEC.classes, False), IGNORE, "list")


def test_planted_errors_come_first(tmp_path):
    dataset = generated(tmp_path)
    everyone = {0: (1, 2), 1: (0, 2), 2: (0, 1)}
    kinds = ("relabel", "erase", "relabel")
    (tmp_path / "spoilt").mkdir()
    _, planted, found = benchmark.mine(
        Colors(), dataset, kinds, 1, everyone, (1, 2), tmp_path / "spoilt", least=80, most=600
    )
    count = sum(len(own.kinds) for own in planted)
    assert count >= 25
    hits = [benchmark.planted_error(suspect, planted) > 0 for suspect in found]
    # A third of all regions is planted. Many of them lie on what looks like another class: those nobody can find.
    assert len(found) >= 2 * count
    assert np.mean(hits) < 0.4
    assert np.mean(hits[:15]) >= 0.8
    scores = [suspect.doubt.score for suspect in found]
    assert scores == sorted(scores, reverse=True)


def test_only_the_first_are_kept(tmp_path):
    dataset = generated(tmp_path, 3)
    told = []
    everything = find_label_errors(Colors(), dataset, min_pixels=10)
    some = find_label_errors(
        Colors(), dataset, min_pixels=10, limit=5, progress=lambda done, total, info=None: told.append((done, total))
    )
    assert len(everything) > 5
    assert [s.doubt.score for s in some] == [s.doubt.score for s in everything[:5]]
    assert all(suspect.sample == dataset.samples[suspect.index] for suspect in everything)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_what_does_not_fit_is_refused(tmp_path):
    dataset = generated(tmp_path, 1)
    fewer = dataclasses.replace(dataset, class_list=ClassList(SPEC.classes[:2], False))
    with pytest.raises(UsageError, match="3 classes, but the dataset list has 2"):
        find_label_errors(Colors(), fewer)
    with pytest.raises(DataError, match="labels, which have no probabilities"):
        find_label_errors(Colors(COLORS_SPEC.replace(output={"kind": "labels"})), dataset)


def scene() -> np.ndarray:
    label = np.zeros((40, 60), np.uint8)
    label[:, 30:] = 1
    label[10:20, 10:24] = 2
    label[30:34, 40:44] = 2  # too small to be planted with
    label[0] = IGNORE
    return label


def planted_in_scene(kind: str, seed: int = 0) -> benchmark.Planted:
    rng = np.random.default_rng(seed)
    return benchmark.plant(scene(), [kind], rng, {2: (1,)}, [2], least=100, most=1000)


def test_planting_a_relabelled_piece():
    planted = planted_in_scene("relabel")
    assert planted.kinds == ("relabel",)
    changed = planted.label != scene()
    np.testing.assert_array_equal(changed, planted.where == 1)
    assert changed.sum() == 140
    assert set(planted.label[changed].tolist()) == {1}


def test_planting_an_erased_object():
    planted = planted_in_scene("erase")
    changed = planted.label != scene()
    np.testing.assert_array_equal(changed, planted.where == 1)
    assert changed.sum() == 140
    # Class 1 begins 6 pixels to the right of the object, class 0 is nearer everywhere.
    assert set(planted.label[changed].tolist()) <= {0, 1}
    assert planted.label[15, 11] == 0


def test_planting_a_shifted_outline():
    for seed in range(6):  # to both sides
        planted = planted_in_scene("shift", seed)
        changed = planted.label != scene()
        np.testing.assert_array_equal(changed, planted.where == 1)
        assert changed.sum() == 2 * 10 * benchmark.SHIFT
        assert (planted.label == 2).sum() == (scene() == 2).sum()
        assert (planted.label[0] == IGNORE).all()


def test_a_region_is_planted_if_more_than_half_of_it_is():
    where = np.zeros((10, 10), np.int32)
    where[:5] = 3
    planted = [benchmark.Planted(np.zeros((10, 10), np.uint8), where, ("erase",) * 3)]

    def number(top: int, bottom: int) -> int:
        mask = np.ones((bottom - top, 10), np.bool_)
        suspect = benchmark.SuspectLabel(0, Sample("p", Path(), Path()), Doubt(1, 0, (top, 0, bottom, 10), mask, 1.0))
        return benchmark.planted_error(suspect, planted)

    assert number(0, 4) == 3
    assert number(1, 8) == 3
    assert number(0, 10) == 0, "exactly half"
    assert number(6, 9) == 0


@pytest.mark.slow
def test_camvid(deeplab_data, tmp_path, monkeypatch):
    """The proof of the documentation with fewer pictures: planted errors in pictures that the model has not seen."""
    root = Path(__file__).parents[2]
    flags = ["--model_path", str(root / "weights/camvid_mobilenetv2.keras"), "--every", "6", "--seeds", "1"]
    data = ["--dataset_path", str(deeplab_data / "camvid"), "--output", str(tmp_path / "result.json")]
    monkeypatch.setattr(sys, "argv", ["label_errors.py", *flags, *data])
    benchmark.main()
    result = json.loads((tmp_path / "result.json").read_text())
    (run,) = result["runs"]["relabel and erase"]
    assert sum(run["planted"].values()) >= 60
    assert run["regions"] > 1000
    assert run["precision_50"] >= 0.8
