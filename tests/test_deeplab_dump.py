"""deeplab.py --dump_model, and models built from bare weights."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import deeplab
from deeplabv3p import weights
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.inference import predict
from deeplabv3p.models.factory import build_model, model_spec
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import load_spec, open_artifact
from deeplabv3p.spec import ClassInfo, ModelSpec, Preprocessing

NAME = "mobilenetv2_lite:alpha=0.35"
PREPROCESSING = Preprocessing((120, 121, 122), (60, 61, 62))


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network as net.keras, its weights as net.weights.h5, and its classes.txt."""
    folder = tmp_path_factory.mktemp("net")
    keras = keras_engine.import_keras()
    keras.utils.set_random_seed(1)
    model = build_model(NAME, num_classes=2, size_hw=(64, 64))
    classes = (ClassInfo("sky", (1, 2, 3)), ClassInfo("sea", (4, 5, 6)))
    spec = model_spec(NAME, size_hw=(64, 64), output_stride=16, classes=classes, preprocessing=PREPROCESSING)
    spec = spec.replace(provenance={"dataset": "train.txt", "protocol": "at 64x64", "miou": 0.5})
    keras_engine.save_model(model, spec, folder / "net.keras")
    model.save_weights(folder / "net.weights.h5")
    (folder / "classes.txt").write_text("sky\nsea\n")
    return folder


def tensors(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """Every weight of a .keras file by layer name and index, without Keras."""
    found: dict[tuple[str, str], np.ndarray] = {}

    def visit(_: str, group: object) -> None:
        if isinstance(group, h5py.Group) and "name" in group.attrs:
            found.update({(str(group.attrs["name"]), key): np.array(group[key]) for key in group})

    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(visit)
    assert len(found) > 100
    return found


def dump(target: Path, *arguments: str) -> ModelSpec:
    deeplab.main(["--dump_model", "--output_model_file", str(target), *arguments])
    return load_spec(target)


def test_a_dump_at_another_size_and_stride_keeps_weights_and_preprocessing(net: Path, tmp_path: Path) -> None:
    flags = ["--model_path", str(net / "net.keras"), "--model_input_shape", "65x97", "--output_stride", "8"]
    spec = dump(tmp_path / "new" / "other.keras", *flags)
    old = load_spec(net / "net.keras")
    assert spec.input.size_hw == (65, 97)
    assert (spec.model.name, spec.model.output_stride, spec.output.stride) == (NAME, 8, 8)
    assert (spec.input.mean, spec.input.std, spec.classes) == (old.input.mean, old.input.std, old.classes)
    assert (spec.provenance.dataset, spec.provenance.miou) == ("train.txt", None)  # not the score of the new network
    before, after = tensors(net / "net.keras"), tensors(tmp_path / "new" / "other.keras")
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(value, after[key])
    runtime = open_artifact(tmp_path / "new" / "other.keras")
    assert predict(runtime, np.zeros((40, 50, 3), np.uint8)).shape == (40, 50)


def test_a_dump_as_it_is(net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = dump(tmp_path / "same.h5", "--model_path", str(net / "net.keras"))
    assert spec == load_spec(net / "net.keras")
    model = keras_engine.load_model(tmp_path / "same.h5")
    assert keras_engine.weights_sha256(model) == spec.provenance.weights_sha256
    out = capsys.readouterr().out
    assert f"{NAME}, output stride 16, 64x64, 2 classes, " in out
    assert "same.h5" in out


def test_whole_model_as_weights(net: Path, tmp_path: Path) -> None:
    """The command line of the public model set, on a checkpoint that knows itself."""
    flags = ["--model_type=mobilenetv2_lite", f"--classes_path={net / 'classes.txt'}", "--output_stride=16"]
    spec = dump(tmp_path / "a.keras", *flags, f"--weights_path={net / 'net.keras'}", "--model_input_shape=64x64")
    assert spec == load_spec(net / "net.keras")


def test_bare_weights(net: Path, tmp_path: Path) -> None:
    flags = ["--model_type=mobilenetv2_lite", "--alpha=0.35", f"--classes_path={net / 'classes.txt'}"]
    spec = dump(tmp_path / "b.keras", *flags, f"--weights_path={net / 'net.weights.h5'}", "--model_input_shape=96x64")
    assert (spec.model.name, spec.model.output_stride, spec.input.size_hw) == (NAME, 16, (96, 64))
    assert [item.name for item in spec.classes] == ["sky", "sea"]
    after = tensors(tmp_path / "b.keras")
    for key, value in tensors(net / "net.keras").items():
        np.testing.assert_array_equal(value, after[key])


def test_bare_weights_of_another_head_and_their_own_preprocessing(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "mobilenetv2_lite:alpha=0.35,width=16,head=none,decoder=1,subpixel=2"
    build_model(name, num_classes=2, size_hw=(64, 64)).save_weights(tmp_path / "w.weights.h5")
    load = weights.load_weights
    monkeypatch.setattr(
        weights, "load_weights", lambda *args: dataclasses.replace(load(*args), preprocessing=PREPROCESSING)
    )
    flags = ["--alpha=0.35", "--head_width=16", "--head=none", "--decoder", "--subpixel=2", "--model_input_shape=64x64"]
    flags += [f"--classes_path={net / 'classes.txt'}", f"--weights_path={tmp_path / 'w.weights.h5'}"]
    spec = dump(tmp_path / "c.keras", "--model_type=mobilenetv2_lite", *flags)
    assert (spec.model.name, spec.output.stride, spec.input.preprocessing) == (name, 2, PREPROCESSING)
    whole = [f"--weights_path={tmp_path / 'c.keras'}", "--model_type=mobilenetv2_lite"]
    with pytest.raises(UsageError, match="not 'mobilenetv2_lite:decoder=1'"):
        dump(tmp_path / "d.keras", *whole, "--decoder")


def test_bare_weights_take_the_usual_size_and_stride_of_their_network(net: Path, tmp_path: Path) -> None:
    name = "deeplabv3_mobilenetv2:alpha=0.35,width=16"
    build_model(name, num_classes=2, size_hw=(64, 64)).save_weights(tmp_path / "w.weights.h5")
    flags = [f"--model_type={name}", f"--classes_path={net / 'classes.txt'}"]
    spec = dump(tmp_path / "c.keras", *flags, f"--weights_path={tmp_path / 'w.weights.h5'}")
    assert (spec.input.size_hw, spec.model.output_stride, spec.input.resize) == ((513, 513), 8, "pad")


def test_weights_that_disagree_with_the_flags(net: Path, tmp_path: Path) -> None:
    (tmp_path / "three.txt").write_text("sky\nsea\nsun\n")
    whole, bare, classes = (
        f"--weights_path={net / 'net.keras'}",
        f"--weights_path={net / 'net.weights.h5'}",
        "--classes_path=",
    )
    lite = "--model_type=mobilenetv2_lite"
    for flags, error, message in (
        (
            ["--model_type=mobilenetv2", whole],
            UsageError,
            "holds the network 'mobilenetv2_lite:alpha=0.35', not 'mobilenetv2'",
        ),
        ([lite, "--alpha=0.5", whole], UsageError, "not 'mobilenetv2_lite:alpha=0.5'"),
        ([lite, whole, f"{classes}{tmp_path / 'three.txt'}"], UsageError, "names 3 classes, the model has 2"),
        ([lite, bare], UsageError, "does not say its classes"),
        (
            [lite, "--alpha=0.35", bare, f"{classes}{tmp_path / 'three.txt'}", "--model_input_shape=32x32"],
            DataError,
            "logits",
        ),
        ([f"--model_path={net / 'net.weights.h5'}"], DataError, "comes without a spec"),
    ):
        with pytest.raises(error) as caught:
            dump(tmp_path / "c.keras", *flags)
        assert message in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["three.txt"]


def test_a_dump_in_half_precision_is_half_as_large_and_the_same_network(net, tmp_path):
    """Read without Keras: kernels are the float16 of the original's, everything else is untouched."""
    spec = dump(tmp_path / "half.keras", "--model_path", str(net / "net.keras"), "--half")
    assert (spec.provenance.miou, spec.provenance.dataset) == (None, "train.txt")
    whole, half = tensors(net / "net.keras"), tensors(tmp_path / "half.keras")
    assert whole.keys() == half.keys()
    for key, values in whole.items():
        expected = values.astype(np.float16) if values.ndim > 1 else values
        assert half[key].dtype == expected.dtype
        np.testing.assert_array_equal(half[key], expected)
    assert (tmp_path / "half.keras").stat().st_size < 0.55 * (net / "net.keras").stat().st_size
    opened = keras_engine.load_model(tmp_path / "half.keras")
    assert {weight.dtype for weight in opened.weights} == {"float32"}
    assert keras_engine.weights_sha256(opened) == spec.provenance.weights_sha256


def test_half_is_refused_where_it_means_nothing(net, tmp_path):
    for target, arguments in (("a.h5", ["--dump_model", "--output_model_file"]), ("a.jpg", ["--image"])):
        with pytest.raises(UsageError, match="--half"):
            deeplab.main(["--half", "--model_path", str(net / "net.keras"), *arguments, str(tmp_path / target)])
