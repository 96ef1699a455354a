"""Runs the fit of a small network on several devices, in a process of its own, for the tests beside this file.

``python distributed_run.py JSON``: the JSON object names ``devices`` (fields of DeviceOptions), ``folder`` (the data),
``run`` (the run folder), ``out`` (an .npz for the weights and the log), and optionally ``config`` (fields of
TrainConfig), ``resume``, ``stop_at`` (a step at which this process asks for a stop) and ``fail_at`` (a step at which it
dies).
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from keras import layers

from deeplabv3p.data.augment import Augmentation
from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.dataset import Dataset, open_dataset
from deeplabv3p.losses.options import LossOptions
from deeplabv3p.models.factory import model_spec
from deeplabv3p.training import checkpoint
from deeplabv3p.training.config import DeviceOptions, TrainConfig
from deeplabv3p.training.distribution import open_distribution
from deeplabv3p.training.fit import Report, fit

SIZE = (64, 64)
CONFIG = TrainConfig(
    size_hw=SIZE,
    batch_size=4,
    optimizer="sgd",
    learning_rate=0.1,
    decay_type="cosine",
    transfer_epoch=0,
    total_epoch=2,
    eval_epoch_interval=1,
    augmentation=Augmentation(scale=(0.8, 1.25), brightness=0.1),
)


def data(folder: Path, split: str) -> Dataset:
    return open_dataset(folder, folder / f"{split}.txt", load_classes(folder / "classes.txt"), 255)


def network(folder: Path):
    """Without dropout, whose masks differ between devices on TensorFlow, and without biases before a batch norm, whose
    gradients are rounding errors alone."""
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.Conv2D(8, 3, strides=4, padding="same", use_bias=False, name="Conv1")(image)
    x = layers.ReLU(name="Conv1_relu")(layers.BatchNormalization(momentum=0.9, name="bn_Conv1")(x))
    x = layers.Activation("gelu", name="aspp_gelu")(layers.Conv2D(8, 1, name="aspp_1x1")(x))
    model = keras.Model(image, layers.Conv2D(7, 1, name="logits")(x), name="small")
    rng = np.random.default_rng(0)  # the same on every backend
    for variable in model.trainable_variables:
        variable.assign(0.3 * rng.normal(size=variable.shape))
    classes = load_classes(folder / "classes.txt").classes
    spec = model_spec("mobilenetv2", size_hw=SIZE, output_stride=16, classes=classes)
    return model, spec.replace(model={"name": "small"})


def main(task: dict) -> None:
    devices = DeviceOptions(**task["devices"])
    distribution = open_distribution(devices, keras.backend.backend())
    folder = Path(task["folder"])
    keras.utils.set_random_seed(0)
    model, spec = network(folder)
    options = task.get("config", {})
    if "loss" in options:
        options["loss"] = LossOptions(**options["loss"])
    config = replace(CONFIG, devices=devices, bn_sync=distribution.devices > 1, **options)
    steps: list[int] = []

    def told(done, total, info=None) -> None:
        steps.append(done)
        if done == task.get("fail_at"):
            os._exit(9)

    resume = task.get("resume", False)
    run = Path(task["run"])
    run.mkdir(exist_ok=True)
    names = (checkpoint.STATE_NAME,) if resume else ()
    with distribution.run_folder(lambda: run, names) as run_folder:
        result = fit(
            model,
            spec,
            config,
            data(folder, "train"),
            data(folder, "val"),
            run_folder,
            resume=resume,
            report=Report(progress=told),
            stop_requested=lambda: bool(steps) and steps[-1] >= task.get("stop_at", 1 << 30),
            distribution=distribution,
        )
        written = sorted(path.name for path in run_folder.iterdir())
    weights = {f"w{i:02}": np.asarray(variable) for i, variable in enumerate(model.weights)}
    rows = {name: np.array([row[name] for row in result.history]) for name in ("loss", "train_miou", "val_miou")}
    np.savez(task["out"], steps=steps, finished=result.finished, written=written, **weights, **rows)
    distribution.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
