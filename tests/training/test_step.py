"""The network that learns: precision, checkpointing, freezing, several devices. Real networks, one step each."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from deeplabv3p.losses.make import make_loss
from deeplabv3p.losses.options import LossOptions
from deeplabv3p.models import batchnorm, graph
from deeplabv3p.models.factory import build_model, freeze, model_spec
from deeplabv3p.models.recompute import Recomputing
from deeplabv3p.spec import ClassInfo
from deeplabv3p.training.config import TrainConfig
from deeplabv3p.training.optimizers import inner
from deeplabv3p.training.step import compile_model, scale_learning_rate, training_model

CLASSES = tuple(ClassInfo(name, (0, 0, 0)) for name in "abc")
IMAGES = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, (2, 64, 64)).astype(np.uint8)
SMALL = "mobilenetv2_lite:alpha=0.35,width=16,subpixel=2"
CONFIG = TrainConfig(optimizer="sgd", learning_rate=0.1, size_hw=(64, 64), dropout=0.0)


def prepared(config: TrainConfig, name: str = SMALL, level: int = 0):
    """(stock network, its spec, the network that learns, compiled)."""
    keras.utils.set_random_seed(0)
    stock = build_model(name, num_classes=3, size_hw=(64, 64), dropout=config.dropout)
    batchnorm.reestimate(stock, [IMAGES])  # random features are all alike before
    spec = model_spec(name, size_hw=(64, 64), output_stride=16, classes=CLASSES)
    model = training_model(stock, spec, config)
    freeze(model, level)
    loss = make_loss(LossOptions(), num_classes=3, align_corners=False)
    compile_model(model, spec, config, loss=loss, steps=10, epoch_steps=5)
    return stock, spec, model


@pytest.mark.parametrize(
    ("name", "precision"), [(SMALL, "float16"), ("mobilenetv3small_lite:alpha=0.25,width=16", "bfloat16")]
)
def test_half_precision_computes_all_but_the_classifier_and_keeps_float32_weights(name, precision):
    stock, _, model = prepared(replace(CONFIG, mixed_precision=precision), name)
    for layer in model.layers:
        classifier = layer.name.startswith("logits")
        if isinstance(layer, keras.layers.Layer) and not isinstance(layer, keras.layers.InputLayer):
            assert layer.compute_dtype == ("float32" if classifier else precision), layer.name
    assert {v.dtype for v in model.weights} == {"float32"}
    assert model.output.dtype == "float32"
    half = [o for o in model.operations if getattr(o.output, "dtype", "") == precision]
    assert len(half) > 0.9 * len(model.operations) - 3
    before = model.get_weights()
    for _ in range(6):  # float16 skips those for which the first loss scale is too large
        loss, _ = model.train_on_batch(IMAGES, LABELS)
    assert np.isfinite(loss)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert sum((a != b).any() for a, b in zip(before, model.get_weights(), strict=True)) > 0.9 * len(before)
    graph.copy_weights(model, stock)
    assert {layer.dtype_policy.name for layer in stock.layers if hasattr(layer, "dtype_policy")} == {"float32"}


@pytest.mark.slow
def test_half_precision_gives_nearly_the_loss_of_float32():
    precisions = ("float32", "float16", "bfloat16")
    losses = [prepared(replace(CONFIG, mixed_precision=p))[2].train_on_batch(IMAGES, LABELS)[0] for p in precisions]
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)  # 3 digits in float16, through some hundred layers
    assert losses[2] == pytest.approx(losses[0], rel=5e-2)  # 2 digits in bfloat16


@pytest.mark.slow
def test_checkpointing_changes_nothing_but_the_memory():
    """The same loss and weights after a step, bit for bit or nearly: sums where paths meet may change their order."""
    results = []
    for on in (False, True):
        _, _, model = prepared(replace(CONFIG, gradient_checkpointing=on))
        assert isinstance(model, Recomputing) == on
        results.append([np.float32(model.train_on_batch(IMAGES, LABELS)[0]), *model.get_weights()])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"gradient_checkpointing": True}, {"mixed_precision": "float16"}], ids=str)
def test_what_is_frozen_stays(options):
    _, _, model = prepared(replace(CONFIG, **options), level=2)
    before = {w.path: np.array(w) for w in model.weights}
    model.train_on_batch(IMAGES, LABELS)
    changed = {w.path for w in model.weights if (np.asarray(w) != before[w.path]).any()}
    assert changed == {"logits/kernel", "logits/bias"}


def test_the_warm_up_is_counted_in_epochs_and_the_rate_can_be_scaled():
    _, _, model = prepared(replace(CONFIG, warmup_epoch=0.8, mixed_precision="float16"), level=2)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1 / 5)
    scale_learning_rate(model, 0.5)
    scale_learning_rate(model, 0.5)
    model.train_on_batch(IMAGES, LABELS)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.25 * 0.2 / 5)
    assert float(inner(model.optimizer).rate_factor) == 0.25


def test_mirrored_devices_clip_average_and_skip_together():
    """Two logical devices, whose gradients differ: clipping, the average and loss scaling are those of the whole batch.
    Keras alone would clip, and look for overflow, on each device."""
    code = textwrap.dedent("""
        import numpy as np, tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        import contextlib, keras
        from deeplabv3p.training.config import TrainConfig
        from deeplabv3p.training.optimizers import inner, make_optimizer, make_schedule
        def run(scope, average):
            with scope:
                config = TrainConfig(optimizer="sgd", learning_rate=0.1, clip_norm=0.1, mixed_precision="float16",
                                     average_type=average)
                image = keras.Input((3,)); model = keras.Model(image, keras.layers.Dense(1, name="logits")(image))
                model.set_weights([np.ones((3, 1)), np.ones(1)])
                optimizer = make_optimizer(config, make_schedule(config, 9), model.trainable_variables)
                model.compile(optimizer, keras.losses.MeanSquaredError())
                x = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
                x[6] = np.inf  # of the second step's second device
                model.fit(x, x.sum(1, keepdims=True) * 5, batch_size=4, verbose=0, shuffle=False)
                return [np.asarray(v) for v in (*model.weights, *optimizer.variables)]
        for average in ("ema", "lookahead"):
            one = run(contextlib.nullcontext(), average)
            two = run(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope(), average)
            for a, b in zip(one, two, strict=True):
                np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-7)  # sums in another order
            assert np.isfinite(two[0]).all() and (two[0] != 1).all()
        print("equal")
    """)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip().endswith("equal"), done.stderr[-3000:]
