"""What has to be the same in every process of a run, by name."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from deeplabv3p.data.dataset import Dataset
from deeplabv3p.training.config import DeviceOptions, TrainConfig


def identity(model: keras.Model, config: TrainConfig, train_set: Dataset, val_set: Dataset) -> dict[str, bytes]:
    """What has to be the same in every process of a run."""
    options = dataclasses.replace(config, devices=DeviceOptions(), threads=1)
    names = {"training": train_set, "validation": val_set}
    return {
        "the options": repr(options).encode(),
        **{
            f"the {use} samples": repr([sample.name for sample in part.samples]).encode() for use, part in names.items()
        },
        "the first weights": b"".join(np.asarray(variable).tobytes() for variable in model.weights),
    }
