"""The log of a run: one row an epoch, as ``training.csv`` and as TensorBoard events."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from deeplabv3p import files

Row = dict[str, float | int | None]

CSV_NAME = "training.csv"
TENSORBOARD_NAME = "tensorboard"
_NO_CURVE = ("epoch", "step")  # these identify a row


class History:
    """The rows so far. ``rows`` may be set to those of a resumed run before the first :meth:`append`."""

    def __init__(self, run: Path) -> None:
        # Imported here: the writer, which needs no TensorFlow, loads protobuf, which a device does not have.
        from tensorboardX import SummaryWriter

        self.rows: list[Row] = []
        self._run = run
        self._board = SummaryWriter(str(run / TENSORBOARD_NAME))

    def append(self, row: Row) -> None:
        """Add an epoch. The CSV is written whole and atomically, so that a resumed run never doubles a row."""
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        files.write_text(self._run / CSV_NAME, text.getvalue())
        for name, value in row.items():
            if name not in _NO_CURVE and value is not None:
                self._board.add_scalar(name, value, row["epoch"])
        self._board.flush()

    def close(self) -> None:
        """Close the event file."""
        self._board.close()
