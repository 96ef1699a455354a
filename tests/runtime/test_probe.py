"""Files that crash an engine: found out in another process, once, and told in a line."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from exported import spec_of
from tiny_model import make_spec

from deeplabv3p import processes
from deeplabv3p.errors import DataError
from deeplabv3p.runtime import artifact, probe
from deeplabv3p.runtime.artifact import open_artifact


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv(probe.CACHE_VARIABLE, str(folder))
    monkeypatch.delenv(probe.TRUST_VARIABLE, raising=False)
    return folder


@pytest.fixture
def started(monkeypatch):
    """The commands of the processes that are started."""
    commands = []
    run = processes.run_module

    def recording(module, arguments, **options):
        commands.append([module, *arguments])
        return run(module, arguments, **options)

    monkeypatch.setattr(processes, "run_module", recording)
    return commands


def test_a_new_file_is_probed_once(exported, started, cache):
    name = exported.name("tflite")
    for _ in range(3):
        exported.run(open_artifact(name))
    assert len(started) == 1
    digest = hashlib.sha256(exported.path("tflite").read_bytes()).hexdigest()
    assert [path.name for path in (cache / "probed").iterdir()] == [f"{digest}-tflite"]


def test_the_same_content_under_another_name_is_known(exported, started, tmp_path):
    open_artifact(exported.name("tflite"))
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(exported.path("tflite").read_bytes())
    open_artifact(copy, spec=spec_of(exported, "tflite"))
    assert len(started) == 1


def test_what_was_written_here_is_known(exported, started):
    probe.remember(exported.path("mnn"), "mnn")
    open_artifact(exported.name("mnn"))
    assert started == []


def test_a_machine_may_trust_its_files(exported, started, monkeypatch):
    monkeypatch.setenv(probe.TRUST_VARIABLE, "1")
    open_artifact(exported.name("mnn"))
    assert started == []


def test_a_cache_that_cannot_be_written_does_not_stop_anything(exported, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(probe.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    exported.run(open_artifact(exported.name("tflite")))


def test_the_folder_of_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv(probe.CACHE_VARIABLE)
    monkeypatch.setattr(os, "name", "posix")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert probe._cache_folder() == tmp_path / "deeplabv3p"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert probe._cache_folder() == tmp_path / "home/.cache/deeplabv3p"


def test_the_hash_of_a_model_in_parts_covers_all(tmp_path):
    (tmp_path / "m.xml").write_text("net")
    alone = probe.content_sha256(tmp_path / "m.xml")
    (tmp_path / "m.bin").write_bytes(b"1")
    with_weights = probe.content_sha256(tmp_path / "m.xml")
    (tmp_path / "m.bin").write_bytes(b"2")
    assert len({alone, with_weights, probe.content_sha256(tmp_path / "m.xml")}) == 3
    assert probe.content_sha256(tmp_path) != alone


# What the engine does, how long it gets, and what is said.
CRASHES = {
    "dies": ("import os; os.abort()", 60, "makes the tflite runtime crash"),
    "hangs": ("import time; time.sleep(60)", 5, "did not open and run it within 5 s"),
    "takes all memory": ("x = bytearray(40 << 30)", 60, "run out of memory"),
}


@pytest.mark.parametrize("way", CRASHES)
def test_what_kills_the_engine_is_one_line(exported, monkeypatch, tmp_path, way, cache):
    """The engine is replaced by one that misbehaves, in the process of the probe alone."""
    code, seconds, message = CRASHES[way]
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\nfrom deeplabv3p.runtime import tflite_engine\n"
        f"def open_model(*args, **options):\n    {code}\n"
        "tflite_engine.open_model = open_model\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with pytest.raises(DataError, match=rf"m\.tflite is refused: .*{message}") as caught:
        probe.check(exported.path("tflite"), "tflite", spec_of(exported, "tflite"), time_limit_s=seconds)
    assert "\n" not in str(caught.value)
    assert not list(cache.rglob("*-tflite")), "it is tried again next time"


def test_a_file_that_is_reported_well_is_left_to_this_process(tmp_path, started, capfd):
    path = tmp_path / "m.mnn"
    path.write_bytes(b"no model")
    with pytest.raises(DataError, match=r"MNN cannot open .*m\.mnn"):
        open_artifact(path, spec=make_spec((64, 96)))
    assert len(started) == 1
    assert capfd.readouterr().err == ""


def test_a_raw_frozen_graph_does_not_crash_opencv_here(tmp_path, started):
    """Trap: OpenCV 5 dies on a graph whose constants are not folded and whose batch norms are as Keras has them."""
    from deeplabv3p.runtime.keras_engine import import_keras

    keras = import_keras()
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    inputs = keras.Input((64, 96, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(x) + x
    model = keras.Model(inputs, keras.layers.Conv2D(5, 4, strides=4, padding="same")(x))
    function = tf.function(lambda image: tf.identity(model(image, training=False), name="logits"))
    signature = tf.TensorSpec([1, 64, 96, 3], tf.float32, "image")
    frozen = convert_variables_to_constants_v2(function.get_concrete_function(signature))
    path = tmp_path / "raw.pb"
    path.write_bytes(frozen.graph.as_graph_def().SerializeToString())
    spec = make_spec((64, 96))
    expected = open_artifact(f"{path}@pb", spec=spec).run(probe.noise(spec))
    # A later OpenCV may read it; then it must read it well.
    with contextlib.suppress(DataError):
        output = open_artifact(f"{path}@opencv", spec=spec).run(probe.noise(spec))
        np.testing.assert_allclose(output, expected, atol=1e-4)
    assert len(started) == 1


def test_the_probe_imports_no_other_engine(exported):
    code = (
        "import sys\nfrom deeplabv3p.runtime import probe\n"
        "import os; os._exit = lambda code: print(sorted({'keras', 'tensorflow', 'jax'} & set(sys.modules)))\n"
        "sys.argv = ['probe', sys.argv[1], 'tflite']\nprobe.main()"
    )
    spec = spec_of(exported, "tflite").to_json()
    command = [sys.executable, "-c", code, str(exported.path("tflite"))]
    assert subprocess.run(command, input=spec, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_only_engines_that_crash_are_probed(exported, started):
    for route in ("onnx", "openvino"):
        open_artifact(exported.name(route))
    assert started == []
    assert frozenset({"mnn", "opencv", "tflite"}) == artifact.CRASHING
