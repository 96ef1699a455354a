"""Several devices of one process: a run is that of one device with the same batch, but for rounding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deeplabv3p.errors import UsageError
from deeplabv3p.training.config import DeviceOptions, TrainConfig
from deeplabv3p.training.distribution import Distribution, open_distribution

SCRIPT = Path(__file__).with_name("distributed_run.py")
# Six steps of SGD from the same weights: sums over the batch in another order, measured up to 4e-7.
TOLERANCE = 1e-5


def run(shapes: Path, out: Path, backend: str, count: int, **task) -> dict[str, np.ndarray]:
    """Train on ``count`` devices of a CPU, in a new process. What it has written, by name."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "DEEPLABV3P_CPU_DEVICES": str(count)}
    run_folder = out / f"{backend}{count}"
    task = {"folder": str(shapes), "run": str(run_folder), "out": str(out / "out.npz"), **task}
    task["devices"] = {"gpu_num": count}
    command = [sys.executable, str(SCRIPT), json.dumps(task)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out / "out.npz") as arrays:
        return dict(arrays)


def assert_equal_runs(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    names = [name for name in theirs if name.startswith("w") and name != "written"]
    assert len(names) == 9, "a network with a batch norm: gamma, beta, moving mean and variance among them"
    for name in [*names, "loss", "train_miou", "val_miou"]:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.fixture(scope="module")
def alone(shapes, tmp_path_factory) -> dict[str, np.ndarray]:
    return run(shapes, tmp_path_factory.mktemp("alone"), "tensorflow", 1)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_mirrored_devices_train_as_one_device_does(shapes, tmp_path, alone, count):
    """Batch-norm statistics, weights, losses and scores."""
    pytest.importorskip("tensorflow")
    assert_equal_runs(run(shapes, tmp_path, "tensorflow", count), alone)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_devices_on_jax_train_as_one_device_does(shapes, tmp_path, alone, count):
    pytest.importorskip("jax")
    assert_equal_runs(run(shapes, tmp_path, "jax", count), alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"average_type": "ema"},
        {"average_type": "swa"},
        {"average_type": "lookahead", "clip_norm": 0.5},
        {"loss": {"loss": "crossentropy+0.5*dice", "weighted_type": "adaptive"}},
        {"batch_size": 8, "total_epoch": 4},
    ],
    ids=str,
)
def test_options_do_the_same_on_mirrored_devices(shapes, tmp_path, options):
    (one, two) = (tmp_path / "one", tmp_path / "two")
    one.mkdir()
    two.mkdir()
    ours = run(shapes, two, "tensorflow", 2, config=options)
    assert_equal_runs(ours, run(shapes, one, "tensorflow", 1, config=options))


@pytest.mark.slow
def test_a_stopped_mirrored_run_ends_as_if_it_had_not_been(shapes, tmp_path, alone):
    stopped = run(shapes, tmp_path, "tensorflow", 2, stop_at=4)
    assert not stopped["finished"]
    assert list(stopped["steps"]) == [1, 2, 3, 4]
    assert_equal_runs(run(shapes, tmp_path, "tensorflow", 2, resume=True), alone)


def test_the_batch_has_to_divide_by_the_devices():
    four = Distribution()
    four.devices = 4
    four.check(TrainConfig(batch_size=8))
    with pytest.raises(UsageError, match=r"--batch_size 10 .*4 devices.* 8"):
        four.check(TrainConfig(batch_size=10))


@pytest.mark.parametrize(
    ("options", "backend", "message"),
    [
        (DeviceOptions(gpu_num=1024), "tensorflow", r"--gpu_num 1024: there .* DEEPLABV3P_CPU_DEVICES"),
        (DeviceOptions(gpu_num=2), "torch", "torch trains on one device"),
        (DeviceOptions(num_processes=2, coordinator="h:1"), "tensorflow", r"KERAS_BACKEND=jax.*scaling\.md"),
        (DeviceOptions(num_processes=2), "jax", "--coordinator HOST:PORT"),
        (DeviceOptions(num_processes=2, coordinator="nowhere"), "jax", "nowhere is no address"),
        (DeviceOptions(num_processes=2, process_id=2, coordinator="h:1"), "jax", "--process_id 2"),
        (DeviceOptions(process_id=1), "jax", "--num_processes"),
    ],
)
def test_devices_that_are_not_there_are_one_clear_error(monkeypatch, options, backend, message):
    if backend == "tensorflow":
        pytest.importorskip(backend)
    monkeypatch.delenv("DEEPLABV3P_CPU_DEVICES", raising=False)
    with pytest.raises(UsageError, match=message):
        open_distribution(options, backend)


def test_one_device_shares_nothing(tmp_path):
    """The trivial instance does what the others do, for one."""
    one = Distribution()
    assert one.is_chief
    assert one.agree(True, step=3)
    assert not one.agree(False, step=10)
    counts = np.arange(4, dtype=np.int64)
    assert (one.total(counts) == counts).all()
    with one.run_folder(lambda: tmp_path, ("missing",)) as folder:
        assert folder == tmp_path
