"""For tests of what must stay offline: a hook for child processes that notes every try to reach a network or to start a
program, and lets none through."""

from __future__ import annotations

from pathlib import Path

# Python runs a module of this name at its start, before anything else. Audit hooks see sockets and programs whoever
# opens them, and cannot be taken out again.
_HOOK = """
import sys
log = open({log!r}, "a", buffering=1)
print("started", file=log)
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "os.system", "urllib.Request"):
        print(event, arguments, file=log)
        raise PermissionError(event + " in a process that must stay offline")
    if event == "subprocess.Popen":
        print(event, arguments[1], file=log)
sys.addaudithook(hook)
"""


def install(folder: Path) -> tuple[str, Path]:
    """Write the hook. Returns what belongs on a child's ``PYTHONPATH``, and its log: ``started`` for each process, then
    a line for each try."""
    log = folder / "tries.log"
    (folder / "sitecustomize.py").write_text(_HOOK.format(log=str(log)), encoding="utf-8")
    return str(folder), log


def tries(log: Path) -> list[str]:
    """What was tried, after a look whether the hook was there at all."""
    lines = log.read_text(encoding="utf-8").splitlines()
    assert "started" in lines, "the hook did not run"
    return [line for line in lines if line != "started"]
