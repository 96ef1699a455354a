"""Gradient checkpointing: the same training step as without, and less kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from deeplabv3p.models import batchnorm, factory
from deeplabv3p.models.blocks import conv, depthwise
from deeplabv3p.models.recompute import Recomputing, segments

ROOT = Path(__file__).parents[2]
PICTURES = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
TARGETS = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype(np.float32)


def network(precision: str = "float32") -> keras.Model:
    """Blocks with a skip connection, a frozen batch norm, dropout, and a low-level feature that is read at the end."""
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    low = conv(image, 8, "stem", kernel=3, stride=4)
    x = low
    for index in range(2):
        inside = depthwise(conv(x, 24, f"wide{index}"), f"deep{index}")
        x = layers.Add(name=f"add{index}")([x, conv(inside, 8, f"narrow{index}", relu=False)])
        x = layers.Activation("silu", name=f"silu{index}")(x)
    x = layers.Dropout(0.5, seed=7, name="dropout")(x)
    x = conv(layers.Concatenate(name="join")([x, low]), 8, "refine")
    x = layers.Conv2D(3, 1, dtype="float32", name="logits")(x)
    model = keras.Model(image, x)
    model.get_layer("wide1_bn").trainable = False
    return batchnorm.for_training(model, precision=precision)


def trained(model: keras.Model, steps: int) -> keras.Model:
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    for _ in range(steps):
        model.train_on_batch(PICTURES, TARGETS)
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
    return model


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_is_that_of_the_plain_network(precision):
    """Weights, moving statistics and the seed generator after some steps."""
    plain, model = network(precision), network(precision)
    model = Recomputing(model.inputs, model.outputs[0], model.name)
    # The sums of a step are the same ones, but where gradients of several readers meet, their order may differ.
    # bfloat16 rounds each of them to 4e-3 of it, and the largest step of a weight is about 0.1.
    steps, tolerance = (3, 1e-5) if precision == "float32" else (1, 2e-3)
    before = plain.get_weights()
    for ours, theirs in zip(trained(model, steps).variables, trained(plain, steps).variables, strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=tolerance, atol=tolerance)
    assert any((np.asarray(w) != old).any() for w, old in zip(model.weights, before, strict=True))
    assert len(model._segments) > 2, "nothing is computed again"


def test_the_network_is_cut_between_blocks_and_keeps_little():
    stock = factory.build_model("mobilenetv2", num_classes=7, size_hw=(64, 64))
    model = Recomputing(stock.inputs, stock.outputs[0], stock.name)
    kept = sum(np.prod(s.shape[1:]) for segment in model._segments for s in segment.outputs)
    total = sum(np.prod(operation.output.shape[1:]) for operation in stock.operations)
    assert kept < 0.15 * total
    assert [layer.name for layer in model.layers] == [layer.name for layer in stock.layers]


def test_what_is_random_is_never_computed_twice():
    model = network()
    model = Recomputing(model.inputs, model.outputs[0], model.name)
    (segment,) = [s for s in model._segments if any(node.operation.name == "dropout" for node in s.nodes)]
    assert len(segment.nodes) == 1


def test_every_operation_is_in_one_segment():
    model = network()
    nodes = [n for _, level in sorted(model._nodes_by_depth.items(), reverse=True) for n in level if not n.is_input]
    parts = segments(nodes, model.inputs, model.outputs)
    assert [id(node) for part in parts for node in part.nodes] == [id(node) for node in nodes]


@pytest.mark.slow
def test_training_is_the_same_on_jax():
    pytest.importorskip("jax")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "plain_network and float32", __file__]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout[-3000:]
