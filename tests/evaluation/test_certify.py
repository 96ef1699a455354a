"""Verdicts, rows and what surrounds them, with engines of NumPy."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from example_spec import SPEC
from test_measurement import Engine, Pictures

from deeplabv3p.errors import DataError, RuntimeMissingError, UsageError
from deeplabv3p.evaluation import certify as module
from deeplabv3p.evaluation.budget import parse_budgets
from deeplabv3p.evaluation.candidates import given
from deeplabv3p.evaluation.certify import Candidate, Row, certify, file_size
from deeplabv3p.evaluation.isolation import call as isolation_call
from deeplabv3p.evaluation.measurement import measure
from deeplabv3p.runtime.artifact import ArtifactRef
from deeplabv3p.spec import ClassInfo

BUDGETS = parse_budgets(None)


def fake_job(send, job):
    """Behaves as the name of the file says."""
    kind = job.artifact.path.stem.split("_")[0]
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "missing":
        raise RuntimeMissingError("the onnx runtime needs onnxruntime: pip install 'deeplabv3p[onnx]'")
    if kind == "damaged":
        raise DataError(f"{job.artifact.path} is cut short.")
    if kind == "bug":
        raise KeyError("of an engine")
    shift = {"spoiled": 0.3, "touched": 1e-6}.get(kind, 0)
    return measure(Engine(lambda logits: logits + np.array([shift, 0, 0], np.float32)), job, send)


def call_here(function, *arguments, on_message=None):
    """``isolation.call`` without a process: fifty times faster."""
    return function(on_message or (lambda message: None), *arguments)


@pytest.fixture
def apart(monkeypatch):
    """Measures in processes of their own, as commands do."""
    monkeypatch.setattr(module.isolation, "call", isolation_call)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Makes candidates of files of a name."""
    monkeypatch.setattr(module, "run_job", fake_job)
    monkeypatch.setattr(module.isolation, "call", call_here)

    def make(name, precision="f32", spec=SPEC, asked=False):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(b"x" * 1000)
        return Candidate(ArtifactRef(path, "onnx", None), spec, precision, asked)

    return make


def run(files, *others, **options):
    return certify(files("reference"), others, Pictures(), budgets=BUDGETS, seconds=0.01, **options).rows


def test_what_equals_the_reference_passes_and_what_does_not_fails_with_the_budget_it_missed(files):
    reference, good, bad = run(files, files("touched"), files("spoiled"))
    assert (reference.verdict, reference.figures.difference, reference.figures.agreement) == ("reference", None, None)
    assert (good.verdict, good.reasons) == ("pass", ())
    assert good.figures.agreement > 99.9
    assert 0 < good.figures.max_error < 1e-5
    assert bad.verdict == "FAIL"
    assert bad.reasons == (f"agreement {bad.figures.agreement:.3g} %, under 99.9 %",)
    assert bad.figures.difference == pytest.approx(bad.figures.miou - reference.figures.miou)
    assert bad.figures.interval.low <= bad.figures.difference <= bad.figures.interval.high
    assert (good.size, reference.path.name) == (1000, "reference.onnx")


def test_a_precision_is_judged_by_its_own_budget(files):
    """mIoU falls by more than a point: too much for int8 by default, not for whoever allows it."""
    *_, row = run(files, files("spoiled", "int8"))
    drop = -100 * row.figures.difference
    assert drop > 1
    assert row.reasons == (f"mIoU drop {drop:.3g} points, over 1 points",)
    allowed = parse_budgets(f"int8.miou_drop={drop + 0.1}")
    assert (
        certify(files("reference"), [files("spoiled", "int8")], Pictures(), budgets=allowed).rows[1].verdict == "pass"
    )


def test_crashes_damage_and_missing_packages_cost_one_row_each(files, apart):
    names = ("crash", "missing", "damaged", "bug", "touched")
    _, *rows = run(files, *(files(name) for name in names))
    assert [row.verdict for row in rows] == ["FAIL", "skipped", "FAIL", "FAIL", "pass"]
    reasons = [row.reasons[0] for row in rows[:-1]]
    assert "SIGSEGV" in reasons[0]
    assert "pip install 'deeplabv3p[onnx]'" in reasons[1]
    assert reasons[2].endswith("is cut short")
    assert "KeyError" in reasons[3]
    assert all(row.figures is None and row.measurement is None for row in rows[:-1])


def test_a_reference_that_cannot_be_measured_is_an_error(files, apart):
    for name, kind, words in (("crash", DataError, "SIGSEGV"), ("missing", RuntimeMissingError, "onnxruntime")):
        with pytest.raises(kind, match=words):
            certify(files(name), [files("touched")], Pictures(), budgets=BUDGETS)


def test_rows_that_are_settled_stay_where_they_are(files):
    skipped = Row("m.mnn", "mnn", "f32", "skipped", ("MNN is not installed",))
    rows = run(files, files("touched"), skipped, files("touched"))
    assert [row.verdict for row in rows] == ["reference", "pass", "skipped", "pass"]
    assert rows[2] is skipped


def test_models_of_other_classes_are_not_compared(files):
    other = files("touched", spec=SPEC.replace(classes=(ClassInfo("one", (0, 0, 0)),)))
    with pytest.raises(UsageError, match=r"touched\.onnx has 1 classes, but the dataset blocks\.txt has 3"):
        run(files, other)


def test_logits_of_other_models_are_left_out(files):
    """Same shape by accident, another meaning: the resize rule differs."""
    _, row = run(files, files("touched", spec=SPEC.replace(input={"resize": "fit"})))
    assert (row.figures.max_error, row.verdict) == (None, "pass")


def test_progress_counts_pictures_of_all_files_and_nothing_stays_on_disk(files, tmp_path):
    seen = []
    folder = tmp_path / "out"
    folder.mkdir()
    run(files, files("touched"), folder=folder, progress=lambda done, total, info: seen.append((done, total)))
    assert [done for done, _ in seen] == [1, 2, 3, 4, 5, 6, 6]
    assert {total for _, total in seen} == {6}
    assert list(folder.iterdir()) == []


def test_bisecting_is_for_keras_references_and_says_so(files):
    _, row = run(files, files("spoiled"), bisect=True)
    assert row.bisection.first is None
    assert "Keras reference" in row.bisection.remark


def test_the_size_of_a_model_is_that_of_all_its_parts(tmp_path: Path):
    (tmp_path / "m.xml").write_bytes(b"1" * 10)
    (tmp_path / "m.bin").write_bytes(b"1" * 100)
    saved = tmp_path / "saved" / "variables"
    saved.mkdir(parents=True)
    (saved / "data").write_bytes(b"1" * 1000)
    (saved.parent / "saved_model.pb").write_bytes(b"1")
    assert file_size(tmp_path / "m.xml") == 110
    assert file_size(tmp_path / "saved") == 1001
    assert file_size(tmp_path / "m.bin") == 100


@pytest.mark.parametrize(
    ("name", "device", "precision"),
    [
        ("m.onnx", None, "f32"),
        ("m_int8.tflite", None, "int8"),
        ("m-f16.tflite", None, "f16"),
        ("m_int16x8.tflite", None, "int16x8"),
        ("int8er.tflite", None, "f32"),
        ("deeplabv3_mnv2_pascal_quant.tflite", None, "int8"),
        ("m_fp16.onnx", None, "f16"),
        ("m.xml", "CPU:bf16", "bf16"),
    ],
)
def test_the_precision_of_a_file_is_told_by_its_name_or_device(name, device, precision):
    assert given(ArtifactRef(Path(name), "x", device), SPEC).precision == precision


def test_a_file_that_takes_integers_and_gives_quantized_scores_is_int8():
    spec = SPEC.replace(input={"dtype": "uint8"}, output={"scale": 0.1, "zero_point": 3})
    assert given(ArtifactRef(Path("quant.tflite"), "tflite", None), spec).precision == "int8"
    # Pictures as bytes alone say nothing of the arithmetic.
    assert given(ArtifactRef(Path("m.pb"), "pb", None), SPEC.replace(input={"dtype": "uint8"})).precision == "f32"


def test_nan_is_no_figure_that_passes(files):
    _, row = run(files, files("touched"))
    figures = dataclasses.replace(row.figures, difference=float("nan"))
    assert module.missed(BUDGETS["int8"], figures.judged()) != []
