"""tools/model_converter/convert.py and the four older names: what is written, refused, compared and told."""

from __future__ import annotations

import importlib
import importlib.util
import runpy
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import toy_model

from common import cli, conversion, conversion_check
from deeplabv3p.errors import BudgetError, DataError, RuntimeMissingError, UsageError
from deeplabv3p.export import export as exporting
from deeplabv3p.export.formats import FORMATS
from deeplabv3p.inference import predict
from deeplabv3p.runtime.artifact import load_spec, open_artifact
from deeplabv3p.spec import sidecar_path

TOOLS = Path(__file__).parents[1] / "tools" / "model_converter"
ENGINES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert", "mnn": "MNN", "openvino": "openvino"}
PICTURES = 6
PICKED = ["--dataset_path", "{data}", "--dataset_file", "{data}/list.txt", "--sample_num", "4"]


def tool(name: str):
    """The ``main`` of a script of tools/model_converter."""
    return runpy.run_path(str(TOOLS / f"{name}.py"))["main"]


CONVERT = tool("convert")


def convert(*arguments: object) -> int:
    return CONVERT([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_model.save(tmp_path_factory.mktemp("model") / "colors.keras")


@pytest.fixture(scope="module")
def open_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an open size."""
    return toy_model.save(tmp_path_factory.mktemp("open") / "colors.keras", any_size=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of red, blue and dark noise, with a list."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for index in range(PICTURES):
        image = np.clip(toy_model.halves() * 0.8 + rng.normal(0, 20, (64, 96, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / f"{index}.png"), image[..., ::-1])
        cv2.imwrite(str(folder / "labels" / f"{index}.png"), np.zeros((64, 96), np.uint8))
    (folder / "list.txt").write_text("\n".join(map(str, range(PICTURES))))
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_is_written_agrees_and_segments(name, model, tmp_path, capsys):
    if name in ENGINES:
        pytest.importorskip(ENGINES[name])
    assert convert(model, "--to", name, "--output_path", tmp_path) == 0
    out = capsys.readouterr().out
    assert "100.00 %" in out
    form = FORMATS[name]
    path = tmp_path / f"colors{form.suffix or '_savedmodel'}"
    assert f"python deeplab.py --model_path {path} --image PICTURE" in out
    spec = load_spec(path)
    assert sidecar_path(path).is_file()
    assert (spec.input.layout, spec.input.size_hw) == (form.layouts[0], toy_model.SIZE_HW)
    labels = predict(open_artifact(path), toy_model.halves())
    # A column of the pooled grid lies across the border, so its sampling may move it by a few pixels.
    assert (labels[:, :40] == 1).all()
    assert (labels[:, 56:] == 2).all()


def test_all_says_what_it_leaves_out(model, tmp_path, capsys, data):
    pytest.importorskip("ai_edge_litert")
    flags = ["--to", "all", "--precision", "w8", "--output_path", tmp_path]
    assert convert(model, *flags) == 0
    out = capsys.readouterr().out
    for name in ("keras", "savedmodel", "pb", "onnx", "openvino"):
        assert f"not written: {name} w8: {name} has no precision w8" in out
    assert {"colors_w8.tflite"} <= set(files(tmp_path))
    assert not {"colors.pb", "colors.keras"} & set(files(tmp_path))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--to", "pb", "--precision", "int8"], "pb has no precision int8. It has f32"),
        (["--to", "tflite", "pb", "--precision", "f32", "f16"], "pb has no precision f16"),
        (["--to", "tflite", "--layout", "nchw"], "tflite files are NHWC"),
        (["--to", "tflite", "--precision", "int8"], "needs pictures to calibrate with: --dataset_path"),
        (["--to", "tflite", "--precision", "int16x8"], "--dataset_file"),
        (["--to", "all", "pb"], "leave the others out"),
        (["--to", "pb", "savedmodel", "--output_path", "{out}/a.pb"], "must be a folder"),
        (["--to", "pb", "--output_path", "{out}/a.tflite"], "no name for pb, which ends in .pb"),
        (["--to", "pb", "--dataset_file", "list.txt"], "Name its folder with --dataset_path"),
        (["--to", "keras", "--output_kind", "labels"], "keras files put out logits"),
        (["--to", "pb", "--float_layers", "logits"], "--float_layers is for int8 files"),
        (["--to", "onnx", "--reduce_range"], "--reduce_range is for int8 files"),
        (["--to", "tflite", "--precision", "int8", "--reduce_range"], "weights of 7 bits are for int8 files of onnx"),
        (
            ["--to", "mnn", "--precision", "int8", "--float_layers", "logits"],
            "layers can be kept in float in int8 files",
        ),
        (["--to", "tflite", "--precision", "int8", "--max_drop", "1", "--dataset_path", "."], "--max_drop is for int8"),
        (["--to", "pb", "--output_stride", "8"], "cannot be built at another"),
    ],
)
def test_what_does_not_exist_is_refused_before_any_work(model, tmp_path, flags, message):
    flags = [flag.replace("{out}", str(tmp_path)) for flag in flags]
    if "--output_path" not in flags:
        flags += ["--output_path", str(tmp_path)]
    with pytest.raises(UsageError) as caught:
        convert(model, *flags)
    assert message in str(caught.value)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "flags", [["--to", "exe"], ["--to", "pb", "--precision", "int4"], ["--to", "pb", "--batch", "0"]]
)
def test_a_wrong_word_is_one_line(model, flags):
    with pytest.raises(UsageError):
        convert(model, *flags)


def test_the_model_itself_is_never_overwritten(model, tmp_path, capsys):
    copy = tmp_path / "colors.keras"
    shutil.copy(model, copy)
    before = copy.read_bytes()
    with pytest.raises(UsageError, match="is the model itself"):
        convert(copy, "--to", "keras")
    assert convert(copy, "--to", "all", "--precision", "f32", "--no-check") == 0
    assert "not written: keras f32" in capsys.readouterr().out
    assert copy.read_bytes() == before
    assert (tmp_path / "colors.pb").is_file()


def test_a_missing_package_is_told(model, tmp_path, capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "MNN" else find_spec(name))
    with pytest.raises(RuntimeMissingError, match=r"pip install 'deeplabv3p\[mnn\]'"):
        convert(model, "--to", "pb", "mnn", "--output_path", tmp_path)
    assert files(tmp_path) == []  # asked for by name: nothing is begun
    monkeypatch.setattr(exporting, "_MODULES", {name: ("MNN",) for name in FORMATS if name not in {"keras", "pb"}})
    assert convert(model, "--to", "all", "--output_path", tmp_path, "--no-check") == 0
    assert "not written: mnn f32: mnn files cannot be written: MNN is not installed" in capsys.readouterr().out
    assert "colors.pb" in files(tmp_path)


def test_a_failed_format_does_not_stop_the_others(model, tmp_path, capsys, monkeypatch):
    savedmodel = importlib.import_module("deeplabv3p.export.savedmodel")

    def write(*arguments: object) -> None:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(savedmodel, "write", write)
    assert convert(model, "--to", "savedmodel", "pb", "--output_path", tmp_path) == DataError.exit_code
    captured = capsys.readouterr()
    assert "cannot be written as savedmodel f32: no such operation." in captured.err
    assert files(tmp_path) == ["colors.pb", "colors.pb.spec.json"]


def test_a_file_that_computes_something_else_misses_its_budget(model, tmp_path, capsys, monkeypatch):
    pb = importlib.import_module("deeplabv3p.export.pb")
    write = pb.write

    def write_another(frozen, path, options, calibration):
        # The spec says that blue comes before red in the input, so red and blue change places.
        exported = write(frozen, path, options, calibration)
        exported.spec.replace(input={"color": "BGR"}).save(sidecar_path(path))
        return exported

    monkeypatch.setattr(pb, "write", write_another)
    with pytest.raises(BudgetError, match=r"agrees with Keras on .* % of the pixels, f32 must on 99\.9 %"):
        convert(model, "--to", "pb", "--output_path", tmp_path)
    assert "colors.pb " in capsys.readouterr().out  # the table is there, too
    assert convert(model, "--to", "pb", "--output_path", tmp_path, "--no-check") == 0
    assert "not checked" in capsys.readouterr().out


def test_a_file_without_its_engine_is_written_and_visibly_not_compared(model, tmp_path, capsys, monkeypatch):
    def missing(path):
        raise RuntimeMissingError("the pb runtime needs something.")

    monkeypatch.setattr(conversion_check, "open_artifact", missing)
    assert convert(model, "--to", "pb", "--output_path", tmp_path) == 0
    out = capsys.readouterr().out
    assert "check   skipped: the pb runtime needs something." in out
    assert "100.00 %" not in out


@pytest.mark.parametrize("kind", ["logits", "probabilities", "labels"])
@pytest.mark.parametrize("size", ["native", "input"])
def test_output_kinds_and_sizes_are_compared_with_what_keras_would_say(kind, size, model, tmp_path, capsys):
    flags = ["--to", "pb", "--output_kind", kind, "--output_size", size, "--output_path", tmp_path]
    assert convert(model, *flags) == 0
    out = capsys.readouterr().out
    assert "100.00 %" in out
    spec = load_spec(tmp_path / "colors.pb")
    assert (spec.output.kind, spec.output.stride) == (kind, 4 if size == "native" else 1)
    height, width = (side // spec.output.stride for side in toy_model.SIZE_HW)
    shape = f"[1, {height}, {width}]" if kind == "labels" else f"[1, {height}, {width}, 3]"
    assert shape in out


@pytest.mark.parametrize(("batch", "told"), [("4", "[4, 32, 48, 3]"), ("any", "[?, 32, 48, 3]")])
def test_batch_sizes(batch, told, model, tmp_path, capsys):
    assert convert(model, "--to", "pb", "--batch", batch, "--output_path", tmp_path) == 0
    assert told in capsys.readouterr().out


def test_an_open_size_stays_open_or_is_chosen(open_model, model, tmp_path):
    with pytest.raises(UsageError, match="is built for one size"):
        convert(model, "--to", "pb", "keras", "--dynamic", "--output_path", tmp_path)
    with pytest.raises(UsageError, match=r"takes pictures of any size. Choose one for pb"):
        convert(open_model, "--to", "keras", "pb", "--output_path", tmp_path)
    with pytest.raises(UsageError, match="Leave one of them out"):
        convert(open_model, "--to", "pb", "--dynamic", "--model_input_shape", "32x32", "--output_path", tmp_path)
    assert files(tmp_path) == []
    assert convert(open_model, "--to", "pb", "--dynamic", "--output_path", tmp_path / "open") == 0
    assert load_spec(tmp_path / "open" / "colors.pb").input.size_hw is None
    assert convert(open_model, "--to", "pb", "--model_input_shape", "40x64", "--output_path", tmp_path) == 0
    assert load_spec(tmp_path / "colors.pb").input.size_hw == (40, 64)


def test_onnx_in_either_layout(model, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    for layout in ("nhwc", "nchw"):
        target = tmp_path / f"{layout}.onnx"
        assert convert(model, "--to", "onnx", "--layout", layout, "--output_path", target) == 0
        assert load_spec(target).input.layout == layout.upper()
        assert "100.00 %" in capsys.readouterr().out


def test_int8_says_its_scales_and_what_it_was_calibrated_with(model, data, tmp_path, capsys):
    pytest.importorskip("ai_edge_litert")
    flags = ["--to", "tflite", "--precision", "int8", "--io_dtype", "uint8", "--output_path", tmp_path]
    flags += ["--dataset_path", data, "--dataset_file", "list.txt", "--sample_num", PICTURES]
    assert convert(model, *flags) == 0
    out = capsys.readouterr().out
    spec = load_spec(tmp_path / "colors_int8.tflite")
    assert spec.input.dtype == "uint8"
    assert f"calibrated with {PICTURES} pictures" in out
    assert f"image uint8 [1, 32, 48, 3] NHWC, scale {spec.input.scale:.6g}, zero point {spec.input.zero_point}" in out


def test_float_layers_reach_the_int8_files_only(model, data, tmp_path, capsys):
    pytest.importorskip("ai_edge_litert")
    flags = ["--to", "tflite", "--precision", "f32", "int8", "--float_layers", "logits", "--output_path", tmp_path]
    assert convert(model, *flags, "--dataset_path", data, "--sample_num", PICTURES) == 0
    out = capsys.readouterr().out
    assert "note    " in out.split("colors_int8.tflite")[-2] + out.split("colors_int8.tflite")[-1]
    assert "float" in out.split("note    ")[1]


@pytest.mark.parametrize(("flags", "warned"), [([], True), (["--reduce_range"], False)])
def test_int8_without_vnni_is_warned_of(model, data, tmp_path, capsys, monkeypatch, flags, warned):
    monkeypatch.setattr(conversion, "overflows_8_bit", lambda: True)
    flags = [*flags, "--to", "onnx", "--precision", "int8", "--output_path", tmp_path, "--dataset_path", data]
    assert convert(model, *flags, "--sample_num", "2") == 0
    assert ("without --reduce_range" in capsys.readouterr().err) == warned


def test_openvino_int8_with_control_of_the_accuracy(model, data, tmp_path, capsys):
    pytest.importorskip("nncf")
    flags = ["--to", "openvino", "--precision", "int8", "--max_drop", "5", "--output_path", tmp_path]
    flags += ["--dataset_path", data, "--dataset_file", "list.txt", "--sample_num", "2"]
    assert convert(model, *flags) == 0
    assert "colors_int8.xml" in capsys.readouterr().out
    for label in (data / "labels").iterdir():
        cv2.imwrite(str(label), np.full((64, 96), 255, np.uint8))
    assert convert(model, *flags) == DataError.exit_code
    assert "there is no mIoU" in capsys.readouterr().err


def test_pictures_are_drawn_evenly_from_a_list_or_a_folder(model, data, tmp_path, monkeypatch):
    drawn: list[list[str]] = []

    def export_many(model, spec, targets, pictures, progress):
        drawn.append([path.name for path in pictures])
        return [DataError("enough.")] * len(targets)

    monkeypatch.setattr(conversion, "export_many", export_many)
    flags = ["--to", "tflite", "--precision", "int8", "--output_path", tmp_path, "--sample_num", 3]
    convert(model, *flags, "--dataset_path", data, "--dataset_file", data / "list.txt")
    convert(model, *flags, "--dataset_path", data)
    convert(model, *flags, "--dataset_path", data / "images")
    assert drawn == [["0.png", "2.png", "4.png"]] * 3


def test_too_few_pictures_are_an_error(model, data, tmp_path):
    flags = ["--to", "tflite", "--precision", "int8", "--output_path", tmp_path, "--dataset_path"]
    with pytest.raises(DataError, match="holds 6 pictures, but 30 are to be drawn"):
        convert(model, *flags, data)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        convert(model, *flags, tmp_path / "empty")


def test_a_model_without_a_spec_needs_its_network_and_classes(tmp_path):
    from deeplabv3p.models.factory import build_model

    name = "mobilenetv2_lite:alpha=0.35"
    build_model(name, num_classes=3, size_hw=(64, 64)).save(tmp_path / "bare.h5")
    with pytest.raises(DataError, match="--model_type"):
        convert(tmp_path / "bare.h5", "--to", "pb")
    (tmp_path / "classes.txt").write_text("dark\nred\nblue\n")
    flags = ["--model_type", name, "--classes_path", tmp_path / "classes.txt", "--model_input_shape", "65x97"]
    assert convert(tmp_path / "bare.h5", "--to", "pb", *flags, "--output_stride", 32, "--no-check") == 0
    spec = load_spec(tmp_path / "bare.pb")
    assert (spec.input.size_hw, spec.model.output_stride, spec.num_classes) == ((65, 97), 32, 3)


def test_a_missing_model_is_one_line(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        convert(tmp_path / "no.keras", "--to", "pb")


def test_h5_in_gives_the_same_graph(model, tmp_path):
    from deeplabv3p.runtime import keras_engine

    keras_engine.save_model(keras_engine.load_model(model), load_spec(model), tmp_path / "colors.h5")
    assert convert(tmp_path / "colors.h5", "--to", "pb", "keras") == 0
    assert convert(model, "--to", "pb", "--output_path", tmp_path / "second.pb") == 0
    assert (tmp_path / "colors.pb").read_bytes() == (tmp_path / "second.pb").read_bytes()


@pytest.mark.parametrize(
    ("name", "flags", "new"),
    [
        ("keras_to_tensorflow", ["--input_model", "{model}", "--output_model", "{out}.pb"], ["--to", "pb"]),
        ("keras_to_tflite", ["--keras_model_file", "{model}", "--output_file", "{out}.tflite"], ["--to", "tflite"]),
        (
            "keras_to_onnx",
            ["--keras_model_file", "{model}", "--output_file", "{out}.onnx", "--op_set", "13", "--inputs_as_nchw"],
            ["--to", "onnx", "--op_set", "13"],
        ),
        (
            "keras_to_onnx",
            ["--keras_model_file", "{model}", "--output_file", "{out}.onnx", "--with_savedmodel", "--batch_size", "2"],
            ["--to", "onnx", "--layout", "nhwc", "--batch", "2"],
        ),
        (
            "post_train_quant_convert",
            ["--keras_model_file", "{model}", "--output_file", "{out}.tflite", *PICKED, "--model_input_shape", "32x48"],
            ["--to", "tflite", "--precision", "int8", *PICKED],
        ),
    ],
)
def test_the_older_names_write_the_same(name, flags, new, model, data, tmp_path):
    suffix = next(flag for flag in flags if flag.startswith("{out}"))[len("{out}") :]
    if suffix[1:] in ENGINES:
        pytest.importorskip(ENGINES[suffix[1:]])
    places = {"{model}": str(model), "{out}": str(tmp_path / "old"), "{data}": str(data)}

    def fill(flag: str) -> str:
        for place, value in places.items():
            flag = flag.replace(place, value)
        return flag

    assert tool(name)([fill(flag) for flag in flags]) == 0
    assert convert(model, *map(fill, new), "--output_path", tmp_path / f"new{suffix}") == 0
    assert load_spec(tmp_path / f"old{suffix}") == load_spec(tmp_path / f"new{suffix}")
    spec = load_spec(tmp_path / f"old{suffix}").input
    batch = (np.random.default_rng(0).normal(size=(2, 32, 48, 3)) * 30).astype(spec.dtype)
    batch = batch.transpose(0, 3, 1, 2) if spec.layout == "NCHW" else batch
    old, second = (open_artifact(tmp_path / f"{stem}{suffix}").run(batch) for stem in ("old", "new"))
    np.testing.assert_array_equal(old, second)


@pytest.mark.parametrize("name", sorted(path.stem for path in TOOLS.glob("*.py")))
def test_a_wrong_command_line_is_one_line_and_exit_code_2(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--no_such_flag"])
    assert cli.exit_code(tool(name)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
