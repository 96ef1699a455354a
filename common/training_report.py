"""The report of a finished run: its curves, and what the best model makes of some validation pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.report import Gallery, curves_section, run_section, write_report
from deeplabv3p.data.dataset import Dataset
from deeplabv3p.evaluation.score import evaluate
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import load_spec

if TYPE_CHECKING:
    from deeplabv3p.training.fit import TrainResult

CONSIDERED, SHOWN = 32, 8  # validation pictures: evenly spaced in the list, and those of them that the report has


def write_training_report(run: Path, result: TrainResult, val_set: Dataset) -> Path:
    """Write ``report.html`` into the run folder; returns its path.

    Raises:
        DataError: the folder cannot be written, or ``best.keras`` or a picture cannot be read.
    """
    facts = [("Best validation mIoU", f"{result.best_miou:.4f}")]
    if result.early_stop is not None:
        facts.append(("Ended early", result.early_stop))
    sections = [curves_section(run, result.history), *_predictions(run, val_set).sections(), run_section(facts)]
    return write_report(run, "Training", sections)


def _predictions(run: Path, val_set: Dataset) -> Gallery:
    """Validation pictures with truth, prediction and errors of the best model: the worst of some, and the first."""
    chosen = np.linspace(0, len(val_set) - 1, min(CONSIDERED, len(val_set))).round().astype(int).tolist()
    some = dataclasses.replace(val_set, samples=tuple(val_set.samples[index] for index in chosen))
    gallery = Gallery(val_set.classes, SHOWN)
    best = run / "best.keras"
    if best.is_file():  # nobody has moved it away meanwhile
        evaluate(keras_engine.open_model(best, load_spec(best)), some, on_picture=gallery.add)
    return gallery
