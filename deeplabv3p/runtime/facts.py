"""What a model file says about itself, whatever its format: the tensors in and out, and its own metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deeplabv3p.errors import DataError
from deeplabv3p.spec import OutputKind


@dataclass(frozen=True)
class TensorFacts:
    """A tensor of a model file. Sides that the file leaves open are None. ``scale`` and ``zero_point`` are those of one
    quantization for the whole tensor, None where it has none."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class FileFacts:
    """A model file: ``metadata`` holds the strings it carries (class names, a spec) by their keys in the file.

    What follows is read from its last operations, None where they tell nothing: ``align_corners`` of its last bilinear
    resize, the ``kind`` of its first output, how many classes (``num_classes``) an argmax chooses from, and the longest
    side (``max_side``, pixels) of pictures that a model of any size takes.
    """

    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    metadata: dict[str, str]
    align_corners: bool | None = None
    kind: OutputKind | None = None
    num_classes: int | None = None
    max_side: int | None = None


def pick(tensors: Sequence[TensorFacts], name: str, where: object) -> int:
    """The index of the tensor of that name; the only one, whatever its name, where there is one.

    Raises:
        DataError: there are several, and none has the name; or none at all.
    """
    for index, tensor in enumerate(tensors):
        if tensor.name == name:
            return index
    if len(tensors) == 1:
        return 0
    names = ", ".join(repr(tensor.name) for tensor in tensors[:8])
    raise DataError(f"{where} has no tensor '{name}', which its spec names. It has {names or 'none'}.")
