"""Everything that decides a training run, in one frozen record that is saved with the run."""

from __future__ import annotations

import dataclasses
from typing import Literal

from deeplabv3p.data.augment import Augmentation
from deeplabv3p.models.registry import Head, ModelName

Optimizer = Literal["adam", "adamw", "rmsprop", "sgd"]
Decay = Literal["None", "cosine", "exponential", "polynomial", "piecewise_constant"]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The options of ``train.py`` that shape the weights, under the same names.

    ``size_hw`` is the crop in pixels; ``learning_rate`` is the first; epochs are passes of ``len(dataset) //
    batch_size`` steps; the first ``transfer_epoch`` of them train with ``freeze_level``.
    """

    model_type: str = "mobilenetv2_lite"
    alpha: float = 1.0
    head_width: int = 256
    head: Head | None = None
    decoder: bool | None = None
    subpixel: int = 1
    backbone_weights: str = "imagenet"
    weights_path: str | None = None
    size_hw: tuple[int, int] = (512, 512)
    output_stride: int = 16
    dropout: float = 0.5
    bn_momentum: float = 0.99
    bn_sync: bool = False
    bn_fused: bool = True
    batch_size: int = 16
    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-3
    decay_type: Decay = "None"
    weight_decay: float = 0.0
    transfer_epoch: int = 5
    freeze_level: int = 1
    init_epoch: int = 0
    total_epoch: int = 150
    eval_online: bool = True
    eval_epoch_interval: int = 10
    save_eval_checkpoint: bool = False
    seed: int = 0
    threads: int = 2
    deterministic: bool = False
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)

    @property
    def model_name(self) -> ModelName:
        """The network's name with its options."""
        return ModelName(self.model_type, self.alpha, self.head_width, self.head, self.decoder, self.subpixel)
