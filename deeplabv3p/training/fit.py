"""The fit: data, model, loss, schedule, stages, evaluation while training, checkpoints, resume.

A run folder holds ``last.keras`` (end of the last epoch), ``best.keras`` (best validation mIoU), at the end
``trained_final.keras``, and ``state.npz``, from which a run goes on at the exact step.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from deeplabv3p.data.dataset import Dataset
from deeplabv3p.data.pipeline import batches, steps_per_epoch
from deeplabv3p.errors import DataError, DivergedError
from deeplabv3p.evaluation.score import evaluate
from deeplabv3p.inference import protocol
from deeplabv3p.losses.cross_entropy import CrossEntropy
from deeplabv3p.models import batchnorm, graph
from deeplabv3p.models.factory import freeze, rebuild
from deeplabv3p.progress import Progress, silent
from deeplabv3p.runtime.keras_engine import KerasRuntime, save_model
from deeplabv3p.spec import ModelSpec
from deeplabv3p.training import checkpoint
from deeplabv3p.training.config import TrainConfig
from deeplabv3p.training.history import History, Row
from deeplabv3p.training.meter import Feed, StreamingMeanIoU
from deeplabv3p.training.optimizers import make_optimizer, make_schedule


@dataclasses.dataclass(frozen=True)
class Stage:
    """Epochs ``start`` to ``end`` (exclusive) trained with one freeze level and one learning-rate schedule."""

    start: int
    end: int
    freeze_level: int


@dataclasses.dataclass(frozen=True)
class Report:
    """What a fit tells while it runs: ``progress`` after every step, ``validation`` after every validation picture,
    ``epoch`` after every epoch, with its row of the log."""

    progress: Progress = silent
    validation: Progress = silent
    epoch: Callable[[Row], None] = lambda row: None


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """``finished`` is False when the run was interrupted; ``best_miou`` (a fraction) is None before any evaluation."""

    finished: bool
    best_miou: float | None
    history: tuple[Row, ...]


def stages(config: TrainConfig) -> list[Stage]:
    """The transfer stage, if any, and the rest."""
    split = min(max(config.transfer_epoch if config.freeze_level else 0, config.init_epoch), config.total_epoch)
    parts = [
        Stage(config.init_epoch, split, config.freeze_level),
        Stage(split, config.total_epoch, 0),
    ]
    return [stage for stage in parts if stage.end > stage.start]


def fit(
    model: keras.Model,
    spec: ModelSpec,
    config: TrainConfig,
    train_set: Dataset,
    val_set: Dataset,
    run: Path,
    *,
    resume: bool = False,
    report: Report | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train ``model`` and write checkpoints into ``run``.

    Args:
        model: a stock network of :func:`deeplabv3p.models.factory.build_model` with its first weights. On return it
            holds the last weights.
        spec: its spec; checkpoints carry it with the score they had.
        config: how to train.
        train_set, val_set: pictures and labels; validation is at the pictures' own resolution.
        run: an existing folder.
        resume: go on from ``run/state.npz``. The result equals that of a run that was never stopped (bit for bit on a
            CPU with ``deterministic``).
        report: what to tell.
        stop_requested: asked after every step; when true, the state is saved and the fit returns.

    Raises:
        DivergedError: the loss is not finite; names the step. Checkpoints of earlier epochs stay.
        DataError: a picture cannot be read, the state is missing or of another network, the folder cannot be written.
    """
    fitting = _Fit(model, spec, config, train_set, val_set, run, report or Report(), stop_requested)
    try:
        if resume:
            fitting.load()
        for stage in stages(config):
            if fitting.step < stage.end * fitting.steps and not fitting.stopped:
                fitting.run_stage(stage)
        return fitting.finish()
    finally:
        fitting.history.close()


class _Fit:
    """The moving parts of one run. ``step`` counts optimizer steps from the first epoch of the first stage."""

    def __init__(
        self,
        stock: keras.Model,
        spec: ModelSpec,
        config: TrainConfig,
        train_set: Dataset,
        val_set: Dataset,
        run: Path,
        report: Report,
        stop_requested: Callable[[], bool],
    ) -> None:
        self.stock, self.spec, self.config, self.run, self.report = stock, spec, config, run, report
        self.train_set, self.val_set, self.stop_requested = train_set, val_set, stop_requested
        self.model = self._training_model()
        self.runtime = KerasRuntime(stock, spec)
        self.steps = steps_per_epoch(len(train_set), config.batch_size)
        self.step = config.init_epoch * self.steps
        self.history = History(run)
        self.best: float | None = None
        self.stopped = False
        self._state: tuple[dict[str, Any], dict[str, Any]] | None = None

    def _training_model(self) -> keras.Model:
        """The stock network's twin that learns: at the size of the crops, with layers that are made for training."""
        config, model = self.config, self.stock
        if config.train_hw != self.spec.input.size_hw:
            model, _ = rebuild(
                model, self.spec, size_hw=config.train_hw, dropout=config.dropout, bn_momentum=config.bn_momentum
            )
        return batchnorm.for_training(model, fused=config.bn_fused, synchronized=config.bn_sync)

    def load(self) -> None:
        arrays, meta = checkpoint.load_state(self.run / checkpoint.STATE_NAME)
        checkpoint.restore_variables(self.model.variables, arrays, "model", self.run)
        if meta["steps_per_epoch"] != self.steps:
            raise DataError(
                f"the dataset has changed since {self.run} was trained: an epoch has {self.steps} steps, it had "
                f"{meta['steps_per_epoch']}. Restore it, or start a new run with --weights_path {self.run}/last.keras."
            )
        self.step, self.history.rows, self.best = meta["step"], meta["history"], meta["best"]
        self._state = arrays, meta

    def run_stage(self, stage: Stage) -> None:
        """Compile for the stage and fit from the current step to its end."""
        freeze(self.model, stage.freeze_level)
        optimizer = make_optimizer(self.config, make_schedule(self.config, (stage.end - stage.start) * self.steps))
        self.model.compile(
            optimizer,
            loss=CrossEntropy(self.spec.output.align_corners),
            metrics=[StreamingMeanIoU(self.spec.num_classes)],
            # XLA on CPUs is many times slower for dilated and depthwise convolutions.
            jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
        )
        optimizer.build(self.model.trainable_variables)
        if self._state is not None:
            arrays, meta = self._state
            if meta["stage"] == stage.start:  # at the border of two stages the next one starts with a new optimizer
                checkpoint.restore_variables(optimizer.variables, arrays, "optimizer", self.run)
            self._state = None
        if self.step % self.steps:  # a run that was stopped inside an epoch first finishes that epoch
            self._fit_epochs(stage, self.steps - self.step % self.steps, self.step // self.steps + 1)
        if not self.stopped and self.step < stage.end * self.steps:
            self._fit_epochs(stage, self.steps, stage.end)

    def _fit_epochs(self, stage: Stage, steps: int, end: int) -> None:
        iterator = batches(
            self.train_set,
            size_hw=self.config.train_hw,
            batch_size=self.config.batch_size,
            preprocessing=self.spec.input.preprocessing,
            augmentation=self.config.augmentation,
            seed=self.config.seed,
            steps_per_epoch=self.steps,
            epochs=end,
            start_step=self.step,
            threads=self.config.threads,
        )
        feed = Feed(iterator)
        try:
            self.model.fit(
                iter(feed),
                steps_per_epoch=steps,
                initial_epoch=self.step // self.steps,
                epochs=end,
                verbose=0,
                callbacks=[_Hooks(self, stage, feed)],
                shuffle=False,
            )
        except Exception:
            if feed.error is not None:
                raise feed.error from None
            raise
        finally:
            iterator.close()

    def end_epoch(self, stage: Stage, row: Row) -> None:
        """Score if it is due, then write checkpoints and the state."""
        epoch = int(row["epoch"] or 0)
        graph.copy_weights(self.model, self.stock)
        if epoch == self.config.total_epoch or (
            self.config.eval_online and epoch % self.config.eval_epoch_interval == 0
        ):
            self.score(epoch, row)
        self.history.append(row)
        save_model(self.stock, self.scored_spec(), self.run / "last.keras")
        self.save_state(stage)
        self.report.epoch(row)

    def score(self, epoch: int, row: Row) -> None:
        """Evaluate on the validation set by the code of ``eval.py``; keep the model if it is the best so far."""
        scores = evaluate(self.runtime, self.val_set, progress=self.report.validation).scores
        if not scores.total:
            raise DataError(f"{self.val_set.source}: every pixel of the validation labels is ignored.")
        row |= {"val_miou": scores.miou, "val_pa": scores.pa}
        if self.best is None or scores.miou > self.best:
            self.best = scores.miou
            spec = self.spec_with(scores.miou)
            save_model(self.stock, spec, self.run / "best.keras")
            if self.config.save_eval_checkpoint:
                save_model(self.stock, spec, self.run / f"epoch{epoch:03d}-miou{scores.miou:.4f}.keras")

    def scored_spec(self) -> ModelSpec:
        """The spec of the current weights, with their score if the last epoch was scored."""
        rows = self.history.rows
        miou = rows[-1].get("val_miou") if rows else None
        return self.spec if miou is None else self.spec_with(miou)

    def spec_with(self, miou: float) -> ModelSpec:
        """The spec with a score and how it was measured."""
        return self.spec.replace(provenance={"miou": miou, "protocol": protocol(self.runtime)})

    def save_state(self, stage: Stage) -> None:
        meta = {
            "step": self.step,
            "steps_per_epoch": self.steps,
            "stage": stage.start,
            "history": self.history.rows,
            "best": self.best,
        }
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()  # inside an epoch Keras keeps JAX's state apart from the variables
        checkpoint.save_state(self.run / checkpoint.STATE_NAME, self.model, meta)

    def finish(self) -> TrainResult:
        if not self.stopped:
            graph.copy_weights(self.model, self.stock)
            save_model(self.stock, self.scored_spec(), self.run / "trained_final.keras")
        return TrainResult(not self.stopped, self.best, tuple(self.history.rows))


class _Hooks(keras.callbacks.Callback):
    """What happens around the steps and epochs of Keras' fit."""

    def __init__(self, fitting: _Fit, stage: Stage, feed: Feed) -> None:
        super().__init__()
        self.fitting, self.stage, self.feed = fitting, stage, feed

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.began = time.perf_counter()
        self.steps, self.waited = 0, 0.0

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.step_began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        fitting, logs = self.fitting, logs or {}
        fitting.step += 1
        self.steps += 1
        self.waited += self.feed.waited(self.step_began)
        if not math.isfinite(logs["loss"]):
            raise DivergedError(
                f"the loss is {logs['loss']} at step {fitting.step} (epoch {fitting.step // fitting.steps + 1}). "
                f"Lower --learning_rate. The last good epoch is in {fitting.run}."
            )
        total = fitting.config.total_epoch * fitting.steps
        images_per_s, data_wait = self._rates()
        info: dict[str, float | str] = {
            "epoch": f"{(fitting.step - 1) // fitting.steps + 1}/{fitting.config.total_epoch}",
            "loss": float(logs["loss"]),
            "mIoU": float(logs["miou"]),
            "images/s": f"{images_per_s:.1f}",
            "data wait": f"{data_wait:.1%}",
        }
        fitting.report.progress(fitting.step, total, info)
        if fitting.stop_requested():
            fitting.stopped = True
            self.model.stop_training = True
            if fitting.step % fitting.steps:  # at the end of an epoch, that end saves the state
                fitting.save_state(self.stage)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self.fitting.step % self.fitting.steps:  # stopped inside the epoch
            return
        logs = logs or {}
        images_per_s, data_wait = self._rates()
        row: Row = {
            "epoch": epoch + 1,
            "step": self.fitting.step,
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "loss": float(logs["loss"]),
            "train_miou": float(logs["miou"]),
            "val_miou": None,
            "val_pa": None,
            "images_per_s": images_per_s,
            "data_wait": data_wait,
            "seconds": time.perf_counter() - self.began,
        }
        self.fitting.end_epoch(self.stage, row)

    def _rates(self) -> tuple[float, float]:
        """Pictures per second and the share of time that steps waited for data, over the epoch so far."""
        seconds = max(time.perf_counter() - self.began, 1e-9)
        return self.steps * self.fitting.config.batch_size / seconds, self.waited / seconds
