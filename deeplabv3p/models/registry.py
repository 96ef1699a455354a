"""What users type as ``--model_type``, and what each name means. Plain records: reading them does not import Keras."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

from deeplabv3p.errors import UsageError
from deeplabv3p.models.backbone import Backbone
from deeplabv3p.models.backbones import BACKBONES
from deeplabv3p.spec import Resize

OUTPUT_STRIDES = (8, 16, 32)
SUBPIXEL_FACTORS = (1, 2, 4, 8)

Head = Literal["aspp", "aspp_lite", "none"]
HEADS: tuple[Head, ...] = get_args(Head)


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """A network by name: backbone, head, whether DeepLabv3+'s decoder follows, and how its logits are read.

    ``parameters`` and ``macs`` (multiply-accumulates of a picture) are those of 21 classes at ``size_hw`` and the
    default output stride; ``tools/evaluation/model_statistics.py --all --check`` counts them.
    ``output_stride`` is the default and ``output_strides`` are those that can be built. ``features_stride`` is the
    stride of the feature map that the classifier reads in a whole network, which has no head or decoder to choose.
    ``size_hw``, ``resize`` and ``align_corners`` are how pictures reach the network and how its logits lie on them.
    """

    name: str
    backbone: str
    head: Head
    decoder: bool
    summary: str
    parameters: int
    macs: int
    output_stride: int = 16
    output_strides: tuple[int, ...] = OUTPUT_STRIDES
    features_stride: int | None = None
    size_hw: tuple[int, int] = (512, 512)
    resize: Resize = "stretch"
    align_corners: bool = False


def _plus(name: str, summary: str, parameters: int, macs: int) -> ModelRecord:
    return ModelRecord(name, name, "aspp", True, f"{summary}, ASPP, decoder (DeepLabv3+)", parameters, macs)


def _lite(backbone: str, summary: str, parameters: int, macs: int) -> ModelRecord:
    name = f"{backbone}_lite"
    return ModelRecord(name, backbone, "aspp_lite", False, f"{summary}, pooling and 1x1 head", parameters, macs)


def _whole(
    name: str, summary: str, output_stride: int, features_stride: int, parameters: int, macs: int
) -> ModelRecord:
    strides = (output_stride,)
    return ModelRecord(
        name, name, "none", False, summary, parameters, macs, output_stride, strides, features_stride=features_stride
    )


MODELS = {
    record.name: record
    for record in (
        _plus("mobilenetv2", "MobileNetV2", 2_758_597, 5_598_625_792),
        _lite("mobilenetv2", "MobileNetV2", 2_146_645, 2_603_958_272),
        ModelRecord(
            "deeplabv3_mobilenetv2",
            "mobilenetv2_slim",
            "aspp_lite",
            False,
            "MobileNetV2 as in Google's DeepLabv3 release: output stride 8, padded to 513x513, corners aligned",
            2_146_645,
            8_825_853_632,
            output_stride=8,
            size_hw=(513, 513),
            resize="pad",
            align_corners=True,
        ),
        _plus("mobilenetv3large", "MobileNetV3 Large", 3_543_205, 4_723_097_472),
        _lite("mobilenetv3large", "MobileNetV3 Large", 3_060_373, 1_858_682_752),
        _plus("mobilenetv3small", "MobileNetV3 Small", 1_501_013, 3_460_399_104),
        _lite("mobilenetv3small", "MobileNetV3 Small", 1_070_213, 654_376_960),
        _plus("resnet50", "ResNet-50", 26_793_413, 36_881_825_792),
        _plus("resnet101", "ResNet-101", 45_863_877, 56_276_287_488),
        _plus("efficientnetv2b0", "EfficientNetV2-B0", 6_415_317, 9_302_179_072),
        _lite("efficientnetv2b0", "EfficientNetV2-B0", 5_906_277, 6_405_422_336),
        _plus("convnext_tiny", "ConvNeXt-T", 29_328_293, 38_908_395_520),
        _plus("xception", "Xception-65 as modified for DeepLab", 41_258_213, 51_284_320_256),
        _plus("peleenet", "PeleeNet", 3_533_797, 7_187_972_096),
        _lite("peleenet", "PeleeNet", 2_606_965, 3_798_908_928),
        _whole(
            "fast_scnn", "Fast-SCNN, two branches for large pictures, logits at stride 8", 32, 8, 1_161_733, 839_933_952
        ),
        _whole("unet", "U-Net, logits at the picture's own size: heavy", 16, 1, 31_049_749, 193_005_092_864),
    )
}


@dataclasses.dataclass(frozen=True)
class ModelName:
    """A name and the options that change the network: ``mobilenetv2:alpha=0.5,width=128,subpixel=4``.

    ``alpha`` multiplies the backbone's widths; ``width`` is the channels of the head's and decoder's convolutions;
    ``head`` and ``decoder`` replace those of the record (None: as it says); ``subpixel`` is the factor by which the
    classifier itself enlarges its output (1: not at all).
    Options at their default are left out, so the plain name is what most files carry. This string is ``model.name`` in
    a spec; it is enough, with the number of classes, to build the same network at any size and output stride.
    """

    name: str
    alpha: float = 1.0
    width: int = 256
    head: Head | None = None
    decoder: bool | None = None
    subpixel: int = 1

    def __post_init__(self) -> None:
        if self.name not in MODELS:
            raise UsageError(f"unknown model type '{self.name}'. Known: {', '.join(MODELS)}.")
        if not 0.1 <= self.alpha <= 4.0:
            raise UsageError(f"width multiplier alpha is {self.alpha:g}, expected 0.1 to 4 (1 is as published).")
        if not 8 <= self.width <= 4096:
            raise UsageError(f"head width is {self.width}, expected 8 to 4096 channels (256 is as published).")
        if self.subpixel not in SUBPIXEL_FACTORS:
            raise UsageError(f"sub-pixel factor is {self.subpixel}, expected one of {SUBPIXEL_FACTORS}.")
        if self.head not in (None, *HEADS):
            raise UsageError(f"head is '{self.head}', expected one of {', '.join(HEADS)}.")
        record = MODELS[self.name]
        # An option that repeats the record is none: equal networks have equal names.
        object.__setattr__(self, "head", None if self.head == record.head else self.head)
        object.__setattr__(self, "decoder", None if self.decoder == record.decoder else self.decoder)
        if record.features_stride is not None and (self.head is not None or self.decoder is not None):
            raise UsageError(f"'{self.name}' is a whole network: it has no other head or decoder.")

    def __str__(self) -> str:
        options = [f"alpha={self.alpha:g}"] if self.alpha != 1.0 else []
        options += [f"width={self.width}"] if self.width != 256 else []
        options += [f"head={self.head}"] if self.head is not None else []
        options += [f"decoder={int(self.decoder)}"] if self.decoder is not None else []
        options += [f"subpixel={self.subpixel}"] if self.subpixel != 1 else []
        return f"{self.name}:{','.join(options)}" if options else self.name

    @property
    def record(self) -> ModelRecord:
        """The record, with the head and decoder of the options."""
        record = MODELS[self.name]
        head = record.head if self.head is None else self.head
        return dataclasses.replace(record, head=head, decoder=record.decoder if self.decoder is None else self.decoder)

    @property
    def backbone(self) -> Backbone:
        return BACKBONES[self.record.backbone]

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Read a name with or without options.

        Raises:
            UsageError: the name is not in the registry, or an option is unknown or out of range.
        """
        name, _, tail = text.partition(":")
        options: dict[str, Any] = {}
        for option in filter(None, tail.split(",")):
            key, _, value = option.partition("=")
            try:
                options[key] = _READ[key](value)
            except (KeyError, ValueError):
                raise UsageError(
                    f"model name '{text}': '{option}' is not an option. Known: alpha=<number>, width=<whole number>, "
                    f"head={'|'.join(HEADS)}, decoder=0|1, subpixel={'|'.join(map(str, SUBPIXEL_FACTORS))}."
                ) from None
        return cls(name, **options)


_READ: dict[str, Any] = {
    "alpha": float,
    "width": int,
    "head": str,
    "decoder": {"0": False, "1": True}.__getitem__,
    "subpixel": int,
}
