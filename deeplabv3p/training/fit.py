"""The fit: data, model, loss, schedule, stages, evaluation while training, checkpoints, resume.

A run folder holds ``last.keras`` (end of the last epoch), ``best.keras`` (best validation mIoU), at the end
``trained_final.keras``, and ``state.npz``, from which a run goes on at the exact step.

The state is written last at the end of an epoch, so that all other files belong to it or to an epoch after it. A run
that is killed in between repeats what came after its state, step by step the same, and writes the same files again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deeplabv3p.data.dataset import Dataset
from deeplabv3p.errors import DataError
from deeplabv3p.losses.make import make_loss
from deeplabv3p.metrics import Scores
from deeplabv3p.models.factory import freeze
from deeplabv3p.progress import Progress, silent
from deeplabv3p.spec import ModelSpec
from deeplabv3p.training import checkpoint, machine
from deeplabv3p.training.averaging import make_averager
from deeplabv3p.training.config import TrainConfig
from deeplabv3p.training.data_record import RunData
from deeplabv3p.training.distribution import Distribution
from deeplabv3p.training.gap import GapWarning
from deeplabv3p.training.history import History, Row
from deeplabv3p.training.identity import identity
from deeplabv3p.training.meter import EpochClock, Feed, SaveClock
from deeplabv3p.training.scoring import Scorer
from deeplabv3p.training.stages import Stage, stages
from deeplabv3p.training.state_check import check_meta, check_position
from deeplabv3p.training.step import compile_model, scale_learning_rate, training_model
from deeplabv3p.training.stream import Restartable, Stream
from deeplabv3p.training.watchers import EarlyStop, EpochEvent, StepEvent, make_watchers


@dataclasses.dataclass(frozen=True)
class Report:
    """What a fit tells while it runs: ``progress`` after every step, ``validation`` after every validation picture,
    ``epoch`` after every epoch, with its row of the log, ``warning`` when the user should know a thing, with a line."""

    progress: Progress = silent
    validation: Progress = silent
    epoch: Callable[[Row], None] = lambda row: None
    warning: Callable[[str], None] = lambda text: None


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """``finished`` is False when the run was interrupted; ``best_miou`` (a fraction) is that of the best evaluation,
    which the mean over the classes in the truth decides, None before any;
    ``early_stop`` is the reason why a run ended before its last epoch."""

    finished: bool
    best_miou: float | None
    history: tuple[Row, ...]
    early_stop: str | None = None


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
    distribution: Distribution | None = None,
) -> TrainResult:
    """Train ``model`` and write checkpoints into ``run``.

    Args:
        model: a stock network of :func:`deeplabv3p.models.factory.build_model` with its first weights, or with any on
            a resume. On return it holds the last weights.
        spec: its spec; checkpoints carry it with the score they had.
        config: how to train.
        train_set, val_set: pictures and labels; validation is at the pictures' own resolution.
        run: an existing folder.
        resume: go on from ``run/state.npz``, which is there from the first step on. The result equals that of a run
            that was never stopped or killed (bit for bit on a CPU with ``deterministic``).
        report: what to tell.
        stop_requested: asked after every step; when true, the state is saved and the fit returns.
        distribution: of ``config.devices``, opened before ``model`` was made; None for one device. With several
            processes all of them call this, with the same arguments but for ``run``: the first process writes into
            its folder, the others only read the state from theirs.

    Raises:
        UsageError: the batch does not divide by the devices.
        DivergedError: the loss is not finite; names the step. Checkpoints of earlier epochs stay.
        DataError: a picture cannot be read, the state is missing, damaged or of another network, the data is no longer
            that of the run, the folder cannot be written.
    """
    distribution = distribution or Distribution()
    distribution.check(config)
    data = RunData(train_set, val_set, thorough=config.verify_data)
    distribution.same(lambda: identity(model, config, data))
    with distribution.scope(), contextlib.ExitStack() as cleanup:
        fitting = _Fit(model, spec, config, data, run, report or Report(), stop_requested, distribution)
        cleanup.callback(fitting.history.close)
        if resume:
            fitting.load()
        for stage in stages(config):
            fitting.run_stage(stage)
        return fitting.finish()


class _Fit:
    """The moving parts of one run. ``step`` counts steps from the first epoch of the first stage."""

    def __init__(
        self,
        stock: keras.Model,
        spec: ModelSpec,
        config: TrainConfig,
        data: RunData,
        run: Path,
        report: Report,
        stop_requested: Callable[[], bool],
        distribution: Distribution,
    ) -> None:
        self.stock, self.spec, self.config, self.run, self.report = stock, spec, config, run, report
        self.data, self.val_set = data, data.val_set
        self.stop_requested, self.distribution = stop_requested, distribution
        self.model = training_model(stock, spec, config)
        self.averager = make_averager(config, self.model)
        # Run folders of the other processes are temporary.
        self.stream = Stream(data.train_set, spec, config, cache=run.parent if distribution.is_chief else None)
        self.loss = make_loss(
            config.loss,
            num_classes=spec.num_classes,
            align_corners=spec.output.align_corners,
            class_weights=self.stream.class_weights,
        )
        self.scorer = Scorer(stock, spec, self.val_set, distribution)
        self.steps = self.stream.epoch_steps
        self.step = config.init_epoch * self.steps
        self.history = History(run, writes=distribution.is_chief)
        self.watchers = make_watchers(config, run, spec, self.history, chief=distribution.is_chief)
        if distribution.is_chief:
            self.watchers.append(GapWarning(data.train_set, report.warning))
        self.clock = EpochClock()
        self.save_clock = SaveClock(config.save_steps, config.save_minutes)
        self.best: float | None = None
        self.stopped = False
        self.early_stop: str | None = None
        self._written = -1  # the step whose weights the stock network holds
        self._state: tuple[dict[str, np.ndarray], dict[str, Any]] | None = None  # read, not yet all in place

    @property
    def done(self) -> bool:
        """Whether no step is to follow in this process."""
        return self.stopped or self.early_stop is not None

    def load(self) -> None:
        """Go to where the state in the run folder is. The optimizer's part waits for its stage."""
        path = self.run / checkpoint.STATE_NAME
        arrays, meta = checkpoint.load_state(path)
        check_meta(meta, path)
        check_position(meta, self.config, path)
        notes = self.data.check_same(arrays, self.run)
        if meta["steps_per_epoch"] != self.steps:
            raise DataError(
                f"{path} is of a run with {meta['steps_per_epoch']} steps an epoch, but its options make {self.steps}. "
                "Restore the run's files."
            )
        checkpoint.restore_variables(self.model.variables, arrays, "model", self.run)
        checkpoint.restore_variables(self.averager.variables, arrays, "average", self.run)
        self.step, self.best = meta["step"], meta["best"]
        self.history.rows = meta["history"]
        for watcher in self.watchers:
            saved = meta["watchers"].get(watcher.name)
            watcher.restore(watcher.joining(self.history.record) if saved is None else saved)
        ended = any(isinstance(watcher, EarlyStop) and watcher.used_up for watcher in self.watchers)
        self.early_stop = meta["early_stop"] if ended else None
        moved = machine.differences(meta["machine"], machine.machine())
        if moved:
            notes.append(f"the run so far was computed with {moved}: from here on its weights are others in rounding")
        for note in notes:
            self.report.warning(note)
        self._state = arrays, meta

    def run_stage(self, stage: Stage) -> None:
        """Compile for the stage and fit from the current step to its end, if that is still to come."""
        saved = self._state is not None and self._state[1]["stage"] == stage.start
        if not saved and (self.done or self.step >= stage.end * self.steps):
            return
        self._compile(stage)
        if self._state is not None and saved:
            checkpoint.restore_variables(self.model.optimizer.variables, self._state[0], "optimizer", self.run)
        if self.done:
            return
        if self.step == stage.start * self.steps:  # from before its first step on, a run can be resumed
            self.save_state(stage)
        if self.step % self.steps:  # a run that was stopped inside an epoch first finishes that epoch
            self._fit_epochs(stage, self.steps - self.step % self.steps, self.step // self.steps + 1)
        if not self.done and self.step < stage.end * self.steps:
            self._fit_epochs(stage, self.steps, stage.end)

    def _compile(self, stage: Stage) -> None:
        freeze(self.model, stage.freeze_level)
        steps = (stage.end - stage.start) * self.steps
        loss = self.distribution.loss(self.loss)
        compile_model(self.model, self.spec, self.config, loss=loss, steps=steps, epoch_steps=self.steps)
        # Keras makes the variables of metrics at their first use; they are part of the state.
        logits = np.zeros((1, *self.model.output_shape[1:]), np.float32)
        self.model.compute_metrics(None, np.zeros((1, *self.config.train_hw), np.uint8), logits)

    def _fit_epochs(self, stage: Stage, steps: int, end: int) -> None:
        start = functools.partial(self.stream.batches, self.step, end, shard=self.distribution.shard)
        batches = Restartable(start)
        feed = Feed(batches)
        try:
            self.model.fit(
                self.distribution.source(feed.__iter__, self.config.batch_size, self.config.train_hw),
                steps_per_epoch=steps,
                initial_epoch=self.step // self.steps,
                epochs=end,
                verbose=0,
                callbacks=[_Hooks(self, stage, feed)],
                shuffle=False,
            )
        except Exception as error:
            if feed.error is not None:
                raise feed.error from None
            self.distribution.check_peers(error)
            raise
        finally:
            batches.close()

    def begin_epoch(self) -> None:
        """Begin an epoch, or go on inside the one in which the state was saved."""
        clock = None
        if self._state is not None and self.step % self.steps:
            arrays, meta = self._state
            checkpoint.restore_variables(self.model.metrics_variables, arrays, "metrics", self.run)
            clock = meta["clock"]
        self._state = None
        self.clock.start(clock)

    def end_step(self, stage: Stage, loss: float, miou: float, waited: float) -> None:
        """Count a step, tell about it, stop if asked, and save the state if it is due."""
        self.step += 1
        self.clock.end_step(waited)
        self.averager.after_step(self.step)
        epoch = (self.step - 1) // self.steps + 1
        event = self._event(loss)
        for watcher in self.watchers:
            watcher.after_step(event)
        images_per_s, data_wait = self.clock.rates(self.config.batch_size)
        info: dict[str, float | str] = {
            "epoch": f"{epoch}/{self.config.total_epoch}",
            "loss": loss,
            "mIoU": miou,
            "images/s": f"{images_per_s:.1f}",
            "data wait": f"{data_wait:.1%}",
        }
        self.report.progress(self.step, self.config.total_epoch * self.steps, info)
        if self.distribution.agree(self.stop_requested(), self.step):
            self.stopped = True
        if self.step % self.steps and (self.stopped or self.save_clock.due(self.step)):  # else the epoch's end saves
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()  # inside an epoch Keras keeps JAX's state apart from the variables
            self._check(event)
            self.save_state(stage)

    def _event(self, loss: float) -> StepEvent:
        """The step that has just been done."""
        last = self.step - 1
        return StepEvent(
            self.step,
            last // self.steps + 1,
            loss,
            self.model,
            batch=functools.partial(self.stream.batch, last),
            samples=functools.partial(self.stream.names, last),
        )

    def _check(self, event: StepEvent) -> None:
        for watcher in self.watchers:
            watcher.before_checkpoint(event)

    def end_epoch(self, stage: Stage, loss: float, miou: float) -> None:
        """Score if it is due, write checkpoints and the log, and the state at last."""
        epoch = self.step // self.steps
        images_per_s, data_wait = self.clock.rates(self.config.batch_size)
        row: Row = {
            "epoch": epoch,
            "step": self.step,
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "loss": loss,
            "train_miou": miou,
            "val_miou": None,
            "val_miou_in_truth": None,
            "val_pa": None,
            "images_per_s": images_per_s,
            "data_wait": data_wait,
            "seconds": self.clock.seconds,
        }
        self._check(self._event(loss))
        self.averager.end_epoch(epoch)
        self._write_stock()
        scores = None
        if epoch == self.config.total_epoch or (
            self.config.eval_online and epoch % self.config.eval_epoch_interval == 0
        ):
            scores = self.scorer.score(self.report.validation)
            row |= {"val_miou": scores.miou, "val_miou_in_truth": scores.miou_in_truth, "val_pa": scores.pa}
            if self.history.is_record(row):
                self.best = scores.miou
                self.scorer.save(self.run / "best.keras", scores.miou)
        self.history.append(row)
        self.scorer.save(self.run / "last.keras", self._miou())
        self._watch_epoch(stage, row, scores)
        self.save_state(stage)
        self.report.epoch(row)

    def _watch_epoch(self, stage: Stage, row: Row, scores: Scores | None) -> None:
        def stop(reason: str) -> None:
            self.early_stop = reason

        event = EpochEvent(
            epoch=self.step // self.steps,
            step=self.step,
            stage=stage.start,
            last_stage=stage.end == self.config.total_epoch,
            row=row,
            scores=scores,
            stock=self.stock,
            spec=self.scorer.spec_with(self._miou()),
            runtime=self.scorer.runtime,
            val_set=self.val_set,
            scale_learning_rate=functools.partial(scale_learning_rate, self.model),
            stop=stop,
        )
        for watcher in self.watchers:
            watcher.after_epoch(event)

    def _miou(self) -> float | None:
        """The score of the last epoch, if it was scored."""
        return self.history.rows[-1].get("val_miou") if self.history.rows else None

    def _write_stock(self) -> None:
        """Put the weights that are scored and saved into the stock network."""
        if self._written != self.step:
            self.averager.write(self.stock, self.stream.pictures)
            self._written = self.step

    def save_state(self, stage: Stage) -> None:
        """Write everything that a resume needs."""
        groups = {
            "model": self.model.variables,
            "optimizer": self.model.optimizer.variables,
            "average": self.averager.variables,
            "metrics": self.model.metrics_variables,
            "data": self.data.arrays,
        }
        meta = {
            "spec": self.spec.to_json(),
            "step": self.step,
            "steps_per_epoch": self.steps,
            "stage": stage.start,
            "history": self.history.rows,
            "best": self.best,
            "early_stop": self.early_stop,
            "clock": self.clock.state(),
            "watchers": {watcher.name: watcher.state() for watcher in self.watchers},
            "machine": machine.machine(),
        }
        began = time.monotonic()
        if self.distribution.is_chief:
            checkpoint.save_state(self.run / checkpoint.STATE_NAME, groups, meta)
        self.save_clock.saved(time.monotonic() - began)

    def finish(self) -> TrainResult:
        """The last file, of a run that has ended."""
        if not self.stopped:
            self._write_stock()
            self.scorer.save(self.run / "trained_final.keras", self._miou())
        return TrainResult(not self.stopped, self.best, tuple(self.history.rows), self.early_stop)


class _Hooks(keras.callbacks.Callback):
    """From Keras' fit to :class:`_Fit`."""

    def __init__(self, fitting: _Fit, stage: Stage, feed: Feed) -> None:
        super().__init__()
        self.fitting, self.stage, self.feed = fitting, stage, feed

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.fitting.begin_epoch()

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.step_began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        self.fitting.end_step(self.stage, float(logs["loss"]), float(logs["miou"]), self.feed.waited(self.step_began))
        self.model.stop_training = self.fitting.done

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self.fitting.step % self.fitting.steps == 0:  # else it was stopped inside the epoch
            logs = logs or {}
            self.fitting.end_epoch(self.stage, float(logs["loss"]), float(logs["miou"]))
            self.model.stop_training = self.fitting.done
