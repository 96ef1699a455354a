from __future__ import annotations

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from common import video
from deeplabv3p.errors import DataError, UsageError

FRAMES = 12


def write(path: Path, fps: float = 29.97) -> list[video.Image]:
    """A red picture (blue is nowhere near), with a bright square that moves to the right."""
    frames = []
    with video.open_writer(path, fps) as writer:
        for index in range(FRAMES):
            frame = np.zeros((96, 128, 3), np.uint8)
            frame[...] = (200, 60, 20)
            frame[30:60, index * 8 : index * 8 + 24] = 255
            writer.write(frame)
            frames.append(frame)
    return frames


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".MP4"])
def test_colours_frame_rate_order_and_end_survive(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    frames = write(path)
    with video.VideoReader(str(path)) as reader:
        assert not reader.is_camera
        assert reader.fps == pytest.approx(29.97, abs=0.005)
        assert reader.frame_count == FRAMES
        back = list(reader)
    assert len(back) == FRAMES
    for was, now in zip(frames, back, strict=True):
        assert now.shape == was.shape
        assert now.dtype == np.uint8
        # The codecs are lossy; a swapped channel would be off by 180, a frame too early or late by 200 at the square.
        assert np.abs(now.astype(int) - was).mean() < 6
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


def test_a_photograph_keeps_its_colours(tmp_path: Path) -> None:
    photo = data.chelsea()[:300, :450]
    with video.open_writer(tmp_path / "cat.mp4", 25) as writer:
        writer.write(photo)
    with video.VideoReader(str(tmp_path / "cat.mp4")) as reader:
        (back,) = reader
    assert np.abs(back.mean((0, 1)) - photo.mean((0, 1))).max() < 3  # red 147 to blue 86
    assert np.abs(back[..., ::-1].mean((0, 1)) - photo.mean((0, 1))).max() > 50


def test_odd_sizes_lose_at_most_a_row_and_a_column(tmp_path: Path) -> None:
    with video.open_writer(tmp_path / "odd.mp4", 25) as writer:
        writer.write(np.full((97, 131, 3), 128, np.uint8))
    with video.VideoReader(str(tmp_path / "odd.mp4")) as reader:
        (back,) = reader
    assert back.shape[0] in {96, 97}
    assert back.shape[1] in {130, 131}


def test_a_missing_file_and_a_file_that_is_no_video(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"no video file .*none\.mp4"):
        video.VideoReader(str(tmp_path / "none.mp4"))
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(DataError, match=r"text\.mp4: it is not a video"):
        video.VideoReader(str(tmp_path / "text.mp4"))
    assert capfd.readouterr() == ("", "")


def test_digits_are_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    class Capture:
        def __init__(self, source: int | str) -> None:
            opened.append(source)

        def isOpened(self) -> bool:
            return True

        def get(self, key: int) -> float:
            return 0.0

        def read(self) -> tuple[bool, None]:
            return False, None

    monkeypatch.setattr(video.cv2, "VideoCapture", Capture)
    reader = video.VideoReader("2")
    assert opened == [2]
    assert reader.is_camera
    assert reader.fps == 25.0
    assert reader.frame_count == 0
    assert list(reader) == []


def test_a_missing_camera_is_a_clear_error() -> None:
    with pytest.raises(DataError, match="cannot open camera 97"):
        video.VideoReader("97")


def test_other_video_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end with \.mp4 or \.avi"), video.open_writer(tmp_path / "a.mkv", 25):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_old_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write(path)
    before = path.read_bytes()

    def interrupted() -> None:
        with video.open_writer(path, 25) as writer:
            writer.write(np.zeros((96, 128, 3), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_frames_that_do_not_arrive_are_noticed(tmp_path: Path) -> None:
    """On a full disk OpenCV's writer says nothing; the same shows here when a frame of another size is dropped."""

    def two_sizes() -> None:
        with video.open_writer(tmp_path / "a.mp4", 25) as writer:
            writer.write(np.zeros((96, 128, 3), np.uint8))
            writer.write(np.zeros((64, 64, 3), np.uint8))

    with pytest.raises(DataError, match="1 of 2 frames arrived"):
        two_sizes()
    assert list(tmp_path.iterdir()) == []


# Frames at uneven times


def with_times(path: Path, gaps: list[int]) -> None:
    """Give the frames of an .mp4 gaps of so many beats, as a recorder does where nothing moves."""
    data = bytearray(path.read_bytes())

    def find(names: list[bytes], begin: int, end: int, trail: tuple[int, ...] = ()) -> tuple[int, ...]:
        while begin < end:
            size = int.from_bytes(data[begin : begin + 4], "big")
            if data[begin + 4 : begin + 8] == names[0]:
                found = (*trail, begin)
                return found if len(names) == 1 else find(names[1:], begin + 8, begin + size, found)
            begin += size
        raise AssertionError(names)

    *outer, place = find([b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"], 0, len(data))
    size, beat = (int.from_bytes(data[at : at + 4], "big") for at in (place, place + 20))
    body = b"stts" + bytes(4) + struct.pack(">I", len(gaps)) + b"".join(struct.pack(">II", 1, beat * g) for g in gaps)
    data[place : place + size] = struct.pack(">I", len(body) + 4) + body
    for box in outer:
        grown = int.from_bytes(data[box : box + 4], "big") + len(body) + 4 - size
        data[box : box + 4] = struct.pack(">I", grown)
    path.write_bytes(data.replace(b"edts", b"free"))  # it names the duration that was


def test_uneven_frame_times_survive(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    frames = write(path, 25)
    gaps = [1, 1, 10, 1, 2, 1, 1, 5, 1, 1, 3, 1]
    with_times(path, gaps)
    with video.VideoReader(str(path)) as reader:
        times = reader.frame_times()
        pace = video.find_pace(times, reader.fps)
        assert times == pytest.approx([sum(gaps[:index]) / 25 for index in range(FRAMES)], abs=0.002)
        assert pace.rate == pytest.approx(25, abs=0.1)
        assert pace.note is not None
        assert "frame times are uneven, 40 to 400 ms apart" in pace.note
        assert "each repeated until it is the next one's turn" in pace.note
        with video.open_writer(tmp_path / "out.mp4", pace.rate) as writer:
            for frame, time in zip(reader, pace.times, strict=True):
                writer.write_at(frame, time)
    with video.VideoReader(str(tmp_path / "out.mp4")) as reader:
        back = list(reader)
    shown = [index for index, gap in enumerate(gaps[:-1]) for _ in range(gap)] + [FRAMES - 1]
    assert len(back) == len(shown)
    for now, index in zip(back, shown, strict=True):
        assert np.abs(now.astype(int) - frames[index]).mean() < 8  # a frame off is 15 and more


def test_even_times_are_left_alone(tmp_path: Path) -> None:
    for suffix in (".mp4", ".avi"):
        path = tmp_path / f"clip{suffix}"
        write(path)
        with video.VideoReader(str(path)) as reader:
            assert video.find_pace(reader.frame_times(), reader.fps) == video.Pace(reader.fps)
    jitter = [index / 30 + (0.01 if index % 2 else 0) for index in range(40)]
    assert video.find_pace(jitter, 30) == video.Pace(30)
    assert video.find_pace([], 30) == video.Pace(30)


def test_pauses_that_would_be_nothing_but_repetitions_are_said() -> None:
    hours = [3600.0 * index for index in range(20)]
    hours.insert(1, 0.04)
    pace = video.find_pace(hours, len(hours) / hours[-1])
    assert pace.times == ()
    assert pace.note is not None
    assert "which moves frames by up to" in pace.note


@given(st.lists(st.floats(0.004, 3), min_size=1, max_size=50))
def test_every_frame_stands_at_its_time(gaps: list[float]) -> None:
    times = [0.0, *itertools.accumulate(gaps)]
    pace = video.find_pace(times, len(gaps) / times[-1])

    class Recorder(video.VideoWriter):
        def __init__(self) -> None:
            super().__init__(Path("none"), "mp4v", pace.rate)
            self.seen: list[int] = []

        def write(self, frame: video.Image) -> None:
            self.seen.append(int(frame[0]))
            self.frames += 1

    recorder = Recorder()
    for index, time in enumerate(pace.times):
        recorder.write_at(np.array([index]), time)
    recorder.finish()
    assert recorder.seen == sorted(recorder.seen)
    for index, time in enumerate(pace.times):
        if index in recorder.seen:  # a frame that has no beat to itself is left out
            assert abs(recorder.seen.index(index) / pace.rate - time) <= 0.5 / pace.rate + 1e-6
    if pace.times and min(gaps) > 1 / 120:
        assert set(recorder.seen) == set(range(len(times)))


def test_a_slow_network_does_not_make_a_camera_fast(tmp_path: Path) -> None:
    frame = np.full((96, 128, 3), 90, np.uint8)
    with video.open_writer(tmp_path / "camera.mp4", 30) as writer:
        for time in (0.0, 0.5, 1.0):
            writer.write_at(frame, time)
    with video.VideoReader(str(tmp_path / "camera.mp4")) as reader:
        assert len(list(reader)) == 31
