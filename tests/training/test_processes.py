"""Several processes on JAX, here on the loopback: they end with the same weights, which are those of one process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deeplabv3p.errors import UsageError
from deeplabv3p.training import distribution

pytest.importorskip("jax")

SCRIPT = Path(__file__).with_name("distributed_run.py")
# As in test_mirrored.py: six steps, sums in another order.
TOLERANCE = 1e-5


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start(shapes: Path, out: Path, own: int, count: int, port: int, **task) -> subprocess.Popen:
    devices = {"num_processes": count, "process_id": own} if count > 1 else {}
    if devices:
        devices["coordinator"] = f"127.0.0.1:{port}"
    task = {"folder": str(shapes), "run": str(out / "run"), "out": str(out / f"{own}.npz"), "devices": devices, **task}
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    environment.pop("DEEPLABV3P_CPU_DEVICES", None)
    command = [sys.executable, str(SCRIPT), json.dumps(task)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def train(shapes: Path, out: Path, count: int, **tasks) -> list[dict[str, np.ndarray]]:
    """Run ``count`` processes to their end; what each has written. ``tasks``: of process 1 alone, if it begins so."""
    port = free_port()
    common = {name: value for name, value in tasks.items() if not name.startswith("second_")}
    second = {name.removeprefix("second_"): value for name, value in tasks.items() if name.startswith("second_")}
    running = [start(shapes, out, own, count, port, **common, **(second if own == 1 else {})) for own in range(count)]
    try:
        errors = [process.communicate(timeout=300)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * count, "\n".join(error[-2000:] for error in errors)
    results = []
    for own in range(count):
        with np.load(out / f"{own}.npz") as arrays:
            results.append(dict(arrays))
    return results


@pytest.fixture(scope="module")
def alone(shapes, tmp_path_factory) -> dict[str, np.ndarray]:
    return train(shapes, tmp_path_factory.mktemp("alone"), 1, config={"total_epoch": 4})[0]


def assert_same(results: list[dict[str, np.ndarray]], alone: dict[str, np.ndarray]) -> None:
    first, second = results
    names = [name for name in alone if name not in ("steps", "finished", "written")]
    assert len(names) == 9 + 3
    for name in names:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        np.testing.assert_allclose(first[name], alone[name], rtol=0, atol=TOLERANCE, err_msg=name)


def test_two_processes_stop_together_and_end_as_one_process(shapes, tmp_path, alone):
    """The second asks for a stop at step 7; both stop at step 10, the next at which they ask each other. Only the first
    writes, and the second goes on from the first's state."""
    stopped = train(shapes, tmp_path, 2, config={"total_epoch": 4}, second_stop_at=7)
    assert [list(result["steps"])[-1] for result in stopped] == [10, 10]
    assert not stopped[0]["finished"]
    assert not stopped[1]["finished"]
    assert "state.npz" in stopped[0]["written"]
    assert list(stopped[1]["written"]) == []

    results = train(shapes, tmp_path, 2, config={"total_epoch": 4}, resume=True)
    assert [list(result["steps"]) for result in results] == [[11, 12], [11, 12]]
    assert list(results[1]["written"]) == ["state.npz"], "the copy that it went on from"
    assert_same(results, alone)


@pytest.mark.slow
def test_two_processes_end_as_one_process(shapes, tmp_path, alone):
    results = train(shapes, tmp_path, 2, config={"total_epoch": 4, "save_steps": 1, "average_type": "None"})
    assert_same(results, alone)
    assert list(results[1]["written"]) == []


@pytest.mark.slow
def test_a_process_that_dies_does_not_leave_the_other_waiting(shapes, tmp_path):
    port = free_port()
    first = start(shapes, tmp_path, 0, 2, port)
    second = start(shapes, tmp_path, 1, 2, port, fail_at=4)
    try:
        assert second.wait(timeout=200) == 9
        _, error = first.communicate(timeout=200)
    finally:
        first.kill()
        second.kill()
    assert first.returncode != 0
    assert "another process of the run is gone" in error


@pytest.mark.slow
def test_processes_with_other_options_are_refused(shapes, tmp_path):
    port = free_port()
    first = start(shapes, tmp_path, 0, 2, port)
    second = start(shapes, tmp_path, 1, 2, port, config={"learning_rate": 0.2})
    try:
        errors = [process.communicate(timeout=200)[1] for process in (first, second)]
    finally:
        first.kill()
        second.kill()
    for error in errors:
        assert "process 1 and process 0 differ in the options" in error


def test_a_coordinator_that_does_not_answer_is_one_clear_error():
    with pytest.raises(UsageError, match="process 0 has not answered at 127"):
        distribution._wait_for("127.0.0.1", free_port(), seconds=0.3)
