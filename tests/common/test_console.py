from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from common.console import ConsoleProgress, duration_text, rate_text

ROOT = Path(__file__).parents[2]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_a_line_every_five_seconds_and_a_last_one() -> None:
    stream, clock = io.StringIO(), Clock()
    with ConsoleProgress("evaluate", "pictures", stream=stream, clock=clock) as progress:
        for done in range(1, 13):
            clock.now += 1.0
            progress(done, 12, {"mIoU": 0.5, "wait": "3 %"})
    lines = stream.getvalue().splitlines()
    assert lines == [
        "evaluate: 5/12 pictures, 1.0 pictures/s, 7.0 s left, mIoU 0.500, wait 3 %",
        "evaluate: 10/12 pictures, 1.0 pictures/s, 2.0 s left, mIoU 0.500, wait 3 %",
        "evaluate: 12/12 pictures, 12 s, 1.0 pictures/s, mIoU 0.500, wait 3 %",
    ]
    assert progress.elapsed == 12.0


def test_the_rate_forgets_a_slow_start() -> None:
    stream, clock = io.StringIO(), Clock()
    with ConsoleProgress("train", "steps", stream=stream, clock=clock) as progress:
        clock.now += 100.0  # tracing
        for done in range(1, 101):
            clock.now += 1.0
            progress(done, 200)
        assert stream.getvalue().splitlines()[-1] == "train: 96/200 steps, 1.0 steps/s, 1:44 min left"


def test_a_new_count_starts_a_new_rate() -> None:
    stream, clock = io.StringIO(), Clock()
    with ConsoleProgress("train", "steps", stream=stream, clock=clock) as progress:
        progress(1000, 1000)
        clock.now += 10.0
        progress(0, 10)
        clock.now += 6.0
        progress(3, 10)
    assert stream.getvalue().splitlines()[1].startswith("train: 3/10 steps, 2.00 s/step, 14 s left")


def test_the_first_unit_does_not_spoil_the_rate() -> None:
    stream, clock = io.StringIO(), Clock()
    with ConsoleProgress("train", "steps", stream=stream, clock=clock) as progress:
        clock.now += 30.0  # tracing
        progress(1, 101)
        clock.now += 10.0
        progress(11, 101)
    first, second = stream.getvalue().splitlines()[:2]
    assert first == "train: 1/101 steps"
    assert second == "train: 11/101 steps, 1.0 steps/s, 1:30 min left"


def test_an_unknown_total_has_no_end() -> None:
    stream, clock = io.StringIO(), Clock()
    with ConsoleProgress("video", "frames", stream=stream, clock=clock) as progress:
        clock.now += 6.0
        progress(60, 0)
    assert stream.getvalue().splitlines()[0] == "video: 60 frames, 10.0 frames/s"


def test_a_terminal_gets_a_live_line_that_is_gone_at_the_end() -> None:
    stream, clock = Terminal(), Clock()
    with ConsoleProgress("evaluate [a]", "pictures", stream=stream, clock=clock) as progress:
        clock.now += 1.0
        progress(3, 6, {"mIoU": 0.25})
    text = stream.getvalue()
    assert "3/6 pictures, 3.0 pictures/s, 1.0 s left, mIoU 0.250" in " ".join(text.split())
    assert text.endswith("evaluate [a]: 3/6 pictures, 1.0 s, 3.0 pictures/s, mIoU 0.250\n")


def test_an_error_ends_the_live_line_without_a_last_one() -> None:
    stream = Terminal()
    with pytest.raises(ZeroDivisionError), ConsoleProgress("evaluate", "pictures", stream=stream):
        raise ZeroDivisionError
    assert "\x1b[?25h" in stream.getvalue()  # the cursor is back
    assert "0 pictures" not in stream.getvalue()


def test_a_pipe_never_imports_rich() -> None:
    script = (
        "import sys\nfrom common.console import ConsoleProgress\n"
        "with ConsoleProgress('a', 'b') as p: p(1, 1)\nassert 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [(35, "35"), (0, "0"), (12345, "12,345"), (0.5, "0.500"), (0.0, "0.000"), (1e-5, "1e-05"), (1234.5, "1.23e+03")],
)
def test_counts_are_whole_and_figures_are_not(value: float, text: str) -> None:
    stream = io.StringIO()
    with ConsoleProgress("convert", "pictures", stream=stream, clock=Clock()) as progress:
        progress(40, 40, {"skipped": value})
    assert stream.getvalue().endswith(f", skipped {text}\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (42.4, "42 s"), (59.7, "1:00 min"), (185, "3:05 min"), (3723, "1:02:03 h")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_slow_rates_are_told_as_seconds() -> None:
    assert rate_text(12.34, "pictures") == "12.3 pictures/s"
    assert rate_text(0.4, "steps") == "2.50 s/step"
    assert rate_text(0, "steps") == "0.0 steps/s"
