"""Watching processes: every socket of a network that they open, and every file that they leave in the user's home."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import commands

_LOOPBACK = ('"::1"', '"127.0.0.1"', 'inet_pton(AF_INET6, "::1"')
_NAME_SERVICES = ("nscd", "resolve")
_KNOWN = (".cache/deeplabv3p/", ".keras/keras.json", ".cache/matplotlib/", ".config/matplotlib/")
"""What commands may leave in a home: our own cache, Keras' settings and matplotlib's list of fonts."""


@dataclass(frozen=True)
class Watched:
    """How a process ended, what it said, its calls that reach for a network, and the files it left in the home."""

    code: int
    text: str
    network: list[str]
    written: list[str]


def make_home(folder: Path) -> Path:
    """An empty home with a folder for temporary files."""
    (folder / "tmp").mkdir(parents=True)
    return folder


def watch(command: list[str], home: Path, cwd: Path, timeout_s: float = 900) -> Watched:
    """Run a command, and all that it starts, under ``strace``."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "calls")
        # Only these calls stop the process, so that engines keep their speed.
        strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=network", "-s", "200", "-o", str(log)]
        done = subprocess.run(
            [*strace, *command],
            cwd=cwd,
            env=commands.environment(home),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        calls = log.read_text(encoding="utf-8", errors="replace").splitlines()
    left = sorted(
        path.relative_to(home).as_posix()
        for path in home.rglob("*")
        if path.is_file() and not path.relative_to(home).as_posix().startswith(_KNOWN)
    )
    return Watched(done.returncode, done.stdout + done.stderr, [line for line in calls if _reaches_out(line)], left)


def _reaches_out(call: str) -> bool:
    """Whether a call addresses a network, or asks a service of this machine for a name. A socket alone does not: some
    packages bind one to this machine to learn whether there is IPv6. Look-ups of names are sent over AF_INET, too."""
    if any(word in call for word in ("connect(", "sendto(", "sendmsg(", "sendmmsg(")):
        return "AF_INET" in call or any(name in call for name in _NAME_SERVICES)
    return "bind(" in call and "AF_INET" in call and not any(address in call for address in _LOOPBACK)
