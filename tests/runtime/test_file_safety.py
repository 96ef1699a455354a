"""Files that want more than arithmetic: opening a model file opens no other file and runs no code from it."""

from __future__ import annotations

import numpy as np
import pytest
from exported import spec_of
from tiny_model import make_spec

from deeplabv3p.errors import DataError
from deeplabv3p.runtime import onnx_file, tensorflow_graph, tflite_file
from deeplabv3p.runtime.artifact import open_artifact


@pytest.fixture(scope="module")
def tf():
    from deeplabv3p.runtime.tensorflow_common import import_tensorflow

    return import_tensorflow("pb")


def reads_a_file(tf, x):
    with tf.control_dependencies([tf.io.read_file("secret.txt")]):
        return tf.identity(x)


def writes_a_file(tf, x):
    with tf.control_dependencies([tf.io.write_file("written.txt", "gotcha")]):
        return tf.identity(x)


def runs_python(tf, x):
    return tf.ensure_shape(tf.py_function(lambda value: value, [x], tf.float32), x.shape)


def calls_a_function_that_writes(tf, x):
    return tf.function(lambda value: writes_a_file(tf, value), autograph=False)(x)


WISHES = [reads_a_file, writes_a_file, runs_python, calls_a_function_that_writes]


@pytest.mark.parametrize("wish", WISHES)
def test_a_graph_with_other_operations_is_refused(tf, wish, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [1, 16, 16, 3], "image")
        tf.identity(wish(tf, x), "logits")
    path = tmp_path / "m.pb"
    path.write_bytes(graph.as_graph_def(add_shapes=True).SerializeToString())
    with pytest.raises(DataError, match=r"is refused: its graph holds (ReadFile|WriteFile|EagerPyFunc)") as caught:
        open_artifact(path, spec=make_spec((16, 16), stride=1, classes=3))
    assert "\n" not in str(caught.value)
    assert [item.name for item in tmp_path.iterdir()] == ["m.pb"]


@pytest.mark.parametrize("wish", WISHES)
def test_a_saved_model_with_other_operations_is_refused(tf, wish, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = tf.Module()
    signature = tf.TensorSpec([1, 16, 16, 3], tf.float32, "image")
    function = tf.function(lambda image: {"logits": wish(tf, image)}, [signature], autograph=False)
    tf.saved_model.save(module, "m", signatures=function)
    with pytest.raises(DataError, match="is refused"):
        open_artifact(tmp_path / "m", spec=make_spec((16, 16), stride=1, classes=3))
    assert not (tmp_path / "written.txt").exists()


def test_a_saved_model_that_saves_its_variables_elsewhere_is_refused(tf, tmp_path, monkeypatch):
    """What TensorFlow needs for saving is in every saved model; a signature that leads to it is another matter."""
    monkeypatch.chdir(tmp_path)
    signature = tf.TensorSpec([1, 16, 16, 3], tf.float32, "image")

    def save(image):
        with tf.control_dependencies(
            [tf.raw_ops.SaveV2(prefix="stolen", tensor_names=["a"], shape_and_slices=[""], tensors=[image])]
        ):
            return {"logits": tf.identity(image)}

    tf.saved_model.save(tf.Module(), "m", signatures=tf.function(save, [signature], autograph=False))
    with pytest.raises(DataError, match="could read or write files"):
        open_artifact(tmp_path / "m", spec=make_spec((16, 16), stride=1, classes=3))
    assert not list(tmp_path.glob("stolen*"))


def test_a_saved_model_with_variables_opens(tf, tmp_path):
    """Variables bring the operations that save and restore them, which nothing runs."""
    module = tf.Module()
    module.weights = tf.Variable(np.ones((1, 1, 3, 3), np.float32) / 3)
    signature = tf.TensorSpec([None, 16, 16, 3], tf.float32, "image")
    function = tf.function(lambda image: {"logits": tf.nn.conv2d(image, module.weights, 1, "SAME")}, [signature])
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=function)
    assert b"SaveV2" in (tmp_path / "m/saved_model.pb").read_bytes()
    runtime = open_artifact(tmp_path / "m", spec=make_spec((16, 16), stride=1, classes=3))
    batch = np.arange(2 * 16 * 16 * 3, dtype=np.float32).reshape(2, 16, 16, 3)
    expected = np.repeat(batch.mean(axis=-1, keepdims=True), 3, axis=-1)
    np.testing.assert_allclose(runtime.run(batch), expected, rtol=1e-6)


def test_keras_layers_of_our_networks_freeze_into_allowed_operations(exported):
    tensorflow_graph.read_graph(exported.path("pb"))
    tensorflow_graph.check_saved_model(exported.path("savedmodel"))


def changed_onnx(exported, tmp_path, change):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported.path("onnx"))
    change(onnx, model)
    path = tmp_path / "inner" / "m.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("runtime", ["onnx", "opencv", "openvino"])
def test_an_operator_of_somebody_else_is_refused(exported, tmp_path, runtime):
    def change(onnx, model):
        model.graph.node[0].domain = "com.example"
        model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))

    path = changed_onnx(exported, tmp_path, change)
    with pytest.raises(DataError, match=r"needs the operator com\.example\."):
        open_artifact(f"{path}@{runtime}", spec=spec_of(exported, "onnx"))


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "a/../../weights.bin", "C:\\weights.bin", ""])
@pytest.mark.parametrize("runtime", ["onnx", "opencv", "openvino"])
def test_weights_outside_of_the_folder_are_refused(exported, tmp_path, location, runtime):
    def change(onnx, model):
        tensor = model.graph.initializer[0]
        (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    path = changed_onnx(exported, tmp_path, change)
    with pytest.raises(DataError, match="outside of its folder"):
        open_artifact(f"{path}@{runtime}", spec=spec_of(exported, "onnx"))


def test_weights_beside_the_file_are_read(exported, tmp_path):
    def change(onnx, model):
        tensor = model.graph.initializer[0]
        (tmp_path / "inner").mkdir(exist_ok=True)
        (tmp_path / "inner" / "weights.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
        (tmp_path / "inner").rename(tmp_path / "kept")

    path = changed_onnx(exported, tmp_path, change)
    (tmp_path / "kept" / "weights.bin").rename(path.parent / "weights.bin")
    output = exported.run(open_artifact(path, spec=spec_of(exported, "onnx")))
    np.testing.assert_allclose(output, exported.logits, rtol=1e-5, atol=2e-5)


def test_an_operator_in_a_branch_is_seen(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    value = helper.make_tensor_value_info("y", kind, [1])
    evil = helper.make_graph([helper.make_node("Run", [], ["y"], domain="com.example")], "evil", [], [value])
    node = helper.make_node("If", ["c"], ["y"], then_branch=evil, else_branch=evil)
    condition = helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(helper.make_graph([node], "g", [condition], [value])).SerializeToString())
    with pytest.raises(DataError, match=r"com\.example\.Run"):
        onnx_file.read_facts(path)


def test_custom_tflite_operations_are_named(tf, tmp_path):
    """Also those that need TensorFlow itself (Flex)."""
    signature = tf.TensorSpec([1, 16, 16, 3], tf.float32, "image")
    function = tf.function(
        lambda image: tf.raw_ops.AdjustHue(images=image, delta=0.1), [signature]
    ).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    path = tmp_path / "m.tflite"
    path.write_bytes(converter.convert())
    with pytest.raises(DataError, match=r"not LiteRT's own: FlexAdjustHue"):
        tflite_file.read_facts(path)
    with pytest.raises(DataError, match="FlexAdjustHue"):
        open_artifact(path, spec=make_spec((16, 16), stride=1, classes=3))
