"""The training data of a run, by step: everything here is a pure function of the options and the number of the step."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deeplabv3p.data import pipeline
from deeplabv3p.data.balance import balanced_weights, sample_counts
from deeplabv3p.data.dataset import Dataset
from deeplabv3p.spec import ModelSpec
from deeplabv3p.training.config import TrainConfig

STATISTICS_BATCHES = 64  # what batch-norm statistics of averaged weights are measured on: thousands of pixels each


class Restartable:
    """Batches that can be begun again and again. :meth:`close` ends the threads of all beginnings."""

    def __init__(self, start: Callable[[], Any]) -> None:
        """``start`` makes an iterator that has a ``close()``."""
        self._start = start
        self._begun: list[Any] = []

    def __iter__(self) -> Iterator[pipeline.Batch]:
        self._begun.append(self._start())
        begun: Iterator[pipeline.Batch] = self._begun[-1]
        return begun

    def close(self) -> None:
        """End all of them."""
        for iterator in self._begun:
            iterator.close()


class Stream:
    """Batches of the training set. ``epoch_steps`` is the number of them in an epoch, ``class_weights`` those that the
    loss balances classes with over the whole dataset, float32 [K], None if it does not."""

    def __init__(self, dataset: Dataset, spec: ModelSpec, config: TrainConfig, cache: Path | None = None) -> None:
        """``cache``: a folder for the counts of classes; see :func:`deeplabv3p.data.balance.sample_counts`."""
        self._dataset, self._spec, self._config = dataset, spec, config
        self.epoch_steps = pipeline.steps_per_epoch(len(dataset), config.batch_size)
        balanced = config.loss.weighted_type == "balanced"
        counted = balanced or config.augmentation.needs_class_counts
        self._counts = sample_counts(dataset, cache=cache) if counted else None
        self.class_weights = balanced_weights(self._counts.sum(0)) if balanced and self._counts is not None else None

    def batches(
        self, first: int, epochs: int, *, size_hw: tuple[int, int] | None = None, shard: tuple[int, int] = (0, 1)
    ) -> Any:
        """An iterator from the step ``first`` (from 0) to the end of an epoch, at the size of the crops; to be closed.
        See :func:`deeplabv3p.data.pipeline.batches`."""
        return pipeline.batches(
            self._dataset,
            size_hw=size_hw or self._config.train_hw,
            batch_size=self._config.batch_size,
            preprocessing=self._spec.input.preprocessing,
            augmentation=self._config.augmentation,
            seed=self._config.seed,
            steps_per_epoch=self.epoch_steps,
            epochs=epochs,
            start_step=first,
            threads=self._config.threads,
            shard=shard,
            sample_counts=self._counts,
        )

    def batch(self, step: int) -> pipeline.Batch:
        """The whole batch of a step (from 0), made again."""
        with contextlib.closing(self.batches(step, step // self.epoch_steps + 1)) as iterator:
            images, labels = next(iterator)
        return images, labels

    def names(self, step: int) -> list[str]:
        """The names of the samples in it."""
        return pipeline.sample_names(
            self._dataset,
            seed=self._config.seed,
            batch_size=self._config.batch_size,
            steps_per_epoch=self.epoch_steps,
            step=step,
        )

    def pictures(self) -> Iterator[np.ndarray]:
        """Pictures of the first batches of the run at the size of the model that is saved, for batch-norm
        statistics."""
        with contextlib.closing(self.batches(0, 1, size_hw=self._config.size_hw)) as iterator:
            for images, _ in itertools.islice(iterator, STATISTICS_BATCHES):
                yield images
