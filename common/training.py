"""From the options of train.py to a finished run: check the data, build the network, fit, say where things are."""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from common.cli import INTERRUPTED
from common.console import ConsoleProgress, duration_text
from common.first_weights import default_backbone_weights, make_network
from common.runs import latest_run, new_run_folder
from deeplabv3p import files
from deeplabv3p.data.augment import Augmentation
from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.dataset import Dataset, open_dataset, split_dataset
from deeplabv3p.errors import DataError
from deeplabv3p.losses.options import LossOptions
from deeplabv3p.models.registry import ModelName
from deeplabv3p.runtime import keras_engine
from deeplabv3p.training.config import DeviceOptions, TrainConfig, WatchOptions

if TYPE_CHECKING:
    from deeplabv3p.training.fit import TrainResult
    from deeplabv3p.training.history import Row

CONFIG_NAME = "config.json"

_NOT_SAVED = ("config", "resume", "log_dir", "offline")  # where things come from and go to, not what the run is


def start(options: argparse.Namespace) -> int:
    """Train in a new run folder; returns the exit code. The folder is made when data and weights are in order.

    Raises:
        UsageError, DataError: the options, the data or the weights cannot be used.
    """
    values = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items() if k not in _NOT_SAVED}
    values |= _defaults(values)
    return _train(values, lambda: _new_run(values, options.log_dir), resumed=False, offline=options.offline)


def resume(run: Path | None, log_dir: Path, *, offline: bool) -> int:
    """Go on with a run (None: the newest in ``log_dir``) at the step where it stopped; returns the exit code.

    Raises:
        DataError: there is no such run, or its state or data cannot be used.
    """
    run = run or latest_run(log_dir)
    try:
        values = json.loads((run / CONFIG_NAME).read_text(encoding="utf-8"))["options"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot resume {run}: {CONFIG_NAME} is missing or damaged ({error}).") from None
    for leftover in run.glob(".*.tmp*"):  # of a write that a kill cut short
        leftover.unlink(missing_ok=True)
    return _train(values, lambda: run, resumed=True, offline=offline)


def _defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The options that were left to the network: its usual input size, output stride and first weights."""
    name = ModelName(values["model_type"])
    record = name.record
    chosen = {
        "model_input_shape": record.size_hw,
        "output_stride": record.output_stride,
        "backbone_weights": default_backbone_weights(name),
    }
    missing = {key: value for key, value in chosen.items() if values[key] is None}
    if missing.get("backbone_weights") == "none" and values["weights_path"] is None:
        print(f"{record.name}: no ImageNet weights are known for it, so it starts from random ones", flush=True)
    return missing


def _new_run(values: dict[str, Any], log_dir: Path) -> Path:
    """A new run folder that says what is run in it."""
    run = new_run_folder(log_dir)
    command = shlex.join(["python", *sys.orig_argv[1:]])
    record = {"command": command, "python": platform.python_version(), "options": values}
    files.write_text(run / CONFIG_NAME, json.dumps(record, indent=2) + "\n")
    return run


def _train(values: dict[str, Any], run_folder: Callable[[], Path], *, resumed: bool, offline: bool) -> int:
    config = make_config(values)
    train_set, val_set = open_datasets(values)

    keras = keras_engine.import_keras()
    keras.utils.set_random_seed(config.seed)
    if config.deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    from deeplabv3p.training.fit import Report, fit

    model, spec = make_network(config, train_set, resumed=resumed, offline=offline)
    run = run_folder()
    print(
        f"{spec.model.name}, output stride {config.output_stride}, {model.count_params() / 1e6:.2f} M parameters; "
        f"{len(train_set)} pictures to train on, {len(val_set)} to validate on, {len(train_set.classes)} classes\n"
        f"run folder: {run}",
        flush=True,
    )
    with (
        _stop_signals() as stop_requested,
        ConsoleProgress("train", "steps") as progress,
    ):
        result = fit(
            model,
            spec,
            config,
            train_set,
            val_set,
            run,
            resume=resumed,
            report=Report(progress=progress, epoch=_print_epoch),
            stop_requested=stop_requested,
        )
    return _conclude(result, run)


def make_config(values: dict[str, Any]) -> TrainConfig:
    """The options that shape the weights, under the library's names (see train.py for the flags)."""
    parts = {"loss": LossOptions, "watch": WatchOptions, "devices": DeviceOptions}
    augmentation = {name: values.get(f"aug_{name}") for name in Augmentation.__dataclass_fields__}
    return TrainConfig(
        **(_chosen(TrainConfig, values, without=tuple(parts)) | {n: p(**_chosen(p, values)) for n, p in parts.items()}),
        size_hw=tuple(values["model_input_shape"]),
        crop_hw=_tuple(values.get("crop_shape")),
        augmentation=Augmentation(**{n: _tuple(v) for n, v in augmentation.items() if v is not None}),
    )


def _chosen(record: Any, values: dict[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Those of ``values`` that are fields of a dataclass."""
    return {name: values[name] for name in record.__dataclass_fields__ if name in values and name not in without}


def _tuple(value: Any) -> Any:
    """JSON knows lists only."""
    return tuple(value) if isinstance(value, list) else value


def open_datasets(values: dict[str, Any]) -> tuple[Dataset, Dataset]:
    """The samples to train on and those to validate on.

    Raises:
        DataError: see :func:`deeplabv3p.data.dataset.open_dataset`.
    """
    classes = load_classes(values["classes_path"])
    folder, ignore = values["dataset_path"], values["ignore_index"]
    samples = open_dataset(folder, values["dataset_file"], classes, ignore)
    if values["val_dataset_file"] is None:
        return split_dataset(samples, values["val_split"], values["seed"])
    return samples, open_dataset(folder, values["val_dataset_file"], classes, ignore)


def _print_epoch(row: Row) -> None:
    parts = [f"epoch {row['epoch']}: loss {row['loss']:.4f}, train mIoU {row['train_miou']:.3f}"]
    if row["val_miou"] is not None:
        parts.append(f"validation mIoU {row['val_miou']:.4f}")
    parts.append(f"{row['images_per_s']:.1f} images/s, data wait {row['data_wait']:.1%}")
    print(", ".join([*parts, duration_text(float(row["seconds"] or 0))]), flush=True)


def _conclude(result: TrainResult, run: Path) -> int:
    if not result.finished:
        print(f"stopped, state saved; go on with: python train.py --resume {run}")
        return INTERRUPTED
    from common.report import curves_section, run_section, write_report

    facts = [("Best validation mIoU", f"{result.best_miou:.4f}")]
    report = write_report(run, "Training", [curves_section(run, result.history), run_section(facts)])
    print(f"best validation mIoU {result.best_miou:.4f}: {run / 'best.keras'}")
    print(f"last weights: {run / 'trained_final.keras'}, log: {run / 'training.csv'}, report: {report}")
    return 0


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask for a stop after the step; a second one stops at once. Gives the question "stop?"."""
    requested = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if requested:
            raise KeyboardInterrupt
        requested = True
        print("\nfinishing this step, then saving; once more to stop at once", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
