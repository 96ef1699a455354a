"""The warning when validation is far below training: when it comes, and what it says."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_fit import CONFIG, run_fit

from deeplabv3p.metrics import Scores
from deeplabv3p.training import gap
from deeplabv3p.training.fit import Report

LOGS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*_training.csv"))
CLASSES = ("road", "tree", "pole", "sign")


def scores(hits: list[int], wrong: list[int]) -> Scores:
    """Of ``hits`` right pixels a class, and ``wrong`` ones that are taken for the next class."""
    return Scores(np.diag(hits) + np.roll(np.diag(wrong), 1, axis=1))


@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.stem)
def test_runs_that_went_well_are_not_warned_of(log):
    with log.open(newline="") as file:
        rows = [(float(row["val_miou"]), float(row["train_miou"])) for row in csv.DictReader(file) if row["val_miou"]]
    assert rows
    assert not any(gap.is_far_below(*row) for row in rows)


@pytest.mark.parametrize(
    ("validation", "training", "far"),
    [
        (0.024, 0.413, True),  # statistics of batch norms that were those of the start
        (0.030, 0.348, True),
        (0.35, 0.85, True),  # learned by heart
        (0.05, 0.15, False),  # both are small and noisy at first
        (0.5, 0.7, False),
        (0.9, 0.7, False),
    ],
)
def test_what_is_far_below(validation, training, far):
    assert gap.is_far_below(validation, training) == far


def test_the_cause_is_told_by_pictures_that_it_was_trained_on():
    bad, good = scores([40, 5, 0, 0], [60, 95, 0, 7]), scores([90, 80, 70, 60], [10, 20, 30, 40])
    by_heart = gap.explain(0.7, bad, good, 40, CLASSES)
    assert f"validation mIoU {bad.miou:.3f} is far below the 0.700 of training" in by_heart
    assert "40 are too few" in by_heart
    assert "another kind" in by_heart
    assert "batch norms" not in by_heart
    assert "Never right there: sign." in by_heart
    assert "Not in the validation labels, but predicted, which counts as 0: pole." in by_heart
    otherwise = gap.explain(0.7, bad, bad, 40, CLASSES)
    assert "batch norms" in otherwise
    assert "too few" not in otherwise
    assert all("\n" not in text for text in (by_heart, otherwise))


def test_a_run_is_warned_once_and_a_resumed_one_not_again(shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(gap, "is_far_below", lambda validation, training: True)
    told: list[str] = []
    config = replace(CONFIG, eval_epoch_interval=1)
    run_fit(shapes, tmp_path / "run", replace(config, total_epoch=2), report=Report(warning=told.append))
    assert len(told) == 1
    assert told[0].startswith("epoch 1: validation mIoU ")
    run_fit(shapes, tmp_path / "run", config, resume=True, report=Report(warning=told.append))
    assert len(told) == 1
