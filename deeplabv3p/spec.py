"""ModelSpec: the contract that travels with every artifact, as JSON beside it and inside it.

What the input must look like, what comes out, which classes there are. Python and C++ read the same file, so reading
is strict: an unknown key, a missing key or a value of the wrong type is an error that names the key. It needs the
standard library only.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

from deeplabv3p import documents, files
from deeplabv3p.errors import DataError

SCHEMA_VERSION = 1
SIDECAR_SUFFIX = ".spec.json"
MAX_BYTES = 1 << 20
"""Of a spec: 255 classes with long names are a tenth of it."""
FULL_RANGE = 65535
"""The largest value that 16 bits can hold."""

Task = Literal["segmentation", "classification"]
Layout = Literal["NHWC", "NCHW"]
Dtype = Literal["float32", "float16", "uint8", "int8"]
Color = Literal["RGB", "BGR"]
Resize = Literal["stretch", "fit", "pad", "crop", "window"]
OutputKind = Literal["logits", "probabilities", "labels"]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Which network: ``name`` is the registry's name, with build options that differ from the default appended
    (``mobilenetv2:alpha=0.5``), so that it can be built again at another size; ``output_stride`` is null where the
    network has none (classifiers, third-party files)."""

    name: str
    output_stride: int | None


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What a network's weights were trained with: (x − mean) / std of pixels 0 to 255, in the order of ``color``."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    color: Color = "RGB"


SYMMETRIC = Preprocessing((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
"""−1 to 1: TensorFlow's mobile networks and Google's DeepLab releases."""
IMAGENET_STATISTICS = Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean (0.485, 0.456, 0.406) and deviation (0.229, 0.224, 0.225) of 255: torch's weights, and newer Keras ones."""
CAFFE = Preprocessing((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), "BGR")
"""BGR without the mean, not scaled: the first ResNet and VGG weights."""


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """The input tensor and how a picture becomes one.

    ``size_hw`` is null for any size, then bounded by ``max_side`` (pixels). ``mean``, ``std`` and ``pad_value`` are in
    picture units (0 to 255), in the order of ``color``; the tensor holds (x − mean) / std. ``scale`` and ``zero_point``
    quantize it: q = round(x / scale) + zero_point, null where the input is float. ``picture_max`` is the value of white
    in picture files of 16 bits a channel: 4095 where a camera has 12 bits (:func:`deeplabv3p.pixels.to_bytes`). JSON
    has it only where it is not 65535, so that earlier readers open all other files.
    """

    name: str
    size_hw: tuple[int, int] | None
    max_side: int | None
    layout: Layout
    dtype: Dtype
    color: Color
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float | None
    zero_point: int | None
    resize: Resize
    pad_value: float
    interpolation: Literal["bilinear"]
    picture_max: int = dataclasses.field(default=FULL_RANGE, metadata={"optional": True})

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(self.mean, self.std, self.color)


@dataclasses.dataclass(frozen=True)
class OutputSpec:
    """The output tensor: ``stride`` is input pixels per output pixel; ``align_corners`` says how its grid lies on the
    input (false: half-pixel centres); ``scale`` and ``zero_point`` as for the input."""

    name: str
    layout: Layout
    kind: OutputKind
    stride: int
    align_corners: bool
    scale: float | None
    zero_point: int | None


@dataclasses.dataclass(frozen=True)
class ClassInfo:
    """A class: its name, and its colour as (red, green, blue), 0 to 255."""

    name: str
    color: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Window:
    """A sliding window: its size and step as (height, width) in pixels."""

    size_hw: tuple[int, int]
    stride_hw: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where the weights come from: their SHA-256, the dataset, the protocol of the score, and mIoU as a fraction.

    The score is that of the run's validation list, or of the list that stands before the protocol (``test.txt: …``).
    ``terms`` says what the weights may be used for, as far as it is known: their licence, and the terms of the pictures
    that they learned from. JSON has it only where it is not empty.
    """

    weights_sha256: str = ""
    dataset: str = ""
    protocol: str = ""
    miou: float | None = None
    terms: str = dataclasses.field(default="", metadata={"optional": True})


def ignored_class(ignore_index: int | None, num_classes: int) -> int | None:
    """The class whose own number is the ignored one, so that none of its pixels counts; None where it is no class."""
    return ignore_index if ignore_index is not None and ignore_index < num_classes else None


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The whole contract. ``classes[i]`` is label i. Build one directly, or read it with :meth:`load`."""

    schema_version: int
    task: Task
    model: ModelInfo
    input: InputSpec
    output: OutputSpec
    classes: tuple[ClassInfo, ...]
    ignore_index: int | None
    window: Window | None
    provenance: Provenance

    def __post_init__(self) -> None:
        _check_meaning(self)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def ignored_class(self) -> int | None:
        """See :func:`ignored_class`."""
        return ignored_class(self.ignore_index, self.num_classes)

    @classmethod
    def from_dict(cls, data: Any, where: str = "spec") -> ModelSpec:
        """Build a spec from parsed JSON. ``where`` names the source in error messages.

        Raises:
            DataError: an unknown or missing key, a wrong type, a value that makes no sense, a newer schema.
        """
        if isinstance(data, dict):
            version = data.get("schema_version")
            if isinstance(version, int) and SCHEMA_VERSION < version < _LARGEST:
                raise DataError(
                    f"{where}: schema_version {version} is newer than {SCHEMA_VERSION}, the newest this version reads. "
                    "Update deeplabv3p."
                )
        try:
            return typing.cast(ModelSpec, _read(cls, data, ""))
        except _SpecError as error:
            raise DataError(f"{where}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON-ready dicts and lists, in the order of the schema."""
        return typing.cast(dict[str, Any], _plain(self))

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "spec") -> ModelSpec:
        """Read JSON text; raises as :meth:`from_dict`."""
        return cls.from_dict(documents.parse_json(text, where), where)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ModelSpec:
        """Read a spec file; raises DataError where it is missing, unreadable or wrong."""
        return cls.from_json(files.read_bytes(path, what="the spec", limit=MAX_BYTES), str(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the spec atomically as UTF-8 JSON."""
        files.write_text(path, self.to_json())

    def replace(self, **sections: Any) -> ModelSpec:
        """A copy with other sections or fields: ``spec.replace(input={"size_hw": (65, 97)}, ignore_index=None)``.
        A dict value changes the named fields of that section; anything else replaces the section."""
        changes = {
            name: dataclasses.replace(getattr(self, name), **value) if isinstance(value, dict) else value
            for name, value in sections.items()
        }
        return dataclasses.replace(self, **changes)


def sidecar_path(artifact: str | os.PathLike[str]) -> Path:
    """Where the spec of an artifact lies: ``model.keras`` → ``model.keras.spec.json``, in the same folder."""
    return Path(f"{os.fspath(artifact)}{SIDECAR_SUFFIX}")


class _SpecError(ValueError):
    pass


def _read(kind: Any, value: Any, key: str) -> Any:
    """Convert parsed JSON to the type ``kind``; ``key`` is the dotted path for messages."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _read(next(a for a in arguments if a is not type(None)), value, key)
    if dataclasses.is_dataclass(kind):
        return _read_object(kind, value, key)
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise _SpecError(f"'{key}' is {_show(value)}, expected one of {', '.join(arguments)}.")
        return value
    if origin is tuple:
        variable = len(arguments) == 2 and arguments[1] is Ellipsis
        if not isinstance(value, (list, tuple)) or not (variable or len(value) == len(arguments)):
            count = "a list" if variable else f"a list of {len(arguments)}"
            raise _SpecError(f"'{key}' is {_show(value)}, expected {count}.")
        kinds = [arguments[0]] * len(value) if variable else arguments
        return tuple(_read(k, v, f"{key}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < _LARGEST else math.inf
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise _SpecError(f"'{key}' is {_show(value)}, expected {_TYPE_NAMES[kind]}.")
    if kind is float and not math.isfinite(value):
        raise _SpecError(f"'{key}' is {value}, expected a finite number.")
    if kind is int and abs(value) >= _LARGEST:
        raise _SpecError(f"'{key}' is out of range.")
    if kind is str and not documents.is_text(value):
        raise _SpecError(f"'{key}' is {_show(value)}, which has half a character.")
    return value


def _read_object(kind: Any, value: Any, key: str) -> Any:
    if not isinstance(value, dict):
        raise _SpecError(f"{repr(key) if key else 'the spec'} is {_show(value)}, expected an object.")
    hints = typing.get_type_hints(kind)
    prefix = f"{key}." if key else ""
    for name in value:
        if name not in hints:
            raise _SpecError(f"unknown key '{prefix}{documents.shown(name)}'. Known here: {', '.join(hints)}.")
    optional = {field.name for field in dataclasses.fields(kind) if _is_optional(field)}
    for name in hints:
        if name not in value and name not in optional:
            raise _SpecError(f"missing key '{prefix}{name}'.")
    return kind(**{name: _read(hint, value[name], prefix + name) for name, hint in hints.items() if name in value})


def _is_optional(field: dataclasses.Field[Any]) -> bool:
    """Whether JSON leaves a field out where it has its default. A default alone does not make it so."""
    return bool(field.metadata.get("optional"))


_LARGEST = 1 << 63  # whole numbers from here on are in no tensor and in no C++ program
_TYPE_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def _check_meaning(spec: ModelSpec) -> None:
    """What types cannot say. The messages name the key, as for wrong types."""

    def need(condition: bool, key: str, expected: str, value: Any) -> None:
        if not condition:
            raise _SpecError(f"'{key}' is {_show(value)}, expected {expected}.")

    need(spec.schema_version == SCHEMA_VERSION, "schema_version", str(SCHEMA_VERSION), spec.schema_version)
    size, side = spec.input.size_hw, spec.input.max_side
    need(size is None or min(size) > 0, "input.size_hw", "positive sizes or null", size)
    need(side is None or side > 0, "input.max_side", "a positive size or null", side)
    need(min(spec.input.std) > 0, "input.std", "positive numbers", spec.input.std)
    white = spec.input.picture_max
    need(1 <= white <= FULL_RANGE, "input.picture_max", f"1 to {FULL_RANGE}", white)
    need(spec.output.stride > 0, "output.stride", "a positive number", spec.output.stride)
    stride = spec.model.output_stride
    need(stride is None or stride > 0, "model.output_stride", "a positive number or null", stride)
    for section, tensor in (("input", spec.input), ("output", spec.output)):
        scale = tensor.scale
        need(scale is None or scale > 0, f"{section}.scale", "a positive number or null", scale)
        paired = (scale is None) == (tensor.zero_point is None)
        need(paired, f"{section}.zero_point", "null exactly where scale is null", tensor.zero_point)
    need(len(spec.classes) > 0, "classes", "at least one class", [])
    for index, item in enumerate(spec.classes):
        # Half characters crash what draws text.
        need(documents.is_text(item.name), f"classes[{index}].name", "text", item.name)
        in_range = all(0 <= value <= 255 for value in item.color)
        need(in_range, f"classes[{index}].color", "values from 0 to 255", item.color)
    ignore = spec.ignore_index
    need(ignore is None or 0 <= ignore <= 65535, "ignore_index", "0 to 65535 or null", ignore)
    if spec.window is not None:
        numbers = (*spec.window.size_hw, *spec.window.stride_hw)
        need(min(numbers) > 0, "window", "positive sizes and strides", numbers)
    miou = spec.provenance.miou
    need(miou is None or 0 <= miou <= 1, "provenance.miou", "a fraction or null", miou)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
        return {f.name: _plain(item) for f, item in fields if not (_is_optional(f) and item == f.default)}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _show(value: Any) -> str:
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets of any depth
        return "something else"
    return text if len(text) <= 60 else text[:57] + "..."
