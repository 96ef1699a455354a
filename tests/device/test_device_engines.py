"""The C++ engines against Python's: the same file and input give the same output, bit by bit, and a file that does not
fit its spec the same message. Both sides use the same libraries where the C++ build took those of this environment."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplabv3p.errors import DataError, DeeplabError
from deeplabv3p.runtime.artifact import CRASHING, ArtifactRef, open_unprobed
from deeplabv3p.spec import ModelSpec

sys.path.append(str(Path(__file__).parents[1] / "runtime"))  # their model, and their way of damaging files

BUILD = Path(os.environ.get("DEEPLAB_DEVICE_BUILD", Path(__file__).parents[2] / "inference/cpp/build/host"))
PROBE = BUILD / "deeplab_engine_probe"
pytestmark = pytest.mark.skipif(
    not PROBE.exists(), reason=f"{PROBE} is not built (DEEPLAB_DEVICE_BUILD names a build folder)"
)

SIZE = (64, 96)
# Name → engine, format and options of the export.
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "tflite": ("tflite", "tflite", {}),
    "tflite-int8": ("tflite", "tflite", {"precision": "int8"}),
    "tflite-uint8": ("tflite", "tflite", {"precision": "int8", "io_dtype": "uint8"}),
    "tflite-labels": ("tflite", "tflite", {"output_kind": "labels"}),
    "tflite-dynamic": ("tflite", "tflite", {"dynamic": True}),
    "mnn": ("mnn", "mnn", {}),
    "mnn-int8": ("mnn", "mnn", {"precision": "int8"}),
    "onnx": ("onnx", "onnx", {}),
    "onnx-nhwc": ("onnx", "onnx", {"layout": "NHWC"}),
    "onnx-int8": ("onnx", "onnx", {"precision": "int8"}),
    "onnx-labels": ("onnx", "onnx", {"output_kind": "labels"}),
    "onnx-dynamic": ("onnx", "onnx", {"dynamic": True, "batch": None}),
    "openvino": ("openvino", "openvino", {}),
    "openvino-nhwc": ("openvino", "openvino", {"layout": "NHWC"}),
    "openvino-int8": ("openvino", "openvino", {"precision": "int8"}),
    "openvino-labels": ("openvino", "openvino", {"output_kind": "labels"}),
    "openvino-onnx": ("openvino", "onnx", {}),
}
# Damaged files of each; about 300 together.
MUTATIONS = {"tflite": 100, "mnn": 90, "onnx": 90, "openvino": 30, "openvino-onnx": 15}
TIME_LIMIT_S = 10.0
MEMORY_LIMIT = 8 << 30  # bytes of address space


@dataclass(frozen=True)
class Model:
    """A model file with its spec, and the engine that opens it."""

    engine: str
    path: Path
    spec: ModelSpec

    def picture(self, size_hw: tuple[int, int] | None = None) -> np.ndarray:
        """One input: squares of 12 pixels with a random colour each."""
        height, width = size_hw or self.spec.input.size_hw or SIZE
        squares = np.random.default_rng(0).integers(0, 256, (1, -(-height // 12), -(-width // 12), 3))
        values = squares.repeat(12, axis=1).repeat(12, axis=2)[:, :height, :width]
        if self.spec.input.layout == "NCHW":
            values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        real = self.spec.input.dtype.startswith("float")
        return (values / 32 - 4 if real else values).astype(self.spec.input.dtype)


@dataclass(frozen=True)
class Answer:
    """What became of a file in C++."""

    code: int  # that of the error; -1: the process ended
    message: str
    output: np.ndarray | None = None
    engine: str = ""


class Worker:
    """A process of the probe, which is started anew when a file has ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.engines = self._start().split()

    def _start(self) -> str:
        self._process = subprocess.Popen([PROBE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        limit_memory(self._process.pid)
        return self._line()

    def _line(self) -> str:
        """The next answer; empty where the process ended or hangs."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], TIME_LIMIT_S)
            part = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not part:
                return ""
            line += part
        return line.decode("utf-8", "replace").rstrip("\n")

    def ask(self, model: Model, picture: np.ndarray, folder: Path, threads: int = 1, runs: int = 1) -> Answer:
        """Run a file in C++."""
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        spec, given, taken = folder / "ask.spec.json", folder / "in.raw", folder / "out.raw"
        model.spec.save(spec)
        picture.tofile(given)
        height, width = picture.shape[1:3] if model.spec.input.layout == "NHWC" else picture.shape[2:]
        job = (model.path, model.engine, spec, given, taken, threads, f"{height}x{width}", runs)
        process.stdin.write(("\t".join(map(str, job)) + "\n").encode())
        line = self._line()
        if not line:
            self.close()
            return Answer(-1, "the process ended or hung")
        code, _, text = line.partition("\t")
        if code != "0":
            return Answer(int(code), text)
        engine, dtype, shape, _ = text.split("\t")
        return Answer(0, "", np.fromfile(taken, dtype).reshape([int(side) for side in shape.split("x")]), engine)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture(scope="session")
def worker():
    opened = Worker()
    yield opened
    opened.close()


@pytest.fixture
def ask(worker, tmp_path) -> Callable[..., Answer]:
    """``ask(model, picture, threads=1, runs=1)``: what C++ makes of a file."""
    return lambda model, picture, **options: worker.ask(model, picture, tmp_path, **options)


def limit_memory(process: int) -> None:
    import resource

    if hasattr(resource, "prlimit"):  # on Linux
        resource.prlimit(process, resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


def ask_python(model: Model, picture: np.ndarray) -> tuple[np.ndarray, str]:
    """(output, engine) of Python's runtime with one thread."""
    runtime = open_unprobed(ArtifactRef(model.path, model.engine, None), model.spec, threads=1)
    try:
        return runtime.run(picture), runtime.name
    finally:
        runtime.close()


@pytest.fixture(scope="session")
def get(tmp_path_factory: pytest.TempPathFactory, worker: Worker) -> Callable[[str], Model]:
    """A model of MODELS by name; skips where the engine is not built in, or the file cannot be written here."""
    folder = tmp_path_factory.mktemp("engines")
    made: dict[str, Model] = {}

    def write(name: str) -> Model:
        from tiny_model import make_batch, make_model, make_spec

        from deeplabv3p.errors import RuntimeMissingError
        from deeplabv3p.export.export import export
        from deeplabv3p.export.formats import ExportOptions

        engine, form, changes = MODELS[name]
        options = ExportOptions(**changes)
        built = None if options.dynamic else SIZE
        batches = np.concatenate([make_batch(1, *SIZE, seed=seed) for seed in range(4)])
        if form in ("onnx", "openvino") and options.layout is None:
            batches = np.ascontiguousarray(batches.transpose(0, 3, 1, 2))
        path = folder / name
        path = path.with_name(name + {"openvino": ".xml"}.get(form, f".{form}"))
        calibration = (lambda: iter(batches[:, None])) if options.precision == "int8" else None
        try:
            done = export(make_model(built or (None, None)), make_spec(built), path, form, options, calibration)
        except RuntimeMissingError as error:
            pytest.skip(str(error))
        return Model(engine, path, done.spec)

    def get(name: str) -> Model:
        engine = MODELS[name][0]
        if engine not in worker.engines:
            pytest.skip(f"{PROBE} is built without the engine {engine}")
        if name not in made:
            made[name] = write(name)
        return made[name]

    return get


@pytest.mark.parametrize("name", [name for name in MODELS if not name.endswith("dynamic")])
def test_outputs_equal_those_of_python(get, ask, name):
    model = get(name)
    picture = model.picture()
    expected, python_engine = ask_python(model, picture)
    answer = ask(model, picture, runs=3)  # the last of three: buffers are used again
    assert answer.code == 0, answer.message
    assert answer.engine.partition(" (")[0] == python_engine, "another version: bits may differ"
    assert answer.output is not None
    assert answer.output.dtype == expected.dtype
    np.testing.assert_array_equal(answer.output, expected)
    assert len(np.unique(expected)) > 2, "the model must see the picture"


@pytest.mark.parametrize("name", ["tflite-dynamic", "onnx-dynamic"])
@pytest.mark.parametrize("size_hw", [(64, 96), (36, 52)])
def test_models_of_any_size(get, ask, name, size_hw):
    model = get(name)
    assert model.spec.input.size_hw is None
    picture = model.picture(size_hw)
    expected, _ = ask_python(model, picture)
    answer = ask(model, picture)
    assert answer.code == 0, answer.message
    np.testing.assert_array_equal(answer.output, expected)


@pytest.mark.parametrize("name", ["tflite", "mnn", "onnx", "openvino"])
def test_more_threads_change_little(get, ask, name):
    model = get(name)
    picture = model.picture()
    one, two = ask(model, picture), ask(model, picture, threads=2)
    np.testing.assert_allclose(two.output, one.output, rtol=1e-5, atol=1e-5)


def wrong_specs(spec: ModelSpec) -> dict[str, ModelSpec]:
    """Specs that say something else than the file."""
    other = {"NHWC": "NCHW", "NCHW": "NHWC"}
    return {
        "size": spec.replace(input={"size_hw": (32, 96)}),
        "any size": spec.replace(input={"size_hw": None}),
        "type": spec.replace(input={"dtype": "float16"}),
        "layout in": spec.replace(input={"layout": other[spec.input.layout]}),
        "layout out": spec.replace(output={"layout": other[spec.output.layout]}),
        "classes": spec.replace(classes=spec.classes[:-1]),
        "stride": spec.replace(output={"stride": 8}),
        "huge": spec.replace(input={"size_hw": None, "max_side": 10**6}),
    }


@pytest.mark.parametrize("name", ["tflite", "mnn", "onnx", "openvino", "onnx-dynamic"])
def test_a_file_that_does_not_fit_its_spec_gets_the_message_of_python(get, ask, name):
    model = get(name)
    for what, spec in wrong_specs(model.spec).items():
        wrong = Model(model.engine, model.path, spec)
        picture = wrong.picture(SIZE)
        answer = ask(wrong, picture)
        try:
            expected, message = ask_python(wrong, picture)[0], ""
        except DataError as error:
            expected, message = None, str(error)
        assert (answer.code, answer.message) == (3 if message else 0, message), what
        if expected is not None:  # a file of any size is told its size, and MNN the layout that it shall take
            assert name in ("onnx-dynamic", "mnn"), what
            np.testing.assert_array_equal(answer.output, expected)


@pytest.mark.parametrize("name", ["tflite-int8", "mnn-int8"])
def test_quantization_is_compared(get, ask, name):
    model = get(name)
    scale, zero = model.spec.input.scale, model.spec.input.zero_point
    assert scale is not None
    assert zero is not None
    for changes in ({"scale": scale * 2}, {"zero_point": zero + 1}, {"scale": None, "zero_point": None}):
        wrong = Model(model.engine, model.path, model.spec.replace(input=changes))
        answer = ask(wrong, model.picture())
        if name == "mnn-int8":  # MNN does not say it
            assert answer.code == 0, answer.message
            continue
        with pytest.raises(DataError) as caught:
            open_unprobed(ArtifactRef(wrong.path, wrong.engine, None), wrong.spec)
        assert (answer.code, answer.message) == (3, str(caught.value))


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_tensors_are_found_by_name(get, ask, worker, engine, tmp_path):
    onnx = pytest.importorskip("onnx")
    whole = get("onnx")
    if engine not in worker.engines:
        pytest.skip(f"{PROBE} is built without the engine {engine}")
    file = onnx.load(whole.path)
    logits = file.graph.output[0]
    file.graph.node.append(onnx.helper.make_node("Neg", [logits.name], ["other"]))
    shape = [side.dim_value for side in logits.type.tensor_type.shape.dim]
    file.graph.output.insert(0, onnx.helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, shape))
    onnx.save(file, tmp_path / "two.onnx")
    two = Model(engine, tmp_path / "two.onnx", whole.spec)
    picture = whole.picture()
    expected, _ = ask_python(Model(engine, whole.path, whole.spec), picture)
    np.testing.assert_array_equal(ask(two, picture).output, expected)
    negated = Model(engine, two.path, whole.spec.replace(output={"name": "other"}))
    np.testing.assert_array_equal(ask(negated, picture).output, -expected)
    unknown = Model(engine, two.path, whole.spec.replace(output={"name": "nothing"}))
    with pytest.raises(DataError) as caught:
        ask_python(unknown, picture)
    answer = ask(unknown, picture)
    assert (answer.code, answer.message) == (3, str(caught.value))


@pytest.mark.parametrize("name", list(MUTATIONS))
def test_damaged_files(get, ask, name, tmp_path):
    """An error of ours or a result. What an engine does to its process is counted: Python opens files of such engines
    in another process first."""
    from test_fuzz_artifacts import mutate

    model = get(name)
    picture = model.picture()
    whole = model.path.read_bytes()
    ended, errors = [], 0
    for seed in range(MUTATIONS[name]):
        path = tmp_path / f"{seed}{model.path.suffix}"
        path.write_bytes(mutate(whole, np.random.default_rng(seed)))
        if path.suffix == ".xml":
            path.with_suffix(".bin").write_bytes(model.path.with_suffix(".bin").read_bytes())
        answer = ask(Model(model.engine, path, model.spec), picture)
        if answer.code < 0:
            ended.append((seed, answer.code))
        elif answer.code:
            errors += 1
            assert answer.code == 3, (seed, answer)
            assert path.name in answer.message, (seed, answer)
            assert answer.message.endswith("."), (seed, answer)
    print(f"{name}: {MUTATIONS[name]} files, {errors} errors, {len(ended)} ended the process: {ended}")
    assert errors > MUTATIONS[name] // 5, "the mutations must do something"
    if ended:
        assert model.engine in CRASHING, f"{ended} end a process that nothing guards"
        assert len(ended) <= MUTATIONS[name] // 10, ended


@pytest.mark.parametrize(
    ("suffix", "content"), [(".tflite", b""), (".mnn", b""), (".onnx", b""), (".xml", b""), (".onnx", b"\0" * 1000)]
)
def test_files_that_are_no_models(get, ask, suffix, content, tmp_path):
    engine = {".tflite": "tflite", ".mnn": "mnn", ".onnx": "onnx", ".xml": "openvino"}[suffix]
    model = get(engine)
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content)
    path.with_suffix(".bin").touch()
    answer = ask(Model(engine, path, model.spec), model.picture())
    assert answer.code == 3, answer
    assert str(path) in answer.message


def test_missing_weights(get, ask, tmp_path):
    model = get("openvino")
    path = tmp_path / "m.xml"
    path.write_bytes(model.path.read_bytes())
    answer = ask(Model("openvino", path, model.spec), model.picture())
    with pytest.raises(DeeplabError) as caught:
        open_unprobed(ArtifactRef(path, "openvino", None), model.spec)
    assert (answer.code, answer.message) == (3, str(caught.value))
