"""A function in a process of its own: what comes back, and what does not come back with it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from deeplabv3p.errors import BudgetError, DataError
from deeplabv3p.evaluation import isolation


def shout(send, count):
    os.write(1, b"an engine that prints\n")
    print("and Python that prints")
    for index in range(count):
        send(index)
    return {"pid": os.getpid(), "array": np.arange(3)}


def complain(send, kind):
    raise kind


def die(send, number):
    os.write(2, b"some noise\nterminate called after throwing an instance of 'boom'\n")
    os.kill(os.getpid(), number)


def leave(send):
    os._exit(7)


def hold(send, megabytes):
    kept = np.ones(megabytes * 2**20, np.uint8)
    return isolation.peak_memory(), int(kept[-1])


def modules(send):
    return sorted(sys.modules)


def test_messages_arrive_in_order_and_prints_do_not_disturb_them(capfd):
    heard = []
    result = isolation.call(shout, 100, on_message=heard.append)
    assert heard == list(range(100))
    assert result["pid"] != os.getpid()
    np.testing.assert_array_equal(result["array"], [0, 1, 2])
    assert capfd.readouterr().out == ""


def test_errors_of_ours_come_back_as_they_are():
    for error in (DataError("the file is damaged."), BudgetError("too far.")):
        with pytest.raises(type(error), match=str(error)):
            isolation.call(complain, error)


def test_other_errors_come_back_as_a_sentence():
    with pytest.raises(isolation.CrashError, match=r"^ValueError: out of range$"):
        isolation.call(complain, ValueError("out of range.\nmore"))


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_names_its_signal_and_the_engines_last_words(number):
    with pytest.raises(isolation.CrashError, match=f"{number.name}.*terminate called after") as caught:
        isolation.call(die, int(number))
    assert ("memory" in str(caught.value)) == (number == signal.SIGKILL)


def test_a_process_that_ends_without_an_answer_is_a_crash():
    with pytest.raises(isolation.CrashError, match="exit code 7"):
        isolation.call(leave)


def test_peak_memory_is_the_childs_own():
    """ru_maxrss would not be: on Linux it starts with what the parent held when it forked."""
    ballast = np.ones(400 * 2**20, np.uint8)
    small, _ = isolation.call(hold, 1)
    large, _ = isolation.call(hold, 200)
    assert ballast[-1] == 1
    assert small < 300 * 2**20, "an interpreter with NumPy and pytest's modules"
    assert 180 * 2**20 < large - small < 220 * 2**20, "199 MiB more were held"


def test_a_folder_of_the_users_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("raise SystemExit('the wrong numpy')")
    monkeypatch.chdir(tmp_path)
    assert "numpy" in isolation.call(modules)
