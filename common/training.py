"""From the options of train.py to a finished run: check the data, build the network, fit, say where things are."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from common import train_flags
from common.classes import described, without_model
from common.cli import INTERRUPTED, exit_code
from common.console import ConsoleProgress, duration_text
from common.first_weights import default_backbone_weights, make_network, network_of_run
from common.runs import latest_run, new_run_folder
from deeplabv3p import files
from deeplabv3p.data.augment import Augmentation
from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.dataset import Dataset, open_dataset, split_dataset
from deeplabv3p.data.doctor import precheck
from deeplabv3p.data.pipeline import USUAL_BATCH, usual_batch_size
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.losses.options import LossOptions
from deeplabv3p.models.registry import ModelName
from deeplabv3p.runtime import keras_engine
from deeplabv3p.spec import ModelSpec
from deeplabv3p.training.checkpoint import STATE_NAME
from deeplabv3p.training.config import DeviceOptions, TrainConfig, WatchOptions

if TYPE_CHECKING:
    from deeplabv3p.training.distribution import Distribution
    from deeplabv3p.training.fit import TrainResult
    from deeplabv3p.training.history import Row

CONFIG_NAME = "config.json"
TRANSFER_EPOCHS = 5

_NOT_SAVED = ("config", "resume", "log_dir", "offline")  # where things come from and go to, not what the run is
_DEVICES = tuple(DeviceOptions.__dataclass_fields__)  # where it is computed: said with every command, --resume included


def start(options: argparse.Namespace) -> int:
    """Train in a new run folder; returns the exit code. The folder is made when data and weights are in order.

    Raises:
        UsageError, DataError: the options, the data or the weights cannot be used.
    """
    values = _saved(options)
    values |= _defaults(values)
    chosen = values["batch_size"] if isinstance(values["batch_size"], int) else None
    config = make_config(values | {"batch_size": chosen or 1})
    values["classes_path"] = without_model(values["classes_path"], values["dataset_path"])
    train_set, val_set = open_datasets(values)
    print(described(train_set.classes, values["classes_path"], values["dataset_path"]), flush=True)
    for warning in precheck(train_set, val_set):
        _warn(warning)
    if chosen is None:
        auto = values["batch_size"] == "auto"
        values["batch_size"] = _largest_batch(config, train_set) if auto else _usual_batch(config, train_set)
        config = make_config(values)
    if config.batch_size > len(train_set):
        _warn(f"{len(train_set)} pictures to train on fill no batch of {config.batch_size}: it holds some twice.")

    def work(distribution: Distribution) -> int:
        start_keras(config)
        model, spec = make_network(config, train_set, offline=options.offline)
        with distribution.run_folder(lambda: _new_run(values, options.log_dir), ()) as run:
            return _train(config, model, spec, train_set, val_set, run, distribution, resumed=False)

    return _together(config.devices, work)


def resume(options: argparse.Namespace) -> int:
    """Go on with the run ``options.resume`` ("": the newest in the log folder) at the step of its state, on the devices
    of ``options``; returns the exit code. The files that the run started from are not needed any more.

    Raises:
        DataError: there is no such run, or its state or data cannot be used.
    """
    devices = {name: getattr(options, name) for name in _DEVICES}

    def find() -> Path:
        run = Path(options.resume) if options.resume else latest_run(options.log_dir)
        for leftover in run.glob(".*.tmp*"):  # of a write that a kill cut short
            leftover.unlink(missing_ok=True)
        return run

    def work(distribution: Distribution) -> int:
        with distribution.run_folder(find, (CONFIG_NAME, STATE_NAME)) as run:
            values = _read_options(run) | devices
            config = make_config(values)
            train_set, val_set = open_datasets(values)
            start_keras(config)
            model, spec = network_of_run(run, config, train_set)
            return _train(config, model, spec, train_set, val_set, run, distribution, resumed=True)

    return _together(DeviceOptions(**devices), work)


def _together(devices: DeviceOptions, work: Callable[[Distribution], int]) -> int:
    """Do the work on the devices; returns its exit code. One of several processes that fails ends at once: its peers
    then know, where they would else wait for it."""
    keras = keras_engine.import_keras()
    from deeplabv3p.training.distribution import open_distribution

    distribution = open_distribution(devices, keras.backend.backend())
    if devices.num_processes == 1:
        return work(distribution)
    ended = False

    def main() -> int:
        nonlocal ended
        code = work(distribution)
        ended = True
        return code

    try:
        code = exit_code(main)
    except BaseException:
        traceback.print_exc()
        code = 1
    if ended:
        distribution.close()
        return code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _saved(options: argparse.Namespace) -> dict[str, Any]:
    """The options that say what a run is, ready for JSON."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items() if k not in _NOT_SAVED}


def _read_options(run: Path) -> dict[str, Any]:
    """The options a run was started with. Flags that the version it was started with did not have get their defaults,
    which leave what it did as it was.

    Raises:
        DataError: they are missing or damaged, or of a version with flags that are not known here.
    """
    try:
        values = dict(json.loads((run / CONFIG_NAME).read_text(encoding="utf-8"))["options"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot resume {run}: {CONFIG_NAME} is missing or damaged ({error}).") from None
    parser = argparse.ArgumentParser()
    train_flags.add(parser)
    defaults = _saved(parser.parse_args([]))
    unknown = sorted(values.keys() - defaults.keys())
    if unknown:
        raise DataError(f"cannot resume {run}: this version knows no flag --{unknown[0]}, which {CONFIG_NAME} has.")
    return defaults | values


def _defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The options that were left to the network: its usual input size, output stride and first weights, and whether
    there is a transfer stage."""
    name = ModelName(values["model_type"])
    record = name.record
    chosen = {
        "model_input_shape": record.size_hw,
        "output_stride": record.output_stride,
        "backbone_weights": default_backbone_weights(name),
        "bn_sync": values["gpu_num"] * values["num_processes"] > 1,
    }
    missing = {key: value for key, value in chosen.items() if values[key] is None}
    if values["transfer_epoch"] is None:  # a random backbone has nothing to keep
        random = (values | missing)["backbone_weights"] == "none" and values["weights_path"] is None
        missing["transfer_epoch"] = 0 if random else TRANSFER_EPOCHS
    if missing.get("backbone_weights") == "none" and values["weights_path"] is None:
        print(f"{record.name}: no ImageNet weights are known for it, so it starts from random ones", flush=True)
    return missing


def _largest_batch(config: TrainConfig, train_set: Dataset) -> int:
    """What ``--batch_size auto`` stands for on this machine; the run is saved with the number."""
    if config.devices.gpu_num * config.devices.num_processes > 1:
        raise UsageError("--batch_size auto measures one device of one process. Give a number for several.")
    from deeplabv3p.training.batch_size import largest_batch

    print("--batch_size auto: measuring training steps", flush=True)
    found = largest_batch(config, num_classes=len(train_set.classes), limit=len(train_set))
    print(
        f"--batch_size {found.batch_size}: needs about {found.needed / 2**20:.0f} of {found.free / 2**20:.0f} MiB",
        flush=True,
    )
    return found.batch_size


def _usual_batch(config: TrainConfig, train_set: Dataset) -> int:
    """What ``--batch_size`` is where it is not given; said where it is not the usual number."""
    size = usual_batch_size(len(train_set), config.devices.gpu_num * config.devices.num_processes)
    if size < USUAL_BATCH:
        print(f"--batch_size {size}: five steps of an epoch of {len(train_set)} pictures, or as many as go", flush=True)
    return size


def _new_run(values: dict[str, Any], log_dir: Path) -> Path:
    """A new run folder that says what is run in it."""
    run = new_run_folder(log_dir)
    command = shlex.join(["python", *sys.orig_argv[1:]])
    saved = {name: value for name, value in values.items() if name not in _DEVICES}
    record = {"command": command, "python": platform.python_version(), "options": saved}
    files.write_text(run / CONFIG_NAME, json.dumps(record, indent=2) + "\n")
    return run


def start_keras(config: TrainConfig) -> None:
    """Import Keras, with what has to be set before anything is built."""
    keras = keras_engine.import_keras()
    keras.utils.set_random_seed(config.seed)
    if config.deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def _train(
    config: TrainConfig,
    model: Any,
    spec: ModelSpec,
    train_set: Dataset,
    val_set: Dataset,
    run: Path,
    distribution: Distribution,
    *,
    resumed: bool,
) -> int:
    from deeplabv3p.training.fit import Report, fit

    print(
        f"{spec.model.name}, output stride {config.output_stride}, {model.count_params() / 1e6:.2f} M parameters; "
        f"{len(train_set)} pictures to train on, {len(val_set)} to validate on, {len(train_set.classes)} classes\n"
        f"{f'run folder: {run}' if distribution.is_chief else 'process 0 writes the run folder'}",
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
            report=Report(progress=progress, epoch=_print_epoch, warning=_warn),
            stop_requested=stop_requested,
            distribution=distribution,
        )
    if not distribution.is_chief:  # the first process tells about the files
        return 0 if result.finished else INTERRUPTED
    return _conclude(result, run)


def make_config(values: dict[str, Any]) -> TrainConfig:
    """The options that shape the weights, under the library's names (see train.py for the flags)."""
    parts = {"loss": LossOptions, "watch": WatchOptions, "devices": DeviceOptions}
    return TrainConfig(
        **(_chosen(TrainConfig, values, without=tuple(parts)) | {n: p(**_chosen(p, values)) for n, p in parts.items()}),
        size_hw=tuple(values["model_input_shape"]),
        crop_hw=_tuple(values.get("crop_shape")),
        augmentation=make_augmentation(values),
    )


def make_augmentation(values: dict[str, Any]) -> Augmentation:
    """What the flags --aug_* say."""
    given = {name: values.get(f"aug_{name}") for name in Augmentation.__dataclass_fields__}
    return Augmentation(**{name: _tuple(value) for name, value in given.items() if value is not None})


def _chosen(record: Any, values: dict[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Those of ``values`` that are fields of a dataclass; None stands for a field's default."""
    fields = [name for name in record.__dataclass_fields__ if name not in without]
    return {name: values[name] for name in fields if values.get(name) is not None}


def _tuple(value: Any) -> Any:
    """JSON knows lists only."""
    return tuple(value) if isinstance(value, list) else value


def open_datasets(values: dict[str, Any]) -> tuple[Dataset, Dataset]:
    """The samples to train on and those to validate on.

    Raises:
        DataError: see :func:`deeplabv3p.data.dataset.open_dataset`.
    """
    classes = load_classes(without_model(values["classes_path"], values["dataset_path"]))
    folder, ignore = values["dataset_path"], values["ignore_index"]
    white = values.get("picture_max")
    samples = open_dataset(folder, values["dataset_file"], classes, ignore, picture_max=white)
    if values["val_dataset_file"] is None:
        return split_dataset(samples, values["val_split"], values["seed"])
    return samples, open_dataset(folder, values["val_dataset_file"], classes, ignore, picture_max=white)


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


def _print_epoch(row: Row) -> None:
    parts = [f"epoch {row['epoch']}: loss {row['loss']:.4f}, train mIoU {row['train_miou']:.3f}"]
    if row["val_miou"] is not None:
        parts.append(f"validation mIoU {row['val_miou']:.4f} (in truth {row['val_miou_in_truth']:.4f})")
    parts.append(f"{row['images_per_s']:.1f} images/s, data wait {row['data_wait']:.1%}")
    print(", ".join([*parts, duration_text(float(row["seconds"] or 0))]), flush=True)


def _conclude(result: TrainResult, run: Path) -> int:
    if not result.finished:
        print(f"stopped, state saved; go on with: python train.py --resume {run}")
        return INTERRUPTED
    from common.report import curves_section, run_section, write_report

    facts = [("Best validation mIoU", f"{result.best_miou:.4f}")]
    if result.early_stop is not None:
        print(f"ended early: {result.early_stop}")
        facts.append(("Ended early", result.early_stop))
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
