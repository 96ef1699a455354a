"""From the options of train.py to a finished run: open the data, build the network, fit, say where things are."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import keras

from common.console import ConsoleProgress, duration_text
from deeplabv3p import weights
from deeplabv3p.data.augment import Augmentation
from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.dataset import Dataset, open_dataset, split_dataset
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.models import heads
from deeplabv3p.models.factory import build_model, model_spec
from deeplabv3p.models.registry import ModelName
from deeplabv3p.runtime.artifact import load_spec
from deeplabv3p.spec import ModelSpec
from deeplabv3p.training.config import TrainConfig
from deeplabv3p.training.fit import Report, TrainResult, fit
from deeplabv3p.training.history import Row

WEIGHTS_FOLDER = Path(__file__).resolve().parents[1] / "weights"
INTERRUPTED = 130


def open_datasets(options: dict[str, Any]) -> tuple[Dataset, Dataset]:
    """The training and the validation samples that the options name.

    Raises:
        DataError: see :func:`deeplabv3p.data.dataset.open_dataset`.
    """
    classes = load_classes(options["classes_path"])
    folder, ignore = options["dataset_path"], options["ignore_index"]
    samples = open_dataset(folder, options["dataset_file"], classes, ignore)
    if options["val_dataset_file"] is None:
        return split_dataset(samples, options["val_split"], options["seed"])
    return samples, open_dataset(folder, options["val_dataset_file"], classes, ignore)


def make_config(options: dict[str, Any]) -> TrainConfig:
    """The options that shape the weights, under the library's names."""
    names = {f for f in TrainConfig.__dataclass_fields__ if f in options}
    values = {name: options[name] for name in names}
    values["size_hw"] = tuple(options["model_input_shape"])
    values["augmentation"] = Augmentation(
        scale=tuple(options["aug_scale"]),
        flip=options["aug_flip"],
        brightness=options["aug_brightness"],
        contrast=options["aug_contrast"],
        saturation=options["aug_saturation"],
        hue=options["aug_hue"],
    )
    return TrainConfig(**values)


def make_network(config: TrainConfig, dataset: Dataset) -> tuple[keras.Model, ModelSpec]:
    """The network with its first weights, and the spec with the preprocessing those weights were trained with.

    Raises:
        UsageError, DataError: no such network, or weights that are missing or of another network.
    """
    name = ModelName(ModelName.parse(config.model_type).name, config.alpha)
    size_hw, output_stride = config.size_hw, config.output_stride
    model = build_model(
        name,
        num_classes=len(dataset.classes),
        size_hw=size_hw,
        output_stride=output_stride,
        dropout=config.dropout,
        bn_momentum=config.bn_momentum,
    )
    mean = std = None
    if config.weights_path is not None:
        loaded = weights.load_weights(model, config.weights_path, other_classes=True)
        if loaded.skipped:
            print(f"{config.weights_path} knows other classes: the classifier starts anew", flush=True)
        mean, std = _preprocessing(Path(config.weights_path))
    elif config.backbone_weights != "none":
        if config.backbone_weights == "imagenet" and config.alpha not in name.backbone.alphas:
            known = ", ".join(f"{alpha:g}" for alpha in name.backbone.alphas)
            raise UsageError(f"there are no ImageNet weights for --alpha {config.alpha:g}, only for {known}.")
        with ConsoleProgress("download", "bytes") as progress:
            loaded = weights.load_backbone(
                model,
                config.backbone_weights,
                imagenet_file=name.backbone.imagenet_file.format(alpha=config.alpha),
                download=lambda file: weights.imagenet_path(file, WEIGHTS_FOLDER, progress),
                head_prefixes=heads.PREFIXES,
            )
        mean, std = loaded.mean, loaded.std
    spec = model_spec(
        name,
        size_hw=size_hw,
        output_stride=output_stride,
        classes=dataset.classes,
        ignore_index=dataset.ignore_index,
        mean=mean,
        std=std,
    )
    return model, spec.replace(provenance={"dataset": dataset.source})


def run(options: dict[str, Any], run_folder: Path, *, resume: bool) -> int:
    """Train with the options into ``run_folder``; returns the exit code."""
    config = make_config(options)
    keras.utils.set_random_seed(config.seed)
    if config.deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    train_set, val_set = open_datasets(options)
    model, spec = make_network(config, train_set)
    print(
        f"{spec.model.name}, output stride {config.output_stride}, {model.count_params() / 1e6:.2f} M parameters; "
        f"{len(train_set)} pictures to train on, {len(val_set)} to validate on, {len(train_set.classes)} classes",
        flush=True,
    )
    with _stop_signals() as stop_requested, ConsoleProgress("train", "steps") as progress:
        report = Report(progress=progress, epoch=_print_epoch)
        result = fit(
            model,
            spec,
            config,
            train_set,
            val_set,
            run_folder,
            resume=resume,
            report=report,
            stop_requested=stop_requested,
        )
    return _summary(result, run_folder)


def _summary(result: TrainResult, run_folder: Path) -> int:
    if not result.finished:
        print(f"stopped; the state is saved. Go on with: python train.py --resume {run_folder}")
        return INTERRUPTED
    print(f"best validation mIoU {result.best_miou:.4f}: {run_folder / 'best.keras'}")
    print(f"last weights: {run_folder / 'trained_final.keras'}")
    return 0


def _preprocessing(path: Path) -> tuple[Any, Any]:
    """Mean and std of the model that the weights come from; (None, None) for bare weights without a spec."""
    try:
        spec = load_spec(path)
    except DataError:
        return None, None
    return spec.input.mean, spec.input.std


def _print_epoch(row: Row) -> None:
    text = f"epoch {row['epoch']}: loss {row['loss']:.4f}, train mIoU {row['train_miou']:.3f}"
    if row["val_miou"] is not None:
        text += f", validation mIoU {row['val_miou']:.4f}"
    print(
        f"{text}, {row['images_per_s']:.1f} images/s, data wait {row['data_wait']:.1%}, "
        f"{duration_text(float(row['seconds'] or 0))}",
        flush=True,
    )


@contextmanager
def _stop_signals() -> Iterator[Any]:
    """Ctrl-C and SIGTERM ask for a stop after the step; a second one stops at once. Gives the question "stop?"."""
    requested = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if requested:
            raise KeyboardInterrupt
        requested = True
        print("\nfinishing this step, then saving; once more to stop at once", flush=True)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
