"""The identity of a run's data: what changes pictures or labels is seen, what does not is not."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.dataset import Dataset, open_dataset
from deeplabv3p.data.shapes import generate
from deeplabv3p.errors import DataError
from deeplabv3p.training import data_record
from deeplabv3p.training.data_record import RunData


@pytest.fixture
def folder(tmp_path) -> Path:
    generate(tmp_path / "data", train=6, val=4, test=0, size_hw=(64, 64), seed=1)
    return tmp_path / "data"


def dataset(folder: Path, split: str) -> Dataset:
    return open_dataset(folder, folder / f"{split}.txt", load_classes(folder / "classes.txt"), 255)


def data_of(folder: Path, *, thorough: bool = False) -> RunData:
    return RunData(dataset(folder, "train"), dataset(folder, "val"), thorough=thorough)


def state_of(data: RunData) -> dict[str, np.ndarray]:
    return {f"data/{number:05d}": array for number, array in enumerate(data.arrays)}


def overwrite(path: Path, data: bytes) -> None:
    """In place, with the time it had."""
    stat = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_touched_copied_and_moved_data_is_the_same(folder, tmp_path):
    before = state_of(data_of(folder))
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    assert data_of(folder).check_same(before, tmp_path) == []
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert data_of(tmp_path / "elsewhere").check_same(before, tmp_path) == []


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("kind", ["label", "image"])
def test_an_overwritten_file_is_seen_whatever_its_size_and_time(folder, tmp_path, split, kind):
    before = state_of(data_of(folder))
    victim = getattr(dataset(folder, split).samples[2], kind)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    overwrite(victim, bytes(data))
    use, what = {"train": "training", "val": "validation"}[split], {"label": "label map", "image": "picture"}[kind]
    with pytest.raises(
        DataError, match=f"dataset has changed .* in the {use} list, 1 of .* {what}s have .*{victim.name}"
    ):
        data_of(folder).check_same(before, tmp_path)


def test_a_png_of_any_size_is_seen_by_its_checksums(folder):
    """One pixel of a label map that is far longer than the blocks that are read, and as long after as before."""
    sample = dataset(folder, "val").samples[0]
    label = np.random.default_rng(0).integers(0, 7, (600, 600), np.uint8)
    found = []
    for _ in range(2):
        cv2.imwrite(str(sample.label), label, [cv2.IMWRITE_PNG_COMPRESSION, 0])
        found.append((sample.label.stat().st_size, data_record.record(dataset(folder, "val"))))
        label[300, 211] ^= 1
    (size, before), (same_size, after) = found
    assert size == same_size > 20 * data_record._BLOCK
    assert (before != after).sum() == 1


def test_only_all_content_tells_a_change_between_the_blocks(folder, tmp_path):
    """A picture of another format has no checksum at its end: --verify_data reads all of it."""
    victim = dataset(folder, "train").samples[0].image
    victim.write_bytes(np.random.default_rng(1).bytes(100_000))
    quick, thorough = state_of(data_of(folder)), state_of(data_of(folder, thorough=True))
    data = bytearray(victim.read_bytes())
    data[20_000] ^= 1
    overwrite(victim, bytes(data))
    assert data_of(folder).check_same(quick, tmp_path) == []
    assert data_of(folder).check_same(thorough, tmp_path) == [], "not asked for"
    with pytest.raises(DataError, match=rf"1 of 6 pictures .*{victim.name}"):
        data_of(folder, thorough=True).check_same(thorough, tmp_path)


def test_hashes_of_all_content_are_kept_and_can_be_added_later(folder, tmp_path):
    thorough = data_of(folder, thorough=True)
    resumed = data_of(folder)
    assert resumed.check_same(state_of(thorough), tmp_path) == []
    for ours, theirs in zip(resumed.arrays, thorough.arrays, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    late = data_of(folder, thorough=True)
    assert len(late.check_same(state_of(data_of(folder)), tmp_path)) == 2
    assert all(array.all() for array in late.arrays)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda names: names[::-1], "in another order"),
        (lambda names: names[:-1], "0 pictures are new and 1 are gone"),
        (lambda names: [*names[1:], "train_00000"], r"1 pictures are new \(the first is train_00000\) and 1 are gone"),
    ],
)
def test_another_list_is_named(folder, tmp_path, change, said):
    before = state_of(data_of(folder))
    names = (folder / "val.txt").read_text().split()
    (folder / "val.txt").write_text("\n".join(change(names)))
    with pytest.raises(DataError, match=f"in the validation list, .*{said}"):
        data_of(folder).check_same(before, tmp_path)


@pytest.mark.parametrize(
    "arrays", [{}, {"data/00000": np.zeros((6, 5), np.uint64)}, {"data/00000": np.zeros(3), "data/00001": np.zeros(3)}]
)
def test_a_state_that_does_not_tell_is_refused(folder, tmp_path, arrays):
    with pytest.raises(DataError):
        data_of(folder).check_same(arrays, tmp_path)


def test_of_very_many_some_are_opened_and_all_are_measured(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(data_record, "MOST_READ", 2)
    before = state_of(data_of(folder))
    samples = dataset(folder, "train").samples
    data = bytearray(samples[2].label.read_bytes())
    data[-20] ^= 1
    overwrite(samples[2].label, bytes(data))
    assert data_of(folder).check_same(before, tmp_path) == []
    overwrite(samples[2].label, bytes(data) + b"x")
    with pytest.raises(DataError, match="1 of 6 label maps"):
        data_of(folder).check_same(before, tmp_path)


def test_a_file_that_is_gone_meanwhile_is_one_clear_error(folder):
    found = dataset(folder, "val")
    lost = replace(found, samples=(replace(found.samples[0], image=folder / "gone.jpg"),))
    with pytest.raises(DataError, match=r"cannot read .*gone\.jpg"):
        data_record.record(lost)
