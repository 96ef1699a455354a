"""Run a function in a process of its own: an engine that crashes, fills the memory or spoils another one's state does
it there, and the peak of its memory is its own.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from deeplabv3p import processes
from deeplabv3p.errors import DeeplabError

Send = Callable[[Any], None]


class CrashError(Exception):
    """The process ended without a result, or the function failed in a way that it does not explain. The message says
    how, as a part of a sentence."""


def call(function: Callable[..., Any], *arguments: Any, on_message: Callable[[Any], None] | None = None) -> Any:
    """Call ``function(send, *arguments)`` in a fresh Python process and return its result.

    Args:
        function: a function of a module, not of a script.
        arguments: anything that pickle takes.
        on_message: called with each object that the function passes to ``send``.

    Raises:
        DeeplabError: what the function raised, as it is.
        CrashError: it raised something else, or its process died.
    """
    with tempfile.TemporaryFile() as log:
        process = processes.start_module(__name__, stdin=processes.PIPE, stdout=processes.PIPE, stderr=log)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            try:
                pickle.dump((function.__module__, function.__qualname__, arguments), process.stdin)
                process.stdin.close()
            except BrokenPipeError:
                pass  # it died while it started; its exit status tells
            kind, value = _read(process.stdout, on_message)
            process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if kind == "result":
            return value
        if kind == "error":
            raise value
        raise CrashError(value if kind == "failure" else _describe_end(process.returncode, log))


def peak_memory() -> int | None:
    """The most memory that this process had resident so far, in bytes; None where the system does not tell."""
    try:
        # Of this program only. getrusage's figure on Linux includes the process that started it, before exec.
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _read(stream: IO[bytes], on_message: Callable[[Any], None] | None) -> tuple[str, Any]:
    """Pass messages on until the last word comes: ("result" | "error" | "failure" | "end", value)."""
    while True:
        try:
            kind, value = pickle.load(stream)
        except (EOFError, pickle.UnpicklingError):
            return "end", None
        if kind != "message":
            return kind, value
        if on_message is not None:
            on_message(value)


def _describe_end(code: int, log: IO[bytes]) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - 4096))
    lines = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    said = f" ({lines[-1][:200].rstrip('.')})" if lines else ""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = ", as when memory runs out" if name == "SIGKILL" else ""
        return f"the process crashed with {name}{hint}{said}"
    return f"the process ended early with exit code {code}{said}"


def _serve() -> None:
    """The child: read the call from stdin, answer on what was stdout."""
    # Engines print to stdout, from C too; that must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def answer(kind: str, value: Any) -> None:
        data = pickle.dumps((kind, value))  # complete before the first byte is written
        answers.write(data)
        answers.flush()

    try:
        module, name, arguments = pickle.load(sys.stdin.buffer)
        function: Any = __import__(module, fromlist=["_"])
        for part in name.split("."):
            function = getattr(function, part)
        answer("result", function(lambda value: answer("message", value), *arguments))
    except DeeplabError as error:
        answer("error", error)
    except Exception as error:
        lines = str(error).strip().splitlines()
        answer("failure", f"{type(error).__name__}: {lines[0][:300].rstrip('.')}" if lines else type(error).__name__)
    # Some engines abort when they are taken down in the wrong order. The answer is out, so nothing is lost.
    answers.flush()
    os._exit(0)


if __name__ == "__main__":
    _serve()
