"""Training batches as a pure function of (seed, epoch, index), decoded and augmented in threads by grain."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import grain
import numpy as np
import numpy.typing as npt
from grain.experimental import index_shuffle

from deeplabv3p.data import balance
from deeplabv3p.data.augment import Augmentation, Pool, Varied, make_pool, vary
from deeplabv3p.data.dataset import Dataset
from deeplabv3p.data.decode import Picture
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.pixels import normalize
from deeplabv3p.spec import Preprocessing

Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]


def steps_per_epoch(num_samples: int, batch_size: int) -> int:
    """Whole batches in one pass over the samples, at least 1."""
    return max(1, num_samples // batch_size)


USUAL_BATCH, LEAST_BATCH, LEAST_STEPS = 16, 2, 5  # of an epoch: fewer updates leave a network of few pictures untaught


def usual_batch_size(num_samples: int, devices: int = 1) -> int:
    """The largest power of two from 2 to 16 that makes five steps of an epoch or more, brought up to a multiple of the
    devices: 4 for 20 samples, 8 for 40, 16 from 80 on."""
    size = USUAL_BATCH
    while size > LEAST_BATCH and num_samples < LEAST_STEPS * size:
        size //= 2
    return -(-size // devices) * devices


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
    shard: tuple[int, int] = (0, 1),
    sample_counts: npt.NDArray[np.int64] | None = None,
) -> grain.DatasetIterator:
    """Iterate over ``epochs * steps_per_epoch`` batches, each epoch in an order of its own.

    Every sample depends on ``seed``, its epoch and its place in the epoch alone, so batches are the same for any number
    of threads, and after any start. A dataset smaller than an epoch is gone through again, in a new order and with new
    augmentation. At most ``prefetch`` batches are held, however many pictures there are. OpenCV's own threads are left
    as they are: limiting them would reach the whole process, and the processor time of an image stays the same.

    Args:
        dataset: the samples.
        size_hw: (height, width) of the crops.
        batch_size: samples a batch, of all processes together.
        preprocessing: how pixels become numbers; its mean is also the colour outside the pictures, which becomes 0.
        augmentation: how much to vary.
        seed: 0 or more.
        steps_per_epoch: batches an epoch.
        epochs: how many epochs.
        start_step: batches to skip, counted from the first epoch. They are not decoded.
        threads: worker threads; each makes a whole batch.
        prefetch: batches made in advance.
        shard: (i, n): this is process i of n, counted from 0. It makes rows [i·b/n, (i+1)·b/n) of each batch of
            ``batch_size`` b, so the shards together are the batches that one process would make.
        sample_counts: pixels of each class in each sample, int64 [N, K], of
            :func:`deeplabv3p.data.balance.sample_counts`, where ``augmentation.needs_class_counts``; None: they are
            counted now.

    Returns:
        An iterator over (images float32 [B, h, w, 3] normalised, labels uint8 [B, h, w]), B = b/n. Its
        ``get_state()`` is ``{"next_index": step}``; ``close()`` ends its threads. A sample that cannot be read raises
        its DataError when its batch is due.

    Raises:
        DataError: the dataset is empty.
        UsageError: a count, the seed or the shard is out of range, or n does not divide the batch.
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
    process, processes = shard
    if not 0 <= process < processes:
        raise UsageError(f"the shard is {process} of {processes}, expected 0 to {processes - 1} of 1 or more.")
    if batch_size % processes:
        raise UsageError(f"batch_size is {batch_size}, expected a multiple of the {processes} processes that share it.")
    rows = batch_size // processes
    first, second, third = preprocessing.mean
    pad_color = (first, second, third) if preprocessing.color == "RGB" else (third, second, first)
    samples = Samples(
        dataset,
        size_hw,
        pad_color,
        augmentation,
        seed,
        steps_per_epoch * batch_size,
        epochs,
        pool_for(dataset, augmentation, sample_counts),
    )
    source = _Shard(samples, batch_size, process * rows, rows)
    stack = functools.partial(_stack, preprocessing=preprocessing)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    iterator = iter(grain.MapDataset.source(source).batch(rows, batch_fn=stack).to_iter_dataset(options))
    iterator.set_state({"next_index": start_step})
    return iterator


def sample_names(dataset: Dataset, *, seed: int, batch_size: int, steps_per_epoch: int, step: int) -> list[str]:
    """The names of the samples in the batch that :func:`batches` makes for ``step``, counted from 0, in order.

    ``batch_size`` is that of all processes together, and so are the names.
    """
    epoch, place = divmod(step, steps_per_epoch)
    numbers = range(place * batch_size, (place + 1) * batch_size)
    return [dataset.samples[_choose(len(dataset), seed, epoch, index)].name for index in numbers]


def pool_for(
    dataset: Dataset, augmentation: Augmentation, sample_counts: npt.NDArray[np.int64] | None = None
) -> Pool | None:
    """What ``augmentation`` needs to know of the whole dataset, if anything; ``sample_counts`` as in :func:`batches`.

    Raises:
        DataError: a label map that has to be counted cannot be read.
    """
    if not augmentation.needs_class_counts:
        return make_pool(dataset.load, len(dataset), None) if augmentation.needs_other_samples else None
    if sample_counts is None:
        sample_counts = balance.sample_counts(dataset)
    return make_pool(dataset.load, len(dataset), sample_counts)


@dataclass(frozen=True, repr=False)
class Samples:
    """All samples of all epochs, in order, by number."""

    dataset: Dataset
    size_hw: tuple[int, int]
    pad_color: tuple[float, float, float]
    augmentation: Augmentation
    seed: int
    samples_per_epoch: int
    epochs: int
    pool: Pool | None = None

    def __len__(self) -> int:
        return self.samples_per_epoch * self.epochs

    def __getitem__(self, number: int) -> tuple[Picture, Picture]:
        varied = self.make(number)[1]
        return varied.image, varied.label

    def make(self, number: int) -> tuple[int, Varied]:
        """Which sample of the dataset it is, and what was made of it.

        Raises:
            DataError: it cannot be read.
        """
        epoch, index = divmod(int(number), self.samples_per_epoch)
        chosen = _choose(len(self.dataset), self.seed, epoch, index)
        rng = np.random.default_rng([self.seed, epoch, index])
        varied = vary(
            *self.dataset.load(chosen),
            self.size_hw,
            rng,
            self.augmentation,
            pad_color=self.pad_color,
            epoch=epoch,
            pool=self.pool,
        )
        return chosen, varied


@dataclass(frozen=True, repr=False)
class _Shard:
    """``rows`` samples of each batch, from the one at ``first`` on."""

    samples: Samples
    batch_size: int
    first: int
    rows: int

    def __len__(self) -> int:
        return len(self.samples) // self.batch_size * self.rows

    def __getitem__(self, number: int) -> tuple[Picture, Picture]:
        step, row = divmod(int(number), self.rows)
        return self.samples[step * self.batch_size + self.first + row]


def _stack(samples: Sequence[tuple[Picture, Picture]], preprocessing: Preprocessing) -> Batch:
    """Stacked as bytes and normalised at once: a quarter of the memory traffic of stacking floats."""
    images, labels = zip(*samples, strict=True)
    stacked = np.stack(images)
    if preprocessing.color == "BGR":
        stacked = stacked[..., ::-1]
    return normalize(stacked, preprocessing.mean, preprocessing.std), np.stack(labels)


def _choose(num_samples: int, seed: int, epoch: int, index: int) -> int:
    """Which of the dataset's samples has the place ``index`` in an epoch."""
    lap, place = divmod(index, num_samples)
    return int(index_shuffle(place, max_index=num_samples - 1, seed=_shuffle_key(seed, epoch, lap), rounds=4))


@functools.lru_cache(maxsize=8)
def _shuffle_key(seed: int, epoch: int, lap: int) -> int:
    """The order of one pass over the dataset, as the 32-bit seed that grain's permutation takes."""
    return int(np.random.SeedSequence([seed, epoch, lap]).generate_state(1)[0])
