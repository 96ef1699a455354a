"""Averages of weights over a run: which weights are scored and saved.

``ema`` and ``lookahead`` are part of the optimizer's compiled step (:mod:`deeplabv3p.training.optimizers`), and their
state is the optimizer's. ``swa`` averages the ends of epochs here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import keras
import numpy as np

from deeplabv3p.models import batchnorm, graph
from deeplabv3p.training.config import TrainConfig
from deeplabv3p.training.optimizers import inner

SWA_START = 0.75  # share of a run's epochs behind which the average begins (arXiv:1803.05407, section 4)

Batches = Callable[[], Iterable[np.ndarray]]


class Averager:
    """No averaging: the weights that are scored and saved are those of the last step.

    ``variables`` is the state that is not in the optimizer.
    """

    def __init__(self, model: keras.Model) -> None:
        """``model``: the one that learns."""
        self.model = model
        self.variables: list[keras.Variable] = []

    def after_step(self, step: int) -> None:
        """Called after every step, with the steps done so far."""

    def end_epoch(self, epoch: int) -> None:
        """Called after every epoch, with the epochs done so far, before :meth:`write`."""

    def write(self, stock: keras.Model, batches: Batches) -> None:
        """Put the weights that are to be scored and saved into ``stock``, which has the same layers.

        ``batches`` gives pictures as the network takes them, float32 [B, H, W, 3], for batch-norm statistics.
        """
        del batches
        graph.copy_weights(self.model, stock)

    def _write_averages(self, stock: keras.Model, averages: dict[str, np.ndarray]) -> None:
        """The model's weights but for those whose path is in ``averages``."""
        for layer in stock.layers:
            if layer.weights:
                weights = self.model.get_layer(layer.name).weights
                layer.set_weights([averages.get(w.path, np.asarray(w)) for w in weights])


class _InOptimizer(Averager):
    """The average that the optimizer keeps of the weights it trains; frozen ones and statistics are the model's."""

    def write(self, stock: keras.Model, batches: Batches) -> None:
        del batches
        optimizer = inner(self.model.optimizer) if self.model.optimizer else None
        pairs = zip(optimizer._trainable_variables, optimizer.averages, strict=True) if optimizer else ()
        self._write_averages(stock, {variable.path: np.asarray(average) for variable, average in pairs})


class _EpochEnds(Averager):
    """Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407): the plain mean of the weights at the ends
    of the last quarter of the epochs. Batch-norm statistics of such weights nobody has seen: they are measured."""

    def __init__(self, model: keras.Model, first: float) -> None:
        """``first``: epochs up to this number are left out."""
        super().__init__(model)
        self.first = first
        self.count = keras.Variable(0, dtype="int32", trainable=False, name="count")
        self.averaged = [w for layer in model.layers for w in layer.weights if "moving_" not in w.name]
        self.means = [keras.Variable(np.asarray(w), trainable=False, name="mean") for w in self.averaged]
        self.variables = [self.count, *self.means]

    def end_epoch(self, epoch: int) -> None:
        if epoch <= self.first:
            return
        count = int(np.asarray(self.count)) + 1
        self.count.assign(count)
        for mean, weight in zip(self.means, self.averaged, strict=True):
            mean.assign(mean + (weight - mean) / count)

    def write(self, stock: keras.Model, batches: Batches) -> None:
        if not int(np.asarray(self.count)):
            super().write(stock, batches)
            return
        pairs = zip(self.averaged, self.means, strict=True)
        self._write_averages(stock, {weight.path: np.asarray(mean) for weight, mean in pairs})
        batchnorm.reestimate(stock, batches())


def make_averager(config: TrainConfig, model: keras.Model) -> Averager:
    """The averager of ``config`` for a run of ``model``, the one that learns."""
    if config.average_type == "swa":
        return _EpochEnds(model, config.init_epoch + SWA_START * (config.total_epoch - config.init_epoch))
    return Averager(model) if config.average_type == "None" else _InOptimizer(model)
