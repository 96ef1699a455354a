"""What is exported: the wishes of a command line, files that are there already, and what cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from example_spec import SPEC

from deeplabv3p.errors import DataError, RuntimeMissingError, UsageError
from deeplabv3p.evaluation import candidates, isolation
from deeplabv3p.evaluation.candidates import Wish, export_missing, parse_wishes
from deeplabv3p.evaluation.certify import Candidate, Row
from deeplabv3p.export.formats import Exported
from deeplabv3p.spec import sidecar_path

SHA = SPEC.replace(provenance={"weights_sha256": "ab" * 32})


def names(wishes):
    return [f"{wish.runtime}:{wish.precision}" for wish in wishes]


def test_by_default_every_runtime_and_precision_is_wished_and_none_asked_for():
    wishes = parse_wishes(None, None)
    assert {"savedmodel:f32", "pb:f32", "onnx:int8", "tflite:int16x8", "mnn:w8", "openvino:bf16"} <= set(names(wishes))
    assert "opencv:f32" in names(wishes)
    assert not any(name.startswith(("keras", "opencv:int8")) for name in names(wishes))
    assert not any(wish.asked for wish in wishes)


def test_runtimes_and_precisions_choose():
    assert names(parse_wishes("tflite:int8, onnx", None)) == ["tflite:int8", "onnx:f32", "onnx:f16", "onnx:int8"]
    assert names(parse_wishes("tflite,opencv,tflite:w8", "f32")) == ["tflite:f32", "opencv:f32", "tflite:w8"]
    assert all(wish.asked for wish in parse_wishes("tflite", None))


@pytest.mark.parametrize(
    ("runtimes", "precisions", "words"),
    [
        ("torch", None, "nothing to export for 'torch'"),
        ("pb:int8", None, "pb has no precision 'int8'. It has f32"),
        (None, "f64", "there is no precision 'f64'"),
        ("pb", "int8", "no runtime has any of these"),
    ],
)
def test_what_does_not_exist_is_refused(runtimes, precisions, words):
    with pytest.raises(UsageError, match=words):
        parse_wishes(runtimes, precisions)


def test_bf16_is_the_f32_file_on_a_device():
    (wish,) = parse_wishes("openvino:bf16", None)
    assert (wish.options.precision, wish.device) == ("f32", "CPU:bf16")


def write(path: Path, spec=SHA):
    path.write_bytes(b"model")
    spec.save(sidecar_path(path))
    return Exported(path, spec, ("3 operations stayed float.",))


def fake_export(send, reference, spec, targets, pictures):
    """Dies at files whose folder has a file of that name and .crash beside it; what it wrote before stays."""
    outcomes = []
    for target in targets:
        if target.path.with_suffix(".crash").exists():
            raise isolation.CrashError("the process ended early with exit code 9")
        if target.format_name == "mnn":
            outcomes.append(RuntimeMissingError("MNN is not installed."))
        elif target.format_name == "openvino":
            outcomes.append(DataError("the converter cannot do it."))
        else:
            outcomes.append(write(target.path))
        send((len(outcomes), target.path.name))
    return outcomes


def call_here(function, *arguments, on_message):
    """``isolation.call`` without a process."""
    return function(on_message, *arguments)


@pytest.fixture
def reference(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "export_job", fake_export)
    monkeypatch.setattr(candidates, "check_target", lambda form, options: None)
    monkeypatch.setattr(isolation, "call", call_here)
    write(tmp_path / "m.keras")
    return tmp_path / "m.keras"


def run(reference, runtimes, pictures=(Path("p.png"),), precisions=None):
    folder = reference.parent / "models"
    pictures = None if pictures is None else list(pictures)
    return export_missing(
        reference, SHA, parse_wishes(runtimes, precisions), folder, pictures, "1 picture of train.txt"
    )


def test_exports_become_candidates_with_their_specs_and_notes(reference):
    (onnx, opencv, int8) = run(reference, "onnx:f32,opencv,onnx:int8")
    assert [item.artifact.path.name for item in (onnx, opencv, int8)] == ["m.onnx", "m.onnx", "m_int8.onnx"]
    assert [item.artifact.runtime for item in (onnx, opencv)] == ["onnx", "opencv"]
    assert onnx.notes == ("3 operations stayed float.",)
    assert int8.notes == ("3 operations stayed float.", "calibrated with 1 picture of train.txt")
    assert int8.asked


def test_missing_packages_are_skipped_and_failures_fail(reference):
    mnn, openvino = run(reference, "mnn:f32,openvino:f32")
    assert (mnn.verdict, mnn.reasons, mnn.asked) == ("skipped", ("MNN is not installed",), True)
    assert (openvino.verdict, openvino.reasons) == ("FAIL", ("export: the converter cannot do it",))


def test_a_converter_that_crashes_costs_its_own_file(reference):
    (reference.parent / "models").mkdir()
    (reference.parent / "models" / "m_f16.crash").touch()
    results = run(reference, "tflite:f32,tflite:f16,tflite:w8")
    assert [type(item) for item in results] == [Candidate, Row, Candidate]
    assert "exit code 9" in results[1].reasons[0]


def test_files_that_are_there_are_taken_unless_they_are_of_another_model(reference):
    folder = reference.parent / "models"
    run(reference, "pb")
    (folder / "m.pb").write_bytes(b"kept")
    (again,) = run(reference, "pb")
    assert (folder / "m.pb").read_bytes() == b"kept"
    assert "there already" in again.notes[0]
    for change in (
        lambda: os.utime(folder / "m.pb", (1, 1)),
        lambda: SHA.replace(provenance={"weights_sha256": "cd" * 32}).save(sidecar_path(folder / "m.pb")),
        lambda: SHA.replace(input={"size_hw": (32, 32)}).save(sidecar_path(folder / "m.pb")),
        lambda: sidecar_path(folder / "m.pb").write_text("{"),
    ):
        (folder / "m.pb").write_bytes(b"kept")
        change()
        run(reference, "pb")
        assert (folder / "m.pb").read_bytes() == b"model"


def test_int8_without_calibration_is_skipped_and_the_rest_is_exported(reference):
    by_default = run(reference, None, pictures=None, precisions="int8")
    assert {row.verdict for row in by_default} == {"skipped"}
    assert all("--calibration_file" in row.reasons[0] for row in by_default)
    found = run(reference, "tflite", pictures=None)
    assert {type(item) for item in found} == {Candidate, Row}
    skipped = [item for item in found if isinstance(item, Row)]
    assert {row.precision for row in skipped} == {"int8", "int16x8"}
    assert all(row.asked and row.verdict == "skipped" and "--calibration_file" in row.reasons[0] for row in skipped)


def test_a_missing_writer_is_told_before_any_work(reference, monkeypatch):
    def missing(form, options):
        raise RuntimeMissingError("onnx files cannot be written: tf2onnx is not installed.")

    monkeypatch.setattr(candidates, "check_target", missing)
    monkeypatch.setattr(isolation, "call", lambda *_, **__: pytest.fail("nothing is left to export"))
    (row,) = run(reference, "onnx:f32")
    assert (row.verdict, row.asked) == ("skipped", True)
    assert Wish("onnx", "f32", asked=True) in parse_wishes("onnx", None)
