"""TFLite files in LiteRT: every precision against Keras, true scales, whole numbers where they were asked for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import toy_model

from deeplabv3p import pixels
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.export import tflite
from deeplabv3p.export.formats import ExportOptions
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import SPEC_KEY, load_spec
from deeplabv3p.spec import ModelSpec, sidecar_path

keras = keras_engine.import_keras()

from deeplabv3p.export.freeze import freeze  # noqa: E402

litert = pytest.importorskip("ai_edge_litert.interpreter")


class Opened:
    """A file as LiteRT opens it."""

    def __init__(self, path) -> None:
        self.interpreter = litert.Interpreter(model_path=str(path))
        self.interpreter.allocate_tensors()
        (self.input,) = self.interpreter.get_input_details()
        (self.output,) = self.interpreter.get_output_details()

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Raw output; each picture alone."""
        results = []
        for picture in batch:
            self.interpreter.set_tensor(self.input["index"], picture[None])
            self.interpreter.invoke()
            results.append(self.interpreter.get_tensor(self.output["index"])[0])
        return np.stack(results)

    def types(self) -> dict[str, set[str]]:
        """What each kind of operation puts out."""
        tensors = {item["index"]: item["dtype"].__name__ for item in self.interpreter.get_tensor_details()}
        found: dict[str, set[str]] = {}
        for item in self.interpreter._get_ops_details():
            found.setdefault(item["op_name"], set()).add(tensors[item["outputs"][0]])
        return found


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference, as a share of the largest value."""
    return float(np.abs(got - want).max() / np.abs(want).max())


def real(raw: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Quantized scores as numbers, by the spec."""
    if spec.output.scale is None:
        return raw
    return (raw.astype(np.float32) - spec.output.zero_point) * np.float32(spec.output.scale)


def quantized(batch: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Prepared floats as the tensor of a file."""
    return pixels.quantize(batch, spec.input)


@pytest.fixture(scope="module")
def files(shallow, frozen_shallow, tmp_path_factory):
    """Writes each file once: ``files("int8", io_dtype="uint8")`` → what was exported."""
    folder, made = tmp_path_factory.mktemp("tflite"), {}

    def get(precision: str, **options):
        key = (precision, *sorted(options.items()))
        if key not in made:
            path = folder / f"{len(made)}.tflite"
            made[key] = tflite.write(frozen_shallow, path, ExportOptions(precision, **options), shallow.calibration)
        return made[key]

    return get


def test_float_equals_keras(network, frozen, tmp_path, capfd):
    """And is no NaN, which is what the converter makes of the Keras model itself."""
    exported = tflite.write(frozen, tmp_path / "model.tflite", ExportOptions())
    assert capfd.readouterr() == ("", "")
    assert exported.spec == frozen.spec
    assert exported.notes == ()
    opened = Opened(exported.path)
    assert (opened.input["name"], opened.output["name"]) == ("image", "logits")
    assert opened.input["shape"].tolist() == [1, 65, 97, 3]
    # float32 through 50 layers of a random network, in another order of sums
    assert error(opened.run(network.pictures), network.logits) < 1e-3


def test_the_graph_has_an_operation_for_each_layer_and_no_more(frozen, tmp_path):
    found = set(Opened(tflite.write(frozen, tmp_path / "model.tflite", ExportOptions()).path).types())
    # Dilated depthwise convolutions too are one operation: no SpaceToBatch is left. DELEGATE: how LiteRT lists XNNPACK.
    assert found <= {
        "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "CONCATENATION", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR",
        "PAD", "DELEGATE",
    }  # fmt: skip


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_the_spec_is_inside_and_beside(files, precision):
    from deeplabv3p.runtime.tflite_file import read_facts

    exported = files(precision)
    inside = read_facts(exported.path).metadata[SPEC_KEY]
    assert ModelSpec.from_json(inside) == exported.spec == ModelSpec.load(sidecar_path(exported.path))


@pytest.mark.parametrize("precision", ["f32", "f16", "int8"])
def test_constants_lie_at_multiples_of_sixteen_bytes(files, precision):
    """Metadata is added by writing the file anew, and the generated code for that aligns nothing."""
    from tensorflow.lite.python import schema_py_generated as schema

    content = files(precision).path.read_bytes()
    model = schema.Model.GetRootAs(content, 0)
    assert content[4:8] == b"TFL3"
    places = []
    for index in range(model.BuffersLength()):
        data = model.Buffers(index).DataAsNumpy()
        if not isinstance(data, int) and len(data):
            places.append(data.__array_interface__["data"][0] - np.frombuffer(content, np.uint8).ctypes.data)
    assert len(places) > 10
    assert all(place % 16 == 0 for place in places)


@pytest.mark.parametrize(("precision", "size", "tolerance"), [("f16", 0.6, 2e-3), ("w8", 0.5, 0.05)])
def test_smaller_weights_give_nearly_the_same(shallow, files, precision, size, tolerance):
    """Weights of 11 and of 7 bits, through nine layers. Of w8, weights of less than 1024 numbers stay float."""
    exported = files(precision)
    assert exported.path.stat().st_size < size * files("f32").path.stat().st_size
    assert exported.spec == files("f32").spec
    assert 0 < error(Opened(exported.path).run(shallow.pictures), shallow.logits) < tolerance


@pytest.mark.parametrize(("io_dtype", "limits"), [("int8", (-128, 127)), ("uint8", (0, 255))])
def test_whole_numbers_go_in_and_come_out_as_the_spec_says(shallow, files, io_dtype, limits):
    exported = files("int8", io_dtype=io_dtype)
    opened, spec = Opened(exported.path), exported.spec
    assert (opened.input["dtype"], opened.output["dtype"]) == (np.dtype(io_dtype),) * 2
    for details, section in ((opened.input, spec.input), (opened.output, spec.output)):
        scale, zero_point = details["quantization"]
        assert (section.scale, section.zero_point) == (pytest.approx(scale), zero_point)
        assert limits[0] <= zero_point <= limits[1]
    assert spec.input.dtype == io_dtype
    # The calibration pictures fill the range of the input: nothing is wasted, nothing is cut.
    tensor = quantized(shallow.pictures, spec)
    assert (tensor.min(), tensor.max()) == limits
    np.testing.assert_allclose(
        (tensor.astype(np.float32) - spec.input.zero_point) * spec.input.scale, shallow.pictures, atol=spec.input.scale
    )
    # Eight bits through 50 layers of a random shallow; 0.15 was measured.
    assert error(real(opened.run(tensor), spec), shallow.logits) < 0.4
    assert (opened.run(tensor).argmax(-1) == shallow.logits.argmax(-1)).mean() > 0.8


def test_a_picture_gives_the_same_labels_by_every_type_of_input(shallow, files, photographs):
    """From the picture's bytes, through ``pixels``: what stands between file and user is the spec alone."""
    results = {}
    for io_dtype in ("float32", "uint8", "int8"):
        exported = files("int8", io_dtype=io_dtype)
        tensor, geometry = pixels.prepare(photographs[0], exported.spec.input)
        assert tensor.dtype == io_dtype
        output = Opened(exported.path).run(tensor[None])[0]
        results[io_dtype] = pixels.labels_from_output(output, geometry, exported.spec.output)
    assert len(np.unique(results["int8"])) > 1
    for one, other in itertools.combinations(results.values(), 2):
        # NumPy and LiteRT may round a half to different sides, once in some thousand values.
        assert (one == other).mean() > 0.99


def test_int8_is_int8_throughout(files):
    exported = files("int8")
    types = Opened(exported.path).types()
    assert set().union(*types.values()) == {"int8"}
    assert exported.notes[0].startswith("all ")
    assert exported.notes[0].endswith(" operations compute with whole numbers")


def test_weights_have_a_scale_for_each_channel(files):
    opened = Opened(files("int8").path)
    tensors = {item["index"]: item for item in opened.interpreter.get_tensor_details()}
    kernels = [
        tensors[item["inputs"][1]]
        for item in opened.interpreter._get_ops_details()
        if item["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D")
    ]
    assert len(kernels) == 7
    for kernel in kernels:
        assert kernel["dtype"] is np.int8
        axis = kernel["quantization_parameters"]["quantized_dimension"]
        assert len(kernel["quantization_parameters"]["scales"]) == kernel["shape"][axis] > 1


def test_sixteen_bit_activations_are_closer(shallow, files):
    exported = files("int16x8")
    opened = Opened(exported.path)
    assert "int16" in opened.types()["CONV_2D"]
    assert (exported.spec.input.dtype, exported.spec.input.scale, exported.spec.output.scale) == ("float32", None, None)
    wide = error(opened.run(shallow.pictures), shallow.logits)
    narrow = files("int8")
    eight = error(real(Opened(narrow.path).run(quantized(shallow.pictures, narrow.spec)), narrow.spec), shallow.logits)
    assert wide < 0.7 * eight


def test_layers_can_stay_float(shallow, files):
    exported = files("int8", float_layers=("logits", "dilated"))
    assert exported.notes == ("2 of 13 operations stayed float: 1 CONV_2D, 1 DEPTHWISE_CONV_2D",)
    spec = exported.spec
    got = real(Opened(exported.path).run(quantized(shallow.pictures, spec)), spec)
    assert error(got, shallow.logits) < 0.1


def test_a_layer_that_is_not_there_cannot_stay_float(frozen_toy, tmp_path):
    options = ExportOptions("int8", float_layers=("nowhere",))
    with pytest.raises(UsageError, match="no layer 'nowhere'"):
        tflite.write(frozen_toy, tmp_path / "model.tflite", options, toy_calibration)
    assert list(tmp_path.iterdir()) == []


def toy_calibration():
    rng = np.random.default_rng(0)
    return iter(rng.uniform(-1, 1, (4, 1, *toy_model.SIZE_HW, 3)).astype(np.float32))


def custom_toy(toy, body):
    """The toy with something of ``keras.ops`` behind it."""
    model, spec = toy
    return freeze(keras.Model(model.inputs[0], body(model.outputs[0])), spec, ExportOptions())


def test_an_operation_without_an_integer_form_is_named(toy, tmp_path):
    frozen = custom_toy(toy, keras.ops.cos)
    exported = tflite.write(frozen, tmp_path / "model.tflite", ExportOptions("int8"), toy_calibration)
    assert exported.notes == ("1 of 3 operations stayed float: 1 COS",)
    # Nothing can be asked of its output: the float operation is the last.
    opened = Opened(exported.path)
    assert opened.output["dtype"] == (np.float32 if exported.spec.output.scale is None else np.int8)


def test_an_operation_that_tflite_lacks_is_one_clear_line(toy, tmp_path, capfd):
    frozen = custom_toy(toy, keras.ops.erfinv)
    with pytest.raises(DataError, match="cannot be written as TFLite f32") as caught:
        tflite.write(frozen, tmp_path / "model.tflite", ExportOptions())
    assert "\n" not in str(caught.value)
    assert "rfinv" in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_labels_come_out_as_whole_numbers_of_their_own(toy, tmp_path):
    frozen = freeze(*toy, ExportOptions(output_kind="labels", output_size="input"))
    exported = tflite.write(frozen, tmp_path / "model.tflite", ExportOptions("int8"), toy_calibration)
    assert (exported.spec.output.scale, exported.spec.output.kind) == (None, "labels")
    tensor, geometry = pixels.prepare(toy_model.halves(), exported.spec.input)
    raw = Opened(exported.path).run(tensor[None])
    assert (raw.dtype, raw.shape) == (np.int32, (1, *toy_model.SIZE_HW))
    labels = pixels.labels_from_output(raw[0], geometry, exported.spec.output)
    assert (labels[:, :40] == 1).all()
    assert (labels[:, 56:] == 2).all()


@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_without_pictures_nothing_is_quantized_in_silence(frozen_toy, tmp_path, precision):
    """The converter would write a float model."""
    options = ExportOptions(precision)
    for calibration in (None, lambda: iter(())):
        with pytest.raises(UsageError, match="calibrate with"):
            tflite.write(frozen_toy, tmp_path / "model.tflite", options, calibration)
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_picture_is_reported_as_such(frozen_toy, tmp_path):
    def broken():
        yield next(toy_calibration())
        raise DataError("picture.jpg is damaged.")

    with pytest.raises(DataError, match=r"^picture.jpg is damaged"):
        tflite.write(frozen_toy, tmp_path / "model.tflite", ExportOptions("int8"), broken)


def test_a_size_that_is_open_stays_open(tmp_path):
    source = toy_model.save(tmp_path / "open.keras", any_size=True)
    model = keras_engine.load_model(source)
    frozen = freeze(model, load_spec(source), ExportOptions(dynamic=True, batch=None))
    exported = tflite.write(frozen, tmp_path / "open.tflite", ExportOptions(dynamic=True, batch=None))
    interpreter = litert.Interpreter(model_path=str(exported.path))
    (picture,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert picture["shape_signature"].tolist() == [-1, -1, -1, 3]
    for shape in ((1, 32, 48, 3), (2, 40, 36, 3)):
        batch = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        interpreter.resize_tensor_input(picture["index"], shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(picture["index"], batch)
        interpreter.invoke()
        np.testing.assert_allclose(interpreter.get_tensor(output["index"]), model(batch), atol=1e-5)
    with pytest.raises(UsageError, match="fixed size"):
        tflite.write(frozen, tmp_path / "int8.tflite", ExportOptions("int8", dynamic=True), toy_calibration)


def test_a_fixed_batch_of_several_is_calibrated_too(toy, tmp_path):
    frozen = freeze(*toy, ExportOptions(batch=2))
    exported = tflite.write(frozen, tmp_path / "model.tflite", ExportOptions("int8", batch=2), toy_calibration)
    assert Opened(exported.path).input["shape"].tolist() == [2, *toy_model.SIZE_HW, 3]
