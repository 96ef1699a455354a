"""Which layer is to blame, from the errors of layers and the graph they form. NumPy only; ``bisect`` runs engines."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_TRACE = 0.01  # of a layer's error must be left in one that reads it; quantizing again may hide the rest

Array = npt.NDArray[np.float32]
Parents = Mapping[str, tuple[str, ...]]
"""By layer, the layers that it reads."""


@dataclass(frozen=True)
class LayerError:
    """A layer of the reference, the kind of operation it is (its Keras class), and its relative error: the root mean
    square of the difference over that of the reference's values. ``before`` is the largest of the layers it reads.
    ``fused`` are layers right before it that the file does not show, as ``name (Kind)``: its error may be theirs."""

    layer: str
    kind: str
    error: float
    before: float
    fused: tuple[str, ...] = ()


def match(layers: Sequence[str], tensors: Sequence[str], output: str) -> dict[str, str]:
    """Which tensor of a file is the output of which layer.

    Converters name a tensor by the scope of its layer (``block_1_add/Add:0``), and one that several layers were fused
    into by all of them (``a_relu/Relu;a/BiasAdd``): it is the output of the last of these. Of several tensors of a
    layer the last is its output.

    Args:
        layers: names, in the order in which they run.
        tensors: names, in the order in which they are computed.
        output: the name of the file's output, which is the last layer's whatever it is called.

    Returns:
        Layer → tensor, in the order of the layers.
    """
    places = {layer.replace("#", "_"): index for index, layer in enumerate(layers)}
    found: dict[int, str] = {}
    for tensor in tensors:
        named = [places[part] for part in re.split(r"[/;:]", tensor) if part in places]
        if named:
            found[max(named)] = tensor
    if output in tensors:
        found[len(layers) - 1] = output
    return {layers[index]: found[index] for index in sorted(found)}


def relative_error(reference: Array, values: Array) -> float | None:
    """RMS(values − reference) / RMS(reference), for values in the reference's layout or channels first; None where the
    shapes do not fit. Infinite for NaN and infinity in ``values``."""
    candidates = []
    if values.shape == reference.shape:
        candidates.append(values)
    if values.ndim == 4 and values.transpose(0, 2, 3, 1).shape == reference.shape:
        candidates.append(values.transpose(0, 2, 3, 1))
    if not candidates and values.size == reference.size == max(values.shape):  # one pixel: [1, C] or [1, C, 1, 1]
        candidates.append(values.reshape(reference.shape))
    if not candidates or not reference.size:
        return None
    whole = float(np.sqrt(np.mean(np.square(reference, dtype=np.float64)))) or 1.0
    # Height, width and channels may have one length; the wrong order is then far off.
    error = min(float(np.sqrt(np.mean(np.square(item.astype(np.float64) - reference)))) for item in candidates) / whole
    return error if np.isfinite(error) else float("inf")


def first_departure(steps: Sequence[LayerError], parents: Parents, tolerance: float) -> LayerError | None:
    """The first step over the tolerance whose inputs are not and whose error goes on to a layer that reads it.

    An error that nothing after it shows is no error: the file has another tensor under that name.
    """
    errors = {step.layer: step.error for step in steps}
    readers: dict[str, list[str]] = {}
    for layer in errors:
        for parent in nearest(layer, parents, errors):
            readers.setdefault(parent, []).append(layer)
    for step in steps:
        seen_later = (errors[reader] > _TRACE * step.error for reader in readers.get(step.layer, ()))
        goes_on = step.layer not in readers or any(seen_later)
        if step.error > tolerance >= step.before and goes_on:
            return step
    return None


def nearest(layer: str, parents: Parents, known: Container[str]) -> list[str]:
    """The closest layers before ``layer`` that are ``known``, on every way back to the input."""
    return [name for name in _back(layer, parents, known) if name in known]


def hidden(layer: str, parents: Parents, known: Container[str]) -> list[str]:
    """The layers between ``layer`` and the :func:`nearest` ones, the closest first."""
    return [name for name in _back(layer, parents, known) if name not in known]


def _back(layer: str, parents: Parents, known: Container[str]) -> Iterator[str]:
    """Every layer on the ways back from ``layer``, up to known ones."""
    left, seen = list(parents[layer]), set()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        yield name
        if name not in known:
            left += parents[name]


def search(
    names: Sequence[str],
    parents: Parents,
    error: Callable[[str], float],
    tolerance: float,
) -> str | None:
    """The first layer that is off while all it reads is right, by halving; None where the last one is right.

    Branches run side by side, so that a right layer may follow a wrong one: what was found is checked against all that
    it reads, and the search goes on among the ancestors of any that is off.
    """
    known = dict.fromkeys(names)
    wrong = names[-1]
    if error(wrong) <= tolerance:
        return None
    while True:
        ancestors = set(_back(wrong, parents, ()))
        chain = [*(name for name in names if name in ancestors), wrong]
        right, off = -1, len(chain) - 1
        while off - right > 1:
            middle = (off + right) // 2
            if error(chain[middle]) > tolerance:
                off = middle
            else:
                right = middle
        wrong = chain[off]
        earlier = next((name for name in nearest(wrong, parents, known) if error(name) > tolerance), None)
        if earlier is None:
            return wrong
        wrong = earlier
