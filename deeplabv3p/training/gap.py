"""One warning when validation is far below training, with what tells the causes apart: do pictures that were trained on
score well when they are segmented as those of the validation set are?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deeplabv3p.data.dataset import Dataset
from deeplabv3p.evaluation.score import evaluate
from deeplabv3p.metrics import Scores
from deeplabv3p.training.watchers import EpochEvent, Watcher

# Runs that went well had at least 0.8 times the mIoU of training. The two figures are not of one kind (crops, dropout,
# the mean over an epoch), and both are small and noisy at first.
SHARE, LEAST, PICTURES = 0.6, 0.15, 16


def is_far_below(validation: float, training: float) -> bool:
    """Whether a validation mIoU is so far below that of training (fractions) that something must be wrong."""
    return validation < SHARE * training and training - validation >= LEAST


def explain(training: float, scores: Scores, known: Scores, pictures: int, names: Sequence[str]) -> str:
    """What may be the cause, as a line.

    Args:
        training: mIoU that the progress line showed.
        scores: of the validation set.
        known: of some pictures that were trained on, segmented in the same way.
        pictures: how many there are to train on.
        names: of the classes.
    """
    text = f"validation mIoU {scores.miou:.3f} is far below the {training:.3f} of training. "
    text += f"Pictures it was trained on score {known.miou:.3f} when they are segmented in the same way, "
    if known.miou >= (training + scores.miou) / 2:
        text += (
            f"so it knows them by heart: {pictures} are too few (label more, vary them by --aug_scale, --aug_flip, "
            "--aug_brightness, train fewer epochs), or the validation list holds another kind of pictures."
        )
    else:
        text += (
            "so the network does otherwise in use than in training: statistics of batch norms that do not fit (a "
            "--batch_size of 1 or 2; weights that still move fast: lower --learning_rate, or set --decay_type), or "
            "whole pictures that look otherwise than crops (--crop_shape, --aug_scale)."
        )
    missed = [name for name, pixels, iou in zip(names, scores.pixels, scores.iou, strict=True) if pixels and iou == 0]
    extra = [
        name for name, pixels, iou in zip(names, scores.pixels, scores.iou, strict=True) if not pixels and iou == 0
    ]
    if missed:
        text += f" Never right there: {_some(missed)}."
    if extra:
        text += f" Not in the validation labels, but predicted, which counts as 0: {_some(extra)}."
    return text


class GapWarning(Watcher):
    """Tells :func:`explain` at the first evaluation of a run that is far below training."""

    name = "gap"

    def __init__(self, train_set: Dataset, tell: Callable[[str], None]) -> None:
        self._train_set, self._tell, self._said = train_set, tell, False

    def after_epoch(self, event: EpochEvent) -> None:
        training = float(event.row["train_miou"] or 0.0)
        if event.scores is None or self._said or not is_far_below(event.scores.miou, training):
            return
        self._said = True
        count = min(PICTURES, len(self._train_set))
        places = np.linspace(0, len(self._train_set) - 1, count).round().astype(int).tolist()
        some = dataclasses.replace(self._train_set, samples=tuple(self._train_set.samples[i] for i in places))
        known = evaluate(event.runtime, some).scores
        names = [item.name for item in some.classes]
        self._tell(f"epoch {event.epoch}: {explain(training, event.scores, known, len(self._train_set), names)}")

    def state(self) -> dict[str, Any]:
        return {"said": self._said}

    def restore(self, state: dict[str, Any]) -> None:
        self._said = state["said"]


def _some(names: Sequence[str]) -> str:
    """The first five, and how many more."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
