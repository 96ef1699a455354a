"""What the data of a run is, by name and content, so that a resume knows whether it is still the same.

Times of files do not count: they differ after a copy or a checkout. Of every file its size and some blocks are hashed,
the first and the last among them; that is all of a small file, and whatever changes in a PNG changes its last bytes,
which hold checksums of its pixels. With ``thorough`` all content is hashed, too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deeplabv3p.data.dataset import Dataset
from deeplabv3p.errors import DataError

Record = npt.NDArray[np.uint64]
"""[N, 5], a row a sample, in order: hashes of its name, of a part of its picture and its label map, and of all of both,
which are 0 where they were not asked for."""

COLUMNS = 5
MOST_READ = 10_000  # samples of a set whose files are opened; of the others the sizes count

_BLOCK, _BLOCKS = 4096, 4  # bytes; blocks of a file, evenly spaced
_CHUNK = 64  # samples a thread takes at a time
_THREADS = 8  # reading waits for the disk or the network more than for a processor


class RunData:
    """The two sets of a run, and what they are.

    Attributes:
        train_set, val_set: the samples.
        records: by what they are used for.
    """

    def __init__(self, train_set: Dataset, val_set: Dataset, *, thorough: bool = False) -> None:
        """Reads the files, all of each with ``thorough``; raises DataError as :func:`record`."""
        self.train_set, self.val_set = train_set, val_set
        self._sets = {"training": train_set, "validation": val_set}
        self.records = {use: record(part, thorough=thorough) for use, part in self._sets.items()}

    @property
    def arrays(self) -> list[Record]:
        """What :meth:`check_same` needs of them, for the state of the run."""
        return list(self.records.values())

    def check_same(self, arrays: Mapping[str, np.ndarray], run: Path) -> list[str]:
        """Compare with the ``arrays`` of a state ("data/00000", "data/00001"), and take over the hashes of all content
        that they have.

        Returns:
            What could not be compared, a sentence each.

        Raises:
            DataError: the data is another, or the state does not tell.
        """
        notes = []
        for number, (use, now) in enumerate(self.records.items()):
            then = arrays.get(f"data/{number:05d}")
            if then is None or then.dtype != np.uint64 or then.ndim != 2 or then.shape[1] != COLUMNS:
                raise DataError(f"{run} holds a state that does not say what its {use} data was.")
            what = differences(then, now, self._sets[use])
            if what is not None:
                raise DataError(
                    f"the dataset has changed since {run} was trained: in the {use} list, {what}. Restore it, or start "
                    f"a new run with --weights_path {run}/last.keras."
                )
            if now[:, 3:].any() and not then[:, 3:].any():
                notes.append(f"the state has no hashes of all content of the {use} data: they are taken from now on")
            self.records[use] = merged(then, now)
        return notes


def record(dataset: Dataset, *, thorough: bool = False) -> Record:
    """What the samples are now.

    Raises:
        DataError: a file cannot be read.
    """
    count = len(dataset)
    read = set(np.linspace(0, count - 1, min(count, MOST_READ)).round().astype(int).tolist())
    rows = np.zeros((count, COLUMNS), np.uint64)

    def fill(start: int) -> None:
        for index in range(start, min(start + _CHUNK, count)):
            sample = dataset.samples[index]
            rows[index, 0] = _hash(sample.name.encode(errors="surrogateescape"))
            for column, path in ((1, sample.image), (2, sample.label)):
                try:
                    rows[index, column] = _sampled(path) if index in read else _hash(b"%d" % path.stat().st_size)
                    if thorough:
                        rows[index, column + 2] = _whole(path)
                except OSError as error:
                    raise DataError(f"cannot read {path}: {error.strerror}.") from None

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(fill, range(0, count, _CHUNK)))
    return rows


def merged(then: Record, now: Record) -> Record:
    """``now``, with the hashes of all content that ``then`` has of the same samples."""
    result = now.copy()
    result[:, 3:] = np.where(now[:, 3:] == 0, then[:, 3:], now[:, 3:])
    return result


def differences(then: Record, now: Record, dataset: Dataset) -> str | None:
    """What has changed, as a clause; None if nothing has.

    Args:
        then: of an earlier time.
        now: of ``dataset``.
        dataset: the samples as they are.
    """
    names = [then[:, 0].tolist(), now[:, 0].tolist()]
    if names[0] != names[1]:
        old, new = (set(part) for part in names)
        added = [index for index, name in enumerate(names[1]) if name not in old]
        gone = len(old - new)
        if not added and not gone:
            return "the pictures stand in another order"
        first = f" (the first is {dataset.samples[added[0]].name})" if added else ""
        return f"{len(added)} pictures are new{first} and {gone} are gone"
    changed = (then != now) & (then != 0) & (now != 0)
    parts = []
    for kind, what, columns in (("label", "label maps", (2, 4)), ("image", "pictures", (1, 3))):
        rows = np.flatnonzero(changed[:, columns].any(1))
        if len(rows):
            first = getattr(dataset.samples[rows[0]], kind)
            parts.append(f"{len(rows)} of {len(now)} {what} have another content (the first is {first})")
    return " and ".join(parts) or None


def _sampled(path: Path) -> int:
    """The hash of the file's size and some of its blocks."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(descriptor).st_size
        if size <= _BLOCK * _BLOCKS:
            parts = [os.read(descriptor, _BLOCK * _BLOCKS)]
        else:
            places = ((size - _BLOCK) * index // (_BLOCKS - 1) for index in range(_BLOCKS))
            parts = [_read_at(descriptor, place) for place in places]
    finally:
        os.close(descriptor)
    return _hash(b"%d " % size + b"".join(parts))


def _read_at(descriptor: int, place: int) -> bytes:
    """A block of an open file."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, _BLOCK, place)
    os.lseek(descriptor, place, os.SEEK_SET)
    return os.read(descriptor, _BLOCK)


def _whole(path: Path) -> int:
    with path.open("rb") as file:
        return _number(hashlib.file_digest(file, "sha256").digest())


def _hash(data: bytes) -> int:
    return _number(hashlib.sha256(data).digest())


def _number(digest: bytes) -> int:
    """The first 8 bytes, never 0, which stands for "not asked for"."""
    return int.from_bytes(digest[:8], "little") or 1
