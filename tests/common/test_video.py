from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
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
