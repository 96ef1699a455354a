"""tools/evaluation: what a network costs, and a look at one layer."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import toy_model
from PIL import Image

from benchmarks import tables
from common import cli, layers
from deeplabv3p.errors import BudgetError, DataError, UsageError
from deeplabv3p.models import registry
from deeplabv3p.runtime.artifact import load_spec
from deeplabv3p.spec import sidecar_path
from tools.evaluation import layer_check, model_statistics

SMALL = ["--model_type", "mobilenetv2_lite:width=16", "--alpha", "0.35", "--model_input_shape", "64x96"]
QUICK = ["--runs", "2", "--warmup", "0"]


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Average pooling by 4, then a 1x1 convolution to 3 classes, for pictures of 32x48."""
    return toy_model.save(tmp_path_factory.mktemp("models") / "colors.keras")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(toy_model.halves()).save(tmp_path / "halves.png")
    return tmp_path / "halves.png"


def test_statistics_of_a_network_are_printed_and_written_with_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_statistics.main([*SMALL, *QUICK, "--json", "out.json"])
    result = json.loads((tmp_path / "out.json").read_text())
    (row,) = result["rows"]
    assert (row["name"], row["size_hw"]) == ("mobilenetv2_lite:alpha=0.35,width=16", "64x96")
    assert (row["output_stride"], row["num_classes"]) == (16, 21)
    assert row["flops"] == 2 * row["macs"] > 0
    assert 0 < row["latency_ms"]["p10"] <= row["latency_ms"]["median"] <= row["latency_ms"]["p90"]
    assert result["latency"] == {"warmup": 0, "runs": 2, "threads": None}
    assert {"processor", "versions", "commit"} <= set(result["machine"])
    printed = capsys.readouterr().out
    assert f"{row['parameters']:,}" in printed
    assert "0 runs to warm up, 2 timed" in printed


def test_classes_and_stride_change_what_is_counted(tmp_path: Path) -> None:
    def row(*flags: str) -> dict[str, float]:
        model_statistics.main([*SMALL, "--no-latency", "--json", "out.json", *flags])
        return json.loads((tmp_path / "out.json").read_text())["rows"][0]

    plain, other = row(), row("--num_classes", "2", "--output_stride", "8")
    assert (other["latency_ms"], other["output_stride"], other["num_classes"]) == (None, 8, 2)
    assert plain["parameters"] - other["parameters"] == 19 * (16 + 1)  # classifier of 16 channels: kernel and bias
    assert other["macs"] > plain["macs"]  # four times the positions in the last stages


def test_statistics_of_a_file_layer_by_layer(colors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model_statistics.main(["--model_path", str(colors), *QUICK, "--per_layer", "--json", "out.json"])
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert (row["parameters"], row["macs"], row["size_hw"]) == (12, 8 * 12 * 9, "32x48")
    assert [layer["kind"] for layer in row["layers"]] == ["AveragePooling2D", "Conv2D"]
    assert row["latency_ms"]["median"] > 0
    assert "8x12x3" in capsys.readouterr().out


def test_a_file_of_any_size_is_counted_and_timed_at_the_size_asked_for(tmp_path: Path) -> None:
    path = str(toy_model.save(tmp_path / "open.keras", any_size=True))
    with pytest.raises(UsageError, match="leaves its input size open"):
        model_statistics.main(["--model_path", path, *QUICK])
    model_statistics.main(["--model_path", path, *QUICK, "--model_input_shape", "40x60", "--json", "out.json"])
    (row,) = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert (row["macs"], row["size_hw"]) == (10 * 15 * 9, "40x60")


def test_a_file_without_spec_is_counted_but_not_timed(tmp_path: Path) -> None:
    from deeplabv3p.runtime.keras_engine import import_keras

    keras = import_keras()
    image = keras.Input((8, 8, 3))
    keras.Model(image, keras.layers.Conv2D(2, 1)(image)).save(tmp_path / "bare.keras")
    with pytest.raises(UsageError, match="--no-latency"):
        model_statistics.main(["--model_path", "bare.keras"])
    model_statistics.main(["--model_path", "bare.keras", "--no-latency", "--json", "out.json"])
    assert json.loads((tmp_path / "out.json").read_text())["rows"][0]["macs"] == 64 * 6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model_type", "nothing"], "unknown model type"),
        (["--model_path", "m.keras", "--alpha", "0.5"], "--alpha is for networks by name"),
        (["--model_path", "m.keras", "--check"], "--check is for networks by name"),
        (["--all", "--check", "--num_classes", "2"], "as the registry has them"),
        (["--model_type", "mobilenetv2:width=16", "--check"], "as the registry has them"),
        (["--all", "--model_path", "m.keras"], "not allowed with"),
        ([], "required"),
    ],
)
def test_statistics_refuse_flags_that_do_not_fit(flags: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        model_statistics.main(flags)


def with_record(monkeypatch: pytest.MonkeyPatch, **fields: object) -> None:
    """Let the registry hold nothing but a small MobileNetV2 with these fields."""
    record = dataclasses.replace(registry.MODELS["mobilenetv2_lite"], size_hw=(64, 64), **fields)
    for module in (registry, model_statistics):
        monkeypatch.setattr(module, "MODELS", {"mobilenetv2_lite": record})


def test_all_leaves_out_what_cannot_be_built_at_the_stride(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_record(monkeypatch, output_strides=(16,))
    model_statistics.main(["--all", "--no-latency", "--output_stride", "8"])
    assert "mobilenetv2_lite: left out, it cannot be built at output stride 8" in capsys.readouterr().out


def test_check_accepts_a_right_record_and_names_a_wrong_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_record(monkeypatch, parameters=1, macs=2)
    assert cli.exit_code(lambda: model_statistics.main(["--all", "--check"])) == BudgetError.exit_code
    line = capsys.readouterr().out.strip()
    assert line.endswith("# the record says 1, 2")
    counted = dict(part.strip().split("=") for part in line.partition(":")[2].partition("#")[0].split(","))
    with_record(monkeypatch, **{key: int(value) for key, value in counted.items()})
    model_statistics.main(["--all", "--check"])
    assert capsys.readouterr().out.strip().endswith("# agrees")


@pytest.mark.slow
def test_every_record_says_what_is_counted() -> None:
    model_statistics.main(["--all", "--check"])


def test_the_mobilenetv2_records_say_what_is_counted() -> None:
    for name in ("mobilenetv2", "mobilenetv2_lite"):
        model_statistics.main(["--model_type", name, "--check"])


def test_the_readme_table_has_published_figures_beside_ours() -> None:
    latency = {"median": 52.4, "p10": 50.0, "p90": 61.0}
    row = {"name": "mobilenetv2_lite", "size_hw": "512x512", "output_stride": 16, "parameters": 2_146_645}
    row |= {"macs": 2_603_958_272, "flops": 5_207_916_544, "peak_activation_bytes": 50_528_640, "latency_ms": latency}
    other = {**row, "name": "unet", "latency_ms": None}
    lines = tables.MAKERS["model_statistics"]({"rows": [row, other]}).splitlines()
    assert lines[2].endswith("| 2.15 | 2.60 | 5.21 | 48 | 52 (50 to 61) | 5.24 | 2.11 |")
    assert lines[3].endswith("| 48 |  |  |  |")
    assert len({line.count("|") for line in lines}) == 1


def test_layer_check_draws_activations_of_a_picture_and_says_which_channels_are_dead(
    colors: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer_check.main([str(colors), "--layer", "pool", "--image", str(picture), "--output", "out"])
    # Left half red, right half blue, green nowhere: (1, −1, −1) and (−1, −1, 1) after the spec's preprocessing.
    printed = capsys.readouterr().out
    assert "pool 8x12x3: values -1 to 1, 0.0 % zeros" in printed
    assert "dead on this picture: 1 of 3 channels (1)" in printed
    stem = tmp_path / "out" / "pool"
    result = json.loads(Path(f"{stem}_channels.json").read_text())
    assert (result["layer"], result["shape"]) == ("pool", [8, 12, 3])
    with Path(f"{stem}_channels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["dead"] for row in rows] == ["False", "True", "False"]
    # Half of the pixels are 1, half −1.
    expected = {"minimum": -1, "maximum": 1, "mean": 0, "deviation": 1, "zeros": 0}
    for row in (rows[0], result["channels"][2]):
        assert {key: float(row[key]) for key in expected} == pytest.approx(expected)
    sheet = cv2.cvtColor(cv2.imread(f"{stem}_activations.png"), cv2.COLOR_BGR2RGB)
    assert (sheet == (229, 57, 53)).all(axis=2).any(), "the frame of the dead channel"


def test_layer_check_of_a_convolution_draws_its_kernel_and_lists_it(
    colors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer_check.main([str(colors), "--layer", "logits"])
    assert {path.name for path in (tmp_path / "layer_check").iterdir()} == {"logits_kernel.png"}
    capsys.readouterr()
    layer_check.main([str(colors), "--list"])
    pooling, logits = capsys.readouterr().out.strip().splitlines()
    assert pooling.split() == ["pool", "AveragePooling2D", "8x12x3"]
    assert logits.split() == ["logits", "Conv2D", "8x12x3", "kernel", "1x1x3x3"]


def test_layer_check_reads_the_picture_as_the_spec_says(tmp_path: Path) -> None:
    """A red picture is in the first channel of a model that takes RGB, in the last of one that takes BGR."""
    model = toy_model.save(tmp_path / "m.keras")
    Image.new("RGB", (96, 64), (255, 0, 0)).save(tmp_path / "red.png")
    for color, expected in (("RGB", [1, -1, -1]), ("BGR", [-1, -1, 1])):
        load_spec(model).replace(input={"color": color}).save(sidecar_path(model))
        layer_check.main([str(model), "--layer", "pool", "--image", "red.png", "--output", "out"])
        channels = json.loads((tmp_path / "out" / "pool_channels.json").read_text())["channels"]
        assert [channel["mean"] for channel in channels] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--list lists those of"),
        (["--layer", "logit"], "no layer 'logit'. Similar: logits. --list"),
        (["--layer", "pool"], "has no kernels. Give an --image"),
    ],
)
def test_layer_check_says_what_is_missing(colors: Path, flags: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        layer_check.main([str(colors), *flags])


def test_layer_check_takes_keras_models_only(tmp_path: Path, picture: Path) -> None:
    with pytest.raises(UsageError, match="is not a Keras model"):
        layer_check.main([str(picture), "--list"])
    (tmp_path / "broken.keras").write_bytes(b"PK")
    with pytest.raises(DataError, match="not a Keras model file"):
        layer_check.main(["broken.keras", "--list"])


def test_a_channel_is_drawn_from_its_minimum_to_its_maximum() -> None:
    values = np.zeros((2, 2, 2), np.float32)
    values[..., 0] = [[-5, 5], [0, 5]]
    values[..., 1] = 7
    sheet = layers.draw_activations(values, "t")
    viridis = cv2.applyColorMap(np.array([[0, 128, 255]], np.uint8), cv2.COLORMAP_VIRIDIS)[0, :, ::-1]
    for color in viridis:
        assert (sheet == color).all(axis=2).sum() >= 64 * 64, color
    assert [channel.dead for channel in layers.channel_figures(values)] == [False, True]


def test_figures_count_zeros() -> None:
    values = np.array([[[0, 1], [0, 0], [3, 0], [0, 0]]], np.float32)
    first, second = layers.channel_figures(values)
    assert (first.zeros, second.zeros) == (0.75, 0.75)
    assert (first.maximum, second.mean, first.dead) == (3, 0.25, False)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 1, 4, 6), "in x out"),
        ((4, 6), "in x out"),
        ((3, 3, 8, 1), ""),
        ((3, 3, 2, 5), ""),
        ((3, 3, 64, 64), "the first 1024 of 4096 tiles"),
    ],
)
def test_kernels_of_all_shapes_have_a_picture(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], words: str
) -> None:
    titles = []
    monkeypatch.setattr(layers, "_titled", lambda picture, title: titles.append(title) or picture)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    picture = layers.draw_kernel(values, "kernel")
    assert picture.dtype == np.uint8
    assert 100 <= max(picture.shape) <= 1700
    assert words in titles[0]


def test_a_heat_map_has_red_for_the_largest_blue_for_the_most_negative_and_white_for_zero() -> None:
    sheet = layers.draw_kernel(np.array([[2, 0, -2]], np.float32), "t")
    middle = sheet[-5]  # below the title
    at = [middle[round((column + 0.5) * 800 / 3)] for column in range(3)]
    assert [tuple(map(int, color)) for color in at] == [(178, 24, 43), (255, 255, 255), (33, 102, 172)]
