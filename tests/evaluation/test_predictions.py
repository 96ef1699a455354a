"""Label maps that are files already: found by name, and scored as a model's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabv3p.data.classes import ClassList
from deeplabv3p.data.dataset import Dataset, Sample
from deeplabv3p.errors import DataError
from deeplabv3p.evaluation.predictions import evaluate_predictions, find_predictions
from deeplabv3p.metrics import Scores, confusion_matrix
from deeplabv3p.spec import ClassInfo

CLASSES = ClassList(tuple(ClassInfo(f"c{i}", (i, 0, 0)) for i in range(3)), explicit_colors=True)
NAMES = ("a", "b c", "day/ü")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(1)
    samples = []
    for index, name in enumerate(NAMES):
        image, label = tmp_path / f"i{index}.png", tmp_path / f"l{index}.png"
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(image)
        Image.fromarray(rng.choice(np.array([0, 1, 2], np.uint8), (6, 8))).save(label)
        samples.append(Sample(name, image, label))
    return Dataset(tmp_path, tuple(samples), CLASSES, 0, "list")  # class 0 is ignored in the truth


def predict(folder: Path, dataset: Dataset, form: str = "{}.png") -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    made = []
    for sample in dataset.samples:
        path = folder / form.format(sample.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        made.append(rng.choice(np.array([0, 1, 2], np.uint8), (6, 8)))
        Image.fromarray(made[-1]).save(path)
    return made


@pytest.mark.parametrize("form", ["{}.png", "{}_label.png"])
def test_scores_are_those_of_the_confusion_matrix(tmp_path, dataset, form):
    made = predict(tmp_path / "p", dataset, form)
    seen, told = [], []
    found = evaluate_predictions(
        dataset,
        find_predictions(dataset, tmp_path / "p"),
        protocol="device",
        progress=lambda done, total, info=None: told.append((done, total)),
        on_picture=lambda sample, image, truth, prediction: seen.append((sample.name, image.shape, prediction)),
    )
    counts = [confusion_matrix(dataset.load(i)[1], prediction, 3) for i, prediction in enumerate(made)]
    np.testing.assert_array_equal(found.scores.confusion, sum(counts))
    assert found.scores.confusion[0].sum() == 0, "the ignored class is in no truth"
    assert found.scores.confusion[:, 0].sum() > 0, "but may be predicted"
    assert [picture.pa for picture in found.per_picture] == [Scores(own).pa for own in counts]
    assert (found.protocol, found.dataset, found.pictures) == ("device", "list", 3)
    assert [name for name, _, _ in seen] == list(NAMES)
    assert all(np.array_equal(own, made[i]) for i, (_, _, own) in enumerate(seen))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_missing_predictions_are_named_and_counted(tmp_path, dataset):
    predict(tmp_path / "p", dataset)
    (tmp_path / "p" / "b c.png").unlink()
    with pytest.raises(DataError, match=r"no prediction for 'b c': there is neither b c\.png nor b c_label\.png"):
        find_predictions(dataset, tmp_path / "p")
    (tmp_path / "p" / "a.png").unlink()
    with pytest.raises(DataError, match=r"no prediction for 'a' \(1 more of 3 are missing\)"):
        find_predictions(dataset, tmp_path / "p")
    with pytest.raises(DataError, match="nowhere does not exist"):
        find_predictions(dataset, tmp_path / "nowhere")


def test_predictions_that_do_not_fit_are_named(tmp_path, dataset):
    predict(tmp_path / "p", dataset)
    paths = find_predictions(dataset, tmp_path / "p")
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(paths[1])
    with pytest.raises(DataError, match=r"b c\.png is 3x4, but its picture .*i1\.png is 6x8"):
        evaluate_predictions(dataset, paths, protocol="")
    Image.fromarray(np.full((6, 8), 3, np.uint8)).save(paths[1])
    with pytest.raises(DataError, match=r"b c\.png holds the label 3 "):
        evaluate_predictions(dataset, paths, protocol="")
    paths[1].write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"b c\.png is not a PNG"):
        evaluate_predictions(dataset, paths, protocol="")
