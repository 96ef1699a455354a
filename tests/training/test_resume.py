"""A run that is killed at any moment and resumed ends in the files of the run that was never killed, bit by bit."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from test_fit import CONFIG, run_fit

from deeplabv3p.data.shapes import generate
from deeplabv3p.runtime.artifact import load_spec
from deeplabv3p.training import checkpoint
from deeplabv3p.training.config import WatchOptions

ROOT = Path(__file__).parents[2]
TIMINGS = {"images_per_s", "data_wait", "seconds"}

# Five steps an epoch and a state after every second one: some kills lose a step, some lose none.
RECIPE = """
model_type = "mobilenetv2_lite"
alpha = 0.35
head_width = 16
backbone_weights = "none"
model_input_shape = "64x64"
batch_size = 2
optimizer = "sgd"
learning_rate = 1e-2
decay_type = "cosine"
warmup_epoch = 0.5
transfer_epoch = 2
freeze_level = 2
eval_epoch_interval = 1
board_pictures = 0
keep_top = 1
plateau_patience = 1
bn_momentum = 0.9
save_steps = 2
save_minutes = 0
deterministic = true
"""
STEPS, TRANSFER = 5, 2  # of an epoch; epochs


def files_of(run: Path) -> set[str]:
    """The files that a kill must not change the list of."""
    return {path.name for path in run.iterdir()} - {"report.html", "training_curves.png"}


def assert_same_run(killed: Path, whole: Path) -> None:
    assert files_of(killed) == files_of(whole)
    for path in whole.glob("*.keras"):
        ours, theirs = (keras.saving.load_model(run / path.name).get_weights() for run in (killed, whole))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=path.name)
        assert load_spec(killed / path.name) == load_spec(path), "score and hash of the weights"
    rows = []
    for run in (killed, whole):
        with (run / "training.csv").open() as file:
            rows.append([{k: v for k, v in row.items() if k not in TIMINGS} for row in csv.DictReader(file)])
    assert rows[0] == rows[1]
    (ours, our_meta), (theirs, their_meta) = (
        checkpoint.load_state(run / checkpoint.STATE_NAME) for run in (killed, whole)
    )
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)
    assert our_meta["watchers"] == their_meta["watchers"]


class Killed(BaseException):
    """What nothing catches."""


def test_a_kill_between_any_two_writes_resumes_to_the_same_files(shapes, tmp_path, monkeypatch):
    """The process ends in front of the first file that is renamed into place after the first epoch, the next one in
    front of the second, and so on: the end of an epoch is met between any two of its files."""
    watch = WatchOptions(keep_top=1, plateau_patience=1)
    config = replace(CONFIG, transfer_epoch=1, total_epoch=2, eval_epoch_interval=1, average_type="swa", watch=watch)
    renamed, original, allowed = [], Path.replace, 10**6

    def rename_or_die(self: Path, target: Path) -> Path:
        if len(renamed) == allowed:
            raise Killed
        renamed.append(target.name)
        return original(self, target)

    monkeypatch.setattr(Path, "replace", rename_or_die)
    run_fit(shapes, tmp_path / "whole", config)
    ends = [i + 1 for i, name in enumerate(renamed) if name == checkpoint.STATE_NAME]
    after_epoch = ends[-1] - ends[1]  # states: before the first step, of the first epoch, of the second stage, the last
    allowed, kills = ends[1], -1
    while kills <= after_epoch + 1:
        renamed.clear()
        try:
            run_fit(shapes, tmp_path / "killed", config, resume=kills >= 0)
            break
        except Killed:
            kills += 1
            allowed = kills
    monkeypatch.undo()
    assert kills == after_epoch + 1
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize(("kills", "epochs", "seed"), [(3, 4, 1), pytest.param(20, 12, 2, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments_in_both_stages(tmp_path, kills, epochs, seed):
    """One run of the command, killed again and again on its way, each time a moment after it has saved a step."""
    generate(tmp_path, train=2 * STEPS, val=2, test=0, size_hw=(64, 64), seed=3)
    (tmp_path / "recipe.toml").write_text(f"{RECIPE}total_epoch = {epochs}\n")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(tmp_path, whole).wait() == 0, log_of(whole)
    chance, told, seen = random.Random(seed), [], set()
    for number in range(kills):
        window = STEPS * (epochs - 1) / kills  # none in the last epoch: there the process could be faster
        target, delay = 1 + int((number + chance.random()) * window), chance.uniform(0, 0.2)
        process, state = start(tmp_path, killed), killed / "000" / checkpoint.STATE_NAME
        early = step_of(state) >= target  # the one before has lived long enough to get there
        if early:
            delay = chance.uniform(0, 3)  # not long enough to get to a step
        while not early and step_of(state) < target and process.poll() is None:
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        assert process.wait() == -signal.SIGKILL, f"{told}\n{log_of(killed)}"
        meta = checkpoint.load_meta(state)
        seen.add(meta["stage"])
        told.append(f"{delay:.3f} s after step {target}, state of step {meta['step']}")
    assert start(tmp_path, killed).wait() == 0, f"{told}\n{log_of(killed)}"
    print("killed", *told, sep="\n")
    assert seen == {0, TRANSFER}, told
    assert_same_run(killed / "000", whole / "000")


def start(folder: Path, logs: Path) -> subprocess.Popen[bytes]:
    """train.py as a process: a new run, or the one there is, resumed."""
    command = [sys.executable, str(ROOT / "train.py"), "--log_dir", str(logs)]
    if (logs / "000").exists():
        command.append("--resume")
    else:
        command += ["--config", str(folder / "recipe.toml"), "--dataset_path", str(folder)]
        command += ["--dataset_file", str(folder / "train.txt"), "--val_dataset_file", str(folder / "val.txt")]
        command += ["--classes_path", str(folder / "classes.txt")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with logs.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)


def log_of(logs: Path) -> str:
    return logs.with_suffix(".log").read_text()[-2000:]


def step_of(state: Path) -> int:
    """The step of a run's state, -1 before the first."""
    return int(checkpoint.load_meta(state)["step"]) if state.exists() else -1
