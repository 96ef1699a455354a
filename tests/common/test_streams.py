"""Commands whose console is gone, full or closed, and commands that are ended from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from common import cli
from common.run_log import LOG_NAME

ROOT = Path(__file__).parents[2]

PRINT = """
    from common import cli
    def main():
        for i in range(100000): print("line", i, flush=True)
    cli.run(main)
"""
PRINT_ONCE = """
    from common import cli
    cli.run(lambda: print("a line that waits in a buffer"))
"""
HELP = """
    import argparse
    from common import cli
    cli.run(lambda: cli.Parser("does something").parse_args(["--help"]) and None)
"""
FAIL = """
    from common import cli
    from deeplabv3p.errors import DataError
    def main(): raise DataError("the label a.png is broken.")
    cli.run(main)
"""
TRAIN = """
    import sys
    from pathlib import Path
    from common import cli
    from common.console import ConsoleProgress
    from common.run_log import RunLog
    def main():
        log = RunLog()
        with log.kept():
            print("before the run", flush=True)
            log.open(Path(sys.argv[1]))
            with ConsoleProgress("train", "steps", stream=log.console) as progress, log.listening():
                for step in range(1000):
                    progress(step + 1, 1000)
                    print("step", step, flush=True)
                print("a warning", file=sys.stderr)
            print("done")
        return 0
    cli.run(main)
"""


def start(script: str, *arguments: str, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    return subprocess.Popen(command, cwd=ROOT, text=True, stderr=subprocess.PIPE, **options)


def shell(script: str, how: str, *arguments: str) -> tuple[int, str]:
    """Run it as ``how`` says in a shell, where ``X`` stands for the command; the exit code, and what is on stderr."""
    quoted = " ".join(f"'{part}'" for part in (sys.executable, "-c", textwrap.dedent(script), *arguments))
    line = f"set -o pipefail; {how.replace('X', quoted)}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("script", [PRINT, HELP])
def test_a_reader_that_has_seen_enough_ends_a_command_quietly(script):
    process = start(script, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if script is PRINT:
        process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() in (cli.PIPE_CLOSED, 0 if script is HELP else cli.PIPE_CLOSED), "argparse hides it"


@pytest.mark.parametrize("script", [PRINT, PRINT_ONCE, HELP])
def test_a_full_standard_output_is_one_line(script):
    code, errors = shell(script, "X > /dev/full")
    assert code == 3
    assert errors.startswith("error: cannot write to standard output: No space left on device.")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("how", ["X >&-", "X >&- 2>&-", "X <&- >&- 2>&-", "X 2>/dev/full >/dev/null"])
def test_closed_streams_end_nothing(how):
    assert shell(PRINT_ONCE, how) == (0, "")


@pytest.mark.parametrize("how", ["X 2>&-", "X 2>/dev/full", "X 2>&1 | head -c 0"])
def test_an_error_that_nobody_can_be_told_keeps_its_code(how):
    assert shell(FAIL, how)[0] == 3


@pytest.mark.parametrize("closed", ["X 2>&1 | head -1", "X > /dev/full", "X > /dev/full 2>&1", "X >&-", "X >&- 2>&-"])
def test_a_training_goes_on_and_says_so_in_its_log(tmp_path, closed):
    code, errors = shell(TRAIN, closed, str(tmp_path))
    assert code == 0
    assert "Traceback" not in errors
    assert "Exception" not in errors
    text = (tmp_path / LOG_NAME).read_text()
    lines = [line.split(" ", 2)[2] for line in text.splitlines()]
    assert "before the run" in lines[:2]
    assert [line for line in lines if line.startswith("step")] == [f"step {i}" for i in range(1000)]
    assert "a warning" in lines
    assert "done" in lines
    lost = "standard output is lost" in text
    assert lost == (">&-" not in closed)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_command_that_is_ended_removes_its_temporary_files(name, tmp_path):
    script = """
        import sys, time
        from common import cli
        from deeplabv3p import files
        def main():
            with files.atomic_path(sys.argv[1]) as temporary:
                print("writing", flush=True)
                time.sleep(60)
        cli.run(main)
    """
    process = start(script, str(tmp_path / "result.txt"), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert len(list(tmp_path.iterdir())) == 1
    number = getattr(signal, name)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert errors == f"ended by {name}\n"
    assert process.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_nohup_stays_in_force():
    script = """
        import os, signal
        from common import cli
        def main():
            os.kill(os.getpid(), signal.SIGHUP)
            print("still here")
        cli.run(main)
    """
    code, errors = shell(script, "trap '' HUP; X > /dev/null")
    assert (code, errors) == (0, "")


def test_handlers_and_streams_are_as_before(capsys):
    """Scripts that are run inside another process."""
    before = signal.getsignal(signal.SIGTERM), sys.stdout, sys.stderr
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: print("said"))
    assert not end.value.code
    assert (signal.getsignal(signal.SIGTERM), sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "said\n"
    assert os.fstat(1)
