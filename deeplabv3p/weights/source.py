"""What every reader of weights gives: tensors by layer name, and what is known of how they were trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabv3p.spec import Preprocessing

Array = npt.NDArray[Any]
CLASSIFIER = "logits"


@dataclasses.dataclass(frozen=True)
class Source:
    """Weights as they were read, under the layer names of our networks where the source's names are known.

    ``path`` is the file, ``kind`` says in words what it is. ``layers`` holds the tensors of a layer in the order of
    ``layer.weights``: kernel [h, w, in, out] (depthwise [h, w, C, 1]) and bias, or gamma, beta, mean and variance.
    ``epsilons`` are those that batch norms were trained with, by layer, where the file says or it is known of its
    makers; 0 for one that was folded into its convolution. ``unused`` names tensors that no layer here could have.
    """

    path: Path
    kind: str
    layers: Mapping[str, list[Array]]
    epsilons: Mapping[str, float] = dataclasses.field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    unused: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int | None:
        """How many classes its classifier scores; None where it has none."""
        tensors = self.layers.get(CLASSIFIER)
        return int(np.shape(tensors[0])[-1]) if tensors else None
