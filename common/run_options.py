"""The options of a run: as ``config.json`` in its folder has them, and what a resume may change of them."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Collection, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from common import train_flags
from deeplabv3p import documents, files
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.training.config import DeviceOptions

CONFIG_NAME = "config.json"

Values = dict[str, Any]

DEVICES = tuple(DeviceOptions.__dataclass_fields__)  # where it is computed: said with every command, --resume included

_NOT_SAVED = ("config", "resume", "log_dir", "offline")  # where things come from and go to, not what the run is
_RECORDED_DEVICES = ("gpu_num", "num_processes")

# What a resume may change. The data may be at another place: its content is compared with that of the run.
_PLACES = ("dataset_path", "dataset_file", "val_dataset_file", "classes_path")
_SCORED = ("eval_online", "eval_epoch_interval")  # with plateaus or an early stop, they decide what is learned
MAY_CHANGE = frozenset(
    {
        *("total_epoch", "early_stop_patience", "threads", "verify_data"),
        *("save_steps", "save_minutes", "save_eval_checkpoint", "keep_top", "board_pictures"),
        *_PLACES,
        *_SCORED,
    }
)
_STARTS = ("weights_path", "backbone_weights")  # files that may be spelled in several ways


def saved(options: argparse.Namespace) -> Values:
    """The options that say what a run is, ready for JSON."""
    kept = {key: value for key, value in vars(options).items() if key not in _NOT_SAVED}
    return {key: _plain(value) for key, value in kept.items()}


def write_new(run: Path, values: Values) -> None:
    """Write ``config.json`` of a new run.

    Raises:
        DataError: the folder cannot be written.
    """
    record = {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "python": platform.python_version(),
        "options": {name: value for name, value in values.items() if name not in DEVICES},
        "devices": {name: values[name] for name in _RECORDED_DEVICES},
    }
    _write(run, record)


def read(run: Path) -> Values:
    """The options a run was started with. Flags that the version it was started with did not have get their defaults,
    which leave what it did as it was. Each value is one that its flag takes.

    Raises:
        DataError: they are missing or damaged, or of a version with flags that are not known here.
    """
    values = _record(run)["options"]
    parser = argparse.ArgumentParser()
    train_flags.add(parser)
    actions = {action.dest: action for action in parser._actions}
    defaults = saved(parser.parse_args([]))
    unknown = sorted(values.keys() - defaults.keys())
    if unknown:
        flag = documents.shown(unknown[0])
        raise DataError(f"cannot resume {run}: this version knows no flag --{flag}, which {CONFIG_NAME} has.")
    return defaults | {name: _checked(parser, actions[name], value, run) for name, value in values.items()}


def changed(run: Path, values: Values, options: argparse.Namespace, given: Collection[str]) -> Values:
    """Those of the ``given`` flags that are to change an option of the run, with their new values.

    Args:
        run: the run folder.
        values: what :func:`read` gave.
        options: of the command that resumes it.
        given: names of the flags that this command or its recipe sets.

    Raises:
        UsageError: a flag has another value than the run, and it may not change.
    """
    names = set(given) & values.keys() - set(DEVICES)
    wanted = {name: value for name, value in saved(options).items() if name in names}
    differ = {name: value for name, value in wanted.items() if not _equal(name, values[name], value)}
    allowed = set(MAY_CHANGE)
    if values["plateau_patience"] or values["early_stop_patience"]:
        allowed -= set(_SCORED)
    if values["average_type"] == "swa":  # an average over the run's last quarter
        allowed.discard("total_epoch")
    refused = [name for name in differ if name not in allowed]
    if refused:
        told = ", ".join(f"--{name} {_text(differ[name])} (the run has {_text(values[name])})" for name in refused)
        raise UsageError(
            f"--resume goes on with the options of {run}: {told} cannot change. Leave "
            f"{'it' if len(refused) == 1 else 'them'} out, or start a new run with --weights_path {run}/last.keras."
        )
    if (
        "dataset_path" in differ and Path(differ["dataset_path"]).is_dir()
    ):  # what lies in the dataset's folder has moved with it
        old, new = (os.path.abspath(place["dataset_path"]) for place in (values, differ))  # noqa: PTH100
        inside = {name: os.path.abspath(values[name]) for name in _PLACES[1:] if values[name] is not None}  # noqa: PTH100
        moved = {name: path for name, path in inside.items() if name not in given and Path(path).is_relative_to(old)}
        differ |= {name: str(Path(new, Path(path).relative_to(old))) for name, path in moved.items()}
    return differ


def write_changes(run: Path, values: Values, changes: Values, devices: Mapping[str, Any], step: int) -> list[str]:
    """Record in ``config.json`` what a resume at ``step`` changes; the changes as people read them.

    Raises:
        DataError: the file is damaged, or the folder cannot be written.
    """
    record = _record(run)
    before = record.get("devices")
    before = before if isinstance(before, dict) else {}
    now = {name: devices[name] for name in _RECORDED_DEVICES}
    moved = {name: value for name, value in now.items() if before.get(name, value) != value}
    old = {**values, **before}
    told = {name: [old[name], value] for name, value in {**changes, **moved}.items()}
    if told:
        command = shlex.join(["python", *sys.orig_argv[1:]])
        earlier = record.get("changes")
        history: list[Any] = earlier if isinstance(earlier, list) else []
        record["options"].update(changes)
        _write(
            run,
            {
                **record,
                "devices": now,
                "changes": [*history, {"step": step, "command": command, "options": told}],
            },
        )
    return [f"--{name} {_text(after)} (was {_text(value)})" for name, (value, after) in told.items()]


def _record(run: Path) -> dict[str, Any]:
    try:
        record = documents.read_json(run / CONFIG_NAME, what="the options")
    except DataError as error:
        raise DataError(f"cannot resume {run}: {error}") from None
    if not isinstance(record, dict) or not isinstance(record.get("options"), dict):
        raise DataError(f"cannot resume {run}: {CONFIG_NAME} holds no options. Restore it.")
    return record


def _write(run: Path, record: Mapping[str, Any]) -> None:
    files.write_text(run / CONFIG_NAME, json.dumps(record, indent=2) + "\n")


def _checked(parser: argparse.ArgumentParser, action: argparse.Action, value: Any, run: Path) -> Any:
    """A value of ``config.json``, if the flag can have it; raises DataError."""
    try:
        return _as_flag(parser, action, value)
    except (argparse.ArgumentError, ValueError, TypeError, ArithmeticError, RecursionError):
        raise DataError(
            f"cannot resume {run}: in {CONFIG_NAME}, --{action.dest} is {documents.shown(repr(value))}."
        ) from None


def _as_flag(parser: argparse.ArgumentParser, action: argparse.Action, value: Any) -> Any:
    """The value that the flag gives for the text that stands for ``value``; ValueError if that is another one."""
    if value is None and action.default is None:
        return None
    if isinstance(action.default, bool) or action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        if not isinstance(value, bool):
            raise ValueError
        return value
    if isinstance(value, str) and "\0" in value:
        raise ValueError
    found = parser._get_value(action, _text(value))
    parser._check_value(action, found)
    plain: Any = _plain(found)
    if plain != value or isinstance(value, bool) or isinstance(plain, str) != isinstance(value, str):
        raise ValueError
    return plain


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _text(value: Any) -> str:
    """As it is typed: 512x512 for a size, 0.5-2.0 for a range."""
    if isinstance(value, list):
        return ("x" if all(isinstance(item, int) for item in value) else "-").join(map(_text, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    return format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)


def _equal(name: str, ours: Any, given: Any) -> bool:
    if name == "batch_size" and given == "auto":  # the number that it stood for is the run's
        return True
    if name in _STARTS and isinstance(ours, str) and isinstance(given, str):
        return os.path.abspath(ours) == os.path.abspath(given)  # noqa: PTH100 - Path.resolve would follow links
    return bool(ours == given)
