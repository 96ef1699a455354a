"""ONNX files in ONNX Runtime and OpenCV: every precision against Keras, clean graphs, true scales."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import toy_model
from processor import saturates

from deeplabv3p import pixels
from deeplabv3p.errors import UsageError
from deeplabv3p.export.formats import ExportOptions
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import load_spec
from deeplabv3p.spec import ModelSpec, sidecar_path

keras_engine.import_keras()
import tensorflow as tf  # noqa: E402

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")
pytest.importorskip("onnxslim")

from deeplabv3p.export import onnx as writer  # noqa: E402
from deeplabv3p.export.freeze import freeze  # noqa: E402


def run(path, batch: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Float pictures [B, H, W, 3] through the file as its spec says, one by one: raw output, channels last."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    results = []
    for picture in batch:
        tensor = pixels.quantize(picture, spec.input)[None]
        if spec.input.layout == "NCHW":
            tensor = np.ascontiguousarray(tensor.transpose(0, 3, 1, 2))
        (result,) = session.run([spec.output.name], {spec.input.name: tensor})
        results.append(result[0])
    stacked = np.stack(results)
    return stacked.transpose(0, 2, 3, 1) if spec.output.layout == "NCHW" and stacked.ndim == 4 else stacked


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference, as a share of the largest value."""
    return float(np.abs(got - want).max() / np.abs(want).max())


def agreement(got: np.ndarray, want: np.ndarray) -> float:
    return float((got.argmax(-1) == want.argmax(-1)).mean())


def operations(path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def nchw(network):
    return lambda: (np.ascontiguousarray(picture.transpose(0, 3, 1, 2)) for picture in network.calibration())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("op_set", [11, 17, 18])
def test_f32_puts_out_what_keras_does(network, frozen, tmp_path, layout, op_set):
    exported = writer.write(frozen, tmp_path / "m.onnx", ExportOptions(layout=layout, op_set=op_set))
    got = run(exported.path, network.pictures, exported.spec)
    # Rounding of fifty layers in another order of sums, of which the random network makes the most; measured 4e-6.
    assert error(got, network.logits) < 1e-4
    assert agreement(got, network.logits) == 1
    assert np.abs(got[0] - got[1]).max() > 0.1 * np.abs(got).max()
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert {item.version for item in model.opset_import if not item.domain} == {op_set}


def test_a_graph_in_nchw_has_no_transpose_and_nothing_that_does_nothing(frozen, tmp_path):
    kinds = operations(writer.write(frozen, tmp_path / "m.onnx", ExportOptions()).path)
    assert not {"Transpose", "Identity", "BatchNormalization", "Tile", "Reshape", "Shape", "SpaceToDepth"} & set(kinds)
    in_nhwc = operations(writer.write(frozen, tmp_path / "n.onnx", ExportOptions(layout="NHWC")).path)
    assert in_nhwc.count("Transpose") == 2  # at the input and at the output


def test_the_spec_is_inside_and_beside_the_file(frozen, tmp_path):
    exported = writer.write(frozen, tmp_path / "m.onnx", ExportOptions())
    model = onnx.load(exported.path)
    inside = {item.key: item.value for item in model.metadata_props}
    assert ModelSpec.from_json(inside["deeplabv3p_spec"]) == exported.spec == load_spec(exported.path)
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("image", "logits")
    assert (exported.spec.input.layout, exported.spec.output.layout) == ("NCHW", "NCHW")


def test_opencv_reads_the_f32_file(network, frozen, tmp_path):
    path = writer.write(frozen, tmp_path / "m.onnx", ExportOptions()).path
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(np.ascontiguousarray(network.pictures[:1].transpose(0, 3, 1, 2)))
    got = net.forward().transpose(0, 2, 3, 1)
    assert error(got, network.logits[:1]) < 1e-4  # rounding, as above
    assert agreement(got, network.logits[:1]) == 1


def test_f16_has_half_the_size_and_float32_outside(shallow, frozen_shallow, tmp_path):
    full = writer.write(frozen_shallow, tmp_path / "f32.onnx", ExportOptions())
    half = writer.write(frozen_shallow, tmp_path / "f16.onnx", ExportOptions(precision="f16"))
    got = run(half.path, shallow.pictures, half.spec)
    assert got.dtype == np.float32
    assert half.spec == full.spec
    # A half has 11 bits: 5e-4 a rounding, over the ten layers here; measured 2e-3.
    assert 0 < error(got, shallow.logits) < 1e-2
    weights = {tensor.data_type for tensor in onnx.load(half.path).graph.initializer if len(tensor.dims) == 4}
    assert weights == {onnx.TensorProto.FLOAT16}


@saturates
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("io_dtype", ["int8", "uint8", "float32"])
def test_int8_takes_and_gives_what_its_spec_says(shallow, frozen_shallow, tmp_path, layout, io_dtype):
    options = ExportOptions(precision="int8", layout=layout, io_dtype=io_dtype)
    calibration = shallow.calibration if layout == "NHWC" else nchw(shallow)
    exported = writer.write(frozen_shallow, tmp_path / "m.onnx", options, calibration)
    raw = run(exported.path, shallow.pictures, exported.spec)
    assert raw.dtype == io_dtype
    spec = load_spec(exported.path)
    assert spec.input.dtype == io_dtype
    got = raw
    if io_dtype != "float32":
        assert abs(shallow.pictures).max() / spec.input.scale < 256  # the pictures fit, so the scale is of the pictures
        got = (raw.astype(np.float32) - spec.output.zero_point) * spec.output.scale
    # 8 bits: 1/256 of the range a rounding, ten layers; measured 3 % of the largest logit and 95 % of the labels.
    assert error(got, shallow.logits) < 0.1
    assert agreement(got, shallow.logits) > 0.9
    assert np.abs(got[0] - got[1]).max() > 0.1 * np.abs(got).max()
    assert exported.notes == ("all operations are 8-bit",)


def test_int8_weights_have_a_scale_per_channel(shallow, frozen_shallow, tmp_path):
    path = writer.write(frozen_shallow, tmp_path / "m.onnx", ExportOptions(precision="int8"), nchw(shallow)).path
    graph = onnx.load(path).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    weights = {name: shape for name, shape in shapes.items() if len(shape) == 4}
    scales = [
        shapes[node.input[1]]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and len(shapes.get(node.input[0], ())) == 4
    ]
    assert sorted(scales) == sorted((shape[0],) for shape in weights.values())
    assert {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4} == {onnx.TensorProto.INT8}


def test_a_reduced_range_is_right_without_vnni_too(shallow, frozen_shallow, tmp_path):
    options = ExportOptions(precision="int8", reduce_range=True)
    exported = writer.write(frozen_shallow, tmp_path / "m.onnx", options, nchw(shallow))
    weights = [onnx.numpy_helper.to_array(item) for item in onnx.load(exported.path).graph.initializer]
    largest = [int(np.abs(item.astype(np.int32)).max()) for item in weights if item.ndim == 4]
    assert max(largest) == 64  # two products of 64 and 255 fit into 16 bits, two of 128 and 255 do not
    raw = run(exported.path, shallow.pictures, exported.spec)
    got = pixels.dequantize(raw, exported.spec.output)
    assert error(got, shallow.logits) < 0.1  # the bound of 8 bits, as above: activations round more than weights
    assert agreement(got, shallow.logits) > 0.9


@saturates
def test_layers_asked_for_stay_float_and_the_notes_say_so(shallow, frozen_shallow, tmp_path):
    options = ExportOptions(precision="int8", float_layers=("logits", "dilated"))
    exported = writer.write(frozen_shallow, tmp_path / "m.onnx", options, nchw(shallow))
    assert exported.notes == (
        "stayed float: 2 Conv, 1 Relu",  # the ReLU is that of `dilated`
        "the output is float32: the operation there is not 8-bit",
    )
    assert exported.spec.output.scale is None
    got = run(exported.path, shallow.pictures, exported.spec)
    assert error(got, shallow.logits) < 0.1  # as above
    with pytest.raises(UsageError, match="no layer 'nowhere'"):
        writer.write(
            frozen_shallow,
            tmp_path / "n.onnx",
            ExportOptions(precision="int8", float_layers=("nowhere",)),
            nchw(shallow),
        )
    assert not (tmp_path / "n.onnx").exists()


@pytest.mark.parametrize("kind", ["probabilities", "labels"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_other_outputs_at_the_size_of_the_input(network, tmp_path, kind, layout):
    options = ExportOptions(output_kind=kind, output_size="input", layout=layout)
    frozen = freeze(network.model, network.spec, options)
    exported = writer.write(frozen, tmp_path / "m.onnx", options)
    got = run(exported.path, network.pictures, exported.spec)
    want = np.stack([np.asarray(frozen.concrete(tf.constant(picture[None])))[0] for picture in network.pictures])
    assert exported.spec.output.name == kind
    assert got.shape == want.shape
    if kind == "labels":
        # Where two scores are equal to rounding either may win.
        assert (got == want).mean() > 0.999
    else:
        assert np.abs(got - want).max() < 1e-4
        np.testing.assert_allclose(got.sum(-1), 1, atol=1e-5)  # the softmax is over the classes


def test_an_open_batch_takes_any_number_of_pictures(network, tmp_path):
    frozen = freeze(network.model, network.spec, ExportOptions(batch=None))
    exported = writer.write(frozen, tmp_path / "m.onnx", ExportOptions(batch=None))
    session = ort.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, 65, 97]
    (got,) = session.run(None, {"image": network.pictures.transpose(0, 3, 1, 2).copy()})
    assert error(got.transpose(0, 2, 3, 1), network.logits) < 1e-4


def test_an_open_size_works_where_the_network_allows_it(tmp_path):
    path = toy_model.save(tmp_path / "toy.keras", any_size=True)
    options = ExportOptions(dynamic=True)
    frozen = freeze(keras_engine.load_model(path), load_spec(path), options)
    exported = writer.write(frozen, tmp_path / "m.onnx", options)
    assert exported.spec.input.size_hw is None
    session = ort.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 3, "height", "width"]
    for size_hw in ((32, 48), (64, 20)):
        batch = np.random.default_rng(0).normal(size=(1, *size_hw, 3)).astype(np.float32)
        (got,) = session.run(None, {"image": batch.transpose(0, 3, 1, 2).copy()})
        want = np.asarray(frozen.concrete(tf.constant(batch)))
        assert error(got.transpose(0, 2, 3, 1), want) < 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"op_set": 10}, "11 is the first"),
        ({"op_set": 19}, "18 the last"),
        ({"precision": "int8", "op_set": 12}, "13 to 18"),
        ({"precision": "int8"}, "pictures to calibrate"),
    ],
)
def test_options_that_cannot_be_had_are_refused_with_the_reason(frozen_toy, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        writer.write(frozen_toy, tmp_path / "m.onnx", ExportOptions(**options))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_printed_and_nothing_is_left_behind(shallow, frozen_shallow, tmp_path, capfd):
    exported = writer.write(frozen_shallow, tmp_path / "m.onnx", ExportOptions(precision="int8"), nchw(shallow))
    assert capfd.readouterr() == ("", "")
    assert sorted(tmp_path.iterdir()) == [exported.path, sidecar_path(exported.path)]
