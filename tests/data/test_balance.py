"""Pixels of each class: counted right, found again, never out of date; and the weights that follow from them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplabv3p.data import balance
from deeplabv3p.data.classes import ClassList
from deeplabv3p.data.dataset import Dataset, Sample
from deeplabv3p.errors import DataError
from deeplabv3p.spec import ClassInfo

CLASSES = ClassList(tuple(ClassInfo(f"c{i}", (i, 0, 0)) for i in range(4)), explicit_colors=True)


def made(folder: Path, seed: int = 0, count: int = 5) -> tuple[Dataset, np.ndarray]:
    """A dataset whose labels are 0, 1, 3 and the ignored 9, and its pixels by sample and class."""
    rng = np.random.default_rng(seed)
    samples, counts = [], []
    for i in range(count):
        label = rng.choice(np.array([0, 1, 3, 9], np.uint8), (8, 6 + i), p=[0.6, 0.2, 0.1, 0.1])
        Image.fromarray(label).save(folder / f"{i}.png")
        samples.append(Sample(str(i), folder / f"{i}.jpg", folder / f"{i}.png"))  # pictures are never opened
        counts.append([(label == c).sum() for c in range(4)])
    return Dataset(folder, tuple(samples), CLASSES, 9, "list"), np.array(counts)


def test_counts_are_those_of_the_label_files(tmp_path):
    dataset, expected = made(tmp_path)
    told = []
    counts = balance.sample_counts(dataset, progress=lambda done, total, info=None: told.append((done, total)))
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype == np.int64
    assert told == [(i + 1, 5) for i in range(5)]
    np.testing.assert_array_equal(balance.sample_counts(dataset).sum(0), expected.sum(0))


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """The label maps that were decoded, while the test goes on."""
    paths: list[Path] = []
    label = Dataset.label
    monkeypatch.setattr(Dataset, "label", lambda self, sample: paths.append(sample.label) or label(self, sample))
    return paths


def test_what_was_counted_is_found_again_until_something_changes(tmp_path, decoded):
    dataset, expected = made(tmp_path)
    cache = tmp_path / "cache"  # is made
    for _ in range(2):
        np.testing.assert_array_equal(balance.sample_counts(dataset, cache=cache), expected)
    assert len(decoded) == 5, "decoded once"

    other = dataclasses.replace(dataset, ignore_index=2)
    with pytest.raises(DataError, match="9"):  # the ignore label is another, so the old counts do not hold
        balance.sample_counts(other, cache=cache)
    fewer = dataclasses.replace(dataset, samples=dataset.samples[1:])
    np.testing.assert_array_equal(balance.sample_counts(fewer, cache=cache), expected[1:])
    swapped = dataclasses.replace(dataset, samples=dataset.samples[::-1])
    np.testing.assert_array_equal(balance.sample_counts(swapped, cache=cache), expected[::-1])
    more = dataclasses.replace(dataset, class_list=ClassList((*CLASSES.classes, ClassInfo("new", (9, 9, 9))), True))
    assert balance.sample_counts(more, cache=cache).shape == (5, 5)

    before = dataset.samples[0].label.stat()
    label = np.asarray(Image.open(dataset.samples[0].label)).copy()
    label[0] = 1
    Image.fromarray(label).save(dataset.samples[0].label)
    os.utime(dataset.samples[0].label, ns=(before.st_atime_ns, before.st_mtime_ns))  # the content counts, not its date
    changed = balance.sample_counts(dataset, cache=cache)
    assert changed[0].tolist() == [(label == c).sum() for c in range(4)]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", None])
def test_a_damaged_cache_is_replaced(tmp_path, decoded, content):
    dataset, expected = made(tmp_path)
    balance.sample_counts(dataset, cache=tmp_path)
    (file,) = tmp_path.glob("class_counts_*.npz")
    if content is None:
        np.savez(file, counts=expected[:2])
    else:
        file.write_bytes(content)
    decoded.clear()
    for _ in range(2):
        np.testing.assert_array_equal(balance.sample_counts(dataset, cache=tmp_path), expected)
    assert len(decoded) == 5


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path):
    dataset, expected = made(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("")
    np.testing.assert_array_equal(balance.sample_counts(dataset, cache=blocked), expected)


@pytest.mark.parametrize("cached", [False, True])
def test_a_bad_label_map_is_named(tmp_path, cached):
    dataset, _ = made(tmp_path)
    cache = tmp_path if cached else None
    dataset.samples[3].label.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"3\.png"):
        balance.sample_counts(dataset, cache=cache)
    dataset.samples[3].label.unlink()
    with pytest.raises(DataError, match=r"3\.png"):
        balance.sample_counts(dataset, cache=cache)


def test_weights_by_hand():
    weights = balance.balanced_weights(np.array([60, 0, 20, 10]))
    assert weights.dtype == np.float32
    assert weights.tolist() == [0.5, 1.0, 1.5, 3.0]  # 90 pixels, three classes present


def test_balanced_classes_weigh_the_same_and_pixels_1_on_average(tmp_path):
    counts = balance.sample_counts(made(tmp_path)[0]).sum(0)
    weighed = counts * balance.balanced_weights(counts).astype(np.float64)
    np.testing.assert_allclose(weighed[counts > 0], counts.sum() / 3, rtol=1e-6)
    assert np.all(balance.balanced_weights(np.zeros(3, np.int64)) == 1), "a dataset that is ignored as a whole"
