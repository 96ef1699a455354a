"""Training batches as a pure function of (seed, epoch, index), decoded and augmented in threads by grain."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import grain
import numpy as np
import numpy.typing as npt
from grain.experimental import index_shuffle

from deeplabv3p.data.augment import Augmentation, augment
from deeplabv3p.data.dataset import Dataset
from deeplabv3p.data.decode import Picture
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.pixels import normalize
from deeplabv3p.spec import Preprocessing

Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]


def steps_per_epoch(num_samples: int, batch_size: int) -> int:
    """Whole batches in one pass over the samples, at least 1."""
    return max(1, num_samples // batch_size)


def batches(
    dataset: Dataset,
    *,
    size_hw: tuple[int, int],
    batch_size: int,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    seed: int,
    steps_per_epoch: int,
    epochs: int,
    start_step: int = 0,
    threads: int = 2,
    prefetch: int = 4,
) -> grain.DatasetIterator:
    """Iterate over ``epochs * steps_per_epoch`` batches, each epoch in an order of its own.

    Every sample depends on ``seed``, its epoch and its place in the epoch alone, so batches are the same for any number
    of threads, and after any start. A dataset smaller than an epoch is gone through again, in a new order and with new
    augmentation. At most ``prefetch`` batches are held, however many pictures there are. OpenCV's own threads are left
    as they are: limiting them would reach the whole process, and the processor time of an image stays the same.

    Args:
        dataset: the samples.
        size_hw: (height, width) of the crops.
        batch_size: samples a batch.
        preprocessing: how pixels become numbers; its mean is also the colour outside the pictures, which becomes 0.
        augmentation: how much to vary.
        seed: 0 or more.
        steps_per_epoch: batches an epoch.
        epochs: how many epochs.
        start_step: batches to skip, counted from the first epoch. They are not decoded.
        threads: worker threads; each makes a whole batch.
        prefetch: batches made in advance.

    Returns:
        An iterator over (images float32 [B, h, w, 3] normalised, labels uint8 [B, h, w]). Its ``get_state()`` is
        ``{"next_index": step}``; ``close()`` ends its threads. A sample that cannot be read raises its DataError when
        its batch is due.

    Raises:
        DataError: the dataset is empty.
        UsageError: a count or the seed is out of range.
    """
    if not len(dataset):
        raise DataError(f"{dataset.source} names no pictures.")
    limits = {"batch_size": batch_size, "steps_per_epoch": steps_per_epoch, "epochs": epochs, "threads": threads}
    for name, value in (limits | {"prefetch": prefetch}).items():
        if value < 1:
            raise UsageError(f"{name} is {value}, expected at least 1.")
    if seed < 0:
        raise UsageError(f"seed is {seed}, expected 0 or more.")
    if not 0 <= start_step <= epochs * steps_per_epoch:
        raise UsageError(f"start_step is {start_step}, expected 0 to {epochs * steps_per_epoch}, the number of steps.")
    samples_per_epoch = steps_per_epoch * batch_size
    first, second, third = preprocessing.mean
    pad_color = (first, second, third) if preprocessing.color == "RGB" else (third, second, first)
    source = _Samples(dataset, size_hw, pad_color, augmentation, seed, samples_per_epoch, epochs)
    stack = functools.partial(_stack, preprocessing=preprocessing)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    iterator = iter(grain.MapDataset.source(source).batch(batch_size, batch_fn=stack).to_iter_dataset(options))
    iterator.set_state({"next_index": start_step})
    return iterator


@dataclass(frozen=True, repr=False)
class _Samples:
    """All samples of all epochs, in order, by number."""

    dataset: Dataset
    size_hw: tuple[int, int]
    pad_color: tuple[float, float, float]
    augmentation: Augmentation
    seed: int
    samples_per_epoch: int
    epochs: int

    def __len__(self) -> int:
        return self.samples_per_epoch * self.epochs

    def __getitem__(self, number: int) -> tuple[Picture, Picture]:
        epoch, index = divmod(int(number), self.samples_per_epoch)
        lap, place = divmod(index, len(self.dataset))
        key = _shuffle_key(self.seed, epoch, lap)
        chosen = index_shuffle(place, max_index=len(self.dataset) - 1, seed=key, rounds=4)
        image, label = self.dataset.load(chosen)
        rng = np.random.default_rng([self.seed, epoch, index])
        return augment(image, label, self.size_hw, rng, self.augmentation, pad_color=self.pad_color)


def _stack(samples: Sequence[tuple[Picture, Picture]], preprocessing: Preprocessing) -> Batch:
    """Stacked as bytes and normalised at once: a quarter of the memory traffic of stacking floats."""
    images, labels = zip(*samples, strict=True)
    stacked = np.stack(images)
    if preprocessing.color == "BGR":
        stacked = stacked[..., ::-1]
    return normalize(stacked, preprocessing.mean, preprocessing.std), np.stack(labels)


@functools.lru_cache(maxsize=8)
def _shuffle_key(seed: int, epoch: int, lap: int) -> int:
    """The order of one pass over the dataset, as the 32-bit seed that grain's permutation takes."""
    return int(np.random.SeedSequence([seed, epoch, lap]).generate_state(1)[0])
