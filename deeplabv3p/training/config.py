"""Everything that decides a training run, in one frozen record that is saved with the run."""

from __future__ import annotations

import dataclasses
from typing import Literal

from deeplabv3p.data.augment import Augmentation
from deeplabv3p.errors import UsageError
from deeplabv3p.losses.options import LossOptions
from deeplabv3p.models.registry import Head, ModelName

Optimizer = Literal["adam", "adamw", "rmsprop", "sgd"]
Decay = Literal["None", "cosine", "exponential", "polynomial", "piecewise_constant"]
Average = Literal["None", "ema", "swa", "lookahead"]
Precision = Literal["float32", "float16", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class WatchOptions:
    """What reacts to the course of a run. Patience counts evaluations without a better validation mIoU; 0 is off.

    Attributes:
        keep_top: how many of the best checkpoints to keep under names of their own, besides ``best.keras``.
        plateau_patience: then the learning rate is multiplied by ``plateau_factor``.
        plateau_factor: below 1.
        early_stop_patience: then the run ends.
        board_pictures: validation pictures whose predictions go into the TensorBoard log at each evaluation, beside the
            confusion matrix; 0: no pictures at all.
    """

    keep_top: int = 0
    plateau_patience: int = 0
    plateau_factor: float = 0.5
    early_stop_patience: int = 0
    board_pictures: int = 4


@dataclasses.dataclass(frozen=True)
class DeviceOptions:
    """Where a run computes; the weights do not depend on it but for rounding.

    Attributes:
        gpu_num: devices of this process.
        num_processes: processes of the run, one a host.
        process_id: which of them this is, from 0.
        coordinator: ``HOST:PORT`` of process 0, for more than one process.
    """

    gpu_num: int = 1
    num_processes: int = 1
    process_id: int = 0
    coordinator: str | None = None


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The options of ``train.py`` that shape the weights, under the same names.

    ``size_hw`` is the input of the model that is scored and saved, ``crop_hw`` that of the training crops (None: the
    same), both in pixels; ``learning_rate`` is the first; epochs are passes of ``len(dataset) // batch_size`` steps;
    the first ``transfer_epoch`` of them train with ``freeze_level``. ``clip_norm`` bounds the norm of all gradients
    together (0: off); ``accumulate_steps`` batches make one update; ``average_decay`` is the share of the average that
    a step keeps; the state for a resume is written each epoch, every ``save_steps`` steps and every ``save_minutes``
    minutes (0: not by this); ``verify_data`` hashes all content of the data where else blocks of each file do
    (:mod:`deeplabv3p.training.data_record`).

    Raises:
        UsageError: an option does not fit the others.
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
    crop_hw: tuple[int, int] | None = None
    output_stride: int = 16
    dropout: float = 0.5
    bn_momentum: float = 0.99
    bn_sync: bool = False
    bn_fused: bool = True
    batch_size: int = 16
    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-3
    decay_type: Decay = "None"
    warmup_epoch: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    clip_norm: float = 0.0
    accumulate_steps: int = 1
    average_type: Average = "None"
    average_decay: float = 0.999
    mixed_precision: Precision = "float32"
    gradient_checkpointing: bool = False
    transfer_epoch: int = 5
    freeze_level: int = 1
    init_epoch: int = 0
    total_epoch: int = 150
    eval_online: bool = True
    eval_epoch_interval: int = 10
    save_eval_checkpoint: bool = False
    save_steps: int = 0
    save_minutes: float = 0.5
    seed: int = 0
    threads: int = 2
    deterministic: bool = False
    verify_data: bool = False
    loss: LossOptions = dataclasses.field(default_factory=LossOptions)
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    watch: WatchOptions = dataclasses.field(default_factory=WatchOptions)
    devices: DeviceOptions = dataclasses.field(default_factory=DeviceOptions)

    def __post_init__(self) -> None:
        if self.nesterov and self.optimizer != "sgd":
            raise UsageError(f"nesterov is for the optimizer sgd, not for {self.optimizer}. Leave it out.")

    @property
    def train_hw(self) -> tuple[int, int]:
        """Size of the training crops in pixels."""
        return self.crop_hw or self.size_hw

    @property
    def model_name(self) -> ModelName:
        """The network's name with its options."""
        return ModelName(self.model_type, self.alpha, self.head_width, self.head, self.decoder, self.subpixel)
