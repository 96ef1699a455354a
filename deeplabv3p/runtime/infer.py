"""A spec for a model file that comes without one: from the file's own metadata and shapes, from flags, and for what
neither tells from what is usual, which is then noted as an assumption."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from deeplabv3p.data.classes import MAX_CLASSES, default_colors
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.runtime.facts import FileFacts, TensorFacts
from deeplabv3p.runtime.fit import split
from deeplabv3p.spec import (
    FULL_RANGE,
    SCHEMA_VERSION,
    SYMMETRIC,
    ClassInfo,
    Color,
    InputSpec,
    Layout,
    ModelInfo,
    ModelSpec,
    OutputKind,
    OutputSpec,
    Preprocessing,
    Provenance,
    Resize,
)

Triple = tuple[float, float, float]

_AS_THEY_ARE = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_INPUT_TYPES = ("float32", "float16", "uint8", "int8")
# How far, in pixel values, the range of a quantized input may be from that of the file's own mean and std. Quantizers
# place zero on a whole number, which moves the range by up to half a step; two allow for odd rounding.
_SAME_RANGE = 2.0


@dataclasses.dataclass(frozen=True)
class Given:
    """What the user says about a file, in the terms of :class:`InputSpec` and :class:`OutputSpec`; None: not said."""

    mean: Triple | None = None
    std: Triple | None = None
    color: Color | None = None
    resize: Resize | None = None
    output_kind: OutputKind | None = None
    align_corners: bool | None = None
    picture_max: int | None = None
    input_name: str | None = None
    output_name: str | None = None

    def apply(self, spec: ModelSpec) -> ModelSpec:
        """The spec with what is given instead of its own."""
        sections: dict[str, dict[str, Any]] = {"input": {}, "output": {}}
        for field, (section, name) in _PLACES.items():
            value = getattr(self, field)
            if value is not None:
                sections[section][name] = value
        return spec.replace(**sections)


_PLACES = {
    "mean": ("input", "mean"),
    "std": ("input", "std"),
    "color": ("input", "color"),
    "resize": ("input", "resize"),
    "output_kind": ("output", "kind"),
    "align_corners": ("output", "align_corners"),
    "picture_max": ("input", "picture_max"),
    "input_name": ("input", "name"),
    "output_name": ("output", "name"),
}
"""Where each field of :class:`Given` goes in a spec."""


def infer_spec(
    path: Path, facts: FileFacts, classes: tuple[ClassInfo, ...] | None = None, given: Given | None = None
) -> tuple[ModelSpec, tuple[str, ...]]:
    """Work out the spec of a file that has none.

    Args:
        path: the file, named in messages; its stem becomes the model's name.
        facts: what the file says about itself.
        classes: the class list, if there is one; else the file's own, or numbers.
        given: what the user says, which wins.

    Returns:
        The spec, and what was assumed, a phrase each.

    Raises:
        DataError: the file is no segmentation network, or does not tell how many classes it has.
        UsageError: the class list has another length than the file, or a tensor that is named is not there.
    """
    given = given or Given()
    notes: list[str] = []
    picture = _tensor(facts.inputs, given.input_name, path)
    output = _tensor(facts.outputs, given.output_name, path)
    layout, size_hw = _input_layout(picture, path)
    if picture.dtype not in _INPUT_TYPES:
        raise DataError(f"{path} takes {picture.dtype}, expected one of {', '.join(_INPUT_TYPES)}.")
    preprocessing = _preprocessing(picture, facts, given, notes)
    kind = given.output_kind or facts.kind or _likely_kind(output)
    out_layout, output_hw, count = _output_layout(output, kind, layout, facts, path)
    classes = _classes(count, facts, classes, path, notes)
    max_side = facts.max_side if size_hw is None else None
    resize = given.resize or "fit"
    if given.resize is None and size_hw is not None:
        notes.append("pictures are fitted in and padded")
    spec = ModelSpec(
        schema_version=SCHEMA_VERSION,
        task="segmentation",
        model=ModelInfo(path.stem or path.name, None),
        input=InputSpec(
            name=picture.name,
            size_hw=size_hw,
            max_side=max_side,
            layout=layout,
            dtype=picture.dtype,  # type: ignore[arg-type]
            color=given.color or preprocessing.color,
            mean=preprocessing.mean,
            std=preprocessing.std,
            scale=picture.scale,
            zero_point=picture.zero_point,
            resize=resize,
            pad_value=127.5,
            interpolation="bilinear",
            picture_max=given.picture_max or FULL_RANGE,
        ),
        output=OutputSpec(
            name=output.name,
            layout=out_layout,
            kind=kind,
            stride=_stride(size_hw, output_hw),
            align_corners=bool(facts.align_corners if given.align_corners is None else given.align_corners),
            scale=output.scale,
            zero_point=output.zero_point,
        ),
        classes=classes,
        ignore_index=255,
        window=None,
        provenance=Provenance(),
    )
    return spec, tuple(notes)


def describe(spec: ModelSpec) -> str:
    """The parts of a spec that decide over the result, in a line: what goes in, and what comes out."""
    item = spec.input
    size = "any size" if item.size_hw is None else f"{item.size_hw[0]}x{item.size_hw[1]} {item.resize}"
    if item.size_hw is None and item.max_side is not None:
        size = f"own size up to {item.max_side}"
    quantized = "" if item.scale is None else f" (scale {item.scale:.6g}, zero point {item.zero_point})"
    pixels = f"mean {_triple(item.mean)}, std {_triple(item.std)}"
    white = "" if item.picture_max == FULL_RANGE else f", 16-bit pictures to {item.picture_max}"
    corners = ", align_corners" if spec.output.align_corners else ""
    return (
        f"input '{item.name}' {item.dtype}{quantized} {item.layout} {item.color}, {size}, {pixels}{white}; "
        f"output '{spec.output.name}' {spec.output.kind} of {spec.num_classes} classes {spec.output.layout}, "
        f"stride {spec.output.stride}{corners}"
    )


def _triple(values: Triple) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else ", ".join(f"{value:g}" for value in values)


def _tensor(tensors: tuple[TensorFacts, ...], name: str | None, path: Path) -> TensorFacts:
    """The tensor that is named, else the first."""
    if name is not None:
        for tensor in tensors:
            if tensor.name == name:
                return tensor
        names = ", ".join(repr(tensor.name) for tensor in tensors[:8])
        raise UsageError(f"{path} has no tensor '{name}' there. It has {names or 'none'}.")
    if not tensors:
        raise DataError(f"{path} has no input or no output. Name them with --input_name and --output_name.")
    return tensors[0]


def _input_layout(picture: TensorFacts, path: Path) -> tuple[Layout, tuple[int, int] | None]:
    for layout in ("NHWC", "NCHW"):
        if len(picture.shape) == 4:
            (height, width), channels = split(picture.shape, layout)
            if channels == 3:
                return layout, None if height is None or width is None else (height, width)
    if picture.shape == (None,) * 4:
        return "NHWC", None
    sides = "x".join("?" if side is None else str(side) for side in picture.shape)
    raise DataError(f"{path} does not take one batch of colour pictures: its input '{picture.name}' is {sides}.")


def _output_layout(
    output: TensorFacts, kind: OutputKind, layout: Layout, facts: FileFacts, path: Path
) -> tuple[Layout, tuple[int | None, int | None], int | None]:
    """(layout, (height, width), number of classes)."""
    shape = output.shape
    if kind == "labels":
        if len(shape) == 4 and 1 in (shape[1], shape[3]):
            own: Layout = "NCHW" if shape[1] == 1 else "NHWC"
            return own, split(shape, own)[0], facts.num_classes
        if len(shape) == 3:
            return layout, (shape[1], shape[2]), facts.num_classes
    elif len(shape) == 4:
        # The class axis is the one that differs from the others: sizes are large and alike, and come in pairs.
        first, last = split(shape, "NCHW"), split(shape, "NHWC")
        counted: dict[Layout, int | None] = {"NCHW": first[1], "NHWC": last[1]}
        other: Layout = "NHWC" if layout == "NCHW" else "NCHW"
        best = layout if (counted[layout] or 0) <= (counted[other] or MAX_CLASSES) else other
        return best, split(shape, best)[0], counted[best] or facts.num_classes
    sides = "x".join("?" if side is None else str(side) for side in shape)
    raise DataError(f"{path} is no segmentation network: its output '{output.name}' is {sides}.")


def _likely_kind(output: TensorFacts) -> OutputKind:
    """For files whose operations are not looked at: labels have no class axis, or are whole numbers."""
    quantized = output.scale is not None
    return "labels" if len(output.shape) == 3 or (output.dtype.startswith("int") and not quantized) else "logits"


def _stride(size_hw: tuple[int, int] | None, output_hw: tuple[int | None, int | None]) -> int:
    """Input pixels per output pixel; 1 where the file does not tell."""
    if size_hw is None or output_hw[0] is None:
        return 1
    return max(1, round(size_hw[0] / output_hw[0]))


def _preprocessing(picture: TensorFacts, facts: FileFacts, given: Given, notes: list[str]) -> Preprocessing:
    own = _own_preprocessing(facts)
    if picture.dtype.startswith("float"):
        found = own or SYMMETRIC
        if own is None and (given.mean is None or given.std is None):
            notes.append("mean and std 127.5")
    elif picture.scale is None:
        found = own or _AS_THEY_ARE
        if own is None and given.mean is None:
            notes.append("pixels go in as they are")
    else:
        found = _of_quantization(picture, own)
        if found is not own and given.mean is None:
            notes.append("pixels go in as they are")
    return Preprocessing(given.mean or found.mean, given.std or found.std)


def _of_quantization(picture: TensorFacts, own: Preprocessing | None) -> Preprocessing:
    """A quantized input whose range is that of the pixels takes them as they are: with mean = zero point and
    std = 1 / scale, q = round(x). Only where the file's own mean and std say another range, they count."""
    assert picture.scale is not None
    assert picture.zero_point is not None
    shift = 128 if picture.dtype == "int8" else 0
    plain = Preprocessing((float(picture.zero_point + shift),) * 3, (1.0 / picture.scale,) * 3)
    if own is None:
        return plain
    for value in (0.0, 255.0):
        quantized = (value - own.mean[0]) / own.std[0] / picture.scale + picture.zero_point + shift
        if abs(quantized - value) > _SAME_RANGE:
            return own
    return plain


def _own_preprocessing(facts: FileFacts) -> Preprocessing | None:
    """Mean and std of the file's metadata, one number for all channels or one each."""
    mean, std = (_numbers(facts.metadata.get(key, "")) for key in ("mean", "std"))
    return Preprocessing(mean, std) if mean and std and min(std) > 0 else None


def _numbers(text: str) -> Triple | None:
    if not re.fullmatch(r"[-+.\deE ]+", text):
        return None
    try:
        values = [float(part) for part in text.split()]
    except ValueError:
        return None
    if len(values) == 1:
        values *= 3
    return (values[0], values[1], values[2]) if len(values) == 3 else None


def _classes(
    count: int | None, facts: FileFacts, classes: tuple[ClassInfo, ...] | None, path: Path, notes: list[str]
) -> tuple[ClassInfo, ...]:
    if classes is not None:
        if count is not None and len(classes) != count:
            raise UsageError(f"{path} has {count} classes, the class list names {len(classes)}.")
        return classes
    names = [line.strip() for line in facts.metadata.get("classes", "").splitlines() if line.strip()]
    if names and count in (None, len(names)) and len(names) <= MAX_CLASSES and len(set(names)) == len(names):
        return tuple(map(ClassInfo, names, default_colors(len(names))))
    if count is None:
        raise DataError(f"{path} does not tell how many classes it has. Name them with --classes_path.")
    if not 0 < count <= MAX_CLASSES:
        raise DataError(f"{path} has {count} classes, expected 1 to {MAX_CLASSES}.")
    notes.append("classes without names")
    return tuple(ClassInfo(f"class {label}", color) for label, color in enumerate(default_colors(count)))
