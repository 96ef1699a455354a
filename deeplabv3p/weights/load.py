"""Weights into a model: everything is checked before anything changes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplabv3p import archives, files
from deeplabv3p.errors import DataError
from deeplabv3p.spec import Preprocessing
from deeplabv3p.weights import keras_files, names, tensorflow_files, torch_files
from deeplabv3p.weights.classes import moved, rows_by_name
from deeplabv3p.weights.source import CLASSIFIER, Array, Source

_KNOWN = "a Keras model or its weights (.keras, .h5), a frozen TensorFlow graph (.pb) or checkpoint, torch's .pth, .npz"


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a load did: how many layers got weights, which of ours kept their own, which of the source had no place
    here, the preprocessing that the weights were trained with where the source is known for one, and what the source
    is in words."""

    layers: int
    skipped: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    source: str = ""


def load_weights(
    model: Any,
    source: Source | str | os.PathLike[str],
    *,
    other_classes: bool = False,
    partial: bool = False,
    classes: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Loaded:
    """Load the weights of a whole network into ``model``.

    Every layer of the model must be found with its shapes, and every layer of the source must have its place: weights
    of a larger network, such as a ResNet-101 into a ResNet-50, fit by name and shape and would still be wrong.

    Args:
        model: the Keras model to fill.
        source: a file of any kind that :func:`read_source` knows, or what that gave.
        other_classes: keep the classifier (layer ``logits``) as it is when only its class count differs: the start of a
            fine-tuning on other classes.
        partial: load what fits and report the rest.
        classes: the names of the source's classes and of the model's, in order. Each class of the classifier then gets
            the weights that the source has for its name, or keeps its own where the source has no such class;
            ``skipped`` names the classifier where it has none of them.

    Raises:
        DataError: no such file, not such a file, or the weights of another network. The model is then unchanged.
    """
    return _assign(model, _read(source), keep_classifier=other_classes, partial=partial, classes=classes)


def load_backbone(model: Any, source: Source | str | os.PathLike[str], *, head_prefixes: tuple[str, ...]) -> Loaded:
    """Load backbone weights into a network. The source may have a head or a classifier of its own, which is left out.

    Args:
        model: a network of :func:`deeplabv3p.models.factory.build_model`.
        source: as for :func:`load_weights`.
        head_prefixes: layers whose names start so are not the backbone and keep their weights.

    Raises:
        DataError: as :func:`load_weights`.
    """

    def is_head(name: str) -> bool:
        return name.startswith(head_prefixes)

    return _assign(model, _read(source), is_head=is_head)


def read_source(path: str | os.PathLike[str]) -> Source:
    """Read weights of any known kind; the content decides which it is, the name only where the content cannot.

    Raises:
        DataError: there is no such file, it is of no known kind, or it is damaged.
    """
    path = Path(path)
    prefix = _checkpoint_prefix(path)
    if prefix is not None:
        return tensorflow_files.read_checkpoint(prefix)
    if not path.is_file():
        raise DataError(f"no weights file {path}. Give {_KNOWN}.")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"\x89HDF"):
        return keras_files.read_keras_file(path)
    if start.startswith(b"PK"):
        return _read_archive(path)
    if path.suffix == ".pb":
        return tensorflow_files.read_frozen_graph(path)
    if path.suffix in (".pth", ".pt"):
        raise DataError(
            f"{path} is in torch's old format, or damaged. Write it anew with torch 1.6 or later: "
            "torch.save(torch.load(FILE), FILE)."
        )
    raise DataError(f"{path} is no weights file that is known here. Give {_KNOWN}.")


def _read(source: Source | str | os.PathLike[str]) -> Source:
    return source if isinstance(source, Source) else read_source(source)


def _checkpoint_prefix(path: Path) -> Path | None:
    """``model.ckpt-30000`` of ``model.ckpt-30000.index``, its data file, or the bare prefix; None for other files."""
    for prefix in (path, path.with_suffix("")):
        if prefix.with_name(f"{prefix.name}.index").is_file():
            return prefix
    return None


def _read_archive(path: Path) -> Source:
    members = archives.check_archive(path, "a weights file")
    if any(name.endswith(".h5") for name in members):
        return keras_files.read_keras_file(path)
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in members):
        return torch_files.from_arrays(torch_files.read_state_dict(path), path, "torch state dict")
    arrays = files.read_npz(path)
    if any("|" in name for name in arrays):
        return tensorflow_files.read_slim_arrays(arrays, path)
    return torch_files.from_arrays(arrays, path, "arrays of a torch state dict")


def _assign(
    model: Any,
    source: Source,
    *,
    is_head: Callable[[str], bool] | None = None,
    keep_classifier: bool = False,
    partial: bool = False,
    classes: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Loaded:
    """Set the weights of every layer of ``model``, or of its backbone alone where ``is_head`` is given."""
    wanted = [layer for layer in model.layers if layer.weights and not (is_head and is_head(layer.name))]
    plan, missing, different, skipped = [], [], [], []
    for layer in wanted:
        found = source.layers.get(layer.name)
        if found is None:
            missing.append(layer.name)
        elif classes and layer.name == CLASSIFIER:
            tensors, any_known = _by_name(layer, found, *classes)
            if tensors is None:
                different.append(f"'{layer.name}' has {_shapes(found)}, which is not of the {len(classes[0])} classes")
            elif any_known:
                plan.append((layer, tensors))
            else:
                skipped.append(layer.name)
        elif _fit(found, layer.weights):
            plan.append((layer, _converted(layer, found, source)))
        elif keep_classifier and layer.name == CLASSIFIER and _same_but_classes(found, layer.weights):
            skipped.append(layer.name)
        else:
            different.append(f"'{layer.name}' has {_shapes(found)}, the network needs {_shapes(layer.weights)}")
            skipped.append(layer.name)
    placed = {layer.name for layer in wanted}
    unused = [*(name for name in source.layers if name not in placed), *source.unused]
    strange = [name for name in unused if not (is_head and (is_head(name) or names.is_classifier_part(name)))]
    if not plan or ((missing or different or strange) and not partial):
        raise DataError(_misfit(source, len(plan), len(wanted), missing, different, strange))
    for layer, tensors in plan:
        layer.set_weights(tensors)
    return Loaded(len(plan), (*missing, *skipped), tuple(unused), source.preprocessing, source.kind)


def _by_name(
    layer: Any, found: list[Array], theirs: Sequence[str], ours: Sequence[str]
) -> tuple[list[Array] | None, bool]:
    """The classifier's weights with each class where it is here, None if it is no classifier of the classes ``theirs``;
    and whether the source has any of ours."""
    rows = rows_by_name(theirs, ours)
    return moved(found, layer.get_weights(), rows, len(theirs)), any(row is not None for row in rows)


def _misfit(
    source: Source, matched: int, total: int, missing: list[str], different: list[str], strange: list[str]
) -> str:
    parts = [f"{source.path} ({source.kind}) holds another network: {matched} of {total} layers match"]
    if missing:
        parts.append(f"there are no weights for {_few(missing)}")
    if different:
        parts.append(different[0] + (f", and {len(different) - 1} more differ" if different[1:] else ""))
    if strange:
        parts.append(f"it has layers that the network has not: {_few(strange)}")
    return f"{'; '.join(parts)}. Check --model_type, --alpha and the number of classes."


def _few(layers: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in layers[:3])
    return f"{shown} and {len(layers) - 3} more" if layers[3:] else shown


def _shapes(tensors: list[Any]) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in tensors]


def _same_but_classes(found: list[Array], ours: list[Any]) -> bool:
    return [shape[:-1] for shape in _shapes(found)] == [shape[:-1] for shape in _shapes(ours)]


def _fit(found: list[Array], ours: list[Any]) -> bool:
    """Whether the shapes are equal. Axes of length 1 do not count: the numbers and their order are the same. Grouped
    convolutions [h, w, 1, C] and layer scales [C] fill depthwise convolutions [h, w, C, 1] so."""
    return [_long_axes(shape) for shape in _shapes(found)] == [_long_axes(shape) for shape in _shapes(ours)]


def _long_axes(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


def _converted(layer: Any, tensors: list[Array], source: Source) -> list[Array]:
    """The weights as the layer has them. A batch norm that was trained with another epsilon computes the same in
    inference when gamma absorbs the difference: γ' = γ·sqrt((σ² + ε_ours) / (σ² + ε_source))."""
    epsilon = source.epsilons.get(layer.name)
    if epsilon is not None and epsilon != layer.epsilon:
        if len(tensors) != 4:
            raise DataError(f"{source.path}: '{layer.name}' has epsilon {epsilon:g} and no gamma to absorb it.")
        gamma, beta, mean, variance = (np.asarray(tensor, np.float64) for tensor in tensors)
        tensors = [gamma * np.sqrt((variance + layer.epsilon) / (variance + epsilon)), beta, mean, variance]
    return [np.reshape(tensor, weight.shape) for tensor, weight in zip(tensors, layer.weights, strict=True)]
