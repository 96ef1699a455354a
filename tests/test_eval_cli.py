from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_model
from PIL import Image

import deeplab
import eval as evaluation  # the script; the name of a built-in is only its file's
from common import cli
from deeplabv3p.errors import DataError, RuntimeMissingError, UsageError
from deeplabv3p.inference import predict
from deeplabv3p.runtime.artifact import open_artifact

ROOT = Path(__file__).parents[1]
VOC_CLASSES = "configs/voc_classes.txt"
PICTURES = 4


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    toy_model.save(folder / "colors.keras")
    toy_model.save(folder / "trained.keras", compiled=True)
    toy_model.save(folder / "open.keras", any_size=True)
    return folder


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four pictures, red and blue; in the labels the border lies elsewhere and the first row is ignored."""
    folder = tmp_path / "data"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for index in range(PICTURES):
        label = np.full((64, 96), 2, np.uint8)
        label[:, : 36 + 4 * index] = 1
        label[0] = 255
        Image.fromarray(toy_model.halves()).save(folder / "images" / f"p {index}.png")
        Image.fromarray(label).save(folder / "labels" / f"p {index}.png")
    (folder / "val.txt").write_text("\n".join(f"p {index}" for index in range(PICTURES)))
    monkeypatch.chdir(tmp_path)
    return folder


def run(model: Path, *flags: str, folder: str = "data", listed: str = "val.txt") -> dict[str, Any]:
    evaluation.main(["--model_path", str(model), "--dataset_path", folder, "--dataset_file", listed, *flags])
    output = flags[flags.index("--output_path") + 1] if "--output_path" in flags else "result"
    scores: dict[str, Any] = json.loads((Path(output) / "scores.json").read_text())
    return scores


def test_scores_are_those_of_the_saved_label_maps(
    models: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = run(models / "colors.keras", "--save_result")
    runtime = open_artifact(models / "colors.keras")
    expected = predict(runtime, toy_model.halves())
    confusion = np.zeros((3, 3), int)
    for index in range(PICTURES):
        prediction = np.array(Image.open(f"result/labels/p {index}.png"))
        np.testing.assert_array_equal(prediction, expected)
        truth = np.array(Image.open(dataset / "labels" / f"p {index}.png"))
        for row in range(3):
            for column in range(3):
                confusion[row, column] += int(((truth == row) & (prediction == column)).sum())
        assert Image.open(f"result/overlays/p {index}.png").size == (96, 64)
    assert scores["confusion_matrix"] == confusion.tolist()
    assert scores["scored_pixels"] == PICTURES * 63 * 96
    red = confusion[1, 1] / (confusion[1].sum() + confusion[:, 1].sum() - confusion[1, 1])
    by_name = {item["name"]: item for item in scores["classes"]}
    assert by_name["red"]["iou"] == pytest.approx(red)
    assert by_name["dark"] == {"name": "dark", "iou": 0.0, "accuracy": None, "pixels": 0, "occurs": "prediction"}
    assert scores["miou"] == pytest.approx((red + by_name["blue"]["iou"]) / 3)
    assert scores["miou_in_truth"] == pytest.approx((red + by_name["blue"]["iou"]) / 2)
    assert scores["pa"] == pytest.approx(np.trace(confusion) / confusion.sum())
    assert {"mpa", "fwiou", "classes_counted", "versions"} <= scores.keys()
    out = capsys.readouterr().out
    assert scores["protocol"]["model"] in out
    assert "32x48 stretch" in out
    assert f"mIoU {scores['miou']:.4f} over 3 of 3 classes, mIoU in truth {scores['miou_in_truth']:.4f} over 2," in out
    assert "classes counted: 2 in the truth, 1 in the prediction alone, with IoU 0: dark" in out
    assert "report: result/report.html" in out


def test_what_is_written(models: Path, dataset: Path) -> None:
    scores = run(models / "colors.keras", "--output_path", "new/scores")
    written = {path.name for path in Path("new/scores").iterdir()}
    assert {"scores.json", "scores.csv", "report.html", "confusion_matrix.png"} <= written
    assert sum(name.endswith(".png") for name in written) == 2
    with Path("new/scores/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["pixels"]) for row in rows] == [
        (item["name"], str(item["pixels"])) for item in scores["classes"]
    ]
    page = Path("new/scores/report.html").read_text()
    assert f"{scores['miou']:.4f}" in page
    assert "colors.keras" in page


def test_training_checkpoint_and_dump_score_the_same(models: Path, dataset: Path) -> None:
    deeplab.main(["--dump_model", "--model_path", str(models / "trained.keras"), "--output_model_file", "dumped.h5"])
    trained = run(models / "trained.keras")
    dumped = run(Path("dumped.h5"), "--output_path", "other")
    assert trained["confusion_matrix"] == dumped["confusion_matrix"]
    assert trained["scored_pixels"] > 0


def test_samples_in_several_folders_keep_their_results_apart(models: Path, dataset: Path) -> None:
    pairs = []
    for name in ("day", "night"):
        shutil.copytree(dataset, dataset / name)
        pairs.append(f"{name}/images/p 0.png\t{name}/labels/p 0.png")
    (dataset / "pairs.txt").write_text("\n".join(pairs))
    run(models / "colors.keras", "--save_result", listed="pairs.txt")
    for kind in ("labels", "overlays"):
        written = sorted(path.relative_to(f"result/{kind}").as_posix() for path in Path("result", kind).rglob("*.png"))
        assert written == ["day/images/p 0.png", "night/images/p 0.png"]


def test_the_ignored_label_is_the_models_or_the_flags(
    models: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="255"):
        run(models / "colors.keras", "--ignore_index", "none")
    with pytest.raises(DataError, match="255"):
        run(models / "colors.keras", "--ignore_index", "7")
    for index in range(PICTURES):
        path = dataset / "labels" / f"p {index}.png"
        label = np.array(Image.open(path))
        label[0] = 0
        Image.fromarray(label).save(path)
    capsys.readouterr()
    scores = run(models / "colors.keras", "--ignore_index", "0")
    assert scores["scored_pixels"] == PICTURES * 63 * 96
    assert "ignored label: 0 (the model says 255)" in capsys.readouterr().out
    assert "the model says 255" in Path("result/report.html").read_text()
    assert run(models / "colors.keras")["scored_pixels"] == PICTURES * 64 * 96


def test_the_size_is_the_models_unless_it_leaves_it_open(
    models: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as error:
        run(models / "colors.keras", "--model_input_shape", "64x96")
    assert "takes 32x48 pixels, not 64x96" in str(error.value)
    assert f"deeplab.py --model_path {models / 'colors.keras'} --model_input_shape 64x96 --dump_model" in str(
        error.value
    )
    run(models / "colors.keras", "--model_input_shape", "32x48")
    scores = run(models / "open.keras", "--model_input_shape", "64x96")
    assert "64x96 stretch" in scores["protocol"]["model"]
    assert "input size: 64x96" in capsys.readouterr().out
    assert "own size" in run(models / "open.keras")["protocol"]["model"]


def test_class_names_must_be_the_models(models: Path, dataset: Path) -> None:
    Path("right.txt").write_text("dark\nred\nblue\n")
    Path("other.txt").write_text("dark\nblue\nred\n")
    Path("four.txt").write_text("dark\nred\nblue\ngreen\n")
    assert run(models / "colors.keras", "--classes_path", "right.txt")["pictures"] == PICTURES
    with pytest.raises(UsageError, match=r"other\.txt calls class 1 'blue', the model calls it 'red'"):
        run(models / "colors.keras", "--classes_path", "other.txt")
    with pytest.raises(UsageError, match=r"four\.txt names 4 classes, the model has 3"):
        run(models / "colors.keras", "--classes_path", "four.txt")


def test_colours_of_the_class_file_read_rgb_labels(models: Path, dataset: Path) -> None:
    Path("classes.txt").write_text("dark 9 9 9\nred 0 255 0\nblue 1 2 3\n")
    colors = np.zeros((256, 3), np.uint8)
    colors[[0, 1, 2, 255]] = [(9, 9, 9), (0, 255, 0), (1, 2, 3), (224, 224, 192)]
    grey = run(models / "colors.keras")
    for path in (dataset / "labels").iterdir():
        Image.fromarray(colors[np.array(Image.open(path))]).save(path)
    scores = run(models / "colors.keras", "--classes_path", "classes.txt", "--save_result")
    assert scores["confusion_matrix"] == grey["confusion_matrix"]
    with Image.open("result/labels/p 0.png") as file:
        assert file.getpalette()[3:6] == [0, 255, 0]  # type: ignore[index]


def break_nothing(data: Path) -> None:
    shutil.rmtree(data)


def break_list(data: Path) -> None:
    (data / "val.txt").write_text("\n")


def break_listed(data: Path) -> None:
    (data / "images" / "p 2.png").unlink()


def break_jpeg(data: Path) -> None:
    image = Image.open(data / "images" / "p 2.png")
    image.save(data / "images" / "p 2.jpg")
    content = (data / "images" / "p 2.jpg").read_bytes()
    (data / "images" / "p 2.jpg").write_bytes(content[: len(content) // 2])
    (data / "images" / "p 2.png").unlink()


def break_size(data: Path) -> None:
    Image.fromarray(np.ones((10, 10), np.uint8)).save(data / "labels" / "p 2.png")


def break_range(data: Path) -> None:
    Image.fromarray(np.full((64, 96), 77, np.uint8)).save(data / "labels" / "p 2.png")


def break_text(data: Path) -> None:
    (data / "images" / "p 2.png").write_text("this is not a picture")


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (break_nothing, ["data", "does not exist"]),
        (break_list, ["val.txt", "empty"]),
        (break_listed, ["p 2"]),
        (break_jpeg, ["p 2.jpg"]),
        (break_size, ["p 2.png", "10x10"]),
        (break_range, ["p 2.png", "77"]),
        (break_text, ["p 2.png"]),
    ],
)
def test_bad_data_is_one_line_and_code_3_and_leaves_nothing(
    models: Path, dataset: Path, breaks: Any, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    breaks(dataset)
    assert cli.exit_code(lambda: run(models / "colors.keras") and None) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in words)
    assert not Path("result").exists()


def test_an_output_folder_that_is_a_file_is_told_before_any_work(models: Path, dataset: Path) -> None:
    Path("result").write_text("precious")
    with pytest.raises(DataError, match="result is a file"):
        run(Path("no model is looked for.keras"))
    assert Path("result").read_text() == "precious"


def test_model_files_that_cannot_be_used(models: Path, dataset: Path) -> None:
    with pytest.raises(DataError, match=r"none\.keras does not exist"):
        run(Path("none.keras"))
    content = (models / "colors.keras").read_bytes()
    Path("half.keras").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"half\.keras"):
        run(Path("half.keras"))
    Path("m.onnx").write_bytes(b"")
    with pytest.raises(DataError, match=r"m\.onnx"):
        run(Path("m.onnx"))
    with pytest.raises(RuntimeMissingError, match="torch"):
        run(Path(f"{models / 'colors.keras'}@torch"))
    with pytest.raises(UsageError, match="does not tell which runtime"):
        run(Path("m.weights"))


def test_inference_options_change_the_scores_and_stand_in_the_protocol(models: Path, dataset: Path) -> None:
    plain = run(models / "open.keras", "--model_input_shape", "32x48")
    flags = ["--window", "32x48", "--window_stride", "16x32", "--flip", "--output_path", "other"]
    other = run(models / "open.keras", *flags)
    assert "window 32x48 stride 16x32, single scale, flip" in other["protocol"]["model"]
    assert other["scored_pixels"] == plain["scored_pixels"]
    assert other["confusion_matrix"] != plain["confusion_matrix"]


def test_a_crf_refines_and_stands_in_the_protocol(models: Path, dataset: Path) -> None:
    scores = run(models / "colors.keras", "--do_crf", "--crf_iterations", "2")
    assert "CRF 2 iterations" in scores["protocol"]["model"]
    with pytest.raises(UsageError, match="only with --do_crf"):
        run(models / "colors.keras", "--crf_iterations", "2")


def test_the_number_of_engines_changes_nothing_but_the_speed(
    models: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = run(models / "colors.keras", "--workers", "1")
    assert "engines: 1\n" in capsys.readouterr().out
    three = run(models / "colors.keras", "--workers", "3", "--output_path", "other")
    assert "engines: 3\n" in capsys.readouterr().out
    assert one["confusion_matrix"] == three["confusion_matrix"]
    assert one["protocol"] == three["protocol"]


@pytest.mark.parametrize("name", ["deeplabv3_257_mv_gpu", "deeplabv3_mnv2_dm05_pascal_quant"])
def test_a_third_party_model_needs_nothing_but_the_classes(
    name: str, deeplab_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two pictures: enough to see that the size, the order of the channels and the classes were understood."""
    pytest.importorskip("ai_edge_litert")
    voc = deeplab_data / "VOC2012"
    names = (voc / "ImageSets/Segmentation/val.txt").read_text().split()[:2]
    (tmp_path / "two.txt").write_text("\n".join(names))
    monkeypatch.chdir(tmp_path)
    model = deeplab_data / "weights" / "tflite" / f"{name}.tflite"
    scores = run(model, "--classes_path", str(ROOT / VOC_CLASSES), folder=str(voc), listed="two.txt")
    assert "has no spec; as it tells:" in capsys.readouterr().out
    # These models reach a pixel accuracy above 0.9 on most pictures; with channels or classes mixed up, below 0.8.
    assert scores["pa"] > 0.88


def test_the_exit_code_of_the_command(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "eval.py"), "--model_path", "none.keras"]
    result = subprocess.run(
        [*command, "--dataset_path", ".", "--dataset_file", "val.txt"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == "error: the model file none.keras does not exist.\n"
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 2
