"""train.py --resume: what may change and what is refused, other data, damaged files, two at once, and a console that is
gone. The exactness of a resume is in tests/training/test_resume.py."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import eval as evaluation
import train
from common import cli
from deeplabv3p.data.shapes import generate
from deeplabv3p.runtime.artifact import load_spec
from deeplabv3p.training import checkpoint
from deeplabv3p.training.lock import LOCK_NAME

ROOT = Path(__file__).parents[1]
RECIPE = """
model_type = "mobilenetv2_lite"
alpha = 0.35
head_width = 16
backbone_weights = "none"
model_input_shape = "64x64"
batch_size = 4
optimizer = "sgd"
learning_rate = 1e-2
val_split = 0.25
transfer_epoch = 1
freeze_level = 2
total_epoch = 2
eval_epoch_interval = 1
board_pictures = 0
save_steps = 1
save_minutes = 0
deterministic = true
"""


def run(argv: list[str], command=train.main) -> int:
    return cli.exit_code(lambda: command(argv))


def arguments(data: Path, logs: Path, *more: str) -> list[str]:
    flags = ["--config", str(data / "recipe.toml"), "--dataset_path", str(data), "--log_dir", str(logs)]
    return [*flags, "--dataset_file", str(data / "train.txt"), "--classes_path", str(data / "classes.txt"), *more]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A dataset without a validation list, and a run on it that has ended."""
    folder = tmp_path_factory.mktemp("source")
    generate(folder / "data", train=12, val=0, test=0, size_hw=(64, 64), seed=2)
    (folder / "data" / "recipe.toml").write_text(RECIPE)
    assert run(arguments(folder / "data", folder / "logs")) == 0
    return folder


@pytest.fixture
def copy(source, tmp_path) -> Path:
    """The run and its data, to be spoilt, at the place where the run has them."""
    shutil.copytree(source / "data", tmp_path / "data")
    shutil.copytree(source / "logs", tmp_path / "logs")
    config = tmp_path / "logs/000/config.json"
    config.write_text(config.read_text().replace(str(source), str(tmp_path)))
    return tmp_path


def resume(folder: Path, *flags: str) -> int:
    return run(["--resume", str(folder / "logs/000"), *flags])


def errors_of(capsys) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]


def test_flags_that_may_not_change_are_refused_by_name(copy, capsys):
    before = {path: path.read_bytes() for path in (copy / "logs/000").iterdir() if path.is_file()}
    flags = ["--total_epoch", "6", "--learning_rate", "0.5", "--model_type", "unet"]
    assert resume(copy, *flags) == 2
    (error,) = errors_of(capsys)
    assert "--learning_rate 0.5 (the run has 0.01)" in error
    assert "--model_type unet (the run has mobilenetv2_lite)" in error
    assert resume(copy, "--dataset_path", str(copy / "nowhere")) == 3
    assert "nowhere does not exist" in errors_of(capsys)[0]
    assert resume(copy, "--total_epoch", "1") == 2
    assert "already trained 2 epochs" in errors_of(capsys)[0]
    now = {path: path.read_bytes() for path in before if path.name != "train.log"}
    assert now == {path: data for path, data in before.items() if path.name != "train.log"}
    assert not (copy / "logs/000" / LOCK_NAME).exists()


def test_a_longer_run_is_the_run_that_was_longer_from_the_start(copy, capsys):
    """Without a schedule. The same command with --resume, and other data flags: the data has moved, too."""
    moved = copy / "moved"
    (copy / "data").rename(moved)
    argv = [*arguments(moved, copy / "logs"), "--total_epoch", "3", "--threads", "1", "--save_steps", "2", "--resume"]
    assert run(argv) == 0
    said = capsys.readouterr().out
    assert "changed at step 4: --total_epoch 3 (was 2)" in said
    assert run(arguments(moved, copy / "whole", "--total_epoch", "3")) == 0
    states = [
        checkpoint.load_state(folder / "000" / checkpoint.STATE_NAME) for folder in (copy / "logs", copy / "whole")
    ]
    for name, array in states[1][0].items():
        np.testing.assert_array_equal(states[0][0][name], array, err_msg=name)
    record = json.loads((copy / "logs/000/config.json").read_text())
    (change,) = record["changes"]
    assert change["step"] == 4
    assert change["options"]["total_epoch"] == [2, 3]
    assert change["options"]["dataset_path"] == [str(copy / "data"), str(moved)]
    assert record["options"]["threads"] == 1
    assert "learning_rate" not in change["options"]


def overwrite(path: Path, change) -> None:
    """In place, with the time it had."""
    stat = path.stat()
    change(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_other_data_is_refused_with_what_is_other(copy, capsys):
    labels = sorted((copy / "data/labels").glob("*.png"))
    for path in labels[:5]:
        overwrite(path, lambda path: cv2.imwrite(str(path), np.zeros((64, 64), np.uint8)))
    assert resume(copy, "--total_epoch", "3") == 3
    (error,) = errors_of(capsys)
    assert "the dataset has changed" in error
    assert "label maps have another content" in error
    (copy / "data/train.txt").write_text("\n".join(path.stem for path in labels[1:]))
    assert resume(copy, "--total_epoch", "3") == 3
    assert "dataset has changed" in errors_of(capsys)[0]


def test_a_damaged_state_is_replaced_by_the_one_before(copy, capsys):
    """Its last step is trained once more, to the same weights."""
    state = copy / "logs/000" / checkpoint.STATE_NAME
    whole, meta = checkpoint.load_state(state)
    data = bytearray(state.read_bytes())
    data[len(data) // 2] ^= 1
    state.write_bytes(data)
    assert resume(copy) == 0
    assert "The run goes on from the state before it" in capsys.readouterr().err
    again, same = checkpoint.load_state(state)
    assert same["step"] == meta["step"]
    for name, array in whole.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)
    for name in (checkpoint.STATE_NAME, checkpoint.PREVIOUS_NAME):
        (state.parent / name).write_bytes(b"PK")
    assert resume(copy) == 3
    assert "state.npz" in errors_of(capsys)[0]


def test_another_number_of_threads_is_said(copy, capsys):
    state = copy / "logs/000" / checkpoint.STATE_NAME
    arrays, meta = checkpoint.load_state(state)
    groups: dict[str, list[np.ndarray]] = {}
    for name in sorted(arrays):
        groups.setdefault(name.partition("/")[0], []).append(arrays[name])
    checkpoint.save_state(state, groups, {**meta, "machine": {**meta["machine"], "processors": 999}})
    assert resume(copy) == 0
    assert "computed with processors 999 (now" in capsys.readouterr().err


def test_the_lists_of_a_run_are_its_pictures_and_its_report_shows_some(source, tmp_path):
    lists = [(source / "logs/000" / name).read_text().split() for name in ("train.txt", "val.txt")]
    assert [len(names) for names in lists] == [9, 3]
    assert sorted(lists[0] + lists[1]) == (source / "data/train.txt").read_text().split()
    argv = ["--model_path", str(source / "logs/000/best.keras"), "--dataset_path", str(source / "data")]
    argv += ["--dataset_file", str(source / "logs/000/val.txt"), "--output_path", str(tmp_path), "--save_result"]
    assert run(argv, evaluation.main) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["miou"] == load_spec(source / "logs/000/best.keras").provenance.miou
    report = (source / "logs/000/report.html").read_text()
    assert all(f"{name}: " in report for name in lists[1])
    assert "of the pixels right" in report


def start(*argv: str, **options) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, str(ROOT / "train.py"), *argv], env=environment, text=True, **options)


def wait_for(text: str, log: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(3000):
        if log.exists() and text in log.read_text():
            return
        assert process.poll() is None, log.read_text() if log.exists() else ""
        time.sleep(0.1)
    raise AssertionError(text)


def test_a_run_goes_on_without_a_reader_is_locked_and_is_stopped_by_its_terminal(source, tmp_path, capsys):
    """One run: `| head -1`, then another --resume of it, then the terminal closes; then two resumes at once."""
    run_folder, log = tmp_path / "logs/000", tmp_path / "logs/000/train.log"
    argv = arguments(source / "data", tmp_path / "logs", "--total_epoch", "500")
    process = start(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    process.stdout.readline()
    process.stdout.close()
    wait_for("epoch 2:", log, process)
    assert "is lost (Broken pipe)" in log.read_text()
    assert run(["--resume", str(run_folder)]) == 3
    assert f"is being trained by process {process.pid}" in errors_of(capsys)[0]
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) == cli.INTERRUPTED
    assert "stopped, state saved" in log.read_text()
    assert not [path for path in run_folder.iterdir() if path.name.startswith(".") or path.name == LOCK_NAME]

    step = checkpoint.load_meta(run_folder / checkpoint.STATE_NAME)["step"]
    epochs = str(step // 2 + 20)
    both = [
        start("--resume", str(run_folder), "--total_epoch", epochs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=300)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 3], told
    assert any("is being trained by" in text for text in told)
    rows = (run_folder / "training.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, int(epochs) + 1))
