"""Whether what a state file says of a run can be true: every field's type and range, and that they fit together.

The checksum of :mod:`deeplabv3p.training.checkpoint` finds damage; this finds a state that was written or edited by
something else, which would train on to a wrong end or fail far from its cause.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deeplabv3p import documents
from deeplabv3p.errors import DataError
from deeplabv3p.training.config import TrainConfig
from deeplabv3p.training.history import compared
from deeplabv3p.training.stages import stages

Test = Callable[[Any], bool]

_KEPT_FILE = re.compile(r"epoch\d{3,}-miou\d\.\d{4}\.keras")


def check_meta(meta: Mapping[str, Any], where: Path) -> None:
    """Check the description of a state by itself.

    Raises:
        DataError: a field is missing, of another type or out of range, or two contradict each other.
    """
    wrong = _wrong(meta, _FIELDS)
    if wrong is None:
        wrong = _contradiction(meta)
    if wrong is not None:
        raise DataError(f"{where} is not the state of a run: {wrong}. Restore the file from a backup.")


def check_position(meta: Mapping[str, Any], config: TrainConfig, where: Path) -> None:
    """Check that a state, which :func:`check_meta` has passed, is one of the run that ``config`` describes.

    Raises:
        DataError: its step lies before the run's first or behind its last one, or in no stage of it.
    """
    per_epoch = meta["steps_per_epoch"]
    first, last = config.init_epoch * per_epoch, config.total_epoch * per_epoch
    parts = {stage.start: stage for stage in stages(config)}
    stage = parts.get(meta["stage"])
    if not first <= meta["step"] <= last or (parts and stage is None):
        raise DataError(
            f"{where} is at step {meta['step']} of the stage from epoch {meta['stage']}, but the run has steps {first} "
            f"to {last} and stages from the epochs {', '.join(map(str, parts)) or 'none'}. Restore the run's files."
        )
    rows = meta["history"]
    begins = rows[0]["epoch"] if rows else meta["step"] // per_epoch + 1
    if begins != config.init_epoch + 1:
        raise DataError(f"{where}: its log begins with epoch {begins}, the run with {config.init_epoch + 1}.")


def _contradiction(meta: Mapping[str, Any]) -> str | None:
    """What of the fields, each right by itself, cannot be true together."""
    step, per_epoch, rows = meta["step"], meta["steps_per_epoch"], meta["history"]
    wrong = _wrong_log(rows, per_epoch)
    if wrong is not None:
        return f"in the log, {wrong}"
    if rows and rows[-1]["epoch"] != step // per_epoch:
        return f"the log ends with epoch {rows[-1]['epoch']}, but the step is {step} with {per_epoch} steps an epoch"
    if meta["stage"] * per_epoch > step:
        return f"the step is {step}, but its stage begins with epoch {meta['stage']}"
    best, record = None, -1.0
    for row in rows:
        score = compared(row)
        if score is not None and score > record:
            best, record = row["val_miou"], score
    if meta["best"] != best:
        return f"the best score is {meta['best']}, but the best in the log is {best}"
    found = ((name, _wrong(state, _WATCHERS[name])) for name, state in meta["watchers"].items() if name in _WATCHERS)
    return next((f"of the watcher {name}, {wrong}" for name, wrong in found if wrong), None)


def _wrong_log(rows: Sequence[Mapping[str, Any]], per_epoch: int) -> str | None:
    """What is wrong in the rows of the epochs."""
    for before, row in zip([None, *rows], rows, strict=False):
        wrong = _wrong(row, _ROW)
        if wrong is not None:
            return wrong
        if row["step"] != row["epoch"] * per_epoch or (before and row["epoch"] != before["epoch"] + 1):
            return f"step {row['step']} is said to end epoch {row['epoch']}, of {per_epoch} steps each"
        if (row["val_miou"] is None) != (row["val_miou_in_truth"] is None):
            return f"epoch {row['epoch']} has one mIoU without the other"
    return None


def _wrong(record: Mapping[str, Any], fields: Mapping[str, tuple[Test, str]]) -> str | None:
    """The first field that is missing or not what it has to be."""
    for name, (test, what) in fields.items():
        if name not in record:
            return f"'{name}' is missing"
        if not test(record[name]):
            return f"'{name}' is {documents.shown(repr(record[name]))}, expected {what}"
    return None


def _number(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**63
    return isinstance(value, float) and math.isfinite(value)


def _count(minimum: int) -> tuple[Test, str]:
    def test(value: Any) -> bool:
        return isinstance(value, int) and _number(value) and value >= minimum

    return test, f"a whole number of at least {minimum}"


def _at_least_0(value: Any) -> bool:
    return _number(value) and value >= 0


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1 + 1e-6  # a mean of float32 may be rounded up


def _or_none(field: tuple[Test, str]) -> tuple[Test, str]:
    test, what = field
    return lambda value: value is None or test(value), f"{what} or null"


def _list_of(value: Any, kind: type) -> bool:
    return isinstance(value, Sequence) and all(isinstance(item, kind) for item in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_SHARE: tuple[Test, str] = (_share, "0 to 1")
_SECONDS: tuple[Test, str] = (_at_least_0, "a number of seconds")
_TEXT: tuple[Test, str] = (_is_text, "text")
_FLAG: tuple[Test, str] = (lambda value: isinstance(value, bool), "true or false")
_CLOCK = {"seconds": _SECONDS, "waited": _SECONDS, "steps": _count(0)}
_KEPT = {
    "file": (lambda value: _is_text(value) and _KEPT_FILE.fullmatch(value) is not None, "the name of a checkpoint"),
    "miou": _SHARE,
    "epoch": _count(1),
    "record": _FLAG,
}
_FIELDS: dict[str, tuple[Test, str]] = {
    "spec": _TEXT,
    "step": _count(0),
    "steps_per_epoch": _count(1),
    "stage": _count(0),
    "history": (lambda value: _list_of(value, dict), "a list of objects"),
    "best": _or_none(_SHARE),
    "early_stop": _or_none(_TEXT),
    "clock": (lambda value: isinstance(value, dict) and _wrong(value, _CLOCK) is None, "seconds, waited and steps"),
    "watchers": (
        lambda value: isinstance(value, dict) and all(isinstance(state, dict) for state in value.values()),
        "an object of objects",
    ),
    "machine": (
        lambda value: isinstance(value, dict) and all(_is_text(item) or _number(item) for item in value.values()),
        "an object of names and numbers",
    ),
}
_ROW: dict[str, tuple[Test, str]] = {
    "epoch": _count(1),
    "step": _count(1),
    "learning_rate": (_at_least_0, "a number of at least 0"),
    "loss": (_number, "a finite number"),
    "train_miou": _SHARE,
    "val_miou": _or_none(_SHARE),
    "val_miou_in_truth": _or_none(_SHARE),
    "val_pa": _or_none(_SHARE),
    "images_per_s": (_at_least_0, "a number of at least 0"),
    "data_wait": (_at_least_0, "a number of at least 0"),
    "seconds": _SECONDS,
}
_PATIENT = {"best": _or_none(_SHARE), "waited": _count(0), "stage": _count(-1)}
_WATCHERS: dict[str, dict[str, tuple[Test, str]]] = {
    "plateau": _PATIENT,
    "early_stop": _PATIENT,
    "gap": {"said": _FLAG},
    "checkpoints": {
        "best": _or_none(_SHARE),
        "kept": (
            lambda value: _list_of(value, dict) and all(_wrong(item, _KEPT) is None for item in value),
            "a list of checkpoints",
        ),
    },
}
