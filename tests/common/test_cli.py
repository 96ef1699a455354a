from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from common import cli
from deeplabv3p.errors import BudgetError, DataError, DeeplabError, DivergedError, RuntimeMissingError, UsageError

ROOT = Path(__file__).parents[2]


def parser() -> cli.Parser:
    result = cli.Parser("does something")
    result.add_argument("--model_path", required=True, help="model file")
    result.add_argument("--size", type=cli.size_hw, default=(360, 480), help="input size in pixels")
    result.add_argument("--threads", type=cli.integer(1, 64), help="CPU threads (default: all cores)")
    result.add_argument("--alpha", type=cli.number(0.1, 4), default=1.0, help="width, 100 %% is full")
    result.add_argument("--scale", nargs=2, default=(0.5, 2.0), help="range of scales")
    result.add_argument("--save_result", action="store_true", help="write label maps")
    cli.reserve(result, "--do_crf", "refine with a CRF")
    return result


def test_help_names_the_default_of_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(["--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "model file (required)" in text
    assert "input size in pixels (default: 360x480)" in text
    assert text.count("default: all cores") == 1
    assert "CPU threads (default: all cores) --alpha" in text
    assert "width, 100 % is full (default: 1.0)" in text
    assert "range of scales (default: 0.5-2)" in text
    assert "write label maps (default: off)" in text
    assert "--do_crf refine with a CRF (not available yet)" in text


@pytest.mark.parametrize(("text", "size"), [("512x512", (512, 512)), ("360X480", (360, 480)), ("1x16384", (1, 16384))])
def test_size_is_height_then_width(text: str, size: tuple[int, int]) -> None:
    assert cli.size_hw(text) == size
    assert cli.size_hw(cli.size_text(size)) == size


@pytest.mark.parametrize(
    "text", ["512", "512x", "x", "512x512x3", "a x b", "-1x5", "0x5", "5x16385", "512*512", "²x5", ""]
)
def test_bad_size_is_named(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"HEIGHTxWIDTH|1 to 16384 pixels"):
        cli.size_hw(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: --model_path"),
        (["--model_path", "m", "--threads", "0"], "--threads: 0 is out of range; it must be 1 to 64"),
        (["--model_path", "m", "--threads", "two"], "--threads: 'two' is not a whole number"),
        (["--model_path", "m", "--alpha", "nan"], "--alpha: 'nan' is not a number"),
        (["--model_path", "m", "--alpha", "0"], "--alpha: 0.0 is out of range"),
        (["--model_path", "m", "--size", "512"], "--size: '512' is not a size"),
        (["--model_path", "m", "--thread", "2"], "unrecognized arguments: --thread 2"),
        (["--model_path", "m", "--do_crf"], "--do_crf is not available yet"),
        (["--model_path", "m", "--do_crf=5"], "--do_crf is not available yet"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        parser().parse_args(arguments)

    assert cli.exit_code(main) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeeplabError, 1),
        (UsageError, 2),
        (DataError, 3),
        (BudgetError, 4),
        (RuntimeMissingError, 5),
        (DivergedError, 6),
    ],
)
def test_errors_become_exit_codes(error: type[DeeplabError], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise error("the label a.png is broken.")

    assert cli.exit_code(main) == code
    assert capsys.readouterr().err == "error: the label a.png is broken.\n"


def test_interrupt_is_130_and_success_is_0_or_what_main_returns(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert cli.exit_code(interrupted) == 130
    assert "interrupted" in capsys.readouterr().err
    assert cli.exit_code(lambda: None) == 0
    assert cli.exit_code(lambda: 7) == 7


def test_a_bug_keeps_its_traceback() -> None:
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.exit_code(main)


def test_a_closed_pipe_is_quiet() -> None:
    script = "from common import cli\ndef main():\n    for i in range(100000): print(i)\ncli.run(main)"
    command = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert command.stdout is not None
    assert command.stderr is not None
    assert command.stdout.readline() == "0\n"
    command.stdout.close()
    errors = command.stderr.read()
    command.stderr.close()
    assert command.wait() == cli.PIPE_CLOSED
    assert errors == ""
