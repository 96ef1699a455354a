"""The log of a run: one row an epoch, as ``training.csv`` and as TensorBoard events."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deeplabv3p import files
from deeplabv3p.csv_text import to_csv
from deeplabv3p.training.event_file import EventFile

Row = dict[str, float | int | None]

CSV_NAME = "training.csv"
TENSORBOARD_NAME = "tensorboard"
_NO_CURVE = ("epoch", "step")  # these identify a row


def compared(row: Mapping[str, float | int | None]) -> float | None:
    """The score that epochs are compared by; rows of older runs have one mIoU only."""
    score = row.get("val_miou_in_truth")
    return row.get("val_miou") if score is None else score


class History:
    """The rows so far. ``rows`` may be set to those of a resumed run before the first :meth:`append`."""

    def __init__(self, run: Path, *, writes: bool = True) -> None:
        """``writes``: False in a process that leaves the files to another one."""
        self.rows: list[Row] = []
        self._writes = writes
        self._run = run
        self._board: EventFile | None = None

    def append(self, row: Row) -> None:
        """Add an epoch. The CSV is written whole and atomically, so that a resumed run never doubles a row."""
        self.rows.append(row)
        if not self._writes:
            return
        files.write_text(self._run / CSV_NAME, to_csv(list(row), self.rows))
        epoch = int(row["epoch"] or 0)
        board = self.board(epoch)
        for name, value in row.items():
            if name not in _NO_CURVE and value is not None:
                board.add_scalar(name, value, epoch)
        board.flush()

    def is_record(self, row: Row) -> bool:
        """Whether the score of ``row``, which is not yet among the rows, is better than any before. Epochs are compared
        over the classes in the truth: these are the same in all of them."""
        own = compared(row)
        return own is not None and all(before is None or own > before for before in map(compared, self.rows))

    @property
    def record(self) -> float | None:
        """The best score so far, of those that epochs are compared by."""
        return max((score for score in map(compared, self.rows) if score is not None), default=None)

    def board(self, epoch: int) -> EventFile:
        """The TensorBoard events of the run, for those of ``epoch`` and later ones.

        Each process of a run, the first and those that resumed it, writes a file of its own.
        """
        if self._board is None:
            self._board = EventFile(self._run / TENSORBOARD_NAME, epoch)
        return self._board

    def close(self) -> None:
        """Close the event file."""
        if self._board is not None:
            self._board.close()
