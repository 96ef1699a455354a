"""OpenVINO files in OpenVINO: every precision against Keras, clean graphs, accuracy control, nothing reported."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import offline
import pytest
import toy_model
from processor import saturates

from deeplabv3p import pixels
from deeplabv3p.errors import UsageError
from deeplabv3p.export.formats import ExportOptions
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import load_spec
from deeplabv3p.runtime.openvino_engine import embedded_text
from deeplabv3p.runtime.openvino_import import unreported
from deeplabv3p.spec import ModelSpec, sidecar_path

keras_engine.import_keras()
import tensorflow as tf  # noqa: E402

with unreported():
    ov = pytest.importorskip("openvino")

from deeplabv3p.export import openvino as writer  # noqa: E402
from deeplabv3p.export.freeze import freeze  # noqa: E402

ROOT = Path(__file__).parents[2]


def compiled(path):
    return ov.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def run(path, batch: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Pictures [B, H, W, 3] one by one in float32 arithmetic, numbers made whole and real as the spec says; channels
    last."""
    model = compiled(path)
    fed = batch if spec.input.layout == "NHWC" else np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
    fed = pixels.quantize(fed, spec.input)
    got = np.concatenate([np.array(model(picture[None])[spec.output.name]) for picture in fed])
    got = got if spec.output.kind == "labels" else pixels.dequantize(got, spec.output)
    return got.transpose(0, 2, 3, 1) if spec.output.layout == "NCHW" and got.ndim == 4 else got


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference, as a share of the largest value."""
    return float(np.abs(got - want).max() / np.abs(want).max())


def agreement(got: np.ndarray, want: np.ndarray) -> float:
    return float((got.argmax(-1) == want.argmax(-1)).mean())


def kinds(path) -> set[str]:
    return {node.get_type_name() for node in ov.Core().read_model(str(path)).get_ops()}


def nchw(network):
    return lambda: (np.ascontiguousarray(picture.transpose(0, 3, 1, 2)) for picture in network.calibration())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_f32_puts_out_what_keras_does(network, frozen, tmp_path, layout):
    exported = writer.write(frozen, tmp_path / "m.xml", ExportOptions(layout=layout))
    got = run(exported.path, network.pictures, exported.spec)
    # Rounding of fifty layers in another order of sums, of which the random network makes the most.
    assert error(got, network.logits) < 1e-4
    assert agreement(got, network.logits) == 1
    assert np.abs(got[0] - got[1]).max() > 0.1 * np.abs(got).max()
    assert exported.spec.input.layout == layout
    # Dilated convolutions are one operation each, and sizes are numbers.
    assert not {"SpaceToBatch", "BatchToSpace", "ShapeOf", "BatchNormInference"} & kinds(exported.path)


def test_the_spec_is_inside_and_beside_the_file(frozen, tmp_path):
    exported = writer.write(frozen, tmp_path / "m.xml", ExportOptions())
    inside = embedded_text(exported.path, "deeplabv3p_spec")
    assert inside is not None
    assert ModelSpec.from_json(inside) == exported.spec == load_spec(exported.path)
    files = {exported.path, exported.path.with_suffix(".bin"), sidecar_path(exported.path)}
    assert set(tmp_path.iterdir()) == files


def test_f16_has_half_the_size(shallow, frozen_shallow, tmp_path):
    full = writer.write(frozen_shallow, tmp_path / "f32.xml", ExportOptions())
    half = writer.write(frozen_shallow, tmp_path / "f16.xml", ExportOptions(precision="f16"))
    sizes = [item.path.with_suffix(".bin").stat().st_size for item in (full, half)]
    assert sizes[1] < 0.6 * sizes[0]
    # Half weights have 11 bits: 5e-4 a rounding.
    assert 0 < error(run(half.path, shallow.pictures, half.spec), shallow.logits) < 1e-2
    assert error(run(full.path, shallow.pictures, full.spec), shallow.logits) < 1e-5  # f32 is not compressed


@saturates
@pytest.mark.parametrize(("io_dtype", "layout"), [("int8", "NCHW"), ("uint8", "NHWC"), ("float32", "NCHW")])
def test_int8_takes_and_gives_what_its_spec_says(shallow, frozen_shallow, tmp_path, layout, io_dtype):
    pytest.importorskip("nncf")
    calibration = shallow.calibration if layout == "NHWC" else nchw(shallow)
    options = ExportOptions(precision="int8", layout=layout, io_dtype=io_dtype)
    exported = writer.write(frozen_shallow, tmp_path / "m.xml", options, calibration)
    spec = load_spec(exported.path)
    picture, output = compiled(exported.path).inputs[0], compiled(exported.path).outputs[0]
    assert (picture.any_name, output.any_name) == (spec.input.name, spec.output.name)
    assert spec.input.dtype == io_dtype
    assert {np.dtype(port.element_type.to_dtype()) for port in (picture, output)} == {np.dtype(io_dtype)}
    got = run(exported.path, shallow.pictures, spec)
    if io_dtype != "float32":
        assert abs(shallow.pictures).max() / spec.input.scale < 256  # the pictures fit, so the scale is of the pictures
        # The pictures that it was calibrated with need the whole range of the output.
        assert np.ptp(got) / spec.output.scale >= 254
    # 8 bits: 1/256 of the range a rounding, ten layers.
    assert 1e-4 < error(got, shallow.logits) < 0.15
    assert agreement(got, shallow.logits) > 0.85
    assert np.abs(got[0] - got[1]).max() > 0.1 * np.abs(got).max()
    assert exported.notes == ("stayed float: 1 Interpolate",)  # of the pooled branch
    model = ov.Core().read_model(str(exported.path))
    stored = {node.get_element_type().get_type_name() for node in model.get_ops() if len(node.shape) >= 4}
    assert "i8" in stored or "u8" in stored


def test_a_reduced_range_is_right_without_vnni_too(shallow, frozen_shallow, tmp_path):
    pytest.importorskip("nncf")
    options = ExportOptions(precision="int8", io_dtype="float32", reduce_range=True)
    exported = writer.write(frozen_shallow, tmp_path / "m.xml", options, nchw(shallow))
    nodes = ov.Core().read_model(str(exported.path)).get_ops()
    weights = [node.data for node in nodes if node.get_type_name() == "Constant" and len(node.shape) == 4]
    largest = [int(np.abs(item.astype(np.int32)).max()) for item in weights if item.dtype == np.int8]
    # Two products of 64 and 255 fit into 16 bits, two of 128 and 255 do not.
    assert max(largest) == 64
    got = run(exported.path, shallow.pictures, exported.spec)
    assert 1e-4 < error(got, shallow.logits) < 0.15  # the bounds of 8 bits, as above
    assert agreement(got, shallow.logits) > 0.85


def test_whole_numbers_outside_change_nothing_but_the_rounding_of_the_output(shallow, frozen_shallow, tmp_path):
    """For pictures that are whole numbers already; and every convolution computes with the numbers it had."""
    pytest.importorskip("nncf")
    outputs, kinds = {}, {}
    whole = None
    for io_dtype in ("int8", "uint8", "float32"):
        options = ExportOptions(precision="int8", io_dtype=io_dtype)
        exported = writer.write(frozen_shallow, tmp_path / f"{io_dtype}.xml", options, nchw(shallow))
        whole = whole or exported.spec
        grid = pixels.quantize(shallow.pictures, whole.input).astype(np.float32)
        pictures = (grid - whole.input.zero_point) * np.float32(whole.input.scale)
        outputs[io_dtype] = run(exported.path, pictures, exported.spec)
        kinds[io_dtype] = {
            node.get_friendly_name(): node.get_rt_info()["runtimePrecision"].astype(str)
            for node in compiled(exported.path).get_runtime_model().get_ops()
            if node.get_rt_info()["layerType"].astype(str) == "Convolution"
        }
    assert kinds["int8"] == kinds["uint8"] == kinds["float32"]
    for io_dtype in ("int8", "uint8"):
        # Half a step, and the float32 rounding of numbers of a few hundred steps.
        assert np.abs(outputs[io_dtype] - outputs["float32"]).max() < 0.501 * whole.output.scale


@pytest.mark.parametrize(("kind", "batch"), [("labels", 2), ("probabilities", None)])
def test_int8_of_other_outputs_and_batches(shallow, tmp_path, kind, batch):
    pytest.importorskip("nncf")
    options = ExportOptions(precision="int8", output_kind=kind, batch=batch)
    frozen = freeze(shallow.model, shallow.spec, options)
    exported = writer.write(frozen, tmp_path / "m.xml", options, nchw(shallow))
    picture, output = compiled(exported.path).inputs[0], compiled(exported.path).outputs[0]
    assert picture.partial_shape[0] == ov.Dimension(batch or -1)
    assert picture.element_type == ov.Type.i8
    if kind == "labels":
        assert output.element_type != ov.Type.i8, "labels are numbers already, and there may be more than 127"
        assert exported.spec.output.scale is None
    else:
        assert output.element_type == ov.Type.i8
        assert exported.spec.output.scale <= 1 / 255
        assert "1 Softmax" in exported.notes[0]


def test_activations_have_one_scale_a_tensor(shallow, frozen_shallow, tmp_path):
    """A scale a channel went along the height where a resize is computed in NHWC, and cost 6.7 points of mIoU."""
    pytest.importorskip("nncf")
    exported = writer.write(frozen_shallow, tmp_path / "m.xml", ExportOptions(precision="int8"), nchw(shallow))
    for node in ov.Core().read_model(str(exported.path)).get_ops():
        if node.get_type_name() == "FakeQuantize":
            assert np.prod(list(node.inputs()[1].get_shape())) == 1


def test_layers_asked_for_stay_float_and_the_notes_say_so(shallow, frozen_shallow, tmp_path):
    pytest.importorskip("nncf")
    options = ExportOptions(precision="int8", float_layers=("logits", "dilated", "stem"))
    exported = writer.write(frozen_shallow, tmp_path / "m.xml", options, nchw(shallow))
    assert exported.notes == (
        "stayed float: 1 Concat, 2 Convolution, 1 GroupConvolution, 1 Interpolate",
        "the input is float32: the operation there is not 8-bit",
        "the output is float32: the operation there is not 8-bit",
    )
    assert exported.spec == frozen_shallow.spec.replace(input={"layout": "NCHW"}, output={"layout": "NCHW"})
    with pytest.raises(UsageError, match="no layer 'nowhere'"):
        writer.write(
            frozen_shallow,
            tmp_path / "n.xml",
            ExportOptions(precision="int8", float_layers=("nowhere",)),
            nchw(shallow),
        )
    assert not (tmp_path / "n.xml").exists()


def test_accuracy_control_is_given_both_models_and_keeps_the_score(shallow, frozen_shallow, tmp_path):
    pytest.importorskip("nncf")
    seen: list[float] = []
    pictures = np.ascontiguousarray(shallow.pictures.transpose(0, 3, 1, 2))

    def validate(forward) -> float:
        got = np.concatenate([forward(picture[None]) for picture in pictures]).transpose(0, 2, 3, 1)
        seen.append(agreement(got, shallow.logits))
        return seen[-1]

    exported = writer.write(
        frozen_shallow,
        tmp_path / "m.xml",
        ExportOptions(precision="int8"),
        nchw(shallow),
        validate=validate,
        max_drop=0.002,
    )
    assert max(seen) > 0.999  # the float model, whatever arithmetic the engine chose
    assert min(seen) < 0.998  # the 8-bit model lost more than it may, so that there was something to restore
    got = run(exported.path, shallow.pictures, exported.spec)
    assert agreement(got, shallow.logits) >= max(seen) - 0.002 - 0.001
    assert "stayed float" in exported.notes[0]


def test_accuracy_control_leaves_input_and_output_float_where_whole_numbers_cost_too_much(
    shallow, frozen_shallow, tmp_path
):
    pytest.importorskip("nncf")
    seen: list[int] = []

    def validate(forward) -> float:
        seen.append(len(np.unique(forward(next(nchw(shallow)())))))
        return 0.5 if seen[-1] <= 256 else 1.0  # an output of 8 bits has no more values

    options = ExportOptions(precision="int8")
    written = writer.write(frozen_shallow, tmp_path / "m.xml", options, nchw(shallow), validate=validate)
    assert "input and output are float32: as int8 they cost too much" in written.notes
    assert written.spec.input.dtype == "float32"
    assert seen[-1] <= 256 < min(seen[:-1])


def test_an_open_size_works_where_the_network_allows_it(tmp_path):
    path = toy_model.save(tmp_path / "toy.keras", any_size=True)
    options = ExportOptions(dynamic=True)
    frozen = freeze(keras_engine.load_model(path), load_spec(path), options)
    exported = writer.write(frozen, tmp_path / "m.xml", options)
    for size_hw in ((32, 48), (64, 20)):
        batch = np.random.default_rng(0).normal(size=(1, *size_hw, 3)).astype(np.float32)
        got = run(exported.path, batch, exported.spec)
        assert error(got, np.asarray(frozen.concrete(tf.constant(batch)))) < 1e-5


def test_an_open_batch_takes_any_number_of_pictures(network, tmp_path):
    frozen = freeze(network.model, network.spec, ExportOptions(batch=None))
    exported = writer.write(frozen, tmp_path / "m.xml", ExportOptions(batch=None))
    got = np.array(compiled(exported.path)(network.pictures.transpose(0, 3, 1, 2).copy())[0]).transpose(0, 2, 3, 1)
    assert error(got, network.logits) < 1e-4


def test_labels(network, tmp_path):
    options = ExportOptions(output_kind="labels", output_size="input")
    frozen = freeze(network.model, network.spec, options)
    exported = writer.write(frozen, tmp_path / "m.xml", options)
    got = run(exported.path, network.pictures, exported.spec)
    want = np.stack([np.asarray(frozen.concrete(tf.constant(picture[None])))[0] for picture in network.pictures])
    assert got.shape == want.shape
    assert (got == want).mean() > 0.999  # where two scores are equal to rounding either may win


def test_nothing_is_reported_and_nothing_is_printed(tmp_path):
    """In a process without pytest, where NNCF reports nothing, and with a home of its own, which says neither yes nor
    no to being watched."""
    pytest.importorskip("nncf")
    (tmp_path / "hook").mkdir()
    path, log = offline.install(tmp_path / "hook")
    script = """
        import sys
        from pathlib import Path
        import numpy as np
        import toy_model
        from deeplabv3p.export import openvino
        from deeplabv3p.export.formats import ExportOptions
        from deeplabv3p.export.freeze import freeze
        from deeplabv3p.runtime.artifact import load_spec
        from deeplabv3p.runtime.keras_engine import load_model
        folder = Path(sys.argv[1])
        path = toy_model.save(folder / "toy.keras")
        frozen = freeze(load_model(path), load_spec(path), ExportOptions())
        pictures = np.random.default_rng(0).normal(size=(3, 1, 3, 32, 48)).astype(np.float32)
        for precision in ("f32", "int8"):
            options = ExportOptions(precision=precision)
            openvino.write(frozen, folder / f"{precision}.xml", options, lambda: iter(pictures))
    """
    paths = os.pathsep.join([path, str(ROOT), str(ROOT / "tests")])
    left_out = {"CI", "TF_BUILD", "JENKINS_URL", "NNCF_CI", "NNCF_DEV"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {"PYTHONPATH": paths, "HOME": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "int8.bin").exists()
    assert [line for line in offline.tries(log) if not line.startswith("subprocess")] == []
    assert not (tmp_path / "intel").exists()  # where its telemetry keeps the client's number
    assert done.stdout == ""


def test_what_cannot_be_had_is_refused(frozen_toy, tmp_path):
    with pytest.raises(UsageError, match="pictures to calibrate"):
        writer.write(frozen_toy, tmp_path / "m.xml", ExportOptions(precision="int8"))
    with pytest.raises(UsageError, match=r"ends in \.xml"):
        writer.write(frozen_toy, tmp_path / "m.bin", ExportOptions())
    assert list(tmp_path.iterdir()) == []
