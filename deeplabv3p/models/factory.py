"""Build a network by name, say what it expects and delivers, and build it again at another size or output stride."""

from __future__ import annotations

import keras
from keras import layers

from deeplabv3p.errors import UsageError
from deeplabv3p.models import batchnorm, graph, heads
from deeplabv3p.models.registry import ModelName
from deeplabv3p.spec import ClassInfo, InputSpec, ModelInfo, ModelSpec, OutputSpec, Preprocessing, Provenance

MIN_SIDE = 32


def build_model(
    name: str | ModelName,
    *,
    num_classes: int,
    size_hw: tuple[int, int],
    output_stride: int | None = None,
    dropout: float = 0.5,
    bn_momentum: float = 0.99,
) -> keras.Model:
    """Build a randomly initialised network.

    Args:
        name: a registry name, with options if wanted: ``mobilenetv2``, ``mobilenetv2:alpha=0.5``.
        num_classes: K.
        size_hw: input size in pixels, any from 32 up, odd and non-square included.
        output_stride: 8, 16 or 32 input pixels per feature pixel in front of the head (None: the network's usual one).
        dropout: rate in front of the decoder or classifier, while training.
        bn_momentum: share of the old moving statistics that a training step keeps, in every batch norm.

    Returns:
        A functional model of stock layers: ``image`` float32 [B, H, W, 3] → ``logits`` float32 [B, h, w, K] at the
        stride :func:`logit_stride`, no softmax.

    Raises:
        UsageError: unknown name, or a size or output stride that cannot be built.
    """
    model_name = ModelName.parse(name) if isinstance(name, str) else name
    record = model_name.record
    output_stride = output_stride or record.output_stride
    stride = logit_stride(model_name, output_stride)
    if min(size_hw) < MIN_SIDE:
        raise UsageError(f"input size is {size_hw[0]}x{size_hw[1]}, expected at least {MIN_SIDE} pixels a side.")
    image, features = model_name.backbone.features(size_hw, output_stride, model_name.alpha)
    if record.features_stride is not None:
        x = layers.Dropout(dropout, name="decoder_dropout")(features[record.features_stride])
    elif record.head == "none":
        x = layers.Dropout(dropout, name="aspp_dropout")(features[output_stride])
    else:
        head = heads.aspp if record.head == "aspp" else heads.aspp_lite
        x = head(features[output_stride], output_stride, width=model_name.width, dropout=dropout)
    if record.decoder:
        x = heads.decoder(x, features[4], width=model_name.width)
    logits_hw = (-(-size_hw[0] // stride), -(-size_hw[1] // stride))
    logits = heads.classifier(x, num_classes, subpixel=model_name.subpixel, size_hw=logits_hw)
    model = keras.Model(image, logits, name=record.name)
    batchnorm.set_momentum(model, bn_momentum)
    return model


def logit_stride(name: str | ModelName, output_stride: int) -> int:
    """Input pixels per logit pixel: the decoder's 4, or the output stride where there is no decoder, or a whole
    network's own, divided by the sub-pixel factor.

    Raises:
        UsageError: the network cannot be built at this output stride, or the sub-pixel factor is larger than it.
    """
    model_name = ModelName.parse(name) if isinstance(name, str) else name
    record = model_name.record
    if output_stride not in record.output_strides:
        known = " or ".join(map(str, record.output_strides))
        raise UsageError(f"output stride is {output_stride}, '{record.name}' can be built at {known}.")
    stride = record.features_stride or (4 if record.decoder else output_stride)
    if stride < model_name.subpixel:
        raise UsageError(f"sub-pixel factor is {model_name.subpixel}, more than the stride {stride} of the features.")
    return stride // model_name.subpixel


def model_spec(
    name: str | ModelName,
    *,
    size_hw: tuple[int, int],
    output_stride: int,
    classes: tuple[ClassInfo, ...],
    ignore_index: int | None = 255,
    preprocessing: Preprocessing | None = None,
) -> ModelSpec:
    """The spec of a network of :func:`build_model`. ``preprocessing`` defaults to the backbone's own."""
    model_name = ModelName.parse(name) if isinstance(name, str) else name
    record, preprocessing = model_name.record, preprocessing or model_name.backbone.preprocessing
    return ModelSpec(
        schema_version=1,
        task="segmentation",
        model=ModelInfo(str(model_name), output_stride),
        input=InputSpec(
            name="image",
            size_hw=size_hw,
            max_side=None,
            layout="NHWC",
            dtype="float32",
            color=preprocessing.color,
            mean=preprocessing.mean,
            std=preprocessing.std,
            scale=None,
            zero_point=None,
            resize=record.resize,
            pad_value=127.5,
            interpolation="bilinear",
        ),
        output=OutputSpec(
            name="logits",
            layout="NHWC",
            kind="logits",
            stride=logit_stride(model_name, output_stride),
            align_corners=record.align_corners,
            scale=None,
            zero_point=None,
        ),
        classes=classes,
        ignore_index=ignore_index,
        window=None,
        provenance=Provenance(),
    )


def rebuild(
    model: keras.Model,
    spec: ModelSpec,
    *,
    size_hw: tuple[int, int] | None = None,
    output_stride: int | None = None,
    dropout: float = 0.5,
    bn_momentum: float = 0.99,
) -> tuple[keras.Model, ModelSpec]:
    """The same weights in the network of another input size and output stride (train at 16, run at 8 or 32).
    ``dropout`` and ``bn_momentum`` are those of :func:`build_model`.

    Raises:
        UsageError: the model's name is not in the registry, or it has no fixed size and none is given.
    """
    size_hw = size_hw or spec.input.size_hw
    output_stride = output_stride or spec.model.output_stride
    if size_hw is None or output_stride is None:
        raise UsageError(f"model '{spec.model.name}' says no input size or output stride: give both.")
    rebuilt = build_model(
        spec.model.name,
        num_classes=spec.num_classes,
        size_hw=size_hw,
        output_stride=output_stride,
        dropout=dropout,
        bn_momentum=bn_momentum,
    )
    graph.copy_weights(model, rebuilt)
    changed = spec.replace(
        model={"output_stride": output_stride},
        input={"size_hw": size_hw},
        output={"stride": logit_stride(spec.model.name, output_stride)},
    )
    if changed != spec:  # a score belongs to the network it was measured on
        changed = changed.replace(provenance={"protocol": "", "miou": None})
    return rebuilt, changed


def freeze(model: keras.Model, level: int) -> None:
    """Set which layers train: level 0 all, 1 all but the backbone, 2 the classifier (``logits``) alone.
    Frozen batch norms use their moving statistics and leave them as they are."""
    trainable_prefixes = {0: ("",), 1: heads.PREFIXES, 2: ("logits",)}[level]
    for layer in model.layers:
        layer.trainable = layer.name.startswith(trainable_prefixes)
