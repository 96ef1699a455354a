from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import toy_model
from PIL import Image
from skimage import data

import deeplab
from common import cli, segment, video, window
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.inference import CrfOptions, InferenceOptions, predict
from deeplabv3p.runtime.artifact import open_artifact
from deeplabv3p.spec import Window

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy_model.save(tmp_path_factory.mktemp("models") / "colors.keras"))


@pytest.fixture(autouse=True)
def no_display(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.chdir(tmp_path)


def write_picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(toy_model.halves()).save(path)
    return path


def test_a_picture_becomes_label_overlay_and_legend(
    colors: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = write_picture(tmp_path / "in" / "my dog.png")
    deeplab.main(["--model_path", colors, "--image", str(picture), "--output", str(tmp_path / "out")])
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"my dog_label.png", "my dog_overlay.png", "legend.png"}
    with Image.open(tmp_path / "out" / "my dog_label.png") as file:
        assert file.mode == "P"
        label = np.array(file)
        assert file.getpalette()[3:9] == [200, 0, 0, 0, 0, 200]  # type: ignore[index]
    assert label.shape == (64, 96)
    assert (label[:, :40] == 1).all()
    assert (label[:, 56:] == 2).all()
    overlay = np.array(Image.open(tmp_path / "out" / "my dog_overlay.png").convert("RGB"))
    assert overlay.shape == (64, 96, 3)
    assert overlay[32, 8, 0] > 150 > overlay[32, 8, 2]  # red is still red
    out = capsys.readouterr().out
    assert "32x48 stretch" in out
    assert "my dog_label.png" in out
    assert "red 49.0 %, blue 49.0 %" in out


def test_the_label_is_what_the_library_predicts(colors: str) -> None:
    Image.fromarray(data.chelsea()).save("cat.png")
    deeplab.main(["--model_path", colors, "--image", "cat.png", "--output", "out"])
    np.testing.assert_array_equal(
        np.array(Image.open("out/cat_label.png")), predict(open_artifact(colors), data.chelsea())
    )


def test_the_flags_of_inference_are_the_librarys_options(colors: str, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(data.chelsea()[:150, :200]).save("cat.png")
    flags = "--window 32x48 --window_stride 20x30 --window_batch 4 --flip --scales 0.5,1 --do_crf --crf_iterations 2"
    deeplab.main(["--model_path", colors, "--image", "cat.png", "--output", "out", *flags.split()])
    options = InferenceOptions(
        window=Window((32, 48), (20, 30)), window_batch=4, flip=True, scales=(0.5, 1.0), crf=CrfOptions(2)
    )
    expected = predict(open_artifact(colors), data.chelsea()[:150, :200], options)
    np.testing.assert_array_equal(np.array(Image.open("out/cat_label.png")), expected)
    assert "window 32x48 stride 20x30, scales 0.5 1, flip, batch 4, CRF 2 iterations" in capsys.readouterr().out


def test_a_folder_goes_on_past_an_unreadable_picture(
    colors: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "c.png"):
        write_picture(tmp_path / "in" / name)
    (tmp_path / "in" / "b.png").write_text("not a picture")
    arguments = ["--model_path", colors, "--image", "in", "--output", "out"]
    assert cli.exit_code(lambda: deeplab.main(arguments)) == 3
    assert sorted(p.name for p in (tmp_path / "out").glob("*_label.png")) == ["a_label.png", "c_label.png"]
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 2
    assert "b.png" in errors[0]
    assert errors[1] == "error: 1 of 3 pictures could not be read."


def test_one_unreadable_picture_is_one_error(colors: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.png").write_text("not a picture")
    assert cli.exit_code(lambda: deeplab.main(["--model_path", colors, "--image", "b.png"])) == 3
    assert capsys.readouterr().err.count("error") == 1
    assert not (tmp_path / "result").exists()


def test_pictures_of_the_same_stem_do_not_overwrite_each_other(colors: str, tmp_path: Path) -> None:
    pictures = [write_picture(tmp_path / name) for name in ("x/a.png", "x/a.bmp", "y/a.png")]
    deeplab.main(["--model_path", colors, "--image", *map(str, pictures)])
    names = sorted(p.name for p in (tmp_path / "result").glob("*_label.png"))
    assert names == ["a_2_label.png", "a_3_label.png", "a_label.png"]
    assert len(list((tmp_path / "result").glob("legend*"))) == 1


def test_the_results_of_the_last_run_are_not_taken_for_pictures(colors: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "a.png")
    with pytest.raises(UsageError, match="where the results go"):
        deeplab.main(["--model_path", colors, "--image", "in", "--output", "in"])
    deeplab.main(["--model_path", colors, "--image", "in/a.png", "--output", "in"])
    assert (tmp_path / "in" / "a_label.png").exists()


def test_the_prompt_survives_a_bad_name_and_ends(
    colors: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(tmp_path / "a b.png")
    (tmp_path / "bad.png").write_text("no")
    typed = iter(["nowhere.png", "", "bad.png", " 'a b.png' ", "q", "never.png"])
    prompts = []

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        return next(typed)

    monkeypatch.setattr("builtins.input", answer)
    assert cli.exit_code(lambda: deeplab.main(["--model_path", colors, "--image"])) == 0
    assert prompts == ["Input image filename: "] * 5
    assert (tmp_path / "result" / "a b_label.png").exists()
    errors = capsys.readouterr().err.splitlines()
    assert ["nowhere.png" in errors[0], "bad.png" in errors[1], len(errors)] == [True, True, 2]


def test_the_prompt_ends_with_the_input(colors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115, PTH123
    deeplab.main(["--model_path", colors, "--image"])


def make_video(path: Path, frames: int = 7) -> Path:
    with video.open_writer(path, 12.5) as writer:
        for _ in range(frames):
            writer.write(toy_model.halves())
    return path


@pytest.mark.parametrize(
    ("output", "target"),
    [("out", "out/clip_overlay.mp4"), ("new/a.avi", "new/a.avi"), (None, "result/clip_overlay.mp4")],
)
def test_a_video_keeps_frame_rate_length_and_colours(
    colors: str, tmp_path: Path, output: str | None, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_video(tmp_path / "clip.mp4")
    arguments = ["--model_path", colors, "--input", "clip.mp4"]
    deeplab.main([*arguments, "--output", output] if output else arguments)
    with video.VideoReader(str(tmp_path / target)) as reader:
        assert reader.fps == pytest.approx(12.5)
        frames = list(reader)
    assert len(frames) == 7
    red, blue = frames[3][32, 20], frames[3][32, 80]
    assert red[0] > red[2] + 80
    assert blue[2] > blue[0] + 80
    out = capsys.readouterr().out
    assert "7 frames at 12.5 frames/s, segmented at" in out
    assert "fps" in out
    assert "note" not in out


def test_a_video_that_breaks_off_is_told(
    colors: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_video(tmp_path / "clip.mp4")
    whole = video.VideoReader.__init__

    def promises_more(self: video.VideoReader, source: str) -> None:
        whole(self, source)
        self.frame_count = 100

    monkeypatch.setattr(video.VideoReader, "__init__", promises_more)
    deeplab.main(["--model_path", colors, "--input", "clip.mp4"])
    assert "ended after 7 of the 100 frames" in capsys.readouterr().out


def test_a_video_never_overwrites_its_source(colors: str, tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4")
    before = clip.read_bytes()
    with pytest.raises(UsageError, match="is the video that is read"):
        deeplab.main(["--model_path", colors, "--input", "clip.mp4", "--output", str(clip)])
    assert clip.read_bytes() == before


class Camera:
    """Three frames of a camera, ten a second, and then the user's Ctrl-C."""

    def __init__(self, source: int | str) -> None:
        self.left = 3

    def isOpened(self) -> bool:
        return True

    def get(self, key: int) -> float:
        return 10.0 if key == cv2.CAP_PROP_FPS else -1.0

    def read(self) -> tuple[bool, np.ndarray[Any, np.dtype[np.uint8]]]:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        time.sleep(0.1)
        return True, np.ascontiguousarray(toy_model.halves()[..., ::-1])

    def release(self) -> None:
        pass


def test_ctrl_c_ends_the_recording_of_a_camera(
    colors: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(video, "_check_written", lambda *_: None)  # it opens the file, which is a camera here
        patch.setattr(video.cv2, "VideoCapture", Camera)
        deeplab.main(["--model_path", colors, "--input", "0", "--output", "out"])
    assert "3 frames" in capsys.readouterr().out
    with video.VideoReader("out/camera0_overlay.mp4") as reader:
        assert len(list(reader)) >= 3, "a recording follows the clock: a slow network repeats frames"
        assert reader.fps == pytest.approx(10)


def test_ctrl_c_in_a_video_file_leaves_nothing(colors: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(tmp_path / "clip.mp4")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(segment, "predict", interrupted)
    assert (
        cli.exit_code(lambda: deeplab.main(["--model_path", colors, "--input", "clip.mp4", "--output", "out"])) == 130
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_a_window_shows_rgb_as_opencv_wants_it_and_ends_with_q(
    colors: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [write_picture(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    shown: list[np.ndarray[Any, Any]] = []
    keys = iter([-1, ord(" "), ord("q")])
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(window.cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(window.cv2, "imshow", lambda _, image: shown.append(image))
    monkeypatch.setattr(window.cv2, "waitKey", lambda _: next(keys))
    monkeypatch.setattr(window.cv2, "getWindowProperty", lambda *_: 1.0)
    deeplab.main(["--model_path", colors, "--image", *map(str, pictures)])
    assert len(shown) == 2
    assert shown[0][32, 8, 2] > 150 > shown[0][32, 8, 0]  # BGR
    assert not (tmp_path / "result").exists()


def test_a_headless_opencv_has_no_window_and_says_how_one_is_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(window.cv2, "namedWindow", refuse)
    monkeypatch.setenv("DISPLAY", ":0")
    assert not window.available()
    assert not window.ready()
    assert capsys.readouterr().err.count("pip install opencv-python") == 1
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform.startswith("linux"):
        assert not window.ready()
        assert capsys.readouterr().err == "", "without a screen nobody expects a window"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments --image --input --dump_model is required"),
        (["--image", "a", "--input", "0"], "not allowed with argument"),
        (["--image", "a", "--weights_path", "w.h5"], "--weights_path: name the network"),
        (["--image", "a", "--alpha", "0.5", "--no-decoder"], "--alpha, --decoder: name the network"),
        (["--image", "a", "--model_path", "m.keras", "--weights_path", "w.h5"], "leave out --weights_path"),
        (["--image", "a", "--model_path", "m.keras", "--head", "aspp"], "leave out --head"),
        (["--image", "a", "--model_path", "m.keras", "--subpixel", "3"], "invalid choice: 3"),
        (["--image", "a", "--model_type", "vgg", "--weights_path", "w.h5"], "unknown model type 'vgg'"),
        (["--image", "a", "--model_path", "m.keras", "--output_model_file", "b.keras"], "is for --dump_model"),
        (["--dump_model", "--model_path", "m.keras"], "needs --output_model_file"),
        (["--dump_model", "--model_path", "m.keras", "--output_model_file", "b.onnx"], "ends in .keras or .h5"),
        (
            ["--dump_model", "--model_path", "m.keras", "--output_model_file", "b.h5", "--output", "x"],
            "is for pictures",
        ),
        (
            ["--dump_model", "--model_path", "m.keras", "--output_model_file", "b.h5", "--flip", "--do_crf"],
            "--flip, --do_crf: for pictures and videos",
        ),
        (["--image", "a", "--model_path", "m.keras", "--pruning_model"], "--pruning_model is not available yet"),
        (["--image", "a", "--model_path", "m.keras", "--output_stride", "4"], "invalid choice: 4"),
    ],
)
def test_flags_that_do_not_fit_together(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        deeplab.main(arguments)
    assert message in str(error.value)


def test_a_model_that_disagrees_with_the_flags(colors: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "two.txt").write_text("dark\nred\n")
    (tmp_path / "other.txt").write_text("dark\nblue\nred\n")
    for flags, message in (
        (["--classes_path", "two.txt"], "names 2 classes, the model has 3"),
        (["--classes_path", "other.txt"], "calls class 1 'blue', the model calls it 'red'"),
        (["--model_input_shape", "64x64"], "the network 'colors', which cannot be built at another size"),
        (["--output_stride", "8"], "the network 'colors', which cannot be built at another size or output stride"),
        (["--window", "64x64"], "the window must have that size"),
        (["--scales", "0.5,1"], "needs a sliding window of that size: --window 32x48"),
    ):
        with pytest.raises(UsageError, match=message):
            deeplab.main(["--model_path", colors, "--image", "a.png", *flags])
    assert not (tmp_path / "result").exists()


def test_a_class_file_with_colours_recolours(colors: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "classes.txt").write_text("dark 9 9 9\nred 0 255 0\nblue 1 2 3\n")
    deeplab.main(["--model_path", colors, "--image", "a.png", "--classes_path", "classes.txt"])
    with Image.open("result/a_label.png") as file:
        assert file.getpalette()[:9] == [9, 9, 9, 0, 255, 0, 1, 2, 3]  # type: ignore[index]


def test_files_that_are_not_there_or_in_the_way(colors: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "result").write_text("precious")
    for arguments, message in (
        (["--model_path", "none.keras", "--image", "a.png", "--output", "o"], "none.keras does not exist"),
        (["--model_path", colors, "--image", "none.png", "--output", "o"], "no picture found for 'none.png'"),
        (["--model_path", colors, "--image", "a.png"], "is a file"),
        (["--model_path", colors, "--input", "none.mp4", "--output", "o"], "no video file none.mp4"),
        (["--model_path", colors, "--input", "a.png", "--output", "result/x.mp4"], "is a file"),
        (["--model_path", colors, "--dump_model", "--output_model_file", "result/x.keras"], "is a file"),
        (
            ["--model_type", "mobilenetv2", "--weights_path", "no.h5", "--image", "a.png", "--output", "o"],
            "the weights file no.h5 does not exist",
        ),
    ):
        with pytest.raises(DataError, match=message):
            deeplab.main(arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "result"]


def test_the_command_itself(colors: str, tmp_path: Path) -> None:
    """From another folder, without a display: results, stdout, stderr and exit code of the process."""
    write_picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("not a picture")
    shutil.copy(colors, tmp_path / "m.keras")  # its spec is inside, too
    command = [sys.executable, str(ROOT / "deeplab.py"), "--model_path", "m.keras", "--image", "*.png"]
    # Keras, once imported here, has set the log level for child processes, too.
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert result.returncode == 3
    assert "a.png -> result/a_label.png" in result.stdout
    bad, summary, last = result.stderr.splitlines()
    assert bad.startswith("error: b.png")
    assert summary.startswith("segment: 2/2 pictures")
    assert last == "error: 1 of 2 pictures could not be read."
