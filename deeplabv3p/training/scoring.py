"""The network as it is scored and saved while it trains: by the code of ``eval.py``, with its score in its spec."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras

from deeplabv3p.data.dataset import Dataset
from deeplabv3p.errors import DataError
from deeplabv3p.evaluation.score import evaluate
from deeplabv3p.inference import protocol
from deeplabv3p.metrics import Scores
from deeplabv3p.progress import Progress
from deeplabv3p.runtime.keras_engine import KerasRuntime, save_model
from deeplabv3p.spec import ModelSpec
from deeplabv3p.training.distribution import Distribution


class Scorer:
    """A stock network, opened once; later changes of its weights are seen."""

    def __init__(self, stock: keras.Model, spec: ModelSpec, val_set: Dataset, distribution: Distribution) -> None:
        self.stock, self.spec, self.val_set, self.distribution = stock, spec, val_set, distribution
        self.runtime = KerasRuntime(stock, spec)

    def score(self, progress: Progress) -> Scores:
        """Evaluate on the validation set. Each process takes its share of the pictures; the scores are of all.

        Raises:
            DataError: none of its pixels counts.
        """
        process, processes = self.distribution.shard
        share = dataclasses.replace(self.val_set, samples=self.val_set.samples[process::processes])
        counted = evaluate(self.runtime, share, progress=progress).scores.confusion
        scores = Scores(self.distribution.total(counted), self.val_set.ignored_class)
        if not scores.total:
            raise DataError(f"{self.val_set.source}: every pixel of the validation labels is ignored.")
        return scores

    def spec_with(self, miou: float | None) -> ModelSpec:
        """The spec with a score (a fraction, None: none) and how it was measured."""
        if miou is None:
            return self.spec
        return self.spec.replace(provenance={"miou": miou, "protocol": protocol(self.runtime)})

    def save(self, path: Path, miou: float | None) -> None:
        """Write the network as it is, with its score if there is one. The chief alone does."""
        if self.distribution.is_chief:
            save_model(self.stock, self.spec_with(miou), path)
