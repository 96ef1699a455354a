"""Names of model files, finding their spec, and errors before any engine is imported."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from example_spec import SPEC
from hypothesis import given
from hypothesis import strategies as st

from deeplabv3p.errors import DataError, RuntimeMissingError, UsageError
from deeplabv3p.runtime.artifact import RUNTIMES, ArtifactRef, did_you_mean, load_spec, open_artifact, parse_artifact
from deeplabv3p.spec import sidecar_path


@pytest.mark.parametrize(
    ("text", "path", "runtime", "device"),
    [
        ("model.keras", "model.keras", "keras", None),
        ("model.h5", "model.h5", "keras", None),
        ("MODEL.KERAS", "MODEL.KERAS", "keras", None),
        ("model.pb", "model.pb", "pb", None),
        ("model.onnx", "model.onnx", "onnx", None),
        ("model.tflite", "model.tflite", "tflite", None),
        ("model.mnn", "model.mnn", "mnn", None),
        ("model.xml", "model.xml", "openvino", None),
        ("model.onnx@opencv", "model.onnx", "opencv", None),
        ("model.onnx@onnx:cuda:0", "model.onnx", "onnx", "cuda:0"),
        ("model.bin@torch:cpu", "model.bin", "torch", "cpu"),
        ("runs/000/best.keras@keras:cpu", "runs/000/best.keras", "keras", "cpu"),
        ("C:\\models\\m.onnx", "C:\\models\\m.onnx", "onnx", None),
        ("C:\\models\\m.onnx@openvino:GPU", "C:\\models\\m.onnx", "openvino", "GPU"),
        ("me@home/model.keras", "me@home/model.keras", "keras", None),
        ("me@home/model.keras@keras", "me@home/model.keras", "keras", None),
        ("a.keras@keras/b.keras", "a.keras@keras/b.keras", "keras", None),
        ("model@v2.keras", "model@v2.keras", "keras", None),
        ("old.keras@new.onnx", "old.keras@new.onnx", "onnx", None),
    ],
)
def test_names_are_taken_apart(text, path, runtime, device):
    assert parse_artifact(text) == ArtifactRef(Path(path), runtime, device)
    assert parse_artifact(Path(text)) == ArtifactRef(Path(path), runtime, device)


def test_a_file_that_exists_is_taken_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model.keras@onnx.keras").touch()
    assert parse_artifact("model.keras@onnx.keras") == ArtifactRef(Path("model.keras@onnx.keras"), "keras", None)
    folder = tmp_path / "a@keras:cpu"
    folder.mkdir()
    (folder / "saved_model.pb").touch()
    assert parse_artifact(folder) == ArtifactRef(folder, "savedmodel", None)
    assert parse_artifact("a@keras:cpu@savedmodel:cpu") == ArtifactRef(Path("a@keras:cpu"), "savedmodel", "cpu")


@pytest.mark.parametrize("text", ["model.keras@tensorrt", "model.keras@tensorrt:0", "model.onnx@", "model.onnx@:cpu"])
def test_an_unknown_runtime_lists_the_known(text):
    with pytest.raises(UsageError) as caught:
        parse_artifact(text)
    for runtime in RUNTIMES:
        assert runtime in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("onnxruntime", "onnx"),
        ("ORT", "onnx"),
        ("onnx-runtime", "onnx"),
        ("tensorflow", "keras"),
        ("tf", "keras"),
        ("litert", "tflite"),
        ("tf-lite", "tflite"),
        ("cv2.dnn", "opencv"),
        ("opencv4", "opencv"),
        ("OpenVINO", "openvino"),
        ("ov", "openvino"),
        ("openvno", "openvino"),
        ("saved_model", "savedmodel"),
        ("kreas", "keras"),
        ("MNN", "mnn"),
    ],
)
def test_an_unknown_runtime_proposes_what_is_meant(name, meant):
    with pytest.raises(UsageError, match=rf"there is no runtime '{re.escape(name)}'\. Did you mean {meant}\? Choose"):
        parse_artifact(f"model.onnx@{name}:0")


@given(st.text(max_size=12))
def test_proposals_are_runtimes(name):
    assert did_you_mean(name) in {"", *(f" Did you mean {runtime}?" for runtime in RUNTIMES)}


def test_nothing_is_proposed_for_what_is_like_nothing():
    assert {did_you_mean(name) for name in ("tensorrt", "coreml", "ncnn", "cuda", "xyz", "")} == {""}


def test_tensorflow_is_the_runtime_of_the_file():
    for name, meant in (("graph.pb", "pb"), ("model.h5", "keras")):
        with pytest.raises(UsageError, match=f"Did you mean {meant}"):
            parse_artifact(f"{name}@tensorflow")


@pytest.mark.parametrize("text", ["model.bin", "model", "model@home", "", "folder/"])
def test_a_name_that_does_not_tell_asks_for_the_runtime(text):
    with pytest.raises(UsageError, match="which runtime"):
        parse_artifact(text)


@pytest.mark.parametrize("text", ["@keras", "model.keras@keras:"])
def test_half_a_name_is_an_error(text):
    with pytest.raises(UsageError, match="not complete"):
        parse_artifact(text)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.keras does not exist"):
        open_artifact(str(tmp_path / "nothing.keras"))


def test_a_runtime_to_come_is_named(tmp_path):
    path = tmp_path / "model.bin"
    path.touch()
    with pytest.raises(RuntimeMissingError, match="'torch' is not part of this version yet"):
        open_artifact(f"{path}@torch", spec=SPEC)


@pytest.mark.parametrize("runtime", sorted(set(RUNTIMES) - {"torch", "savedmodel"}))
def test_a_file_of_another_kind_is_one_line(tmp_path, runtime):
    path = tmp_path / "model.bin"
    path.write_bytes(b"neither this nor that")
    with pytest.raises(DataError, match=r"model\.bin") as caught:
        open_artifact(f"{path}@{runtime}", spec=SPEC)
    assert "\n" not in str(caught.value)


def archive(path, text=None):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", "{}")
        if text is not None:
            file.writestr("spec.json", text)
    return path


def test_the_spec_in_the_archive_is_found(tmp_path):
    assert load_spec(archive(tmp_path / "m.keras", SPEC.to_json())) == SPEC


def test_the_sidecar_wins(tmp_path):
    path = archive(tmp_path / "m.keras", SPEC.to_json())
    other = SPEC.replace(ignore_index=None)
    other.save(sidecar_path(path))
    assert load_spec(path) == other


def test_the_sidecar_serves_every_kind_of_file(tmp_path):
    path = tmp_path / "m.onnx"
    path.touch()
    SPEC.save(sidecar_path(path))
    assert load_spec(path) == SPEC


def test_a_missing_spec_is_named(tmp_path):
    path = tmp_path / "m.mnn"
    path.touch()
    with pytest.raises(DataError, match=r"m\.mnn\.spec\.json is missing"):
        load_spec(path)
    with pytest.raises(DataError, match=r"m\.keras\.spec\.json is missing"):
        load_spec(archive(tmp_path / "m.keras"))


def test_a_wrong_spec_in_the_archive_names_file_and_key(tmp_path):
    path = archive(tmp_path / "m.keras", SPEC.to_json().replace('"ignore_index"', '"ignored"'))
    with pytest.raises(DataError, match=r"m\.keras: spec\.json: unknown key 'ignored'"):
        load_spec(path)


def test_an_archive_that_is_none_is_one_line(tmp_path):
    path = tmp_path / "m.keras"
    path.write_text("not an archive")
    with pytest.raises(DataError, match="not a Keras model file"):
        load_spec(path)


def test_nothing_heavy_is_imported_before_a_model_is_opened():
    code = (
        "import sys, deeplabv3p.inference, deeplabv3p.runtime.keras_engine\n"
        "from deeplabv3p.runtime.artifact import parse_artifact; parse_artifact('m.keras@keras:cpu')\n"
        "print(sorted({'keras', 'tensorflow', 'jax', 'h5py', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
