"""Every engine on one model: the same logits, in any batch and from several threads, silent, and clear about what is
wrong."""

from __future__ import annotations

import contextlib
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import toy_model
from exported import ROUTES, spec_of

from deeplabv3p.errors import DataError, RuntimeMissingError, UsageError
from deeplabv3p.export.export import export
from deeplabv3p.export.formats import ExportOptions
from deeplabv3p.inference import predict
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import find_spec, load_spec, open_artifact
from deeplabv3p.spec import sidecar_path

EXTRAS = {"onnx": "onnx", "tflite": "tflite", "mnn": "mnn", "openvino": "openvino"}
PACKAGES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert", "mnn": "MNN", "openvino": "openvino"}
WITHOUT_TENSORFLOW = [route for route in ROUTES if route not in {"keras", "pb", "savedmodel"}]


@pytest.fixture(params=ROUTES)
def route(request):
    return request.param


def test_every_engine_gives_the_same_logits(exported, route):
    runtime = open_artifact(exported.name(route))
    output = exported.run(runtime)
    assert output.dtype == np.float32
    # Engines sum the 48 products of the first convolution in another order: 1e-6 of values up to 10.
    np.testing.assert_allclose(output, exported.logits, rtol=1e-5, atol=2e-5)
    assert runtime.name.split()[0] in {"keras", "tensorflow", "onnxruntime", "litert", "mnn", "openvino", "opencv"}
    assert runtime.name.split()[1][0].isdigit()


@pytest.mark.parametrize("count", [1, 3])
def test_any_batch_runs_on_a_file_of_batch_1(exported, route, count):
    pictures = np.concatenate([exported.pictures, exported.pictures])[:count]
    runtime = open_artifact(exported.name(route))
    first = exported.run(runtime, pictures)
    np.testing.assert_allclose(first, np.concatenate([exported.logits] * 2)[:count], rtol=1e-5, atol=2e-5)
    again = exported.run(runtime, pictures[::-1])
    np.testing.assert_allclose(again[::-1], first, rtol=1e-5, atol=1e-6)


def test_what_was_put_out_stays_when_the_engine_runs_again(exported, route):
    runtime = open_artifact(exported.name(route))
    first = exported.run(runtime, exported.pictures[:1])
    kept = first.copy()
    exported.run(runtime, exported.pictures[1:])
    np.testing.assert_array_equal(first, kept)


def test_several_may_be_open_and_run_in_threads(exported, route):
    runtimes = [open_artifact(exported.name(route)) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        outputs = list(pool.map(lambda runtime: [exported.run(runtime) for _ in range(5)], runtimes))
    for output in (output for own in outputs for output in own):
        np.testing.assert_allclose(output, exported.logits, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("route", WITHOUT_TENSORFLOW)
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_can_be_set(exported, route, threads):
    output = exported.run(open_artifact(exported.name(route), threads=threads))
    np.testing.assert_allclose(output, exported.logits, rtol=1e-5, atol=2e-5)


def test_no_threads_are_a_usage_error(exported, route):
    with pytest.raises(UsageError, match="threads is 0"):
        open_artifact(exported.name(route), threads=0)


def test_an_unknown_device_lists_the_known(exported, route):
    with pytest.raises(UsageError, match=r"no device 'abacus'. Choose (cpu|CPU)"):
        open_artifact(f"{exported.name(route)}:abacus")


@pytest.mark.parametrize(
    ("route", "device"),
    [("pb", "gpu:99"), ("savedmodel", "gpu:99"), ("onnx", "cuda:99"), ("mnn", "metal"), ("openvino", "GPU.99")],
)
def test_a_device_that_is_not_here_is_a_missing_runtime(exported, route, device):
    with pytest.raises(RuntimeMissingError, match=f"{device}|CUDA"):
        open_artifact(f"{exported.name(route)}:{device}")


@pytest.mark.parametrize("route", EXTRAS)
def test_a_missing_package_names_its_extra(exported, route, monkeypatch):
    name = exported.name(route)
    for module in [name for name in sys.modules if name.partition(".")[0] == PACKAGES[route]]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, PACKAGES[route], None)
    with pytest.raises(RuntimeMissingError, match=rf"pip install 'deeplabv3p\[{EXTRAS[route]}\]'"):
        open_artifact(name)


def test_it_is_silent(exported, route, capfd):
    runtime = open_artifact(exported.name(route))
    exported.run(runtime)
    runtime.close()
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_closed_runtime_does_not_run(exported, route):
    runtime = open_artifact(exported.name(route))
    runtime.close()
    with pytest.raises(RuntimeError, match="closed"):
        exported.run(runtime)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": "fewer"}, "has 5 classes, but its spec lists 4"),
        ({"input": {"size_hw": (32, 48)}}, "takes pictures of 64x96, but its spec says 32x48"),
        ({"input": {"size_hw": None}}, "but its spec says any size"),
        ({"input": {"dtype": "uint8"}}, "takes float32, but its spec says uint8"),
        ({"input": {"size_hw": (1 << 20, 1 << 20)}}, "1048576"),
    ],
)
@pytest.mark.parametrize("route", ["onnx", "tflite", "mnn", "openvino", "opencv", "savedmodel", "pb"])
def test_what_does_not_fit_the_spec_is_refused(exported, route, changes, message):
    spec = spec_of(exported, route)
    if "classes" in changes:
        changes = {"classes": spec.classes[:4]}
    if route == "pb" and "classes" in changes:
        message = "classes"
    with pytest.raises(DataError, match=message) as caught:
        open_artifact(exported.name(route), spec=spec.replace(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("route", ["onnx", "tflite", "openvino", "opencv", "savedmodel", "pb"])
def test_another_layout_than_the_spec_is_refused(exported, route):
    spec = spec_of(exported, route)
    other = "NHWC" if spec.input.layout == "NCHW" else "NCHW"
    with pytest.raises(DataError, match=f"layout {other}"):
        open_artifact(exported.name(route), spec=spec.replace(input={"layout": other}))


def test_mnn_hands_over_either_layout(exported):
    spec = spec_of(exported, "mnn")
    for source in ("NHWC", "NCHW"):
        for result in ("NHWC", "NCHW"):
            wanted = spec.replace(input={"layout": source}, output={"layout": result})
            output = exported.run(open_artifact(exported.name("mnn"), spec=wanted))
            np.testing.assert_allclose(output, exported.logits, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\0" * 4000, bytes(range(256)) * 40])
def test_what_is_no_model_is_one_line(exported, route, content, tmp_path, capfd):
    spec, whole = spec_of(exported, route), exported.path(ROUTES[route])
    path = tmp_path / f"broken{whole.suffix}"
    if route == "savedmodel":
        path.mkdir()
        (path / "saved_model.pb").write_bytes(content)
    else:
        path.write_bytes(content)
        path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(DataError, match="broken") as caught:
        open_artifact(f"{path}@{route.partition('-')[0]}", spec=spec)
    assert "\n" not in str(caught.value)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("kind", ["onnx", "tflite", "openvino"])
def test_the_spec_inside_is_found_without_the_engine(exported, kind, tmp_path, monkeypatch):
    path = exported.path(kind)
    monkeypatch.setitem(sys.modules, PACKAGES[kind], None)
    spec = load_spec(path)
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    assert find_spec(copy) == spec
    spec.replace(ignore_index=None).save(sidecar_path(copy))
    assert find_spec(copy) == spec.replace(ignore_index=None), "the sidecar wins"


@pytest.mark.parametrize("kind", ["pb", "mnn", "savedmodel"])
def test_without_its_sidecar_a_file_that_cannot_hold_a_spec_has_none(exported, kind, tmp_path):
    path = exported.path(kind)
    sidecar = sidecar_path(path).rename(tmp_path / "away")
    try:
        assert find_spec(path) is None
    finally:
        sidecar.rename(sidecar_path(path))


def test_openvino_computes_in_f32_unless_told_otherwise(exported):
    """Trap: its own choice on CPUs that have bf16 is bf16, where 0.3 % of the labels differ."""
    exact = open_artifact(exported.name("openvino"))
    assert exact.device == "CPU f32"
    fast = open_artifact(f"{exported.name('openvino')}:CPU:bf16")
    assert fast.device == "CPU bf16"
    # Whether the processor has bf16 or not: 8 bits of mantissa are good for 1 % of the largest logit.
    error = np.abs(exported.run(fast) - exported.logits).max()
    assert error < 0.05 * np.abs(exported.logits).max()
    assert np.abs(exported.run(exact) - exported.logits).max() < 2e-5


def test_openvino_misses_its_weights(exported, tmp_path):
    path = tmp_path / "m.xml"
    path.write_bytes(exported.path("openvino").read_bytes())
    with pytest.raises(DataError, match=r"m\.bin is missing"):
        open_artifact(path)


def test_every_extra_is_in_pyproject():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert set(EXTRAS.values()) <= set(extras)


@pytest.fixture(scope="module")
def export_tiny(tmp_path_factory):
    """Writes the tiny model with other options: (format, file name, options) → path."""
    from exported import FILES, SIZE
    from tiny_model import make_batch, make_model, make_spec

    from deeplabv3p.export.export import export
    from deeplabv3p.export.formats import ExportOptions

    def write(kind, name, size=SIZE, **options):
        for package in FILES[kind][1]:
            pytest.importorskip(package)
        path = tmp_path_factory.mktemp("tiny") / name
        quantized = options.get("precision") == "int8"
        calibration = (lambda: (make_batch(1, *SIZE, seed=seed) for seed in range(8))) if quantized else None
        model_size = (None, None) if options.get("dynamic") else size
        export(make_model(model_size), make_spec(None if options.get("dynamic") else size), path, kind,
               ExportOptions(**options), calibration)  # fmt: skip
        return path

    return write


def test_opencv_refuses_an_onnx_of_open_size(export_tiny):
    """Trap: OpenCV 5 gives wrong results on them, OpenCV 4 rejects them."""
    path = export_tiny("onnx", "open.onnx", dynamic=True)
    with pytest.raises(DataError, match="leaves its size open"):
        open_artifact(f"{path}@opencv")
    assert open_artifact(path).run(np.zeros((1, 3, 37, 50), np.float32)).shape == (1, 5, 10, 13)


def test_opencv_refuses_a_pb_that_ends_in_a_softmax(export_tiny):
    """Trap: it computes it along the wrong axis."""
    path = export_tiny("pb", "soft.pb", output_kind="probabilities")
    with pytest.raises(DataError, match="wrong axis"):
        open_artifact(f"{path}@opencv")
    logits = load_spec(path).replace(output={"kind": "logits"})
    with pytest.raises(DataError, match="wrong axis"):
        open_artifact(f"{path}@opencv", spec=logits)


@pytest.mark.parametrize("kind", ["onnx", "tflite", "mnn", "openvino", "pb", "savedmodel"])
def test_labels_from_inside_the_file_are_those_of_the_logits(exported, export_tiny, kind):
    names = {"onnx": "l.onnx", "tflite": "l.tflite", "mnn": "l.mnn", "openvino": "l.xml", "pb": "l.pb"}
    runtime = open_artifact(export_tiny(kind, names.get(kind, "l"), output_kind="labels"))
    first = runtime.spec.input.layout == "NCHW"
    pictures = np.ascontiguousarray(exported.pictures.transpose(0, 3, 1, 2)) if first else exported.pictures
    labels = runtime.run(pictures)
    labels = labels.reshape(exported.logits.shape[:3])
    ordered = np.sort(exported.logits, axis=-1)
    clear = ordered[..., -1] - ordered[..., -2] > 1e-4  # equal but for rounding may go either way
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(labels[clear], exported.logits.argmax(axis=-1)[clear])


def test_int8_stays_int8_and_its_scale_must_be_that_of_the_spec(exported, export_tiny):
    path = export_tiny("tflite", "q.tflite", precision="int8", io_dtype="int8")
    spec = load_spec(path)
    runtime = open_artifact(path)
    source, result = spec.input, spec.output
    quantized = np.clip(np.rint(exported.pictures / source.scale) + source.zero_point, -128, 127).astype(np.int8)
    output = runtime.run(quantized)
    assert output.dtype == np.int8
    logits = (output.astype(np.float32) - result.zero_point) * result.scale
    # 8 bits of weights and activations in two layers: a few steps of the output's scale.
    assert np.abs(logits - exported.logits).mean() < 4 * result.scale
    for section in ("input", "output"):
        wrong = {"scale": getattr(spec, section).scale * 1.01}
        with pytest.raises(DataError, match=f"has an {section} of scale"):
            open_artifact(path, spec=spec.replace(**{section: wrong}))
    with pytest.raises(DataError, match="its spec says float32"):
        open_artifact(path, spec=spec.replace(input={"dtype": "float32", "scale": None, "zero_point": None}))


def test_opencv_finds_the_output_of_a_pb_that_ends_in_a_bias(tmp_path):
    """OpenCV merges the bias into the convolution before it, and then knows no output of the graph's name."""
    path = toy_model.save(tmp_path / "toy.keras")
    model, spec = keras_engine.load_model(path), load_spec(path)
    export(model, spec, tmp_path / "toy.pb", "pb", ExportOptions())
    picture = toy_model.halves()
    with contextlib.closing(open_artifact(f"{tmp_path / 'toy.pb'}@opencv")) as opened:
        ours = predict(opened, picture)
    with contextlib.closing(open_artifact(path)) as opened:
        np.testing.assert_array_equal(ours, predict(opened, picture))
    assert {1, 2} <= set(np.unique(ours).tolist())
