"""Engines of a few lines of NumPy, whose scores are known."""

from __future__ import annotations

import dataclasses

import numpy as np
from example_spec import SPEC

from deeplabv3p.spec import ModelSpec


@dataclasses.dataclass
class Subsampling:
    """An engine whose score for each class is a colour channel, at stride 4."""

    spec: ModelSpec
    name: str = "numpy 2"
    device: str = "cpu"
    shapes: list[tuple[int, ...]] = dataclasses.field(default_factory=list)

    def run(self, batch):
        self.shapes.append((*batch.shape, batch.dtype.name))
        if self.spec.input.layout == "NCHW":
            batch = batch.transpose(0, 2, 3, 1)
        count, height, width, _ = batch.shape
        scores = batch.astype(np.float32).reshape(count, height // 4, 4, width // 4, 4, 3).mean(axis=(2, 4))
        if self.spec.output.kind == "labels":
            return scores.argmax(axis=3)
        return scores if self.spec.output.layout == "NHWC" else scores.transpose(0, 3, 1, 2)

    def close(self):
        pass


@dataclasses.dataclass
class Pointwise:
    """An engine of 1x1 convolutions at stride 1: the scores of a pixel are its channels, as whole numbers. With
    ``shift`` the score of class 0 also rises by that much a column, so that left and right differ."""

    spec: ModelSpec
    shift: float = 0
    name: str = "numpy 2"
    device: str = "cpu"
    batches: list[np.ndarray] = dataclasses.field(default_factory=list)

    def run(self, batch):
        self.batches.append(batch)
        scores = batch.astype(np.float32)
        scores[..., 0] += self.shift * np.arange(batch.shape[2], dtype=np.float32)
        if self.spec.output.scale is not None:
            scores = np.clip(np.rint(scores / self.spec.output.scale) + self.spec.output.zero_point, -128, 127)
            return scores.astype(np.int8)
        return scores

    def close(self):
        pass


def pointwise_spec(**changes):
    """The spec of :class:`Pointwise`: any size, and a tensor that holds the pixels as they are."""
    own = {"size_hw": None, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "pad_value": 7.0}
    return SPEC.replace(
        input=own | changes.pop("input", {}), output={"stride": 1} | changes.pop("output", {}), **changes
    )


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
