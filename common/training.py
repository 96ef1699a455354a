"""From the options of train.py to a finished run: check the data, build the network, fit, say where things are."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from common import run_options
from common.classes import described, without_model
from common.cli import ENDING_SIGNALS, INTERRUPTED, exit_code, warn
from common.console import ConsoleProgress, duration_text
from common.first_weights import default_backbone_weights, make_network, network_of_run
from common.run_log import RunLog
from common.runs import latest_run, new_run_folder
from deeplabv3p.data.augment import Augmentation
from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.dataset import Dataset, open_dataset, split_dataset
from deeplabv3p.data.doctor import precheck
from deeplabv3p.data.list_file import write_list
from deeplabv3p.data.pipeline import USUAL_BATCH, usual_batch_size
from deeplabv3p.errors import UsageError
from deeplabv3p.losses.options import LossOptions
from deeplabv3p.models.registry import ModelName
from deeplabv3p.runtime import keras_engine
from deeplabv3p.spec import ModelSpec
from deeplabv3p.training import checkpoint
from deeplabv3p.training.checkpoint import STATE_NAME
from deeplabv3p.training.config import DeviceOptions, TrainConfig, WatchOptions
from deeplabv3p.training.lock import locked
from deeplabv3p.training.state_check import check_meta

if TYPE_CHECKING:
    from deeplabv3p.training.distribution import Distribution
    from deeplabv3p.training.fit import TrainResult
    from deeplabv3p.training.history import Row

TRAIN_LIST, VAL_LIST = "train.txt", "val.txt"
TRANSFER_EPOCHS = 5


def start(options: argparse.Namespace) -> int:
    """Train in a new run folder; returns the exit code. The folder is made when data and weights are in order.

    Raises:
        UsageError, DataError: the options, the data or the weights cannot be used.
    """
    log = RunLog()
    with log.kept():
        return _start(options, log)


def _start(options: argparse.Namespace, log: RunLog) -> int:
    values = run_options.saved(options)
    values |= _defaults(values)
    chosen = values["batch_size"] if isinstance(values["batch_size"], int) else None
    config = make_config(values | {"batch_size": chosen or 1})
    values["classes_path"] = without_model(values["classes_path"], values["dataset_path"])
    train_set, val_set = open_datasets(values)
    print(described(train_set.classes, values["classes_path"], values["dataset_path"]), flush=True)
    for warning in precheck(train_set, val_set):
        warn(warning)
    if chosen is None:
        auto = values["batch_size"] == "auto"
        values["batch_size"] = _largest_batch(config, train_set) if auto else _usual_batch(config, train_set)
        config = make_config(values)
    if config.batch_size > len(train_set):
        warn(f"{len(train_set)} pictures to train on fill no batch of {config.batch_size}: it holds some twice.")

    def work(distribution: Distribution) -> int:
        start_keras(config)
        model, spec = make_network(config, train_set, offline=options.offline)
        with contextlib.ExitStack() as held:

            def make() -> Path:
                run = new_run_folder(options.log_dir)
                held.enter_context(locked(run))
                log.open(run)
                run_options.write_new(run, values)
                _write_lists(run, train_set, val_set)
                return run

            with distribution.run_folder(make, ()) as run:
                return _train(config, model, spec, train_set, val_set, run, distribution, log, resumed=False)

    return _together(config.devices, work)


def resume(options: argparse.Namespace, given: Collection[str]) -> int:
    """Go on with the run ``options.resume`` ("": the newest in the log folder) at the step of its state, on the devices
    of ``options``; returns the exit code. The files that the run started from are not needed any more.

    Raises:
        UsageError: one of the ``given`` flags has another value than the run, and may not change.
        DataError: there is no such run, another process trains it, or its state or data cannot be used.
    """
    log = RunLog()
    with log.kept():
        return _resume(options, given, log)


def _resume(options: argparse.Namespace, given: Collection[str], log: RunLog) -> int:
    devices = {name: getattr(options, name) for name in run_options.DEVICES}

    def work(distribution: Distribution) -> int:
        with contextlib.ExitStack() as held:

            def find() -> Path:
                run = Path(options.resume) if options.resume else latest_run(options.log_dir)
                run_options.read(run)  # nothing is touched in a folder that is no run
                held.enter_context(locked(run))
                log.open(run)
                for leftover in run.glob(".*.tmp*"):  # of a write that a kill cut short
                    leftover.unlink(missing_ok=True)
                damage = checkpoint.recover(run)
                if damage is not None:
                    warn(f"{damage} The run goes on from the state before it.")
                return run

            with distribution.run_folder(find, (run_options.CONFIG_NAME, STATE_NAME)) as run:
                values = run_options.read(run)
                changes = run_options.changed(run, values, options, given)
                state = checkpoint.load_meta(run / STATE_NAME)
                check_meta(state, run / STATE_NAME)
                _check_length(run, changes, state)
                config = make_config(values | changes | devices)
                train_set, val_set = open_datasets(values | changes)
                start_keras(config)
                model, spec = network_of_run(run, config, train_set)
                if distribution.is_chief:
                    for change in run_options.write_changes(run, values, changes, devices, state["step"]):
                        print(f"changed at step {state['step']}: {change}", flush=True)
                    _write_lists(run, train_set, val_set)
                return _train(config, model, spec, train_set, val_set, run, distribution, log, resumed=True)

    return _together(DeviceOptions(**devices), work)


def _check_length(run: Path, changes: dict[str, Any], state: dict[str, Any]) -> None:
    """Raises UsageError if the run is to end with an epoch that it has already begun."""
    epochs = changes.get("total_epoch")
    if epochs is not None and epochs * state["steps_per_epoch"] <= state["step"]:
        done = state["step"] / state["steps_per_epoch"]
        raise UsageError(f"--total_epoch {epochs}: {run} has already trained {done:g} epochs. Name a larger number.")


def _write_lists(run: Path, train_set: Dataset, val_set: Dataset) -> None:
    """The lists of the pictures, for the commands that read one."""
    write_list(run / TRAIN_LIST, train_set)
    write_list(run / VAL_LIST, val_set)


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
    log: RunLog,
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
        ConsoleProgress("train", "steps", stream=log.console) as progress,
        log.listening(),
    ):
        result = fit(
            model,
            spec,
            config,
            train_set,
            val_set,
            run,
            resume=resumed,
            report=Report(progress=progress, epoch=_print_epoch, warning=warn),
            stop_requested=stop_requested,
            distribution=distribution,
        )
    if not distribution.is_chief:  # the first process tells about the files
        return 0 if result.finished else INTERRUPTED
    return _conclude(result, run, val_set)


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


def _print_epoch(row: Row) -> None:
    parts = [f"epoch {row['epoch']}: loss {row['loss']:.4f}, train mIoU {row['train_miou']:.3f}"]
    if row["val_miou"] is not None:
        parts.append(f"validation mIoU {row['val_miou']:.4f} (in truth {row['val_miou_in_truth']:.4f})")
    parts.append(f"{row['images_per_s']:.1f} images/s, data wait {row['data_wait']:.1%}")
    print(", ".join([*parts, duration_text(float(row["seconds"] or 0))]), flush=True)


def _conclude(result: TrainResult, run: Path, val_set: Dataset) -> int:
    if not result.finished:
        print(f"stopped, state saved; go on with: python train.py --resume {run}")
        return INTERRUPTED
    from common.training_report import write_training_report

    if result.early_stop is not None:
        print(f"ended early: {result.early_stop}")
    report = write_training_report(run, result, val_set)
    print(f"best validation mIoU {result.best_miou:.4f}: {run / 'best.keras'}")
    print(f"last weights: {run / 'trained_final.keras'}, log: {run / 'training.csv'}, report: {report}")
    print(f"pictures: {run / TRAIN_LIST} and {run / VAL_LIST}")
    return 0


@contextlib.contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, SIGTERM and SIGHUP ask for a stop after the step; a second one stops at once, but not a second SIGHUP: a
    closing terminal may send two. Gives the question "stop?"."""
    requested = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if requested and number != getattr(signal, "SIGHUP", None):
            raise KeyboardInterrupt
        if not requested:
            print("\nfinishing this step, then saving; once more to stop at once", file=sys.stderr, flush=True)
        requested = True

    numbers = [signal.SIGINT, *(getattr(signal, name) for name in ENDING_SIGNALS if hasattr(signal, name))]
    # `nohup` has SIGHUP ignored, and it stays so.
    taken = [number for number in numbers if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in taken}
    try:
        yield lambda: requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
