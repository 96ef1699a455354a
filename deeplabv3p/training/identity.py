"""What has to be the same in every process of a run, by name."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from deeplabv3p.training.config import DeviceOptions, TrainConfig
from deeplabv3p.training.data_record import RunData


def identity(model: keras.Model, config: TrainConfig, data: RunData) -> dict[str, bytes]:
    """What has to be the same in every process of a run."""
    options = dataclasses.replace(config, devices=DeviceOptions(), threads=1)
    return {
        "the options": repr(options).encode(),
        **{f"the {use} samples": now.tobytes() for use, now in data.records.items()},
        "the first weights": b"".join(np.asarray(variable).tobytes() for variable in model.weights),
    }
