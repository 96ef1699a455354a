"""One process trains in a run folder at a time.

The file ``train.lock`` says who it is. Where the file system can lock files, the system itself ends the lock with its
process, after ``kill -9``, too. Elsewhere a lock of this machine whose process is gone counts as left behind. What
another machine has left cannot be judged from here: the message names the file to remove.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from deeplabv3p import documents
from deeplabv3p.errors import DataError

LOCK_NAME = "train.lock"

_SETTLED = 10.0  # seconds after which a lock file without content is one whose maker was killed


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the lock of a run folder.

    Raises:
        DataError: another process trains in it, or may do so on another machine; or the folder cannot be written.
    """
    path, own = run / LOCK_NAME, Owner.this()
    try:
        descriptor = _lock_file(path, own)
        if descriptor is None:
            _make_file(path, own)
    except OSError as error:
        raise DataError(f"cannot lock {run}: {error.strerror}. Choose a folder that can be written.") from None
    try:
        yield
    finally:
        if os.name == "nt" and descriptor is not None:  # Windows removes no file that is open
            os.close(descriptor)
            descriptor = None
        if Owner.read(path) == own:  # else somebody has removed it by hand
            with contextlib.suppress(OSError):
                path.unlink()
        if descriptor is not None:
            os.close(descriptor)


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who holds a lock. ``boot`` tells one start of a machine from another, ``born`` one process from a later one of
    the same number; both are empty where the system does not say."""

    host: str
    pid: int
    since: str
    token: str
    boot: str = ""
    born: str = ""

    @classmethod
    def this(cls) -> Owner:
        """This process, now."""
        now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        pid = os.getpid()
        return cls(
            socket.gethostname(), pid, now, secrets.token_hex(8), _read("/proc/sys/kernel/random/boot_id"), _born(pid)
        )

    @classmethod
    def read(cls, path: Path) -> Owner | None:
        """Who a lock file names; None where it cannot be read or says nothing."""
        try:
            owner = cls(**documents.read_json(path))
        except (DataError, TypeError):
            return None
        return owner if isinstance(owner.pid, int) and 0 < owner.pid < 2**31 else None

    @property
    def text(self) -> str:
        """What :meth:`read` reads."""
        return json.dumps(dataclasses.asdict(self)) + "\n"

    def is_elsewhere(self, own: Owner) -> bool:
        """Whether it is of another machine than ``own``. Containers of one machine have names of their own."""
        return self.host != own.host and (not self.boot or self.boot != own.boot)

    def lives(self, own: Owner) -> bool:
        """Whether its process still runs on the machine of ``own``."""
        if self.boot and own.boot and self.boot != own.boot:
            return False
        return _exists(self.pid) and (not self.born or self.born == _born(self.pid))


def _lock_file(path: Path, own: Owner) -> int | None:
    """Lock the file and write ``own`` into it.

    Returns:
        The open file, which holds the lock; None where files cannot be locked.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                _lock_descriptor(descriptor)
            except BlockingIOError:
                raise _refusal(path, Owner.read(path), own) from None
            except (OSError, ImportError):
                if os.fstat(descriptor).st_size == 0:  # made here, by opening it
                    path.unlink(missing_ok=True)
                return None
            if not _is_at(descriptor, path):  # its owner ended and removed it after it was opened here
                continue
            owner = Owner.read(path)
            if owner is not None and owner.is_elsewhere(own):
                raise _refusal(path, owner, own)
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, own.text.encode())
            held, descriptor = descriptor, -1
            return held
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def _lock_descriptor(descriptor: int) -> None:
    """Raises BlockingIOError if another process has it locked, another OSError where files cannot be locked."""
    if os.name == "nt":
        windows: Any = import_module("msvcrt")
        os.lseek(descriptor, 2**30, os.SEEK_SET)  # behind the content, which others may then still read
        try:
            windows.locking(descriptor, windows.LK_NBLCK, 1)
        except PermissionError:
            raise BlockingIOError from None
        return
    unix: Any = import_module("fcntl")
    unix.flock(descriptor, unix.LOCK_EX | unix.LOCK_NB)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _make_file(path: Path, own: Owner) -> None:
    """Hold the lock by being the one who made the file."""
    while not _made(path, own):
        owner = Owner.read(path)
        try:
            settled = time.time() - path.stat().st_mtime > _SETTLED
        except FileNotFoundError:
            continue
        if owner is None and not settled:
            raise _refusal(path, None, own)
        if owner is not None and (owner.is_elsewhere(own) or owner.lives(own)):
            raise _refusal(path, owner, own)
        # Left behind. Others may see that, too, and late: only the one that holds the claim to this very lock may
        # replace it, and only while it is still there. So nobody moves a lock that another process has just made.
        claim = path.with_name(f".{LOCK_NAME}.{hashlib.sha256(repr(owner).encode()).hexdigest()[:16]}")
        try:
            claim.touch(exist_ok=False)
        except FileExistsError:
            raise DataError(
                f"another process is about to train in {path.parent}. If none runs, remove {claim}."
            ) from None
        try:
            if Owner.read(path) == owner:
                draft = _draft(path, own)
                draft.replace(path)
                return
        finally:
            claim.unlink()


def _made(path: Path, own: Owner) -> bool:
    """Whether the file was not there and is now, whole from its first moment on where the file system knows links."""
    draft = _draft(path, own)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(own.text)
        except FileExistsError:
            return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def _draft(path: Path, own: Owner) -> Path:
    """A file beside the lock's, which says what the lock's shall say."""
    draft = path.with_name(f".{LOCK_NAME}.{own.token}")
    draft.write_text(own.text, encoding="utf-8")
    return draft


def _refusal(path: Path, owner: Owner | None, own: Owner) -> DataError:
    if owner is None:
        return DataError(f"{path.parent} is in use by another process. Wait for its end, or resume another run.")
    who = f"process {owner.pid} on {owner.host}, since {owner.since}"
    if owner.is_elsewhere(own):
        return DataError(
            f"{path.parent} is locked by {who}; whether that still runs cannot be seen from {own.host}. If it does "
            f"not, remove {path}."
        )
    return DataError(f"{path.parent} is being trained by {who}. Wait for its end, or stop it by: kill {owner.pid}")


def _exists(pid: int) -> bool:
    """Whether there is a process of that number."""
    if os.name == "nt":
        import ctypes

        kernel: Any = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
        handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if handle:
            kernel.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _born(pid: int) -> str:
    """When a process began, in ticks since the machine did."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
