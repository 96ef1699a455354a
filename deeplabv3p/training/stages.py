"""The stages of a run: parts with a freeze level, an optimizer and a learning-rate schedule of their own."""

from __future__ import annotations

import dataclasses

from deeplabv3p.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Stage:
    """Epochs ``start`` to ``end`` (exclusive) trained with one freeze level and one learning-rate schedule."""

    start: int
    end: int
    freeze_level: int


def stages(config: TrainConfig) -> list[Stage]:
    """The transfer stage, if any, and the rest."""
    split = min(max(config.transfer_epoch if config.freeze_level else 0, config.init_epoch), config.total_epoch)
    parts = [
        Stage(config.init_epoch, split, config.freeze_level),
        Stage(split, config.total_epoch, 0),
    ]
    return [stage for stage in parts if stage.end > stage.start]
