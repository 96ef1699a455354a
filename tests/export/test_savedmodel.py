"""SavedModels: the same function behind a signature, nothing but constants and stock operations inside."""

from __future__ import annotations

import numpy as np
import pytest
import toy_model

from deeplabv3p.errors import DataError
from deeplabv3p.export import savedmodel
from deeplabv3p.export.formats import ExportOptions
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import load_spec
from deeplabv3p.spec import ModelSpec, sidecar_path

keras_engine.import_keras()

import tensorflow as tf  # noqa: E402

from deeplabv3p.export.freeze import freeze  # noqa: E402


def open_signature(path):
    return tf.saved_model.load(str(path)).signatures["serving_default"]


def test_the_folder_computes_what_the_model_computes(network, frozen, tmp_path, capfd):
    exported = savedmodel.write(frozen, tmp_path / "model_savedmodel", ExportOptions())
    assert capfd.readouterr() == ("", "")
    assert exported.spec == frozen.spec == ModelSpec.load(sidecar_path(exported.path))
    assert ModelSpec.load(exported.path / savedmodel.EXTRA_SPEC) == exported.spec
    signature = open_signature(exported.path)
    (picture,) = [spec for name, spec in signature.structured_input_signature[1].items() if name == "image"]
    assert picture.shape == (1, 65, 97, 3)
    got = np.concatenate([signature(image=tf.constant(p[None]))["logits"] for p in network.pictures])
    # float32 through 50 layers of a random network; 6e-5 was measured
    assert np.abs(got - network.logits).max() < 5e-4 * np.abs(network.logits).max()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model_savedmodel", "model_savedmodel.spec.json"]


def test_opening_it_runs_no_code_of_the_models(frozen_toy, tmp_path):
    """No Python function, no Keras object, no variable: constants and stock operations."""
    from tensorflow.core.protobuf import saved_model_pb2

    path = savedmodel.write(frozen_toy, tmp_path / "toy", ExportOptions()).path
    content = (path / "saved_model.pb").read_bytes()
    meta = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0]
    kinds = {node.op for function in meta.graph_def.library.function for node in function.node_def}
    assert not {kind for kind in kinds if kind.startswith(("Py", "Eager", "Var", "ReadVar"))}
    assert {"Conv2D", "AvgPool"} <= kinds
    assert not (path / "keras_metadata.pb").exists()
    assert {item.WhichOneof("kind") for item in meta.object_graph_def.nodes} <= {
        "user_object", "function", "bare_concrete_function", "captured_tensor", "constant",
    }  # fmt: skip
    assert {item.user_object.identifier for item in meta.object_graph_def.nodes} <= {
        "",
        "_generic_user_object",
        "signature_map",
    }


def test_batch_and_size_stay_open_where_they_are_asked_to(tmp_path):
    source = toy_model.save(tmp_path / "open.keras", any_size=True)
    model = keras_engine.load_model(source)
    frozen = freeze(model, load_spec(source), ExportOptions(dynamic=True, batch=None))
    signature = open_signature(savedmodel.write(frozen, tmp_path / "open", ExportOptions()).path)
    for shape in ((1, 32, 48, 3), (3, 40, 36, 3)):
        batch = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        np.testing.assert_allclose(signature(image=tf.constant(batch))["logits"], model(batch), atol=1e-6)


def test_a_savedmodel_is_replaced_as_a_whole_and_nothing_else_ever(frozen_toy, tmp_path):
    path = savedmodel.write(frozen_toy, tmp_path / "toy", ExportOptions()).path
    (path / "stale").touch()
    savedmodel.write(frozen_toy, path, ExportOptions())
    assert not (path / "stale").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("keep")
    with pytest.raises(DataError, match="is no SavedModel"):
        savedmodel.write(frozen_toy, tmp_path / "mine", ExportOptions())
    assert (tmp_path / "mine" / "file").read_text() == "keep"
    assert not sidecar_path(tmp_path / "mine").exists()


def test_a_failure_leaves_the_old_folder_and_nothing_half_written(frozen_toy, tmp_path, monkeypatch):
    path = savedmodel.write(frozen_toy, tmp_path / "toy", ExportOptions()).path
    before = sorted(tmp_path.rglob("*"))

    def fail(*_args, **_named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(DataError, match="No space left"):
        savedmodel.write(frozen_toy, path, ExportOptions())
    assert sorted(tmp_path.rglob("*")) == before
