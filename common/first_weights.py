"""The network that train.py starts with: built by name, filled from a file, its batch norms ready to be trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import pretrained
from deeplabv3p.data.dataset import Dataset
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.export.calibration import calibration_tensors
from deeplabv3p.models.registry import ModelName
from deeplabv3p.runtime.artifact import find_spec
from deeplabv3p.spec import ModelSpec, Preprocessing
from deeplabv3p.training.config import TrainConfig

_STARTED = "started from "  # begins the terms of what was trained from weights with terms
MEASURED_PICTURES = 64  # enough for stable channel statistics: each picture gives thousands of pixels


def default_backbone_weights(name: ModelName) -> str:
    """``imagenet`` where the backbone has such weights, else ``none``."""
    return "none" if name.backbone.imagenet_file is None else "imagenet"


def make_network(config: TrainConfig, dataset: Dataset, *, offline: bool) -> tuple[Any, ModelSpec]:
    """The Keras network with its first weights, and the spec with the preprocessing those weights were trained with.

    Raises:
        UsageError, DataError: no such network, or weights that are missing or of another network.
    """
    from deeplabv3p.models.factory import model_spec

    name = config.model_name
    model = _build(config, len(dataset.classes))
    names = [item.name for item in dataset.classes]
    preprocessing, filled, source = _fill(model, name, config, names, offline)
    spec = model_spec(
        name,
        size_hw=config.size_hw,
        output_stride=config.output_stride,
        classes=dataset.classes,
        ignore_index=dataset.ignore_index,
        preprocessing=preprocessing,
    )
    if dataset.picture_max is not None:
        spec = spec.replace(input={"picture_max": dataset.picture_max})
    if filled is not None:
        _unfold(model, spec, dataset, filled)
    provenance = {"dataset": "/".join(Path(dataset.source).parts[-2:]), "terms": _terms(source)}
    return model, spec.replace(provenance=provenance)


def network_of_run(run: Path, config: TrainConfig, dataset: Dataset) -> tuple[Any, ModelSpec]:
    """The network and the spec of a run that is resumed, from its folder alone; the weights come with its state.

    Raises:
        DataError: the folder holds no whole state, or the classes are no longer those of the run.
    """
    from deeplabv3p.training import checkpoint

    path = run / checkpoint.STATE_NAME
    spec = ModelSpec.from_json(checkpoint.load_meta(path)["spec"], str(path))
    if spec.classes != dataset.classes:
        raise DataError(f"the classes have changed since {run} was started: it has {spec.num_classes}. Restore them.")
    return _build(config, spec.num_classes), spec


def _build(config: TrainConfig, num_classes: int) -> Any:
    from deeplabv3p.models.factory import build_model

    return build_model(
        config.model_name,
        num_classes=num_classes,
        size_hw=config.size_hw,
        output_stride=config.output_stride,
        dropout=config.dropout,
        bn_momentum=config.bn_momentum,
    )


def _fill(
    model: Any, name: ModelName, config: TrainConfig, classes: list[str], offline: bool
) -> tuple[Preprocessing | None, Callable[[str], bool] | None, Path | None]:
    """Load the weights that the options name.

    Returns:
        The preprocessing they were trained with, None for the backbone's usual one; which layers they filled, by name,
        None for none; and their file, None for none.
    """
    from deeplabv3p import weights
    from deeplabv3p.models import heads

    if config.weights_path is not None:
        own = find_spec(config.weights_path)
        theirs = None if own is None else [item.name for item in own.classes]
        loaded = weights.load_weights(
            model, config.weights_path, other_classes=True, classes=None if theirs is None else (theirs, classes)
        )
        said = _classifier_text(theirs, classes, skipped=bool(loaded.skipped))
        if said is not None:
            print(f"{config.weights_path} {said}", flush=True)
        return own.input.preprocessing if own else loaded.preprocessing, lambda layer: True, Path(config.weights_path)
    source = config.backbone_weights
    if source == "none":
        return None, None, None
    if source == "imagenet":
        source = str(_imagenet_weights(name, offline=offline))
    loaded = weights.load_backbone(model, source, head_prefixes=heads.PREFIXES)
    return loaded.preprocessing, lambda layer: not layer.startswith(heads.PREFIXES), Path(source)


def _terms(source: Path | None) -> str:
    """What the first weights may be used for, which what is made of them inherits; also said on the console."""
    terms = "" if source is None else pretrained.terms_of_file(source)
    if source is None or not terms:
        return ""
    print(f"terms of use of the first weights, {pretrained.shown(source)}: {terms}", flush=True)
    return terms if terms.startswith(_STARTED) else f"{_STARTED}{source.name}: {terms}"


def _imagenet_weights(name: ModelName, *, offline: bool) -> Path:
    """The file of the backbone's ImageNet weights, downloaded where it is not here.

    Raises:
        DataError: it cannot be had; the message names the ways out.
    """
    wanted = _imagenet_file(name)
    try:
        return pretrained.fetch_weights(wanted, offline=offline).path
    except DataError as error:
        raise DataError(
            f"{error} Or pass --backbone_weights FILE with weights of the network that are here, or --backbone_weights "
            "none to start from random ones, which takes many more pictures and epochs."
        ) from None


def _classifier_text(theirs: list[str] | None, ours: list[str], *, skipped: bool) -> str | None:
    """What became of the classifier of weights for the classes ``theirs`` (None: they do not say), as the rest of a
    sentence about them; None where it is simply kept."""
    if skipped:
        return "is of other classes: all but the classifier is kept, which starts anew"
    if theirs is None:
        return (
            f"does not name its classes and has as many as there are here, {len(ours)}: its classifier is kept as if "
            "they were the same"
        )
    known = [name for name in ours if name in theirs]
    if theirs == ours:
        return None
    if len(known) == len(ours):
        order = "in another order" if len(theirs) == len(ours) else "among others"
        return f"has these classes {order}: each keeps its part of the classifier, by name"
    return (
        f"has {len(known)} of these {len(ours)} classes by name ({', '.join(known[:5])}{', …' if known[5:] else ''}): "
        "their part of the classifier is kept, that of the others starts anew"
    )


def _imagenet_file(name: ModelName) -> str:
    """The name of the file of the backbone's ImageNet weights."""
    backbone = name.backbone
    if backbone.imagenet_file is None:
        raise UsageError(f"there are no ImageNet weights for {backbone.name}. Use --backbone_weights none, or a file.")
    if name.alpha not in backbone.alphas:
        known = ", ".join(f"{alpha:g}" for alpha in backbone.alphas)
        raise UsageError(
            f"there are no ImageNet weights for {backbone.name} with --alpha {name.alpha:g}, only for {known}. "
            "Use one of these, --backbone_weights none, or a file."
        )
    return backbone.imagenet_file.format(alpha=name.alpha)


def _unfold(model: Any, spec: ModelSpec, dataset: Dataset, filled: Callable[[str], bool]) -> None:
    """Measure batch-norm statistics on training pictures where the weights came without (a frozen graph's)."""
    from deeplabv3p.models import heads, unfold

    if not unfold.is_folded(model, lambda layer: filled(layer) and not layer.startswith(heads.PREFIXES)):
        return
    pictures = calibration_tensors(spec, dataset, min(MEASURED_PICTURES, len(dataset)))
    count = unfold.measure_statistics(model, pictures(), filled)
    print(f"the weights came without batch-norm statistics: measured on {count} training pictures", flush=True)
