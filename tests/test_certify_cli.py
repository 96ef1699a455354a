"""tools/evaluation/certify.py from its command line to its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_model
from PIL import Image

from common import cli
from deeplabv3p.errors import BudgetError, DataError, RuntimeMissingError, UsageError
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import load_spec
from tools.evaluation import certify

ROOT = Path(__file__).parents[1]
PICTURES = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, one that takes blue for red, and three pictures whose labels have the border elsewhere."""
    folder = tmp_path_factory.mktemp("certify")
    toy_model.save(folder / "colors.keras")
    model = keras_engine.load_model(folder / "colors.keras")
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel[..., [0, 2, 1]], bias])
    spec = load_spec(folder / "colors.keras").replace(provenance={"weights_sha256": ""})
    keras_engine.save_model(model, spec, folder / "swapped.keras")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for index in range(PICTURES):
        label = np.full((64, 96), 2, np.uint8)
        label[:, : 36 + 4 * index] = 1
        label[0] = 255
        Image.fromarray(toy_model.halves()).save(folder / "images" / f"p{index}.png")
        Image.fromarray(label).save(folder / "labels" / f"p{index}.png")
    names = [f"p{index}" for index in range(PICTURES)]
    (folder / "val.txt").write_text("\n".join(names))
    (folder / "train.txt").write_text("\n".join(names[:2]))
    return folder


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    data = ["--dataset_path", str(folder), "--dataset_file", str(folder / "val.txt"), "--seconds", "0.01"]
    certify.main([*data, *arguments])
    content: dict[str, Any] = json.loads(Path("certificate/certificate.json").read_text())
    return content


def test_models_are_compared_and_a_missed_budget_ends_with_code_4_after_all_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference, swapped = str(folder / "colors.keras"), str(folder / "swapped.keras")
    with pytest.raises(BudgetError, match=r"1 of 2 files failed: swapped\.keras \(keras\)"):
        run(folder, reference, "--limit", "2", swapped, f"{reference}@keras:cpu", "--bisect")
    out = capsys.readouterr().out
    assert "2 of 3, evenly spread" in out
    assert "1 passed, 1 FAILED" in out
    content = json.loads(Path("certificate/certificate.json").read_text())
    first, bad, same = content["rows"]
    assert [row["verdict"] for row in content["rows"]] == ["reference", "FAIL", "pass"]
    assert (first["engine"], content["pictures"]) == (same["engine"], 2)
    # Red and blue change places on both halves; only in the middle, where neither is strong, dark stays dark.
    assert bad["agreement"] < 5
    assert bad["miou"] < first["miou"] - 0.3
    assert bad["max_error"] == pytest.approx(12, rel=0.01), "pure red scores 6 as red and −6 as blue"
    assert bad["bisection"]["first"]["layer"] == "logits"
    assert (same["agreement"], same["max_error"], same["miou_difference"]) == (100, 0, 0)
    assert first["peak_memory_bytes"] > 50 * 2**20
    written = {path.name for path in Path("certificate").iterdir()}
    assert written == {
        "certificate.json",
        "certificate.csv",
        "certificate.md",
        "latency_miou_size.png",
        "report.html",
    }


def test_what_is_missing_is_exported_and_found_again(folder: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    flags = [str(folder / "colors.keras"), "--threads", "1"]
    flags += ["--budget", "int8.miou_drop=100"]  # three layers, two pictures: any int8 will do
    content = run(folder, *flags, "--runtimes", "tflite:f32,tflite:int8")
    assert [(row["runtime"], row["precision"]) for row in content["rows"]] == [
        ("keras", "f32"),
        ("tflite", "f32"),
        ("tflite", "int8"),
    ]
    assert [row["verdict"] for row in content["rows"]] == ["reference", "pass", "pass"]
    assert content["rows"][1]["max_error"] < 1e-4, "rounding of values up to 7"
    assert f"calibrated with 2 pictures of {folder / 'train.txt'}" in content["rows"][2]["notes"]
    assert content["threads"] == 1
    models = {path.name for path in Path("certificate/models").iterdir()}
    assert models == {f"colors{kind}.tflite{end}" for kind in ("", "_int8") for end in ("", ".spec.json")}
    again = run(folder, *flags, "--runtimes", "tflite:int8")
    assert "there already" in again["rows"][1]["notes"][0]


def test_a_skip_is_seen_and_is_code_5_where_it_was_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(folder / "colors.keras")
    with pytest.raises(RuntimeMissingError, match=r"colors\.keras \(torch f32\) was asked for and skipped, .*torch"):
        run(folder, model, f"{model}@torch")
    assert json.loads(Path("certificate/certificate.json").read_text())["rows"][1]["verdict"] == "skipped"
    assert "0 passed, 1 skipped (skipped is not passed)" in capsys.readouterr().out


def test_certificates_are_drawn_in_one_chart(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"name": "m.keras", "runtime": "keras", "precision": "f32", "verdict": "reference", "miou": 0.5}
    rows = [row | {"latency": {"p50": latency}, "size_bytes": 1000} for latency in (10, 20)]
    for name in ("a.json", "b.json"):
        Path(name).write_text(json.dumps({"schema_version": 1, "rows": rows}))
    certify.main(["--chart", "a.json", "b.json", "--output_path", "charts"])
    assert Path("charts/latency_miou_size.png").read_bytes().startswith(b"\x89PNG")
    assert "4 files of 2 certificates" in capsys.readouterr().out
    with pytest.raises(DataError, match="not valid JSON"):
        certify.main(["--chart", str(folder / "val.txt")])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "missing: REFERENCE, --dataset_path, --dataset_file"),
        (["m.keras", "--dataset_path", "."], "missing: --dataset_file"),
        (["m.keras", "--chart", "c.json"], "name no models with it"),
        (["m.keras", "--dataset_path", ".", "--dataset_file", "l", "--budget", "speed=1"], "'speed=1' is not a budget"),
    ],
)
def test_a_wrong_command_line_is_told_before_any_work(flags: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        certify.main(flags)
    assert not Path("certificate").exists()


def test_only_keras_models_can_be_exported(folder: Path) -> None:
    Path("m.onnx").write_bytes(b"")
    load_spec(folder / "colors.keras").save("m.onnx.spec.json")
    with pytest.raises(UsageError, match=r"m\.onnx is not a Keras model, so nothing can be exported"):
        run(folder, "m.onnx")
    with pytest.raises(UsageError, match="there is nothing to export for 'torch'"):
        run(folder, str(folder / "colors.keras"), "--runtimes", "torch")
    assert not Path("certificate").exists()


def test_int8_is_not_calibrated_with_the_pictures_that_are_scored(folder: Path) -> None:
    flags = ("--runtimes", "tflite:f32,tflite:int8", "--dataset_file", str(folder / "train.txt"), "--seconds", "0")
    with pytest.raises(
        RuntimeMissingError, match=r"colors_int8\.tflite \(tflite int8\) was asked .*--calibration_file"
    ):
        run(folder, str(folder / "colors.keras"), *flags)
    rows = json.loads(Path("certificate/certificate.json").read_text())["rows"]
    assert [row["verdict"] for row in rows] == ["reference", "pass", "skipped"], "the rest is run"


def test_the_exit_code_of_the_command(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools/evaluation/certify.py"), "none.keras"]
    data = ["--dataset_path", str(folder), "--dataset_file", "val.txt"]
    result = subprocess.run([*command, *data], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (3, "error: the model file none.keras does not exist.\n")
    assert cli.exit_code(lambda: certify.main(["none.keras"])) == 2
