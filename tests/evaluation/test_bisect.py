"""A wrong weight is planted in one layer of a file, and that layer must be named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from example_spec import SPEC
from PIL import Image

from deeplabv3p.errors import UsageError
from deeplabv3p.evaluation import bisect
from deeplabv3p.evaluation.bisect import find_departure
from deeplabv3p.evaluation.departure import (
    LayerError,
    first_departure,
    hidden,
    match,
    nearest,
    relative_error,
    search,
)
from deeplabv3p.runtime.artifact import ArtifactRef, parse_artifact
from deeplabv3p.spec import ModelInfo

SIZE_HW = (32, 48)
TINY = SPEC.replace(model=ModelInfo("branches", None), input={"size_hw": SIZE_HW}, output={"stride": 2})


# What needs no engine


def test_tensors_are_found_by_the_scope_of_their_layer_the_last_one_wins():
    layers = ["Conv1", "Conv1_relu", "block_1_add", "logits"]
    tensors = [
        "Conv1/convolution:0",
        "Conv1/BiasAdd:0",
        "Conv1_relu/Relu6;Conv1/BiasAdd",
        "block_1_add/Add__17:0",
        "Conv10/convolution",
        "scores",
    ]
    assert match(layers, tensors, "scores") == {
        "Conv1": "Conv1/BiasAdd:0",
        "Conv1_relu": "Conv1_relu/Relu6;Conv1/BiasAdd",
        "block_1_add": "block_1_add/Add__17:0",
        "logits": "scores",
    }


def test_the_error_is_relative_and_knows_both_layouts():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(1, 4, 5, 6)).astype(np.float32)
    assert relative_error(reference, reference * np.float32(1.5)) == pytest.approx(0.5, rel=1e-5)
    assert relative_error(reference, reference.transpose(0, 3, 1, 2)) == 0
    assert relative_error(reference[:, :1, :1], reference[:, 0, 0]) == 0
    assert relative_error(reference, reference[:, :2]) is None
    assert relative_error(reference, np.full_like(reference, np.nan)) == float("inf")
    cube = rng.normal(size=(1, 4, 4, 4)).astype(np.float32)
    assert relative_error(cube, cube.transpose(0, 3, 1, 2)) == 0, "either order may be meant where sides are equal"


#        stem → left ──→ add → logits
#             ↘ right ↗
PARENTS = {"stem": (), "left": ("stem",), "right": ("stem",), "add": ("left", "right"), "logits": ("add",)}


def steps(errors):
    before = {name: max((errors[parent] for parent in PARENTS[name]), default=0.0) for name in errors}
    return [LayerError(name, "Conv2D", error, before[name]) for name, error in errors.items()]


def test_the_first_departure_is_where_the_inputs_were_still_right():
    errors = {"stem": 1e-6, "left": 1e-6, "right": 0.2, "add": 0.1, "logits": 0.3}
    assert first_departure(steps(errors), PARENTS, 1e-3).layer == "right"
    assert first_departure(steps(dict.fromkeys(errors, 1e-6)), PARENTS, 1e-3) is None


def test_an_error_that_nothing_after_it_shows_is_a_wrong_name_not_a_wrong_layer():
    errors = {"stem": 1.4, "left": 1e-6, "right": 1e-6, "add": 1e-6, "logits": 0.3}
    assert first_departure(steps(errors), PARENTS, 1e-3).layer == "logits"


def test_layers_that_a_file_does_not_show_belong_to_the_next_one():
    known = {"stem", "right", "logits"}
    assert sorted(nearest("logits", PARENTS, known)) == ["right", "stem"]
    assert hidden("logits", PARENTS, known) == ["add", "left"]
    assert hidden("right", PARENTS, known) == []


@pytest.mark.parametrize("culprit", list(PARENTS))
def test_halving_finds_the_culprit_on_any_branch(culprit):
    def is_wrong(name):
        return name == culprit or any(is_wrong(parent) for parent in PARENTS[name])

    asked = []

    def error(name):
        asked.append(name)
        return 1.0 if is_wrong(name) else 0.0

    assert search(list(PARENTS), PARENTS, error, 0.1) == culprit


def test_halving_asks_few_of_many_layers():
    names = [f"layer_{index}" for index in range(128)]
    parents = {name: tuple(names[max(0, index - 1) : index]) for index, name in enumerate(names)}
    asked = set()

    def error(name):
        asked.add(name)
        return float(int(name.partition("_")[2]) >= 77)

    assert search(names, parents, error, 0.5) == "layer_77"
    assert len(asked) <= 9
    assert search(names, parents, lambda name: 0.0, 0.5) is None


# With engines


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A Keras model with batch norms, two branches that meet, and a picture."""
    from deeplabv3p.runtime import keras_engine

    keras = keras_engine.import_keras()
    keras.utils.set_random_seed(3)
    layers = keras.layers
    image = keras.Input((*SIZE_HW, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_norm")(x))
    left = layers.Conv2D(8, 3, padding="same", dilation_rate=2, name="left")(x)
    left = layers.BatchNormalization(name="left_norm")(left)
    right = layers.DepthwiseConv2D(3, padding="same", name="right")(x)
    x = layers.ReLU(name="relu")(layers.Add(name="add")([left, right]))
    model = keras.Model(image, layers.Conv2D(3, 1, name="logits")(x), name="branches")
    rng = np.random.default_rng(0)
    for name in ("stem_norm", "left_norm"):
        for weight in model.get_layer(name).weights:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape).astype(np.float32))
    folder = tmp_path_factory.mktemp("bisect")
    keras_engine.save_model(model, TINY, folder / "branches.keras")
    Image.fromarray(rng.integers(0, 256, (64, 96, 3), np.uint8)).save(folder / "picture.png")
    return folder / "branches.keras"


def export(reference: Path, format_name: str, precision="f32"):
    from deeplabv3p.export.export import export as write
    from deeplabv3p.export.formats import FORMATS, ExportOptions
    from deeplabv3p.runtime.artifact import load_spec
    from deeplabv3p.runtime.keras_engine import load_model

    path = reference.parent / f"{format_name}_{precision}{FORMATS[format_name].suffix}"
    if not path.exists():
        write(load_model(reference), load_spec(reference), path, format_name, ExportOptions(precision=precision))
    return path


def find(reference: Path, artifact: ArtifactRef, precision="f32"):
    from deeplabv3p.runtime.artifact import load_spec

    own, spec = load_spec(reference), load_spec(artifact.path)
    picture = reference.parent / "picture.png"
    return find_departure(lambda message: None, parse_artifact(reference), own, artifact, spec, precision, picture)


def planted(path: Path, spoil) -> Path:
    """A copy of the file with its spec, changed."""
    copy = path.with_name(f"planted_{path.name}")
    copy.write_bytes(spoil(path.read_bytes()))
    spec = Path(f"{path}.spec.json")
    copy.with_name(f"{copy.name}.spec.json").write_bytes(spec.read_bytes())
    return copy


def spoil_onnx(layer):
    def spoil(data):
        import onnx
        from onnx import numpy_helper

        model = onnx.load_from_string(data)
        (node,) = [
            item for item in model.graph.node if item.op_type == "Conv" and item.output[0].split("/")[0] == layer
        ]
        (weight,) = [item for item in model.graph.initializer if item.name == node.input[1]]
        values = numpy_helper.to_array(weight).copy()
        values.flat[0] += 0.5
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        return model.SerializeToString()

    return spoil


def spoil_tflite(layer):
    def spoil(data):
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema

        model = schema.ModelT.InitFromPackedBuf(data, 0)
        graph = model.subgraphs[0]
        convolutions = {
            operator
            for operator in graph.operators
            if len(operator.inputs) == 3 and graph.tensors[operator.outputs[0]].name.decode().split("/")[0] == layer
        }
        weight = graph.tensors[convolutions.pop().inputs[1]]
        values = np.frombuffer(bytes(model.buffers[weight.buffer].data), np.float32).copy()
        values[0] += 0.5
        model.buffers[weight.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    return spoil


@pytest.mark.parametrize("layer", ["left", "logits"])
def test_a_wrong_weight_in_an_onnx_file_is_named(reference, layer):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    path = export(reference, "onnx")
    sound = find(reference, parse_artifact(path))
    assert sound.first is None, sound
    assert "none is over the tolerance" in sound.remark
    # Every one but stem: its batch norm is folded and the activation fused or not, by the converter's choice.
    assert {"left", "right", "add", "logits"} <= {step.layer for step in sound.steps}
    found = find(reference, parse_artifact(planted(path, spoil_onnx(layer))))
    assert (found.first.layer, found.first.kind) == (layer, "Conv2D")
    assert found.first.before < 1e-5 < found.tolerance < found.first.error
    assert found.picture == "picture.png"


def test_a_wrong_weight_in_a_tflite_file_is_named(reference):
    pytest.importorskip("ai_edge_litert")
    path = export(reference, "tflite")
    assert find(reference, parse_artifact(path)).first is None
    found = find(reference, parse_artifact(planted(path, spoil_tflite("right"))))
    assert (found.first.layer, found.first.kind) == ("right", "DepthwiseConv2D")


def test_a_wrong_weight_in_a_keras_file_is_named_behind_its_batch_norm(reference):
    """Folded, the statistics of a batch norm are the convolution's."""
    from deeplabv3p.runtime import keras_engine
    from deeplabv3p.runtime.artifact import load_spec

    model = keras_engine.load_model(reference)
    norm = model.get_layer("left_norm")
    norm.moving_mean.assign(norm.moving_mean + 0.5)
    copy = reference.with_name("copy.keras")
    keras_engine.save_model(model, load_spec(reference).replace(provenance={"weights_sha256": ""}), copy)
    found = find(reference, parse_artifact(copy))
    assert (found.first.layer, found.first.before) == ("left", 0)


def test_a_frozen_graph_is_read_inside(reference):
    found = find(reference, parse_artifact(export(reference, "pb")))
    assert found.first is None
    assert {"stem", "stem_relu", "left", "right", "add", "relu", "logits"} <= {step.layer for step in found.steps}


def test_an_engine_that_shows_nothing_is_searched_by_cuts(reference, monkeypatch):
    """The engine is sound, so cuts agree; then one that scales every cut behind ``add`` finds ``add``."""
    path = export(reference, "savedmodel")
    artifact = ArtifactRef(path, "savedmodel", None)
    sound = find(reference, artifact)
    assert sound.first is None
    assert "cuts agree" in sound.remark
    measure = bisect.Cuts._measure

    def off(self, name):
        return measure(self, name) + (0.3 if name in ("add", "relu", "logits") else 0)

    monkeypatch.setattr(bisect.Cuts, "_measure", off)
    found = find(reference, artifact)
    assert (found.first.layer, found.first.kind) == ("add", "Add")
    assert found.first.before < 1e-5
    assert len(found.steps) < 7, "not every layer was cut"


def test_only_keras_references_have_layers(reference):
    other = ArtifactRef(reference, "onnx", None)
    with pytest.raises(UsageError, match="Keras reference"):
        find_departure(lambda message: None, other, TINY, other, TINY, "f32", reference.parent / "picture.png")
