"""Runtimes: engines that run a model file. One file an engine, imported when a model is opened with it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from deeplabv3p.spec import ModelSpec


class Runtime(Protocol):
    """An opened model. Several may be open at once; one must not be run from two threads at the same time."""

    @property
    def spec(self) -> ModelSpec:
        """What goes in and what comes out."""

    @property
    def name(self) -> str:
        """The engine and its version, such as ``keras 3.15``."""

    @property
    def device(self) -> str:
        """Where it runs, such as ``tensorflow cpu``."""

    def run(self, batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Run a batch, [B, h, w, 3] or [B, 3, h, w] in the layout and type of ``spec.input``.

        Returns:
            The model's first output in the layout of ``spec.output``: [B, h, w, K], [B, K, h, w] or, for kind labels,
            [B, h, w].
        """

    def close(self) -> None:
        """Free what the engine holds. The runtime cannot run afterwards."""
