"""What reacts to the course of a run: a stop when it diverges, the best checkpoints, plateaus, an early end, pictures.

A watcher is called after every step and every epoch. Its state is saved with the state of the run and restored with it.
A run that is killed between a watcher's write and the next state repeats that epoch, so every write can be repeated:
the files that are left are those of a run that was never killed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deeplabv3p import charts, files, visualize
from deeplabv3p.data.dataset import Dataset
from deeplabv3p.data.decode import read_image
from deeplabv3p.data.pipeline import Batch
from deeplabv3p.errors import DataError, DeeplabError, DivergedError
from deeplabv3p.inference import predict
from deeplabv3p.metrics import Scores
from deeplabv3p.runtime import Runtime
from deeplabv3p.runtime.keras_engine import save_model
from deeplabv3p.spec import ModelSpec, sidecar_path
from deeplabv3p.training.config import TrainConfig
from deeplabv3p.training.history import History, Row
from deeplabv3p.training.sheets import batch_sheet, prediction_sheet

CONFUSION_NAME = "confusion_matrix.png"


@dataclasses.dataclass(frozen=True)
class StepEvent:
    """A step is done.

    Attributes:
        step: how many steps are done, this one included.
        epoch: which epoch it belongs to, from 1.
        loss: the loss that the progress line shows: not finite from the first step on whose loss was not.
        model: the network that learns. Its variables are current only where a state is due (JAX keeps them apart).
        batch: makes the step's (images, labels) again, as :func:`deeplabv3p.data.pipeline.batches` did: the whole
            batch, of all processes.
        samples: gives the names of the pictures in it, in order.
    """

    step: int
    epoch: int
    loss: float
    model: keras.Model
    batch: Callable[[], Batch]
    samples: Callable[[], Sequence[str]]


@dataclasses.dataclass(frozen=True)
class EpochEvent:
    """An epoch is done, scored if it was due, its row is in the log, and the state is not yet saved.

    Attributes:
        epoch: which one, from 1.
        step: steps done so far.
        stage: the epochs before the first one of this stage (``Stage.start``).
        last_stage: whether no other stage follows.
        row: the epoch's row of the log.
        scores: on the validation set, None where the epoch was not scored.
        stock: the network with the weights that were scored.
        spec: its spec with that score.
        runtime: ``stock``, opened.
        val_set: what it was scored on.
        scale_learning_rate: multiplies the learning rates of the stage's steps from now on. The optimizer's state keeps
            the factor.
        stop: ends the run after this epoch, for a reason (a clause without a full stop). The reason is part of the
            run's state, so that a resumed run ends, too.
    """

    epoch: int
    step: int
    stage: int
    last_stage: bool
    row: Row
    scores: Scores | None
    stock: keras.Model
    spec: ModelSpec
    runtime: Runtime
    val_set: Dataset
    scale_learning_rate: Callable[[float], None]
    stop: Callable[[str], None]


class Watcher:
    """The base of all: does nothing. ``name`` is the key of its state among those of the others."""

    name = ""

    def after_step(self, event: StepEvent) -> None:
        """Called after every step."""

    def before_checkpoint(self, event: StepEvent) -> None:
        """Called after :meth:`after_step` of a step that is followed by a state: at the end of every epoch, before
        anything is scored or saved, and before any other state."""

    def after_epoch(self, event: EpochEvent) -> None:
        """Called at the end of every epoch, before its state is saved."""

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs to go on from here, ready for JSON."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave, which may have been in another process."""

    def joining(self, best: float | None) -> dict[str, Any]:
        """What to :meth:`restore` where the run went without this watcher so far and its best score is ``best``."""
        return self.state()


class DivergenceStop(Watcher):
    """Ends the run at the first loss that is not finite, and before weights that are not are scored or saved.

    Gradients are not looked at: with float16 the loss scale skips steps whose gradients overflow, and goes on.
    """

    name = "divergence"

    def __init__(self, run: Path, spec: ModelSpec, *, writes: bool = True) -> None:
        self._run, self._spec, self._writes = run, spec, writes

    def after_step(self, event: StepEvent) -> None:
        """Raises DivergedError, which names the step and where its batch lies, when the loss is not finite."""
        if not math.isfinite(event.loss):
            raise self._error(event, f"the loss is {event.loss}")

    def before_checkpoint(self, event: StepEvent) -> None:
        """Raises DivergedError when weights are not finite: the step's loss was, but not its gradients."""
        for variable in event.model.weights:
            if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
                raise self._error(event, f"the weights '{variable.path}' are not finite")

    def _error(self, event: StepEvent, what: str) -> DivergedError:
        return DivergedError(
            f"{what} at step {event.step} (epoch {event.epoch}). {self._write(event) if self._writes else ''}"
            f"Lower --learning_rate or set --clip_norm. What was saved earlier in {self._run} is as it was."
        )

    def _write(self, event: StepEvent) -> str:
        """Write the step's batch and a sheet of it; says where. Failing at that must not hide why the run ended."""
        archive = self._run / f"diverged_step{event.step}.npz"
        sheet = archive.with_suffix(".png")
        try:
            images, labels = event.batch()
            names = list(event.samples())
            with files.atomic_path(archive) as temporary, temporary.open("wb") as out:
                np.savez_compressed(
                    out, images=images, labels=labels, samples=names, step=event.step, epoch=event.epoch
                )
            visualize.save_image(sheet, batch_sheet(images, labels, names, self._spec))
        except DeeplabError as error:
            return f"Its batch could not be written: {error} "
        return f"Its batch is in {archive}, to look at in {sheet}. "


class BestCheckpoints(Watcher):
    """Keeps checkpoints under names of their own: the ``keep_top`` best, and with ``keep_records`` each that was the
    best when it was scored. Of equal ones the earlier is the better. What is no longer among them is removed after the
    new one is written."""

    name = "checkpoints"

    def __init__(self, run: Path, keep_top: int, *, keep_records: bool) -> None:
        self._run, self._keep_top, self._keep_records = run, keep_top, keep_records
        self._best: float | None = None
        self._kept: list[_Kept] = []

    def after_epoch(self, event: EpochEvent) -> None:
        if event.scores is None:
            return
        miou = event.scores.miou_in_truth  # over the same classes in every epoch
        record = self._best is None or miou > self._best
        new = _Kept(f"epoch{event.epoch:03d}-miou{miou:.4f}.keras", miou, event.epoch, record)
        ranked = sorted([*self._kept, new], key=lambda item: (-item.miou, item.epoch))
        kept = [item for at, item in enumerate(ranked) if at < self._keep_top or (self._keep_records and item.record)]
        if new in kept:
            save_model(event.stock, event.spec, self._run / new.file)
        # What this epoch left when it was trained before the run was killed, and may have scored otherwise.
        before = (path.name for path in self._run.glob(f"epoch{event.epoch:03d}-miou*.keras"))
        names = {item.file for item in kept}
        for file in {*before, *(item.file for item in self._kept)} - names:
            _remove(self._run / file)
        self._kept = kept
        self._best = miou if self._best is None else max(self._best, miou)

    def state(self) -> dict[str, Any]:
        return {"best": self._best, "kept": [dataclasses.asdict(item) for item in self._kept]}

    def joining(self, best: float | None) -> dict[str, Any]:
        return {"best": best, "kept": []}

    def restore(self, state: dict[str, Any]) -> None:
        self._best = state["best"]
        kept = [_Kept(**item) for item in state["kept"]]
        # A file may have been removed after this state was written.
        self._kept = [item for item in kept if (self._run / item.file).exists()]


@dataclasses.dataclass(frozen=True)
class _Kept:
    """A checkpoint that is kept. ``record``: it was the best so far when it was scored."""

    file: str
    miou: float
    epoch: int
    record: bool


def _remove(checkpoint: Path) -> None:
    """The sidecar goes first: if the run is killed in between, the checkpoint is still found and removed."""
    for path in (sidecar_path(checkpoint), checkpoint):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"cannot remove {path}: {error.strerror}.") from None


class _Patient(Watcher):
    """Counts the evaluations since the validation mIoU was last better than ever before in the run, or, where that was
    longer ago, since the stage began: a new stage starts with a learning rate and open layers of its own."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self._best: float | None = None
        self._waited, self._stage = 0, -1

    def is_over(self, event: EpochEvent) -> bool:
        """Whether patience is used up by this epoch."""
        if event.scores is None:
            return False
        if event.stage != self._stage:
            self._stage, self._waited = event.stage, 0
        score = event.scores.miou_in_truth
        if self._best is None or score > self._best:
            self._best, self._waited = score, 0
        else:
            self._waited += 1
        return self._waited >= self.patience

    def state(self) -> dict[str, Any]:
        return {"best": self._best, "waited": self._waited, "stage": self._stage}

    def joining(self, best: float | None) -> dict[str, Any]:
        return {"best": best, "waited": 0, "stage": -1}

    def restore(self, state: dict[str, Any]) -> None:
        self._best, self._waited, self._stage = state["best"], state["waited"], state["stage"]


class Plateau(_Patient):
    """Multiplies the learning rate by ``factor`` after ``patience`` evaluations without a better score, then counts
    anew. The factor itself is in the optimizer's state, and goes with the stage's optimizer."""

    name = "plateau"

    def __init__(self, patience: int, factor: float) -> None:
        super().__init__(patience)
        self._factor = factor

    def after_epoch(self, event: EpochEvent) -> None:
        if self.is_over(event):
            event.scale_learning_rate(self._factor)
            self._waited = 0


class EarlyStop(_Patient):
    """Ends the run after ``patience`` evaluations of its last stage without a better score."""

    name = "early_stop"

    @property
    def used_up(self) -> bool:
        """Whether its patience was at an end at the last evaluation."""
        return self._waited >= self.patience

    def after_epoch(self, event: EpochEvent) -> None:
        if self.is_over(event) and event.last_stage:
            event.stop(f"no better validation mIoU in {self._waited} evaluations")


class Board(Watcher):
    """Pictures for TensorBoard at each evaluation: the confusion matrix, also as a file in the run folder, and some
    validation pictures with truth and prediction, always the same ones, evenly spaced in the list."""

    name = "board"

    def __init__(self, run: Path, pictures: int, history: History) -> None:
        self._run, self._pictures, self._history = run, pictures, history

    def after_epoch(self, event: EpochEvent) -> None:
        if event.scores is None:
            return
        board = self._history.board(event.epoch)
        path, classes = self._run / CONFUSION_NAME, event.val_set.classes
        charts.confusion_chart(path, event.scores.confusion, [item.name for item in classes])
        board.add_image("confusion", read_image(path), event.epoch)
        last = len(event.val_set) - 1
        for index in np.unique(np.linspace(0, last, min(self._pictures, last + 1)).round().astype(int)).tolist():
            image, truth = event.val_set.load(index)
            picture = prediction_sheet(image, truth, predict(event.runtime, image), classes)
            board.add_image(f"predictions/{event.val_set.samples[index].name}", picture, event.epoch)
        board.flush()


def make_watchers(
    config: TrainConfig, run: Path, spec: ModelSpec, history: History, *, chief: bool = True
) -> list[Watcher]:
    """The watchers of a run, in the order in which they are to be called.

    Args:
        config: what is wanted (``watch`` and ``save_eval_checkpoint``).
        run: the run folder, into which they write.
        spec: the spec of the network.
        history: the run's log, into whose TensorBoard events pictures go.
        chief: whether this process writes files. One that does not decides the same from the same events.
    """
    watch, records = config.watch, config.save_eval_checkpoint
    watchers: list[Watcher] = [DivergenceStop(run, spec, writes=chief)]
    if chief and (watch.keep_top or records):
        watchers.append(BestCheckpoints(run, watch.keep_top, keep_records=records))
    if watch.plateau_patience:
        watchers.append(Plateau(watch.plateau_patience, watch.plateau_factor))
    if watch.early_stop_patience:
        watchers.append(EarlyStop(watch.early_stop_patience))
    if chief and watch.board_pictures:
        watchers.append(Board(run, watch.board_pictures, history))
    return watchers
