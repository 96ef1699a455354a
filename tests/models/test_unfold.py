"""Folded batch norms get statistics again, and the network computes the same."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from test_models import SMALL, batch

from deeplabv3p.models import factory, unfold

NAME = "mobilenetv2_lite:alpha=0.35,width=16"


@pytest.fixture
def folded() -> keras.Model:
    """A network as the import of a frozen graph leaves it: statistics 0 and 1, the rest in γ, β and the kernels."""
    keras.utils.set_random_seed(0)
    model = factory.build_model(NAME, num_classes=3, size_hw=SMALL)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.gamma.shape[0]
            layer.gamma.assign(rng.uniform(0.5, 1.5, size))
            layer.beta.assign(rng.normal(0, 0.3, size))
    return model


def test_statistics_are_those_of_the_pictures_and_the_function_stays(folded, photographs):
    pictures = batch(photographs, SMALL)
    before = np.asarray(folded(pictures, training=False))
    assert unfold.is_folded(folded)
    assert unfold.measure_statistics(folded, [pictures[:1], pictures[1:]]) == 3
    assert not unfold.is_folded(folded)
    after = np.asarray(folded(pictures, training=False))
    # float32 through 50 layers, each rounding its γ and β once more
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())
    for name in ("bn_Conv1", "block_7_depthwise_BN", "aspp_project_bn"):
        norm = folded.get_layer(name)
        inputs = np.asarray(keras.Model(folded.inputs[0], norm.input)(pictures, training=False), np.float64)
        np.testing.assert_allclose(norm.moving_mean, inputs.mean((0, 1, 2)), atol=1e-3 * np.abs(inputs).max())
        np.testing.assert_allclose(norm.moving_variance, inputs.var((0, 1, 2)), rtol=1e-2, atol=1e-6)


def test_training_mode_then_starts_from_the_same_function(folded, photographs):
    """What it is for: on the measured pictures, a training step sees the function that inference computes."""
    pictures = batch(photographs, SMALL)
    dropout_free = keras.Model(folded.inputs[0], folded.get_layer("block_16_project_BN").output)
    before = np.asarray(dropout_free(pictures, training=False))
    far = np.abs(np.asarray(dropout_free(pictures, training=True)) - before).max()
    unfold.measure_statistics(folded, [pictures])
    near = np.abs(np.asarray(dropout_free(pictures, training=True)) - before).max()
    # Equal up to float32: the variances of this random network come close to epsilon, which magnifies rounding.
    assert near < 0.05 * np.abs(before).max()
    assert far > 20 * near


def test_only_the_chosen_norms_change(folded, photographs):
    untouched = folded.get_layer("aspp_1x1_bn").get_weights()
    unfold.measure_statistics(folded, [batch(photographs, SMALL)], lambda name: not name.startswith("aspp_"))
    for ours, theirs in zip(folded.get_layer("aspp_1x1_bn").get_weights(), untouched, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert unfold.is_folded(folded, lambda name: name.startswith("aspp_"))
    assert not unfold.is_folded(folded)
