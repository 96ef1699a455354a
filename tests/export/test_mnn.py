"""MNN files in MNN: every precision against Keras, NHWC in and out, and a converter that stays offline."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json

import numpy as np
import offline
import pytest

from deeplabv3p import pixels
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.export import mnn_quantize
from deeplabv3p.export.formats import ExportOptions
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import load_spec, open_artifact
from deeplabv3p.spec import sidecar_path

keras_engine.import_keras()
import tensorflow as tf  # noqa: E402

MNN = pytest.importorskip("MNN")

from deeplabv3p.export import mnn  # noqa: E402
from deeplabv3p.export.freeze import freeze  # noqa: E402


def run(path, batch: np.ndarray) -> np.ndarray:
    """Pictures [B, H, W, 3] one by one, in float32 arithmetic: what comes out, as it comes out."""
    interpreter = MNN.Interpreter(str(path))
    session = interpreter.createSession({"precision": "high", "numThread": 1})
    source, result = interpreter.getSessionInput(session), interpreter.getSessionOutput(session)
    nhwc = MNN.Tensor_DimensionType_Tensorflow
    assert (source.getDimensionType(), result.getDimensionType()) == (nhwc, nhwc)
    kind = MNN.Halide_Type_Int if result.getDataType() == MNN.Halide_Type_Int else MNN.Halide_Type_Float
    shape, results = tuple(result.getShape()), []
    for picture in batch:
        source.copyFrom(MNN.Tensor(source.getShape(), MNN.Halide_Type_Float, picture[None].copy(), nhwc))
        interpreter.runSession(session)
        dtype = np.int32 if kind == MNN.Halide_Type_Int else np.float32
        host = MNN.Tensor(shape, kind, np.zeros(shape, dtype), nhwc)
        result.copyToHostTensor(host)
        results.append(np.array(host.getData(), dtype).reshape(shape)[0])
    return np.stack(results)


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference, as a share of the largest value."""
    return float(np.abs(got - want).max() / np.abs(want).max())


def agreement(got: np.ndarray, want: np.ndarray) -> float:
    return float((got.argmax(-1) == want.argmax(-1)).mean())


def test_f32_puts_out_what_keras_does_in_nhwc(network, frozen, tmp_path):
    exported = mnn.write(frozen, tmp_path / "m.mnn", ExportOptions(), None)
    got = run(exported.path, network.pictures)
    # Rounding of fifty layers in another order of sums (Winograd among them).
    assert error(got, network.logits) < 1e-3
    assert agreement(got, network.logits) > 0.999
    assert np.abs(got[0] - got[1]).max() > 0.1 * np.abs(got).max()
    assert load_spec(exported.path) == exported.spec == frozen.spec
    assert sorted(tmp_path.iterdir()) == [exported.path, sidecar_path(exported.path)]


# Half weights have 11 bits, 5e-4 a rounding; 8-bit weights 1/254 of a channel's largest, over ten layers.
@pytest.mark.parametrize(("precision", "bound", "size"), [("f16", 1e-2, 0.7), ("w8", 0.1, 0.6)])
def test_smaller_weights_put_out_nearly_the_same(shallow, frozen_shallow, tmp_path, precision, bound, size):
    full = mnn.write(frozen_shallow, tmp_path / "f32.mnn", ExportOptions(), None)
    small = mnn.write(frozen_shallow, tmp_path / "small.mnn", ExportOptions(precision=precision), None)
    assert 0 < error(run(small.path, shallow.pictures), shallow.logits) < bound
    assert small.path.stat().st_size < size * full.path.stat().st_size


def test_int8_puts_out_nearly_the_same_and_says_what_stayed_float(shallow, frozen_shallow, tmp_path):
    options = ExportOptions(precision="int8", io_dtype="float32")
    exported = mnn.write(frozen_shallow, tmp_path / "m.mnn", options, shallow.calibration)
    got = run(exported.path, shallow.pictures)
    # 8 bits: 1/254 of the range a rounding, ten layers, the ranges are those of three pictures; measured 0.22.
    assert 1e-4 < error(got, shallow.logits) < 0.3
    assert agreement(got, shallow.logits) > 0.85
    assert np.abs(got[0] - got[1]).max() > 0.1 * np.abs(got).max()
    assert exported.notes[0] == "stayed float: 1 Concat, 1 Eltwise, 2 Interp, 1 Padding, 1 Reduction"
    assert exported.spec.input.dtype == "float32"
    assert sorted(tmp_path.iterdir()) == [exported.path, sidecar_path(exported.path)]


@pytest.mark.parametrize("io_dtype", ["int8", "uint8"])
def test_whole_numbers_outside_are_uint8_and_change_nothing(shallow, frozen_shallow, tmp_path, io_dtype):
    files = {
        kind: mnn.write(
            frozen_shallow,
            tmp_path / f"{kind}.mnn",
            ExportOptions(precision="int8", io_dtype=kind),
            shallow.calibration,
        )
        for kind in (io_dtype, "float32")
    }
    spec = files[io_dtype].spec
    assert load_spec(files[io_dtype].path) == spec
    assert spec.input.dtype == "uint8"
    assert any("are uint8" in note for note in files[io_dtype].notes) == (io_dtype == "int8")
    assert not any("float32" in note for note in files[io_dtype].notes)
    whole = pixels.quantize(shallow.pictures, spec.input)
    with contextlib.closing(open_artifact(files[io_dtype].path)) as runtime:
        output = runtime.run(whole)
    assert output.dtype == np.uint8
    assert np.ptp(output) > 128  # the scale is of the output
    # Whole numbers are on the grid that the quantizer chose, so that nothing is rounded but the float32 products.
    real = (whole.astype(np.float32) - spec.input.zero_point) * np.float32(spec.input.scale)
    wanted = run(files["float32"].path, real)
    assert np.abs(pixels.dequantize(output, spec.output) - wanted).max() < 0.02 * spec.output.scale


def test_int8_sides_that_are_not_8_bit_stay_float32(shallow, tmp_path):
    options = ExportOptions(precision="int8", output_kind="probabilities")
    frozen = freeze(shallow.model, shallow.spec, options)
    exported = mnn.write(frozen, tmp_path / "m.mnn", options, shallow.calibration)
    assert exported.spec.input.dtype == "uint8"
    assert exported.spec.output.scale is None
    assert "the output is float32: the operation there is not 8-bit" in exported.notes
    with contextlib.closing(open_artifact(exported.path)) as runtime:
        output = runtime.run(pixels.quantize(shallow.pictures[:1], exported.spec.input))
    np.testing.assert_allclose(output.sum(axis=3), 1, rtol=1e-3)


def test_the_widest_picture_sets_the_range_wherever_it_stands(shallow, frozen_shallow, tmp_path):
    """MNN 3.6.1 misreads all but the first batch: with a picture a batch the second one gives NaN or chance."""
    scales = []
    for place in range(3):
        values = [0.5, 0.5, 0.5]
        values[place] = 1.0
        pictures = [np.full_like(shallow.pictures[:1], value) for value in values]
        path = mnn.write(
            frozen_shallow, tmp_path / "m.mnn", ExportOptions(precision="int8"), lambda p=pictures: iter(p)
        ).path
        mnn._run_tool(
            "mnnconvert", ["-f", "MNN", "--modelFile", path.name, "--JsonFile", "m.json"], tmp_path, "m.json", path
        )
        model = json.loads((tmp_path / "m.json").read_text())
        first = next(item for item in model["oplists"] if item["type"] == "ConvertTensor")["outputIndexes"][0]
        scales.append(
            next(item for item in model["extraTensorDescribe"] if item["index"] == first)["quantInfo"]["scale"]
        )
    np.testing.assert_allclose(scales, 1 / 254, rtol=0.01)  # 0 to 1 in 255 levels


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_calibration_pictures_are_the_tensors(shallow, tmp_path, color):
    import cv2

    spec = shallow.spec.replace(input={"color": color, "mean": (10.0, 20.0, 30.0), "std": (40.0, 50.0, 60.0)})
    mean, std = np.float32(spec.input.mean), np.float32(spec.input.std)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 65, 97, 3), np.uint8)
    tensors = ((pixels - mean) / std).astype(np.float32)
    config = mnn_quantize.write_pictures(lambda: iter(tensors[:, None]), spec, tmp_path / "p")
    read = np.stack([cv2.imread(str(path)) for path in sorted((tmp_path / "p").iterdir())])
    if color == "RGB":  # what the quantizer does: turn the file to the order of `format`
        read = read[..., ::-1]
    assert config["format"] == color
    np.testing.assert_array_equal(read, pixels)
    np.testing.assert_allclose((read - np.float32(config["mean"])) * np.float32(config["normal"]), tensors, rtol=1e-5)
    assert (config["batch_size"], config["used_image_num"], config["width"], config["height"]) == (2, 2, 97, 65)


def test_no_more_pictures_are_taken_than_fit_into_memory(shallow, tmp_path, monkeypatch):
    import cv2

    monkeypatch.setattr(mnn_quantize, "_MOST_PIXELS", 5 * 16 * 24)
    levels = [np.full((1, 16, 24, 3), level, np.float32) for level in range(9)]
    spec = shallow.spec.replace(input={"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)})
    config = mnn_quantize.write_pictures(lambda: iter(levels), spec, tmp_path / "p")
    read = [int(cv2.imread(str(path))[0, 0, 0]) for path in sorted((tmp_path / "p").iterdir())]
    assert read == [0, 2, 4, 6, 8]
    assert (config["batch_size"], config["used_image_num"]) == (5, 5)


def test_labels(network, tmp_path):
    options = ExportOptions(output_kind="labels", output_size="input")
    frozen = freeze(network.model, network.spec, options)
    exported = mnn.write(frozen, tmp_path / "m.mnn", options, None)
    got = run(exported.path, network.pictures)
    want = np.stack([np.asarray(frozen.concrete(tf.constant(picture[None])))[0] for picture in network.pictures])
    assert got.shape == want.shape
    assert (got == want).mean() > 0.999  # where two scores are equal to rounding either may win


def test_nothing_is_installed_and_no_network_is_tried(shallow, frozen_shallow, tmp_path, monkeypatch):
    (tmp_path / "hook").mkdir()
    path, log = offline.install(tmp_path / "hook")
    monkeypatch.setenv("PYTHONPATH", path)
    before = sorted((item.name, item.version) for item in importlib.metadata.distributions())
    mnn.write(frozen_shallow, tmp_path / "m.mnn", ExportOptions(precision="int8"), shallow.calibration)
    assert offline.tries(log) == []
    assert sorted((item.name, item.version) for item in importlib.metadata.distributions()) == before


def test_a_refusal_is_one_line_with_the_converters_reason_and_leaves_nothing(tmp_path):
    (tmp_path / "frozen.pb").write_bytes(b"no graph")
    with pytest.raises(DataError) as caught:
        mnn._run_tool(
            "mnnconvert",
            ["-f", "TF", "--modelFile", "frozen.pb", "--MNNModel", "model.mnn"],
            tmp_path,
            "model.mnn",
            tmp_path / "out.mnn",
        )
    assert "\n" not in str(caught.value)
    assert "check your file format" in str(caught.value)


def test_what_mnn_cannot_do_is_refused(frozen_toy, network, tmp_path):
    with pytest.raises(UsageError, match="pictures to calibrate"):
        mnn.write(frozen_toy, tmp_path / "m.mnn", ExportOptions(precision="int8"), None)
    many = freeze(network.model, network.spec, ExportOptions(batch=2))
    with pytest.raises(UsageError, match="batch 1"):
        mnn.write(many, tmp_path / "m.mnn", ExportOptions(precision="int8", batch=2), network.calibration)
    assert list(tmp_path.iterdir()) == []
