"""Files that could crash an engine are opened and run once in a process of their own before this process touches them.

A file that came through is remembered by its SHA-256 in a cache folder, so that each is probed once: DEEPLABV3P_CACHE,
or deeplabv3p in the user's cache folder. What the project itself has just written is remembered without a probe. With
DEEPLABV3P_TRUST=1 nothing is probed: for machines that only ever open files of their own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from pathlib import Path

import numpy as np

from deeplabv3p import files, processes
from deeplabv3p.errors import DataError, DeeplabError
from deeplabv3p.spec import ModelSpec

CACHE_VARIABLE = "DEEPLABV3P_CACHE"
TRUST_VARIABLE = "DEEPLABV3P_TRUST"
TIME_LIMIT_S = 120.0
_OWN_NAME = "deeplabv3p.runtime.probe"  # __name__ is another in the process that runs main()
_MEMORY_LIMIT = 16 << 30  # bytes of address space: no network of ours needs half of it
_ANY_SIZE = 129  # pixels; the side of the picture for models of any size
_TENSOR_LIMIT = 1 << 28  # values of an input; more than 16384 x 4096 pixels is no picture


def check(path: Path, runtime: str, spec: ModelSpec, *, time_limit_s: float | None = None) -> None:
    """Return if it is safe to open ``path`` with ``runtime`` in this process.

    Raises:
        DataError: it ended the process that tried, or took longer than ``time_limit_s`` (TIME_LIMIT_S where None).
    """
    time_limit_s = TIME_LIMIT_S if time_limit_s is None else time_limit_s
    if os.environ.get(TRUST_VARIABLE) == "1":
        return
    mark = _mark(path, runtime)
    if mark is not None and mark.exists():
        return
    arguments = [os.fspath(path), runtime]
    try:
        done = processes.run_module(
            _OWN_NAME, arguments, input=spec.to_json().encode(), capture_output=True, timeout=time_limit_s
        )
    except processes.TimeoutExpired:
        raise DataError(
            f"{path} is refused: the {runtime} runtime did not open and run it within {time_limit_s:g} s."
        ) from None
    if done.returncode != 0:
        raise DataError(
            f"{path} is refused: it makes the {runtime} runtime crash, or run out of memory. The file is damaged, or "
            "was not made for this runtime. Convert it again."
        )
    _remember(mark)


def remember(path: Path, runtime: str) -> None:
    """Remember that ``runtime`` can open ``path``, which this process has just written."""
    if os.environ.get(TRUST_VARIABLE) != "1":
        _remember(_mark(path, runtime))


def open_and_run(path: Path, runtime: str, spec: ModelSpec) -> None:
    """Open a file and run it on one picture of noise, in this process. Errors that are reported well count as well.

    The spec must be one that the engine's own check accepts; the noise is the same every time.
    """
    from deeplabv3p.runtime.artifact import ArtifactRef, open_unprobed

    with contextlib.suppress(DeeplabError):
        opened = open_unprobed(ArtifactRef(path, runtime, None), spec=spec)
        opened.run(noise(spec))
        opened.close()


def noise(spec: ModelSpec) -> np.ndarray:
    """One picture of noise in the form of the spec's input, with a batch axis.

    Raises:
        DataError: the spec asks for more than any picture has.
    """
    side = min(spec.input.max_side or _ANY_SIZE, _ANY_SIZE)
    height, width = spec.input.size_hw or (side, side)
    if height * width * 3 > _TENSOR_LIMIT:
        raise DataError(f"the spec's input of {height}x{width} pixels is too large.")
    shape = (1, height, width, 3) if spec.input.layout == "NHWC" else (1, 3, height, width)
    values = np.random.default_rng(0).integers(0, 256, shape)
    return (values / 127.5 - 1 if spec.input.dtype.startswith("float") else values).astype(spec.input.dtype)


def main() -> None:
    """What runs in the process of its own: ``PATH RUNTIME``, the spec on the standard input."""
    path, runtime = sys.argv[1:]
    limit_memory()
    open_and_run(Path(path), runtime, ModelSpec.from_json(sys.stdin.buffer.read()))
    sys.stdout.flush()
    os._exit(0)  # engines may crash while they clean up, which does not count


def limit_memory() -> None:
    """Keep this process from taking more memory than any network needs; not on Windows."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY_LIMIT if hard == resource.RLIM_INFINITY else min(_MEMORY_LIMIT, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _mark(path: Path, runtime: str) -> Path | None:
    """The empty file that says that this content came through; None where there is no cache folder."""
    folder = _cache_folder()
    return None if folder is None else folder / "probed" / f"{content_sha256(path)}-{runtime}"


def _remember(mark: Path | None) -> None:
    if mark is not None:
        with contextlib.suppress(DataError):  # a cache that cannot be written costs a probe the next time
            files.write_bytes(mark, b"")


def _cache_folder() -> Path | None:
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "deeplabv3p"
    except RuntimeError:  # nobody knows where home is
        return None


def content_sha256(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names; an ``.xml`` goes with the ``.bin`` beside it.

    Raises:
        DataError: it cannot be read.
    """
    if path.is_dir():
        parts = sorted(item for item in path.rglob("*") if item.is_file())
    else:
        weights = path.with_suffix(".bin")
        parts = [path, weights] if path.suffix.lower() == ".xml" and weights.exists() else [path]
    try:
        if len(parts) == 1:
            with parts[0].open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        whole = hashlib.sha256()
        for part in parts:
            with part.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{part.relative_to(path.parent).as_posix()}\0{digest}\0".encode())
        return whole.hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from None


if __name__ == "__main__":
    main()
