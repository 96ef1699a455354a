"""The keras runtime: what is saved is what runs, on which device, in which threads."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from tiny_model import CLASSES, SUFFIXES, keras, make_batch, make_model, make_spec

from deeplabv3p.errors import DataError, RuntimeMissingError, UsageError
from deeplabv3p.runtime.artifact import ArtifactRef, load_spec, open_artifact
from deeplabv3p.runtime.keras_engine import KerasRuntime, load_model, save_model, weights_sha256
from deeplabv3p.spec import ModelSpec, sidecar_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_saved_model_runs_as_the_model_did(model, saved, suffix):
    runtime = open_artifact(str(saved[suffix]))
    batch = make_batch(2, 37, 50)
    output = runtime.run(batch)
    assert isinstance(output, np.ndarray)
    assert output.dtype == np.float32
    assert output.shape == (2, 10, 13, CLASSES)
    np.testing.assert_allclose(output, np.asarray(model(batch, training=False)), rtol=1e-5, atol=1e-5)
    assert runtime.name == "keras " + ".".join(keras.__version__.split(".")[:2])
    assert runtime.device.startswith(keras.backend.backend() + " ")
    assert runtime.spec == load_spec(saved[suffix])


def test_running_changes_no_weight_and_drops_nothing_out(model):
    runtime = KerasRuntime(model, make_spec())
    before = [weight.numpy().copy() for weight in model.weights]
    batch = make_batch(3, 16, 16)
    np.testing.assert_array_equal(runtime.run(batch), runtime.run(batch))
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_a_changed_weight_is_seen_by_the_next_run():
    model = make_model()
    runtime = KerasRuntime(model, make_spec())
    batch = make_batch(1, 16, 16)
    before = runtime.run(batch)
    bias = model.get_layer("logits").bias
    bias.assign(bias.numpy() + 1)
    np.testing.assert_allclose(runtime.run(batch), before + 1, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX compiles for every shape")
def test_it_is_traced_once_for_all_sizes_and_batches():
    calls = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            calls.append(x.shape)
            return x

    model = make_model(extra=Counting())
    calls.clear()
    runtime = KerasRuntime(model, make_spec())
    for shape in ((1, 16, 16), (2, 16, 16), (1, 33, 47), (5, 64, 8)):
        runtime.run(make_batch(*shape))
    assert len(calls) == 1


def test_of_several_outputs_the_first_is_taken():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 4, strides=4)(inputs)
    first, second = keras.layers.Conv2D(CLASSES, 1)(x), keras.layers.Conv2D(7, 1)(x)
    model = keras.Model(inputs, [first, second])
    batch = make_batch(1, 16, 16)
    output = KerasRuntime(model, make_spec((16, 16))).run(batch)
    np.testing.assert_allclose(output, np.asarray(model(batch)[0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_operations_on_tensors_are_opened(tmp_path, suffix):
    """As in a decoder, which brings features to the size of others. Keras alone does not find them again in .h5."""
    inputs = keras.Input((16, 24, 3))
    small = keras.layers.Conv2D(CLASSES, 4, strides=4)(inputs)
    model = keras.Model(inputs, keras.ops.image.resize(keras.ops.relu6(small), (16, 24)))
    spec = make_spec((16, 24), stride=1)
    save_model(model, spec, tmp_path / f"m{suffix}")
    batch = make_batch(2, 16, 24)
    output = open_artifact(str(tmp_path / f"m{suffix}")).run(batch)
    np.testing.assert_allclose(output, np.asarray(model(batch, training=False)), rtol=1e-5, atol=1e-5)


def test_a_closed_runtime_does_not_run(model):
    runtime = KerasRuntime(model, make_spec())
    runtime.close()
    with pytest.raises(RuntimeError, match="closed"):
        runtime.run(make_batch(1, 16, 16))


# --- saving


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_spec_is_written_beside_and_inside(model, tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    spec = save_model(model, make_spec(), path)
    assert names(tmp_path) == [f"m{suffix}", f"m{suffix}.spec.json"]
    assert spec == make_spec().replace(provenance={"weights_sha256": weights_sha256(model)})
    assert ModelSpec.load(sidecar_path(path)) == spec
    if suffix == ".keras":
        sidecar_path(path).unlink()
        assert load_spec(path) == spec


def test_a_hash_that_is_given_stays(model, tmp_path):
    spec = make_spec().replace(provenance={"weights_sha256": "ab" * 32})
    assert save_model(model, spec, tmp_path / "m.keras") == spec


def test_the_hash_follows_the_weights_alone(model, saved):
    expected = hashlib.sha256()
    for weight in sorted(model.weights, key=lambda weight: weight.path):
        values = weight.numpy()
        expected.update(f"{weight.path}\0float32{list(values.shape)}\0".encode() + values.astype("<f4").tobytes())
    assert weights_sha256(model) == expected.hexdigest()
    for path in saved.values():
        assert weights_sha256(load_model(path)) == expected.hexdigest()
    assert weights_sha256(make_model((32, 48))) == expected.hexdigest(), "another input size, the same weights"
    assert weights_sha256(make_model(seed=1)) != expected.hexdigest()


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on the size of files")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_the_old_model(tmp_path, suffix):
    import resource

    path = tmp_path / f"m{suffix}"
    old = save_model(make_model(), make_spec(), path)
    large = make_model(extra=keras.layers.Conv2D(3000, 3, padding="same"), seed=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(DataError, match="cannot write") as caught:
            save_model(large, make_spec(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == [f"m{suffix}", f"m{suffix}.spec.json"]
    assert load_spec(path) == old
    assert weights_sha256(load_model(path)) == old.provenance.weights_sha256


def test_other_names_cannot_be_saved(model, tmp_path):
    with pytest.raises(UsageError, match=r"\.keras or \.h5"):
        save_model(model, make_spec(), tmp_path / "m.onnx")


def test_saving_makes_no_noise(model, tmp_path, capfd):
    save_model(model, make_spec(), tmp_path / "m.h5")
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


# --- model and spec must fit


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (make_spec((32, 48), classes=4), "has 5 classes, but its spec lists 4"),
        (make_spec((32, 32)), "takes pictures of 32x48, but its spec says 32x32"),
        (make_spec(None), "takes pictures of 32x48, but its spec says any size"),
        (make_spec((32, 48), stride=8), "puts out 8x12 for pictures of 32x48, but its spec says stride 8"),
        (make_spec((32, 48)).replace(input={"layout": "NCHW"}), "channels"),
    ],
)
def test_what_does_not_fit_the_spec_is_refused(tmp_path, spec, message):
    model = make_model((32, 48))
    with pytest.raises(DataError, match=message):
        save_model(model, spec, tmp_path / "m.keras")
    assert names(tmp_path) == []
    save_model(model, make_spec((32, 48)), tmp_path / "m.keras")
    with pytest.raises(DataError, match=rf"m\.keras .*{message}"):
        open_artifact(str(tmp_path / "m.keras"), spec=spec)


def test_a_model_of_any_size_takes_the_size_of_the_spec(model):
    assert KerasRuntime(model, make_spec((65, 97))).run(make_batch(1, 65, 97)).shape == (1, 17, 25, CLASSES)


def test_what_is_no_segmentation_is_refused():
    inputs = keras.Input((16, 16, 3))
    pooled = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    with pytest.raises(DataError, match="has 2 axes"):
        KerasRuntime(pooled, make_spec((16, 16)))
    vector = keras.Input((16,))
    with pytest.raises(DataError, match="batch of pictures"):
        KerasRuntime(keras.Model(vector, keras.layers.Dense(3)(vector)), make_spec())
    unbuilt = keras.Sequential([keras.layers.Conv2D(3, 1)])
    with pytest.raises(DataError, match="batch of pictures"):
        KerasRuntime(unbuilt, make_spec())


def test_the_cpu_is_a_device(model):
    runtime = KerasRuntime(model, make_spec(), "cpu")
    assert runtime.device == f"{keras.backend.backend()} cpu"
    assert runtime.run(make_batch(1, 8, 8)).shape == (1, 2, 2, CLASSES)


@pytest.mark.parametrize("device", ["npu", "gpu:", "gpu:x", "cpu:0:1", ""])
def test_an_unknown_device_is_a_usage_error(saved, device):
    with pytest.raises(UsageError, match="cpu, gpu or gpu:N"):
        open_artifact(ArtifactRef(saved[".keras"], "keras", device))


def test_a_device_that_is_not_there_is_a_missing_runtime(saved):
    with pytest.raises(RuntimeMissingError, match="no device 'gpu:99'"):
        open_artifact(f"{saved['.keras']}@keras:gpu:99")


def test_a_wrong_number_of_threads_is_a_usage_error(saved):
    with pytest.raises(UsageError, match="threads is 0"):
        open_artifact(str(saved[".keras"]), threads=0)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow fixes its threads when it starts")
def test_threads_cannot_change_once_tensorflow_runs(saved):
    KerasRuntime(make_model(), make_spec()).run(make_batch(1, 8, 8))
    with pytest.raises(UsageError, match="new process"):
        open_artifact(str(saved[".keras"]), threads=7)


IN_A_PROCESS = """
    import sys
    import numpy as np
    from deeplabv3p.runtime.artifact import open_artifact
    threads = int(sys.argv[2]) or None
    runtime = open_artifact(sys.argv[1], threads=threads)
    np.save(sys.argv[3], runtime.run(np.load(sys.argv[4])))
    if threads:
        import tensorflow as tf
        assert tf.config.threading.get_intra_op_parallelism_threads() == threads
        open_artifact(sys.argv[1], threads=threads)
    for _ in range(8):  # many models in one process
        open_artifact(sys.argv[1]).run(np.load(sys.argv[4]))
    print(runtime.device)
"""


@pytest.mark.parametrize(("backend", "threads"), [("tensorflow", 1), ("jax", 0)])
def test_in_a_fresh_process_it_is_silent_and_puts_out_the_same(model, saved, tmp_path, backend, threads):
    if backend == "jax":
        pytest.importorskip("jax")
    batch = make_batch(2, 37, 50)
    np.save(tmp_path / "batch.npy", batch)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_CPP")}
    files = [str(tmp_path / "out.npy"), str(tmp_path / "batch.npy")]
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(IN_A_PROCESS), str(saved[".keras"]), str(threads), *files],
        env={**environment, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert result.stderr == ""
    assert result.returncode == 0
    assert result.stdout.startswith(backend)
    # Another backend sums the 48 products of the first convolution in another order.
    expected = np.asarray(model(batch, training=False))
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-4, atol=1e-4)
