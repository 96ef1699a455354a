"""What a model file says about itself, whatever its format: the tensors in and out, and its own metadata."""

from __future__ import annotations

from dataclasses import dataclass


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
    ``align_corners`` is what its own last resize says, None where it tells nothing."""

    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    metadata: dict[str, str]
    align_corners: bool | None = None
