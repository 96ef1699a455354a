from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import toy_model
from PIL import Image

from common import cli
from deeplabv3p.errors import UsageError
from tools import benchmark

QUICK = ["--seconds", "0.05"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_model.save(tmp_path_factory.mktemp("models") / "colors.keras")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(toy_model.halves(50, 70)).save("a.png")
    return tmp_path


def run(model: Path, *flags: str) -> dict[str, Any]:
    benchmark.main([str(model), *QUICK, "--image", "a.png", "--output_path", "out.json", *flags])
    result: dict[str, Any] = json.loads(Path("out.json").read_text())
    return result


def test_sync_counts_as_benchmark_app_does(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(model)
    for row in (result["engine"], result["whole_path"]):
        assert row["count"] >= 5
        assert row["minimum"] <= row["median"] <= row["p90"] <= row["maximum"]
        assert row["throughput"] == pytest.approx(1000 / row["median"])
        assert row["duration"] * 1000 >= row["count"] * row["average"] * 0.999  # one after the other
    assert result["picture_hw"] == [50, 70]
    assert (result["api"], result["requests"], result["model"]) == ("sync", 1, "colors.keras")
    assert "cpu_threads" in result["machine"]
    out = capsys.readouterr().out
    assert "32x48 stretch" in out
    assert "whole path" in out
    assert "written: out.json" in out


def test_async_keeps_several_engines_busy(model: Path) -> None:
    result = run(model, "--api", "async", "--workers", "3")
    assert result["requests"] == 3
    for row in (result["engine"], result["whole_path"]):
        assert row["throughput"] == pytest.approx(row["count"] / row["duration"])


def test_inference_options_are_measured_and_named(model: Path) -> None:
    assert ", flip," in run(model, "--flip")["protocol"]


def test_the_picture_of_the_demo_is_the_default(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main([str(model), "--seconds", "0"])
    assert "picture 642x1042" in capsys.readouterr().out
    assert not Path("out.json").exists()


def test_wrong_command_lines_are_one_line(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="--workers is for --api async"):
        run(model, "--workers", "2")
    with pytest.raises(UsageError, match="--model_input_shape"):
        run(model, "--model_input_shape", "64x64")
    for code, flags in ((3, [str(model), "--image", "none.jpg"]), (3, ["none.onnx"]), (2, [f"{model}@nonsense"])):
        assert cli.exit_code(lambda flags=flags: benchmark.main(flags)) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
