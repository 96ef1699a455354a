"""The log of a run: what a killed process logged and did not save is not there twice."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deeplabv3p.errors import DataError
from deeplabv3p.training.history import CSV_NAME, TENSORBOARD_NAME, History


def curve(run: Path, name: str = "loss") -> dict[int, float]:
    events = EventAccumulator(str(run / TENSORBOARD_NAME))
    events.Reload()
    points = [(event.step, event.value) for event in events.Scalars(name)]
    assert len(dict(points)) == len(points), "each epoch once"
    return dict(points)


def test_an_epoch_that_is_repeated_after_a_kill_is_logged_once(tmp_path):
    """The first process is killed after it logged epoch 3 and before its state was saved; both within one second."""
    killed = History(tmp_path)
    for epoch in (1, 2, 3):
        killed.append({"epoch": epoch, "step": 5 * epoch, "loss": 1 / epoch, "val_miou": None})
    assert curve(tmp_path) == pytest.approx({1: 1, 2: 1 / 2, 3: 1 / 3}), "nothing waits for a close"
    resumed = History(tmp_path)
    resumed.rows = killed.rows[:2]
    for epoch in (3, 4):
        resumed.append({"epoch": epoch, "step": 5 * epoch, "loss": 0.5 / epoch, "val_miou": 0.25})
    resumed.close()
    with (tmp_path / CSV_NAME).open() as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == [1, 2, 3, 4]
    assert curve(tmp_path) == pytest.approx({1: 1, 2: 1 / 2, 3: 0.5 / 3, 4: 0.5 / 4})
    assert curve(tmp_path, "val_miou") == {3: 0.25, 4: 0.25}
    killed.close()


def test_a_run_that_logs_nothing_writes_no_events(tmp_path):
    """A resume of a finished run, or a process that writes no files."""
    History(tmp_path).close()
    assert not list(tmp_path.iterdir())


def test_a_log_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / TENSORBOARD_NAME).write_text("not a folder")
    with pytest.raises(DataError, match=f"cannot write events into .*{TENSORBOARD_NAME}"):
        History(tmp_path).append({"epoch": 1, "step": 5, "loss": 0.5})


def test_epochs_are_compared_over_the_classes_in_the_truth(tmp_path):
    """The mIoU that counts predicted classes falls where the one over the truth rises; older rows have no other."""
    history = History(tmp_path, writes=False)
    rows = [
        ({"val_miou": None, "val_miou_in_truth": None}, False),  # was not scored
        ({"val_miou": 0.3}, True),
        ({"val_miou": 0.4, "val_miou_in_truth": 0.4}, True),
        ({"val_miou": 0.35, "val_miou_in_truth": 0.5}, True),
        ({"val_miou": 0.45, "val_miou_in_truth": 0.45}, False),
        ({"val_miou": 0.5, "val_miou_in_truth": 0.5}, False),  # of equal ones the earlier is the best
    ]
    for epoch, (scores, record) in enumerate(rows, 1):
        row = {"epoch": epoch, "step": epoch, **scores}
        assert history.is_record(row) == record, row
        history.append(row)
