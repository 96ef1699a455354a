"""The frame of a command: a parser that says every default, argument types, and errors turned into exit codes.

A script is ``def main(argv=None) -> int | None`` plus ``if __name__ == "__main__": cli.run(main)``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn, TypeVar

import deeplabv3p
from common import streams
from deeplabv3p.errors import DataError, DeeplabError, RuntimeMissingError, UsageError

NO_LABEL = "none"
"""What --ignore_index takes for no label at all."""
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
PIPE_CLOSED = 141  # 128 + SIGPIPE
ENDING_SIGNALS = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP
_MAX_SIDE = 16384  # pixels; larger is a typing error, and its tensor would not fit anywhere

Main = Callable[[], "int | None"]
Number = TypeVar("Number", int, float)


class Parser(argparse.ArgumentParser):
    """An argument parser whose help names every default, whose errors are one line, and that has ``--version``.

    Abbreviated flags are refused: a script that was written against one must not change its meaning when a new flag
    comes. A wrong command line raises UsageError.
    """

    def __init__(self, description: str | None, epilog: str | None = None) -> None:
        super().__init__(description=description, epilog=epilog, formatter_class=HelpFormatter, allow_abbrev=False)
        self.add_argument("--version", action="version", version=f"deeplabv3p {deeplabv3p.__version__}")

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, so that a wrong command line reads like any other error."""
        raise UsageError(f"{message.rstrip('.')}. `{self.prog} --help` lists the flags.")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Refuse an empty value, which mostly is a variable of the shell that is not set, and would mean the current
        folder where a path is wanted."""
        takes_all = action.nargs == argparse.PARSER  # of a sub-command, which looks itself
        if not takes_all and action.type is not any_text and any(not text.strip() for text in arg_strings):
            raise argparse.ArgumentError(action, "the value is empty; is a variable of the shell not set?")
        return super()._get_values(action, arg_strings)


class HelpFormatter(argparse.HelpFormatter):
    """Ends the help of every flag with its default, unless the text already speaks of one."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=min(shutil.get_terminal_size().columns, 110))

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        said = "default" in text or isinstance(action, _WITHOUT_DEFAULT)
        if said:
            return text
        if action.required:
            return f"{text} (required)"
        return f"{text} (default: {_show(action.default).replace('%', '%%')})"

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return "" if isinstance(action, _Reserved) else super()._format_args(action, default_metavar)


def _show(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):  # a size, or a range of numbers, as they are typed
        separator = "x" if all(isinstance(value, int) for value in default) else "-"
        return separator.join(f"{value:g}" for value in default)
    return "none" if default is None else str(default)


def any_text(text: str) -> str:
    """Argument type: text that may be empty, which no other flag takes."""
    return text


def size_hw(text: str) -> tuple[int, int]:
    """Argument type ``HxW``: ``360x480`` → (360, 480), height first, in pixels."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size; write HEIGHTxWIDTH in pixels, such as 512x512")
    height, width = (int(part) for part in parts)
    if not (1 <= height <= _MAX_SIDE and 1 <= width <= _MAX_SIDE):
        raise argparse.ArgumentTypeError(f"'{text}': height and width must be 1 to {_MAX_SIDE} pixels")
    return height, width


def size_text(size: tuple[int, int]) -> str:
    """A size as it is typed: (360, 480) → ``360x480``."""
    return f"{size[0]}x{size[1]}"


def integer(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """Argument type: a whole number from ``minimum`` to ``maximum``, both included."""

    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
        return _within(value, minimum, maximum)

    return whole_number


def add_picture_max(add: Callable[..., Any], otherwise: str) -> None:
    """Add the flag that says what white is in pictures of 16 bits; ``otherwise`` is the default, in words."""
    text = "value of white in pictures of 16 bits a channel: 4095 where the camera has 12 bits"
    add("--picture_max", type=integer(1, 65535), metavar="N", help=f"{text} (default: {otherwise})")


def label_or_none(text: str) -> int | str:
    """Argument type: a number that label files may hold, 0 to 65535, or NO_LABEL."""
    return NO_LABEL if text.lower() == NO_LABEL else integer(0, 65535)(text)


def number(minimum: float, maximum: float | None = None) -> Callable[[str], float]:
    """Argument type: a finite number from ``minimum`` to ``maximum``, both included."""

    def finite_number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise argparse.ArgumentTypeError(f"'{text}' is not a number")
        return _within(value, minimum, maximum)

    return finite_number


def _within(value: Number, minimum: Number, maximum: Number | None) -> Number:
    if value < minimum or (maximum is not None and value > maximum):
        allowed = f"at least {minimum}" if maximum is None else f"{minimum} to {maximum}"
        raise argparse.ArgumentTypeError(f"{value} is out of range; it must be {allowed}")
    return value


class _Reserved(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        raise UsageError(f"{option} is not available yet. Leave it out.")


_SubCommand: Any = argparse._SubParsersAction._ChoicesPseudoAction
_WITHOUT_DEFAULT = (argparse._HelpAction, argparse._VersionAction, _SubCommand, _Reserved)


def reserve(parser: argparse.ArgumentParser, flag: str, help_text: str) -> None:
    """Reserve the name of a flag that does nothing yet: using it, with or without a value, raises UsageError."""
    text = f"{help_text} (not available yet)"
    parser.add_argument(flag, action=_Reserved, nargs="?", default=argparse.SUPPRESS, help=text)


def is_reserved(action: argparse.Action) -> bool:
    """Whether a flag of a parser was made by :func:`reserve`."""
    return isinstance(action, _Reserved)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: the command ends as after Ctrl-C, so that it leaves no temporary files."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run(main: Main) -> NoReturn:
    """Run a script's ``main`` on the command line and exit with its code (see :func:`exit_code`).

    SIGTERM and SIGHUP end it in order, with 128 + their number. A standard output that nobody reads any more ends it
    quietly, one that is full with an error.
    """
    with streams.guarded():
        sys.exit(exit_code(lambda: _run(main)))


def _run(main: Main) -> int | None:
    with _signals_raise():
        try:
            return main()
        finally:
            sys.stdout.flush()


def exit_code(main: Main) -> int:
    """Call ``main``; what a user can act on becomes one line on stderr and its exit code, never a traceback."""
    try:
        return main() or 0
    except DeeplabError as error:
        report(error)
        return error.exit_code
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in {"deeplabv3p", "common"}:
            raise  # a bug of ours
        package, code = error.name.split(".")[0], RuntimeMissingError.exit_code
        where = f"is not installed for {sys.executable}"
        print(f"error: the package {package} {where}: activate the project's environment first.", file=sys.stderr)
        return code
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Terminated) else None
        print("interrupted" if number is None else f"ended by {signal.Signals(number).name}", file=sys.stderr)
        return INTERRUPTED if number is None else 128 + number
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        return PIPE_CLOSED
    except (MemoryError, FileNotFoundError) as error:
        told = _of_process(error)
        if told is None:
            raise
        report(told)
        return told.exit_code


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP raise :class:`Terminated`, once, unless they are ignored already, as by ``nohup``."""

    def handle(number: int, frame: FrameType | None) -> None:
        # A closing terminal may send SIGHUP twice: cleaning up must not be cut short by it.
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
        raise Terminated(number)

    numbers = [getattr(signal, name) for name in ENDING_SIGNALS if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def report(error: DeeplabError) -> None:
    """Tell an error as one line on stderr, whatever names it quotes; for those after which the work goes on."""
    print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)


def warn(text: str) -> None:
    """Say on stderr what a user should know about work that goes on."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def _of_process(error: MemoryError | FileNotFoundError) -> DeeplabError | None:
    """What to tell of an error that comes of the process itself; None for others, which are bugs."""
    if isinstance(error, MemoryError):
        return DataError("there is not enough memory for this. Take smaller pictures, or fewer at a time.")
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return UsageError("the current folder does not exist any more. Change to another one.")
    return None
