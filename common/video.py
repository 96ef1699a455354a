"""Reading video files and cameras as RGB frames, and writing RGB frames as a video file."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from deeplabv3p import files
from deeplabv3p.errors import DataError, UsageError

# FFmpeg's own messages say less than ours; a user who sets the level gets them. -8 is FFmpeg's number for "quiet".
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
_MOST_FPS = 120.0
_MOST_REPEATED = 50  # frames written for one that was read, on average
_FALLBACK_FPS = 25.0  # where a camera or a file does not tell its frame rate

Image = np.ndarray[Any, np.dtype[np.uint8]]


class VideoReader:
    """Frames of a video file, or of the camera whose index the digits in ``source`` give.

    ``fps`` is frames a second; ``frame_count`` is what the file's header promises, 0 where unknown (cameras). Iterating
    gives uint8 [H, W, 3] RGB frames, turned upright, until the stream ends. It is its own context manager.

    Raises:
        DataError: no such file or camera, or the file is not a video that OpenCV can read.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self.is_camera = source.isascii() and source.isdigit()
        if not self.is_camera and not Path(source).is_file():
            raise DataError(f"no video file {source}. Give a file, or a camera's index such as 0.")
        with _quiet():
            self._capture = cv2.VideoCapture(int(source) if self.is_camera else source)
        if not self._capture.isOpened():
            what = f"camera {source}" if self.is_camera else f"{source}: it is not a video that OpenCV reads"
            raise DataError(f"cannot open {what}.")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps: float = fps if math.isfinite(fps) and fps > 0 else _FALLBACK_FPS
        count = 0.0 if self.is_camera else self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(count) if math.isfinite(count) and count > 0 else 0

    def __iter__(self) -> Iterator[Image]:
        while True:
            read, frame = self._capture.read()
            if not read:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.release()

    def frame_times(self) -> list[float]:
        """When each frame of a file is shown, in seconds; decodes the file once more. Empty for cameras, and where the
        file does not tell."""
        if self.is_camera:
            return []
        times = []
        with _quiet():
            capture = cv2.VideoCapture(self._source)
            while capture.grab():
                times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            capture.release()
        rising = all(first < second for first, second in itertools.pairwise(times))
        return times if rising and all(map(math.isfinite, times)) else []


@dataclass(frozen=True)
class Pace:
    """How frames get onto the even beat of a video file: ``rate`` frames a second. With ``times`` (seconds, of each
    frame) a frame is repeated until it is the next one's turn; without, each is written once. ``note`` says in a
    sentence what becomes of uneven times; None where they are even."""

    rate: float
    times: tuple[float, ...] = ()
    note: str | None = None


def find_pace(times: Sequence[float], fps: float) -> Pace:
    """The pace for frames at these times, where ``fps`` is their mean rate.

    Frames at most half a beat off stay as they are. Else the beat is the shortest time between two frames, so that
    none is lost, unless the pauses are so long that the video would be nothing but repetitions.
    """
    if len(times) < 2:
        return Pace(fps)
    since = [time - times[0] for time in times]
    moved = max(abs(time - index / fps) for index, time in enumerate(since))
    if moved <= 0.5 / fps:
        return Pace(fps)
    gaps = [second - first for first, second in itertools.pairwise(since)]
    rate = min(round(1 / min(gaps), 3), _MOST_FPS)
    what = f"frame times are uneven, {1000 * min(gaps):.0f} to {1000 * max(gaps):.0f} ms apart"
    if since[-1] * rate > _MOST_REPEATED * len(times):
        even = f"written at their mean rate, {fps:g} frames/s, which moves frames by up to {moved:.2f} s"
        return Pace(fps, (), f"{what}; {even}")
    kept = f"written at {rate:g} frames/s, each repeated until it is the next one's turn"
    return Pace(rate, tuple(since), f"{what}; {kept}, so every one stands at its time to within {500 / rate:.0f} ms")


class VideoWriter:
    """Writes RGB frames of one size; :func:`open_writer` makes it. ``frames`` counts them."""

    def __init__(self, path: Path, codec: str, fps: float) -> None:
        self._path, self._codec, self._fps = path, codec, fps
        self._writer: Any = None
        self._waiting: Image | None = None
        self.frames = 0

    def write(self, frame: Image) -> None:
        """Append a uint8 [H, W, 3] RGB frame; the first one sets the size of the video.

        The codecs take even sizes only: of an odd size OpenCV leaves out the last row or column.
        """
        if self._writer is None:
            height, width = frame.shape[:2]
            fourcc = cv2.VideoWriter.fourcc(*self._codec)
            self._writer = cv2.VideoWriter(str(self._path), fourcc, self._fps, (width, height))
            if not self._writer.isOpened():
                raise DataError(f"OpenCV cannot write a {self._codec} video of {height}x{width} pixels here.")
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def write_at(self, frame: Image, time: float) -> None:
        """Append a frame that is shown from ``time`` on, in seconds since the first: the one before is repeated until
        then. A frame that has no beat to itself replaces the one before."""
        beats = round(time * self._fps) - self.frames
        if self._waiting is not None:
            for _ in range(beats):
                self.write(self._waiting)
        self._waiting = frame

    def finish(self) -> None:
        """Write the frame that waits for its successor, if there is one."""
        if self._waiting is not None:
            self.write(self._waiting)
            self._waiting = None

    def release(self) -> None:
        """Write the end of the file."""
        if self._writer is not None:
            self._writer.release()


@contextlib.contextmanager
def open_writer(path: str | os.PathLike[str], fps: float) -> Iterator[VideoWriter]:
    """A writer for ``path`` (.mp4 or .avi) at ``fps`` frames a second; the file appears when the block ends well.

    Raises:
        UsageError: another file type.
        DataError: the file cannot be written.
    """
    check_video_name(path)
    with files.atomic_path(path) as temporary:
        writer = VideoWriter(temporary, CODECS[Path(path).suffix.lower()], fps)
        try:
            yield writer
            writer.finish()
        finally:
            writer.release()
        _check_written(temporary, Path(path), writer.frames)


def check_video_name(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if videos can be written under that name; raises UsageError otherwise."""
    if Path(path).suffix.lower() not in CODECS:
        raise UsageError(f"cannot write a video named {path}: the name must end with {' or '.join(CODECS)}.")
    return Path(path)


def _check_written(temporary: Path, path: Path, frames: int) -> None:
    """OpenCV says nothing when a disk is full: count what arrived."""
    with _quiet():
        capture = cv2.VideoCapture(str(temporary))
    arrived = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    if arrived != frames or frames == 0:
        raise DataError(f"cannot write {path}: {arrived} of {frames} frames arrived in the file. Is the disk full?")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV logs every backend that it tries in vain; the one line of the DataError is enough."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
