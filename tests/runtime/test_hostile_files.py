"""Files that would be waited for, gone through for minutes, or taken for something else: one line each, at once."""

from __future__ import annotations

import json
import os
import time

import pytest
from example_spec import SPEC

from deeplabv3p.errors import DataError
from deeplabv3p.runtime import onnx_file, tensorflow_graph, wire
from deeplabv3p.runtime.artifact import find_spec, inspect_artifact, load_spec, open_artifact, parse_artifact
from deeplabv3p.weights.load import read_source

CLASSIFIER = SPEC.replace(task="classification")

# --- another task


def test_a_spec_of_another_task_is_refused_wherever_it_lies(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"")
    CLASSIFIER.save(tmp_path / "m.tflite.spec.json")
    for read in (find_spec, load_spec, open_artifact):
        with pytest.raises(DataError, match=r"m\.tflite\.spec\.json: the model classifies whole pictures"):
            read(path)
    with pytest.raises(DataError, match="classifies whole pictures"):
        open_artifact(path, spec=CLASSIFIER)


# --- what is no file


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.onnx", "m.tflite", "m.mnn", "m.pb", "m.xml", "m.bin@keras"])
def test_a_pipe_is_no_model(tmp_path, name):
    path = tmp_path / name.partition("@")[0]
    os.mkfifo(path)
    reference = parse_artifact(f"{path}@keras") if "@" in name else parse_artifact(path)
    for look in (lambda: open_artifact(reference, spec=SPEC), lambda: inspect_artifact(reference)):
        with pytest.raises(DataError, match="it is a pipe, not a file"):
            look()


def test_a_pipe_in_a_saved_model_or_beside_a_file_is_none(tmp_path):
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    os.mkfifo(folder / "variables" / "variables.index")
    (tmp_path / "m.xml").write_text("<net/>")
    os.mkfifo(tmp_path / "m.bin")
    os.mkfifo(tmp_path / "n.onnx.spec.json")
    (tmp_path / "n.onnx").write_bytes(b"")
    for path in (folder, tmp_path / "m.xml"):
        with pytest.raises(DataError, match="it is a pipe, not a file"):
            open_artifact(path, spec=SPEC)
    with pytest.raises(DataError, match="it is a pipe, not a file"):
        open_artifact(tmp_path / "n.onnx")


def test_a_pipe_is_no_weights(tmp_path):
    for name in ("w.h5", "w.npz", "w.pth", "w.pb"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError):
            read_source(tmp_path / name)


# --- millions of parts


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


ADD = _message(2, b"Add")
GRAPHS = {
    "empty operations": b"\x0a\0" * 5_000_000,
    "operations of no kind": _message(1, _message(1, b"x")) * 1_000_000,
    "many operations": _message(1, ADD) * 1_000_000,
    "operations of many parts": _message(1, ADD + b"\x2a\0" * 60) * 100_000,
    "one operation of many parts": _message(1, ADD + b"\x1a\0" * 5_000_000),
    "many functions": _message(2, b"\x0a\0" * 5_000_000),
}


@pytest.mark.parametrize("what", GRAPHS)
def test_a_graph_of_millions_of_parts_is_refused_in_time(tmp_path, what):
    path = tmp_path / "m.pb"
    path.write_bytes(GRAPHS[what])
    started = time.process_time()
    with pytest.raises(DataError, match=r"m\.pb is not a frozen TensorFlow graph"):
        tensorflow_graph.read_graph(path)
    # Seconds on an idle machine; without a bound some of these take minutes.
    assert time.process_time() - started < 20


@pytest.mark.parametrize("inner", [1, 5, 11, 12, 13])
def test_an_onnx_file_of_millions_of_parts_is_refused_in_time(tmp_path, inner):
    path = tmp_path / "m.onnx"
    path.write_bytes(_message(7, (_varint(inner << 3 | 2) + b"\0") * 3_000_000))
    started = time.process_time()
    with pytest.raises(DataError, match=r"m\.onnx is not an ONNX file"):
        onnx_file.read_facts(path)
    assert time.process_time() - started < 20


def test_the_bound_is_of_one_file():
    message = memoryview(b"\x0a\0" * 1000)
    with wire.limited():
        assert len(list(wire.fields(message))) == 1000
    for _ in range(10):
        list(wire.fields(message))


# --- numbers and texts in a spec beside a model


@pytest.mark.parametrize("raw", ["1" + "0" * 400, "9" * 5000, "NaN", '"\\ud800"', "[" * 5000 + "]" * 5000])
def test_a_spec_of_anything_beside_a_model_is_one_line(tmp_path, raw):
    (tmp_path / "m.tflite").write_bytes(b"")
    for key in ("mean", "classes"):
        data = SPEC.to_dict()
        if key == "mean":
            data["input"]["mean"][0] = "HERE"
        else:
            data["classes"][0]["name"] = "HERE"
        text = json.dumps(data).replace('"HERE"', raw)
        (tmp_path / "m.tflite.spec.json").write_text(text)
        with pytest.raises(DataError) as caught:
            load_spec(tmp_path / "m.tflite")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
