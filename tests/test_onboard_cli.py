"""tools/evaluation/onboard: from a device's dumps to label PNGs to scores, the same as eval.py's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import toy_model
from PIL import Image

import eval as evaluation  # the script; the name of a built-in is only its file's
from common import cli
from deeplabv3p.data.decode import read_image
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.inference import predict_logits
from deeplabv3p.runtime.artifact import open_artifact
from tools.evaluation.onboard import onboard_png_convert, semantic_segment_eval

DATA = ["--dataset_path", "data", "--dataset_file", "val.txt"]
CLASSES = ["--classes_path", "data/classes.txt"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_model.save(tmp_path_factory.mktemp("models") / "colors.keras")


@pytest.fixture(autouse=True)
def dumps(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures with a name and a size of their own, labels, and what the model puts out for each of them."""
    folder = tmp_path / "data"
    for name in ("images", "labels", "dumps"):
        (folder / name).mkdir(parents=True)
    runtime = open_artifact(model)
    rng = np.random.default_rng(3)
    for index in range(3):
        image = toy_model.halves(60 + index, 90)
        image[10:20, 20:70] = rng.integers(0, 256, 3)
        label = np.full(image.shape[:2], 2, np.uint8)
        label[:, : 36 + 4 * index], label[0] = 1, 255
        path = folder / "images" / f"p.{index} ü.png"
        Image.fromarray(image).save(path)
        Image.fromarray(label).save(folder / "labels" / path.name)
        output, _ = predict_logits(runtime, read_image(path))
        (folder / "dumps" / f"{path.name if index else path.stem}.raw").write_bytes(output.tobytes())
    runtime.close()
    (folder / "val.txt").write_text("\n".join(f"p.{index} ü" for index in range(3)), encoding="utf-8")
    (folder / "classes.txt").write_text("dark 0 0 0\nred 200 0 0\nblue 0 0 200\n")
    monkeypatch.chdir(tmp_path)
    return folder / "dumps"


def convert(*flags: str) -> int:
    return cli.exit_code(lambda: onboard_png_convert.main(["--raw", "data/dumps", "--image", "data/images", *flags]))


def score(*flags: str) -> int:
    return cli.exit_code(lambda: semantic_segment_eval.main([*DATA, *CLASSES, *flags]))


def test_dumps_score_as_the_model_does(model, capsys):
    evaluation.main(["--model_path", str(model), *DATA, "--output_path", "direct", "--save_result"])
    table = [line for line in capsys.readouterr().out.splitlines() if "mIoU" in line]
    assert convert("--spec", str(model)) == 0
    assert "written: 3 label maps in labels" in capsys.readouterr().out
    for path in Path("direct/labels").iterdir():
        np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(Path("labels") / path.name)))
    assert score("--prediction_path", "labels", "--output_path", "device") == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "mIoU" in line] == table
    ours, theirs = (json.loads(Path(name, "scores.json").read_text()) for name in ("device", "direct"))
    assert ours["protocol"].pop("model") == "label maps of labels"
    assert 0 < ours["miou"] < 1
    for key in ("confusion_matrix", "miou", "pa", "mpa", "fwiou", "classes", "scored_pixels"):
        assert ours[key] == theirs[key]
    written = {path.name for path in Path("device").iterdir()}
    assert written == {"scores.json", "scores.csv", "report.html", "confusion_matrix.png", "mIOU.png"}


def test_a_spec_file_and_single_files_do_as_well(model, dumps):
    flags = ["--spec", f"{model}.spec.json", "--output_path", "one"]
    one = ["--raw", str(dumps / "p.0 ü.raw"), "--image", "data/images/p.0 ü.png"]
    assert cli.exit_code(lambda: onboard_png_convert.main([*one, *flags])) == 0
    assert [path.name for path in Path("one").iterdir()] == ["p.0 ü.png"]


def test_a_dump_that_does_not_fit_says_so(model, dumps, capsys):
    path = dumps / "p.0 ü.raw"
    path.write_bytes(path.read_bytes()[:-4])
    assert convert("--spec", str(model)) == DataError.exit_code
    error = capsys.readouterr().err
    assert "p.0 ü.raw has 1,148 bytes, but an output of 8x12x3 float32" in error
    assert "Traceback" not in error
    assert convert("--spec", str(model), "--dtype", "int8") == DataError.exit_code
    assert "has 288" in capsys.readouterr().err


def test_dumps_and_pictures_must_pair(model, dumps, capsys):
    (dumps / "other.bin").write_bytes(b"1")
    assert convert("--spec", str(model)) == DataError.exit_code
    assert "none of those given is called 'other'" in capsys.readouterr().err
    (dumps / "other.bin").rename(dumps / "p.1 ü.bin")
    assert convert("--spec", str(model)) == UsageError.exit_code
    assert "are both of" in capsys.readouterr().err
    (dumps / "p.1 ü.bin").unlink()
    Image.fromarray(toy_model.halves()).save("data/images/p.0 ü.jpg")
    assert convert("--spec", str(model)) == UsageError.exit_code
    assert "may be of" in capsys.readouterr().err
    nothing = ["--raw", "data/labels", "--image", "data/images", "--spec", str(model)]
    assert cli.exit_code(lambda: onboard_png_convert.main(nothing)) == DataError.exit_code
    assert "no dump found for 'data/labels': it holds no file that ends in .raw" in capsys.readouterr().err


def test_predictions_that_are_missing_or_of_another_size(model, capsys):
    assert convert("--spec", str(model)) == 0
    assert score("--prediction_path", "nowhere") == DataError.exit_code
    Image.fromarray(np.zeros((8, 12), np.uint8)).save("labels/p.1 ü.png")
    capsys.readouterr()
    assert score("--prediction_path", "labels") == DataError.exit_code
    assert "p.1 ü.png is 8x12, but its picture" in capsys.readouterr().err
    Path("labels/p.1 ü.png").unlink()
    assert score("--prediction_path", "labels") == DataError.exit_code
    assert "has no prediction for 'p.1 ü'" in capsys.readouterr().err
    assert not Path("result").exists()
