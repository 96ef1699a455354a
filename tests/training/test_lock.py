"""The lock of a run folder: one process has it, and a process that is gone has not."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from deeplabv3p.errors import DataError
from deeplabv3p.training import lock
from deeplabv3p.training.lock import LOCK_NAME, Owner, locked

ROOT = Path(__file__).parents[2]

HOLD = """
import sys, time
from pathlib import Path
from deeplabv3p.errors import DataError
from deeplabv3p.training import lock
if sys.argv[2] == "made":
    def refuse(descriptor): raise OSError(95, "not supported")
    lock._lock_descriptor = refuse
time.sleep(max(0, float(sys.argv[3]) - time.time()))
try:
    with lock.locked(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
except DataError as error:
    print(error, flush=True)
"""


@pytest.fixture(params=["locked", "made"])
def how(request, monkeypatch) -> str:
    """Files are locked, or, where they cannot be, made."""
    if request.param == "made":

        def refuse(descriptor: int) -> None:
            raise OSError(95, "not supported")

        monkeypatch.setattr(lock, "_lock_descriptor", refuse)
    return request.param


def start(run: Path, how: str, at: float = 0) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(run), how, str(at)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_it_is_there_while_it_is_held_and_gone_after(how, tmp_path):
    for _ in range(2):
        with locked(tmp_path):
            assert Owner.read(tmp_path / LOCK_NAME).pid == os.getpid()
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_second_one_is_refused_by_the_first_ones_name(how, tmp_path):
    process = start(tmp_path, how)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(DataError, match=f"is being trained by process {process.pid} on ") as error, locked(tmp_path):
        pass
    assert "\n" not in str(error.value)
    process.communicate("")
    with locked(tmp_path):
        pass


def test_kill_9_leaves_no_lock(how, tmp_path):
    process = start(tmp_path, how)
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / LOCK_NAME).exists()
    with locked(tmp_path):
        assert Owner.read(tmp_path / LOCK_NAME).pid == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left_behind", [False, True])
def test_of_many_that_start_at_once_one_wins(how, left_behind, tmp_path):
    import time

    if left_behind:
        gone = dataclasses.replace(Owner.this(), pid=2**22 + 1)
        (tmp_path / LOCK_NAME).write_text(gone.text)
    at = time.time() + 1.0
    processes = [start(tmp_path, how, at) for _ in range(6)]
    said = [process.stdout.readline() for process in processes]
    assert sorted(line == "held\n" for line in said) == [False] * 5 + [True], said
    for process in processes:
        process.communicate("")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({"host": "elsewhere", "boot": "another"}, False),
        ({"host": "a-container-of-this-machine", "pid": 2**22 + 1}, True),
        ({"boot": "before the restart"}, True),
        ({"pid": 2**22 + 1}, True),
        ({"born": "1"}, True),
    ],
)
def test_what_is_left_of_others(how, change, taken, tmp_path):
    path = tmp_path / LOCK_NAME
    path.write_text(dataclasses.replace(Owner.this(), **change).text)
    if not taken:
        with pytest.raises(DataError, match=f"remove .*{LOCK_NAME}"), locked(tmp_path):
            pass
        assert path.exists()
        path.unlink()
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', "[" * 5000, "\x00"])
def test_a_damaged_lock_is_taken(how, text, tmp_path):
    path = tmp_path / LOCK_NAME
    path.write_text(text)
    os.utime(path, (0, 0))
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match="cannot lock"), locked(tmp_path / "none"):
        pass
