"""TensorBoard events, written at once: what was added and flushed is in the file when the process is killed.

The writers of tensorboardX hand events to a thread, and their ``flush`` does not wait for it: a kill would lose the
last epochs. Only its functions that make events are used. They need no TensorFlow.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from deeplabv3p.errors import DataError
from deeplabv3p.visualize import Pixels


class EventFile:
    """A new event file of a folder. The tags and steps of its events are those of TensorBoard; a step is an epoch."""

    def __init__(self, folder: Path, epoch: int) -> None:
        """The file begins with a mark that hides what older files of the folder hold of ``epoch`` and later ones: a
        process was killed after it had logged them and before it had saved its state, and they are repeated.

        Raises:
            DataError: it cannot be written.
        """
        # Imported here: this loads protobuf, which a device does not have.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The epoch is in the name because two files of one second would else be one.
            self._writer = EventsWriter(str(folder / "events"), f".{epoch:05}")
        except OSError as error:
            raise self._failed(error) from None
        self._add(epoch, session_log=SessionLog(status=SessionLog.START))

    def add_scalar(self, tag: str, value: float, epoch: int) -> None:
        """Add a point to the curve ``tag``."""
        from tensorboardX.summary import scalar

        self._add(epoch, summary=scalar(tag, value))

    def add_image(self, tag: str, picture: Pixels, epoch: int) -> None:
        """Add a picture, uint8 [H, W, 3] RGB."""
        from tensorboardX.summary import image

        self._add(epoch, summary=image(tag, picture, dataformats="HWC"))

    def flush(self) -> None:
        """Hand all to the operating system.

        Raises:
            DataError: it cannot be written.
        """
        try:
            self._writer.flush()
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Close the file. Raises as :meth:`flush`."""
        try:
            self._writer.close()
        except OSError as error:
            raise self._failed(error) from None

    def _add(self, epoch: int, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        try:
            self._writer.write_event(Event(wall_time=time.time(), step=epoch, **what))
        except OSError as error:  # a buffer that was full
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> DataError:
        reason = error.strerror or str(error)
        return DataError(
            f"cannot write events into {self._folder}: {reason}. Free some space or choose another folder."
        )
