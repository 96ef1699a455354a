"""export(): what is refused before any work, what is shared, and that a failure leaves nothing behind."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import toy_model

from deeplabv3p.errors import DataError, RuntimeMissingError, UsageError
from deeplabv3p.export import export as exporting
from deeplabv3p.export.export import AccuracyControl, Target, check_target, export, export_many, file_name
from deeplabv3p.export.formats import FORMATS, Exported, ExportOptions, find_format
from deeplabv3p.runtime import keras_engine, probe
from deeplabv3p.runtime.artifact import load_spec, open_artifact
from deeplabv3p.spec import sidecar_path


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory):
    """(model, spec) of the model that tells red, blue and dark apart."""
    path = toy_model.save(tmp_path_factory.mktemp("toy") / "toy.keras")
    return keras_engine.load_model(path), load_spec(path)


@pytest.fixture
def controls() -> list[dict[str, object]]:
    """What the writers were told beside the usual."""
    return []


@pytest.fixture
def writers(
    monkeypatch: pytest.MonkeyPatch, controls: list[dict[str, object]]
) -> list[tuple[str, object, ExportOptions, object]]:
    """Writers that write their name, and the calls they got: (format, frozen, options, calibration)."""
    calls: list[tuple[str, object, ExportOptions, object]] = []
    monkeypatch.setattr(exporting, "_MODULES", {})
    for name in set(FORMATS) - {"keras"}:

        def write(frozen, path, options, calibration, name=name, **control):
            calls.append((name, frozen, options, calibration))
            controls.append(control)
            path.write_text(name)
            return Exported(path, frozen.spec)

        module = types.ModuleType(name)
        module.write = write
        monkeypatch.setitem(sys.modules, f"deeplabv3p.export.{name}", module)
    return calls


def fail_after_writing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def write(frozen, path, options, calibration):
        for half in (path, path.with_suffix(".bin"), sidecar_path(path)):
            half.write_text("half")
        raise error

    monkeypatch.setattr(sys.modules["deeplabv3p.export.openvino"], "write", write)


def test_keras_comes_back_folded_with_its_spec(toy, tmp_path):
    model, spec = toy
    exported = export(model, spec, tmp_path / "new.keras", "keras", ExportOptions())
    assert exported.path == tmp_path / "new.keras"
    assert load_spec(exported.path) == exported.spec
    batch = np.random.default_rng(0).normal(size=(1, *toy_model.SIZE_HW, 3)).astype(np.float32)
    # The toy has no batch norm, so the copy computes the same numbers.
    np.testing.assert_array_equal(open_artifact(exported.path).run(batch), np.asarray(model(batch)))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pb", ExportOptions(precision="int8"), "pb has no precision int8. It has f32"),
        ("mnn", ExportOptions(precision="int16x8"), "It has f32, f16, w8, int8"),
        ("tflite", ExportOptions(layout="NCHW"), "tflite files are NHWC, not NCHW"),
        ("keras", ExportOptions(output_kind="labels"), "keras files put out logits"),
        ("keras", ExportOptions(output_size="input"), "keras files put out logits"),
        ("tflite", ExportOptions(precision="int8", dynamic=True), "int8 needs a fixed size"),
    ],
)
def test_what_a_format_does_not_have_is_refused(name, options, message):
    with pytest.raises(UsageError) as caught:
        check_target(find_format(name), options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "precision", "module"),
    [("onnx", "f32", "tf2onnx"), ("mnn", "f32", "MNN"), ("openvino", "f32", "openvino"), ("openvino", "int8", "nncf")],
)
def test_a_missing_package_names_its_extra(monkeypatch, name, precision, module):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == module else find_spec(asked))
    with pytest.raises(RuntimeMissingError, match=f"{module} is not installed.*deeplabv3p.{name}.'"):
        check_target(find_format(name), ExportOptions(precision=precision))


def test_int8_without_pictures_is_refused_before_any_work(toy, writers, tmp_path):
    with pytest.raises(UsageError, match="tflite int8 needs pictures"):
        export(*toy, tmp_path / "a.tflite", "tflite", ExportOptions(precision="int8"))
    assert not writers


def test_equal_options_are_frozen_once_and_writers_are_told_their_layout(toy, writers, tmp_path):
    plain, labels = ExportOptions(), ExportOptions(output_kind="labels")
    targets = [Target(name, tmp_path / name, plain) for name in ("pb", "onnx", "tflite")]
    targets += [Target("onnx", tmp_path / "f16", ExportOptions(precision="f16", layout="NHWC"))]
    targets += [Target("pb", tmp_path / "labels", labels)]
    done: list[int] = []
    outcomes = export_many(*toy, targets, progress=lambda count, total, info=None: done.append(count))
    assert [outcome.path for outcome in outcomes] == [target.path for target in targets]
    assert done == [1, 2, 3, 4, 5]
    frozen = [id(call[1]) for call in writers]
    assert len(set(frozen[:4])) == 1
    assert frozen[4] != frozen[0]
    assert [call[2].layout for call in writers] == ["NHWC", "NCHW", "NHWC", "NHWC", "NHWC"]


def test_calibration_comes_in_the_layout_of_the_file(toy, writers, tmp_path, photographs):
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), photographs[0])
    int8 = ExportOptions(precision="int8")
    targets = [Target(name, tmp_path / name, int8) for name in ("onnx", "tflite")]
    targets.append(Target("onnx", tmp_path / "float", ExportOptions()))
    export_many(*toy, targets, [tmp_path / "a.png"])
    height, width = toy_model.SIZE_HW
    shapes = [None if call[3] is None else next(call[3]()).shape for call in writers]
    assert shapes == [(1, 3, height, width), (1, height, width, 3), None]


def test_accuracy_control_scores_with_the_spec_of_the_file(toy, writers, controls, tmp_path):
    seen = []

    def score(run, spec):
        seen.append((run("batch"), spec.input.layout, spec.output.layout, spec.classes))
        return 0.5

    int8 = ExportOptions(precision="int8")
    export_many(
        *toy, [Target("openvino", tmp_path / "a.xml", int8, AccuracyControl(score, 0.01))], [tmp_path / "a.png"]
    )
    [control] = controls
    assert control["max_drop"] == 0.01
    assert control["validate"](lambda batch: f"ran {batch}") == 0.5
    assert seen == [("ran batch", "NCHW", "NCHW", toy_model.CLASSES)]
    export_many(*toy, [Target("openvino", tmp_path / "b.xml", int8)], [tmp_path / "a.png"])
    assert controls[1] == {}


@pytest.mark.parametrize("error", [RuntimeError("op Foo\nis unknown"), DataError("no."), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_behind(toy, writers, tmp_path, monkeypatch, error):
    fail_after_writing(monkeypatch, error)
    expected = DataError if isinstance(error, Exception) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        export(*toy, tmp_path / "a.xml", "openvino", ExportOptions())
    assert list(tmp_path.iterdir()) == []
    if isinstance(error, RuntimeError):
        assert str(caught.value).endswith("a.xml cannot be written as openvino f32: op Foo.")


def test_a_failure_keeps_what_was_there(toy, writers, tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_text("somebody's")
    fail_after_writing(monkeypatch, DataError("no."))
    with pytest.raises(DataError):
        export(*toy, tmp_path / "a.xml", "openvino", ExportOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_one_failure_does_not_stop_the_others(toy, writers, tmp_path, monkeypatch):
    fail_after_writing(monkeypatch, ValueError("no"))
    targets = [Target(name, tmp_path / f"a{FORMATS[name].suffix}", ExportOptions()) for name in ("openvino", "pb")]
    failed, written = export_many(*toy, targets)
    assert isinstance(failed, DataError)
    assert isinstance(written, Exported)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pb"]


def test_names_tell_format_and_precision():
    names = [file_name("m", "onnx", ExportOptions()), file_name("m", "tflite", ExportOptions(precision="int8"))]
    names.append(file_name("m", "savedmodel", ExportOptions()))
    assert names == ["m.onnx", "m_int8.tflite", "m_savedmodel"]
    assert len({file_name("m", name, ExportOptions()) for name in FORMATS}) == len(FORMATS)


def test_every_format_has_a_writer():
    folder = Path(exporting.__file__).parent
    missing = [name for name in FORMATS if name != "keras" and not (folder / f"{name}.py").is_file()]
    assert missing == []


def test_what_was_exported_is_opened_without_a_probe(toy, tmp_path, monkeypatch):
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setenv(probe.TRUST_VARIABLE, "0")
    monkeypatch.setenv(probe.CACHE_VARIABLE, str(tmp_path / "cache"))
    exported = export(*toy, tmp_path / "toy.tflite", "tflite", ExportOptions())
    monkeypatch.setattr(probe.processes, "run_module", lambda *_, **__: pytest.fail("probed"))
    open_artifact(exported.path).close()
