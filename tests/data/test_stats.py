"""What a dataset holds, counted by hand on small label maps."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabv3p.data.balance import balanced_weights, sample_counts
from deeplabv3p.data.classes import ClassList
from deeplabv3p.data.dataset import Dataset, Sample
from deeplabv3p.data.stats import dataset_statistics, piece_areas
from deeplabv3p.errors import DataError
from deeplabv3p.spec import ClassInfo

CLASSES = ClassList(tuple(ClassInfo(name, (i, 0, 0)) for i, name in enumerate(("ground", "thing", "absent"))), True)


def made(folder: Path, *labels: np.ndarray) -> Dataset:
    samples = []
    for index, label in enumerate(labels):
        image, path = folder / f"{index}.jpg", folder / f"{index}.png"
        Image.fromarray(np.zeros((*label.shape, 3), np.uint8)).save(image)
        Image.fromarray(label).save(path)
        samples.append(Sample(str(index), image, path))
    return Dataset(folder, tuple(samples), CLASSES, 9, "list")


def first() -> np.ndarray:
    """4x6: a thing of 2x2 and one of a pixel that touches it at a corner only, 3 ignored pixels, the ground in two."""
    label = np.zeros((4, 6), np.uint8)
    label[:2, :2] = 1
    label[2, 2] = 1
    label[3, 3:] = 9
    return label


def test_everything_by_hand(tmp_path):
    dataset = made(tmp_path, first(), np.zeros((4, 6), np.uint8), np.full((5, 3), 9, np.uint8))
    told = []
    found = dataset_statistics(dataset, progress=lambda done, total, info=None: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)] * 2
    assert (found.source, found.pictures, found.pixels) == ("list", 3, 63)
    assert (found.ignored_pixels, found.labelled_pixels) == (18, 45)
    assert found.sizes == (((4, 6), 2), ((5, 3), 1))
    assert found.together.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    ground, thing, absent = found.classes
    assert (ground.pixels, ground.pictures, ground.piece_areas.tolist()) == (40, 2, [5, 11, 24])
    assert (thing.pixels, thing.pictures, thing.piece_areas.tolist()) == (5, 1, [1, 4])
    assert (absent.pixels, absent.pictures, absent.piece_areas.tolist()) == (0, 0, [])


def test_sides_are_counted_by_pixels(tmp_path):
    thing = dataset_statistics(made(tmp_path, first())).classes[1]
    assert thing.piece_side(0.1) == 1.0, "the speck holds the first 20 % of the pixels"
    assert thing.piece_side(0.2) == 1.0
    assert thing.piece_side(0.21) == 2.0
    assert thing.piece_side(1.0) == 2.0
    assert math.isnan(dataset_statistics(made(tmp_path, first())).classes[2].piece_side(0.5))


def test_weights_are_those_that_training_uses(tmp_path):
    dataset = made(tmp_path, first(), np.ones((4, 6), np.uint8))
    found = dataset_statistics(dataset)
    expected = balanced_weights(sample_counts(dataset).sum(axis=0))
    assert [item.weight for item in found.classes] == expected.tolist()
    assert len(set(expected.tolist())) == 3, "or the test could not tell them apart"


def test_a_dataset_that_is_ignored_as_a_whole(tmp_path):
    found = dataset_statistics(made(tmp_path, np.full((4, 4), 9, np.uint8)))
    assert found.labelled_pixels == 0
    assert [item.weight for item in found.classes] == [1, 1, 1]


def test_a_label_map_of_another_size_is_named(tmp_path):
    dataset = made(tmp_path, first(), first())
    Image.fromarray(np.zeros((6, 4, 3), np.uint8)).save(tmp_path / "1.jpg")
    with pytest.raises(DataError, match=r"1\.jpg is 6x4 and its label map .*1\.png is 4x6"):
        dataset_statistics(dataset)


def test_a_damaged_label_map_is_named(tmp_path):
    dataset = made(tmp_path, first(), first())
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"1\.png"):
        dataset_statistics(dataset)


def test_pieces_of_an_empty_mask():
    assert piece_areas(np.zeros((3, 3), np.bool_)).tolist() == []
    assert sorted(piece_areas(np.eye(3, dtype=np.bool_)).tolist()) == [1, 1, 1], "corners do not connect"
