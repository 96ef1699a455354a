"""What users type as ``--model_type``, and what each name means. Plain records: reading them does not import Keras."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from deeplabv3p.errors import UsageError

OUTPUT_STRIDES = (8, 16, 32)

Head = Literal["aspp", "aspp_lite"]


@dataclasses.dataclass(frozen=True)
class BackboneRecord:
    """A feature network and what its published weights expect.

    ``taps`` names the layer whose output is the feature map of a stride; the last one is what the head reads.
    ``mean`` and ``std`` (picture units, RGB) are the preprocessing of the ImageNet weights of ``imagenet_file``.
    ``alphas`` are the width multipliers that ImageNet weights exist for.
    """

    name: str
    taps: dict[int, str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    imagenet_file: str
    alphas: tuple[float, ...]
    licence: str


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """A network by name: backbone, head, and whether DeepLabv3+'s decoder follows."""

    name: str
    backbone: str
    head: Head
    decoder: bool
    summary: str


BACKBONES = {
    "mobilenetv2": BackboneRecord(
        name="mobilenetv2",
        taps={4: "block_2_add", 8: "block_5_add", 16: "block_12_add", 32: "block_16_project_BN"},
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        imagenet_file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224_no_top.h5",
        alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
        licence="Apache-2.0 (Keras Applications)",
    ),
}

MODELS = {
    record.name: record
    for record in (
        ModelRecord("mobilenetv2", "mobilenetv2", "aspp", True, "MobileNetV2, ASPP, decoder (DeepLabv3+)"),
        ModelRecord("mobilenetv2_lite", "mobilenetv2", "aspp_lite", False, "MobileNetV2, pooling and 1x1 head"),
    )
}


@dataclasses.dataclass(frozen=True)
class ModelName:
    """A name and the options that change the network: ``mobilenetv2:alpha=0.5,width=128``.

    ``alpha`` multiplies the backbone's widths; ``width`` is the channels of the head's and decoder's convolutions.
    Options at their default are left out, so the plain name is what most files carry. This string is ``model.name`` in
    a spec; it is enough, with the number of classes, to build the same network at any size and output stride.
    """

    name: str
    alpha: float = 1.0
    width: int = 256

    def __post_init__(self) -> None:
        if self.name not in MODELS:
            raise UsageError(f"unknown model type '{self.name}'. Known: {', '.join(MODELS)}.")
        if not 0.1 <= self.alpha <= 4.0:
            raise UsageError(f"width multiplier alpha is {self.alpha:g}, expected 0.1 to 4 (1 is as published).")
        if not 8 <= self.width <= 4096:
            raise UsageError(f"head width is {self.width}, expected 8 to 4096 channels (256 is as published).")

    def __str__(self) -> str:
        options = [f"alpha={self.alpha:g}"] if self.alpha != 1.0 else []
        options += [f"width={self.width}"] if self.width != 256 else []
        return f"{self.name}:{','.join(options)}" if options else self.name

    @property
    def record(self) -> ModelRecord:
        return MODELS[self.name]

    @property
    def backbone(self) -> BackboneRecord:
        return BACKBONES[self.record.backbone]

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Read a name with or without options.

        Raises:
            UsageError: the name is not in the registry, or an option is unknown or out of range.
        """
        name, _, tail = text.partition(":")
        kinds: dict[str, type[float] | type[int]] = {"alpha": float, "width": int}
        options: dict[str, Any] = {}
        for option in filter(None, tail.split(",")):
            key, _, value = option.partition("=")
            try:
                options[key] = kinds[key](value)
            except (KeyError, ValueError):
                raise UsageError(
                    f"model name '{text}': '{option}' is not an option. Known: alpha=<number>, width=<whole number>."
                ) from None
        return cls(name, **options)
