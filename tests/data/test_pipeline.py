from __future__ import annotations

import dataclasses
import threading
import time
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from deeplabv3p.data.augment import Augmentation, vary
from deeplabv3p.data.balance import sample_counts
from deeplabv3p.data.classes import ClassList, default_colors
from deeplabv3p.data.dataset import Dataset, open_dataset
from deeplabv3p.data.pipeline import Batch, batches, steps_per_epoch, usual_batch_size
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.pixels import IGNORE, normalize
from deeplabv3p.spec import ClassInfo, Preprocessing

MEAN, STD = (120.0, 115.0, 105.0), (58.0, 57.0, 56.0)
PREPROCESSING = Preprocessing(MEAN, STD)
COUNT = 7
NO_CHANGE = Augmentation((1, 1), flip=0)
EVERYTHING = Augmentation(
    (0.5, 2),
    brightness=0.1,
    contrast=0.1,
    saturation=0.1,
    hue=5,
    flip_vertical=0.5,
    rotate=20,
    zoom=0.2,
    sharpness=0.5,
    greyscale=0.3,
    blur=0.3,
    clahe=0.3,
    gridmask=0.5,
    gridmask_ramp=2,
    class_crop=0.5,
    copy_paste=0.5,
    cutmix=0.5,
)
SIZE = (24, 32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Seven pieces of a photograph; every pixel of the label of picture i is i."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for index in range(COUNT):
        piece = astronaut()[50 * index : 50 * index + SIZE[0], 60 * index : 60 * index + SIZE[1]]
        Image.fromarray(piece).save(root / "images" / f"{index}.png")
        Image.fromarray(np.full(SIZE, index, np.uint8)).save(root / "labels" / f"{index}.png")
    (root / "train.txt").write_text("\n".join(str(index) for index in range(COUNT)))
    classes = tuple(ClassInfo(str(i), color) for i, color in enumerate(default_colors(COUNT)))
    return open_dataset(root, "train.txt", ClassList(classes, explicit_colors=False), 255)


def run(dataset: Dataset, **changes: Any) -> list[Batch]:
    options: dict[str, Any] = {
        "size_hw": SIZE,
        "batch_size": 2,
        "preprocessing": PREPROCESSING,
        "augmentation": Augmentation(brightness=0.2, saturation=0.3),
        "seed": 5,
        "steps_per_epoch": 3,
        "epochs": 3,
    }
    iterator = batches(dataset, **(options | changes))
    try:
        return list(iterator)
    finally:
        iterator.close()


def order(result: Iterable[Batch]) -> list[int]:
    """Which picture each sample came from (the label of a picture is its number)."""
    return [int(label[label != IGNORE][0]) for _, labels in result for label in labels]


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def test_shapes_and_types(dataset: Dataset) -> None:
    result = run(dataset, size_hw=(17, 45), batch_size=3)
    assert len(result) == 9
    for images, labels in result:
        assert (images.shape, images.dtype) == ((3, 17, 45, 3), np.float32)
        assert (labels.shape, labels.dtype) == ((3, 17, 45), np.uint8)


def test_samples_are_what_the_parts_make(dataset: Dataset) -> None:
    result = run(dataset, augmentation=NO_CHANGE)
    for images, labels in result:
        for image, label in zip(images, labels, strict=True):
            expected, expected_label = dataset.load(int(label[0, 0]))
            np.testing.assert_array_equal(image, normalize(expected, MEAN, STD))
            np.testing.assert_array_equal(label, expected_label)


def test_a_sample_is_a_function_of_seed_epoch_and_index(dataset: Dataset) -> None:
    augmentation = Augmentation(contrast=0.4)
    result = run(dataset, augmentation=augmentation)
    for epoch, step, place in ((0, 0, 0), (1, 2, 1), (2, 1, 0)):
        images, labels = result[3 * epoch + step]
        index = 2 * step + place
        loaded = dataset.load(order([(images, labels)])[place])
        rng = np.random.default_rng([5, epoch, index])
        varied = vary(*loaded, SIZE, rng, augmentation, pad_color=MEAN)
        np.testing.assert_array_equal(images[place], normalize(varied.image, MEAN, STD))
        np.testing.assert_array_equal(labels[place], varied.label)


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("prefetch", [1, 6])
@pytest.mark.parametrize("augmentation", [Augmentation(brightness=0.2, saturation=0.3), EVERYTHING])
def test_threads_and_prefetching_change_nothing(
    dataset: Dataset, threads: int, prefetch: int, augmentation: Augmentation
) -> None:
    options = {"augmentation": augmentation}
    assert_equal(run(dataset, threads=1, **options), run(dataset, threads=threads, prefetch=prefetch, **options))


def test_two_runs_are_equal_and_seeds_differ(dataset: Dataset) -> None:
    first = run(dataset)
    assert_equal(first, run(dataset))
    other = run(dataset, seed=6)
    assert not np.array_equal(first[0][0], other[0][0])
    assert order(first) != order(other)


@pytest.mark.parametrize("start", [0, 1, 3, 4, 8, 9])
def test_starting_later_is_skipping(dataset: Dataset, start: int) -> None:
    assert_equal(run(dataset, augmentation=EVERYTHING)[start:], run(dataset, augmentation=EVERYTHING, start_step=start))


def test_gridmask_grows_with_the_epochs_of_the_run(dataset: Dataset) -> None:
    augmentation = dataclasses.replace(NO_CHANGE, gridmask=1, gridmask_ramp=2)
    masked = [(label == IGNORE).any() for _, labels in run(dataset, augmentation=augmentation) for label in labels]
    assert not any(masked[:6])
    assert all(masked[12:])


def test_class_counts_are_taken_or_counted(dataset: Dataset) -> None:
    """Each picture holds a class of its own, so what is copied says where from."""
    augmentation = dataclasses.replace(NO_CHANGE, copy_paste=1)
    counts = sample_counts(dataset)
    assert_equal(run(dataset, augmentation=augmentation), run(dataset, augmentation=augmentation, sample_counts=counts))
    counts[2:] *= 100  # now the first two pictures hold the rare classes
    pasted = run(dataset, augmentation=augmentation, sample_counts=counts)
    assert set(order(pasted)) == {0, 1}


def test_skipped_batches_are_not_decoded(dataset: Dataset) -> None:
    broken = dataclasses.replace(dataset, samples=())
    with pytest.raises(DataError):
        run(broken)
    start = time.perf_counter()
    assert len(run(dataset, epochs=10**6, start_step=3 * 10**6 - 1)) == 1
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("processes", [2, 4])
def test_the_shards_together_are_the_batches(dataset: Dataset, processes: int) -> None:
    options: dict[str, Any] = {"batch_size": 4, "start_step": 2, "augmentation": EVERYTHING}
    whole = run(dataset, **options)
    parts = [run(dataset, shard=(i, processes), **options) for i in range(processes)]
    assert {len(images) for part in parts for images, _ in part} == {4 // processes}
    joined = [
        (np.concatenate([images for images, _ in rows]), np.concatenate([labels for _, labels in rows]))
        for rows in zip(*parts, strict=True)
    ]
    assert_equal(whole, joined)


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 0), (0, 3)])
def test_an_impossible_shard_is_named(dataset: Dataset, shard: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=r"shard is|multiple of the 3 processes"):
        run(dataset, shard=shard)


def test_the_state_is_the_step(dataset: Dataset) -> None:
    iterator = batches(
        dataset,
        size_hw=SIZE,
        batch_size=2,
        preprocessing=PREPROCESSING,
        augmentation=NO_CHANGE,
        seed=5,
        steps_per_epoch=3,
        epochs=3,
        start_step=2,
    )
    assert iterator.get_state() == {"next_index": 2}
    next(iterator)
    assert iterator.get_state() == {"next_index": 3}
    iterator.close()


def test_an_epoch_shows_each_picture_at_most_once(dataset: Dataset) -> None:
    epochs = 30
    shown = np.array(order(run(dataset, epochs=epochs))).reshape(epochs, 6)
    assert all(len(set(epoch)) == 6 for epoch in shown)
    assert len({tuple(epoch) for epoch in shown}) > 25
    counts = np.bincount(shown.ravel(), minlength=COUNT)
    assert counts.min() > 15  # the one left out (6 of 7 are shown) changes


def test_a_small_dataset_is_gone_through_again_in_a_new_order(dataset: Dataset) -> None:
    result = run(dataset, steps_per_epoch=7, epochs=2)
    shown = order(result)
    laps = [shown[start : start + COUNT] for start in range(0, 28, COUNT)]
    assert all(sorted(lap) == list(range(COUNT)) for lap in laps)
    assert len({tuple(lap) for lap in laps}) == 4
    images = {}
    for batch, labels in result:
        for image, label in zip(batch, labels, strict=True):
            images.setdefault(int(label[label != IGNORE][0]), []).append(image.tobytes())
    assert all(len(set(versions)) == 4 for versions in images.values())


def test_one_picture_is_enough(dataset: Dataset) -> None:
    assert order(run(dataclasses.replace(dataset, samples=dataset.samples[3:4]))) == [3] * 18


@pytest.mark.parametrize(
    ("samples", "size"), [(1, 2), (10, 2), (19, 2), (20, 4), (39, 4), (40, 8), (79, 8), (80, 16), (10**6, 16)]
)
def test_few_pictures_have_small_batches(samples: int, size: int) -> None:
    assert usual_batch_size(samples) == size
    for devices in (1, 2, 3, 8):
        assert usual_batch_size(samples, devices) % devices == 0
        assert usual_batch_size(samples, devices) >= size


def test_a_small_picture_is_surrounded_by_zeros_and_ignore(dataset: Dataset) -> None:
    [(images, labels)] = run(
        dataset, size_hw=(40, 50), augmentation=Augmentation(brightness=0.5), steps_per_epoch=1, epochs=1
    )
    outside = labels == IGNORE
    assert outside.any()
    assert np.abs(images[outside]).max() == 0


def test_blue_first_is_the_same_picture_with_its_channels_turned(dataset: Dataset) -> None:
    """Also outside the pictures, where the mean, whatever its order, becomes 0."""
    large = {"size_hw": (40, 50), "augmentation": Augmentation(brightness=0.5), "steps_per_epoch": 1, "epochs": 1}
    [(rgb, labels)] = run(dataset, **large)
    [(bgr, same)] = run(dataset, preprocessing=Preprocessing(MEAN[::-1], STD[::-1], "BGR"), **large)
    assert (rgb[..., 0] != rgb[..., 2]).any()
    np.testing.assert_array_equal(rgb, bgr[..., ::-1])
    np.testing.assert_array_equal(labels, same)


def test_a_file_that_cannot_be_read_is_its_data_error(dataset: Dataset, tmp_path: Path) -> None:
    good = dataset.samples[0]
    broken = tmp_path / "broken.png"
    broken.write_bytes(good.image.read_bytes()[:-20])
    samples = (*dataset.samples[:-1], dataclasses.replace(good, image=broken))
    threads_before = threading.active_count()
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"broken\.png is a truncated PNG"):
        run(dataclasses.replace(dataset, samples=samples), steps_per_epoch=4, epochs=1000)
    assert time.perf_counter() - start < 2
    while threading.active_count() > threads_before:
        assert time.perf_counter() - start < 5
        time.sleep(0.01)


def test_memory_does_not_grow_with_the_pictures(dataset: Dataset) -> None:
    def peak(epochs: int) -> int:
        iterator = batches(
            dataset,
            size_hw=(64, 64),
            batch_size=4,
            preprocessing=PREPROCESSING,
            augmentation=Augmentation(),
            seed=0,
            steps_per_epoch=2,
            epochs=epochs,
        )
        tracemalloc.start()
        for _ in iterator:
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        iterator.close()
        return highest

    peak(2)  # imports and caches
    batch_bytes = 4 * 64 * 64 * (3 * 4 + 1)
    assert peak(20) < peak(4) + 4 * batch_bytes  # 32 batches more, none of them kept


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"steps_per_epoch": 0},
        {"epochs": 0},
        {"threads": 0},
        {"prefetch": 0},
        {"seed": -1},
        {"start_step": 10},
        {"start_step": -1},
    ],
)
def test_impossible_numbers_are_named(dataset: Dataset, wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        run(dataset, **wrong)


def test_steps_per_epoch() -> None:
    assert [steps_per_epoch(count, 8) for count in (1, 7, 8, 15, 16, 367)] == [1, 1, 1, 1, 2, 45]
