"""The state file: whatever happens to its bytes, it loads as what was written or is refused in one line."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplabv3p.errors import DataError
from deeplabv3p.training import checkpoint
from deeplabv3p.training.checkpoint import DAMAGED_NAME, PREVIOUS_NAME, STATE_NAME
from deeplabv3p.training.config import TrainConfig
from deeplabv3p.training.state_check import check_meta, check_position

GROUPS = {
    "model": [np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.ones(5, np.float32), np.zeros((), np.int32)],
    "optimizer": [np.full((3, 3), 0.25, np.float32)],
    "data": [np.arange(10, dtype=np.uint64).reshape(2, 5)],
}


def row(epoch: int, val_miou: float | None) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "step": 5 * epoch,
        "learning_rate": 1e-3,
        "loss": 0.5,
        "train_miou": 0.3,
        "val_miou": val_miou,
        "val_miou_in_truth": val_miou,
        "val_pa": val_miou,
        "images_per_s": 10.5,
        "data_wait": 0.01,
        "seconds": 3.5,
    }


META: dict[str, Any] = {
    "spec": "{}",
    "step": 12,
    "steps_per_epoch": 5,
    "stage": 1,
    "history": [row(1, None), row(2, 0.25)],
    "best": 0.25,
    "early_stop": None,
    "clock": {"seconds": 1.5, "waited": 0.0, "steps": 2},
    "watchers": {
        "divergence": {},
        "plateau": {"best": 0.25, "waited": 0, "stage": 1},
        "checkpoints": {
            "best": 0.25,
            "kept": [{"file": "epoch002-miou0.2500.keras", "miou": 0.25, "epoch": 2, "record": True}],
        },
    },
    "machine": {"backend": "tensorflow", "processors": 2},
}
CONFIG = TrainConfig(transfer_epoch=1, total_epoch=3)


def write(path: Path, meta: dict[str, Any] = META, groups: dict[str, list[np.ndarray]] = GROUPS) -> None:
    checkpoint.save_state(path, groups, meta)


def check(meta: dict[str, Any], path: Path = Path("state.npz")) -> None:
    check_meta(meta, path)
    check_position(meta, CONFIG, path)


def refusal(work: Callable[[], Any]) -> Any:
    """What ``work`` gives, or the one line of its DataError."""
    try:
        return work()
    except DataError as error:
        text = str(error)
    assert "\n" not in text
    return text


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays, meta = checkpoint.load_state(path)
    check(meta, path)
    return arrays, meta


def same(ours: tuple, theirs: tuple) -> bool:
    arrays = ours[0].keys() == theirs[0].keys() and all(
        ours[0][name].dtype == array.dtype and np.array_equal(ours[0][name], array) for name, array in theirs[0].items()
    )
    return arrays and ours[1] == theirs[1]


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One accident: a bit, a byte, a hole, a cut, a piece twice, missing or in another place."""
    at, length = chance.randrange(len(data)), chance.randrange(1, 200)
    other = chance.randrange(len(data))
    return chance.choice(
        [
            lambda: data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
            lambda: data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :],
            lambda: data[:at] + bytes(length) + data[at + length :],
            lambda: data[:at],
            lambda: data[:at] + data[other : other + length] + data[at:],
            lambda: data[:at] + data[at + length :],
            lambda: data[:at] + data[other : other + length] + data[at + length :],
        ]
    )()


def test_what_is_written_is_read(tmp_path):
    write(tmp_path / STATE_NAME)
    arrays, meta = load(tmp_path / STATE_NAME)
    assert meta == {"version": checkpoint.VERSION, **META}
    assert sorted(arrays) == ["data/00000", "model/00000", "model/00001", "model/00002", "optimizer/00000"]


@pytest.mark.parametrize("rounds", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_damaged_file_loads_as_it_was_or_is_refused(rounds, tmp_path):
    write(tmp_path / STATE_NAME)
    whole, expected = (tmp_path / STATE_NAME).read_bytes(), load(tmp_path / STATE_NAME)
    chance, refused = random.Random(1), 0
    for number in range(rounds):
        path = tmp_path / "mutated.npz"
        path.write_bytes(mutate(whole, chance))
        found = refusal(lambda path=path: load(path))
        refused += isinstance(found, str)
        assert isinstance(found, str) or same(found, expected), number
    assert refused > rounds // 2


HOSTILE = (
    *(None, True, -1, 0.5, 10**9, 10**400, float("nan"), float("inf"), "", "x", "../../x", [], [1], {}, {"x": 1}),
    *([[]], "\ud800", "\0", -(10**30)),
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Every field of the description, at any depth."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def changed(meta: dict[str, Any], path: tuple, value: Any) -> dict[str, Any]:
    """The description with one field changed; ``...`` removes it."""
    result = copy.deepcopy(meta)
    target = result
    for key in path[:-1]:
        target = target[key]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return result


def plausible(path: tuple, value: Any) -> bool:
    """Whether a run may have this there: then nothing can tell."""
    free = {"spec", "early_stop", "machine", "clock", "learning_rate", "loss", "images_per_s", "data_wait", "seconds"}
    return (
        bool(free & set(path))
        or path[-1] in ("train_miou", "val_pa", "val_miou_in_truth", "miou", "waited", "record", "best", "kept")
        or (value is None and path[-1] == "val_miou")
    )


def test_a_description_that_cannot_be_true_is_refused_field_by_field():
    """As if it had been written with a right checksum: no other exception, and nothing passes that cannot be."""
    passed = []
    for path in places(META):
        for value in (*HOSTILE, ...):
            if refusal(lambda: check(changed(META, path, value))) is None:  # noqa: B023 - called at once
                passed.append((path, value))
    wrong = [item for item in passed if not plausible(*item) and item[0][0] != "watchers"]
    assert not wrong
    required = {path for path, value in passed if value is ... and path[0] not in ("watchers", "machine")}
    assert not required, "a missing field"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("step",), 10**9),
        (("step",), 1e9),
        (("step",), 4),
        (("stage",), 2),
        (("steps_per_epoch",), 6),
        (("best",), 0.9),
        (("history", 1, "epoch"), 3),
        (("history", 1, "val_miou"), 1.5),
        (("history", 0, "loss"), float("nan")),
        (("watchers", "checkpoints", "kept", 0, "file"), "../best.keras"),
        (("watchers", "plateau", "waited"), "x"),
    ],
)
def test_one_wrong_field_is_one_clear_line(path, value):
    with pytest.raises(DataError, match=r"state\.npz"):
        check(changed(META, path, value))


def test_an_edited_description_is_refused_by_the_checksum(tmp_path):
    """As somebody does who opens the file, changes the step and saves it again."""
    path = tmp_path / STATE_NAME
    write(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    meta = json.loads(arrays["meta"].tobytes()) | {"step": 13}
    np.savez(path, **(arrays | {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)}))
    with pytest.raises(DataError, match="not what was written"):
        checkpoint.load_state(path)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3), np.float32), np.zeros((2, 3, 4), np.float64), np.zeros((2, 3, 4), ">f4")]
)
def test_arrays_of_another_shape_or_type_are_refused(array, tmp_path):
    write(tmp_path / STATE_NAME, groups={**GROUPS, "model": [array, *GROUPS["model"][1:]]})
    arrays, _ = checkpoint.load_state(tmp_path / STATE_NAME)
    with pytest.raises(DataError, match="another network"):
        checkpoint.restore_variables(GROUPS["model"], arrays, "model", tmp_path)


def test_the_state_before_takes_the_place_of_a_damaged_one(tmp_path):
    state, previous = tmp_path / STATE_NAME, tmp_path / PREVIOUS_NAME
    write(state, {**META, "step": 11})
    assert not previous.exists()
    write(state, {**META, "step": 12})
    assert checkpoint.load_meta(previous)["step"] == 11
    assert checkpoint.recover(tmp_path) is None
    state.write_bytes(state.read_bytes()[:-50])
    said = checkpoint.recover(tmp_path)
    assert said is not None
    assert "state.npz" in said
    assert load(state)[1]["step"] == 11
    assert (tmp_path / DAMAGED_NAME).exists(), "nothing is thrown away"
    state.unlink()
    assert checkpoint.recover(tmp_path) is not None
    assert load(state)[1]["step"] == 11
    for path in (state, previous):
        path.write_bytes(b"PK")
    with pytest.raises(DataError, match=r"state\.npz"):
        checkpoint.recover(tmp_path)
    assert state.read_bytes() == b"PK"


def test_a_state_that_cannot_be_read_back_does_not_replace_the_old_one(tmp_path, monkeypatch):
    """Memory or a file system that returns something else than was written."""
    state = tmp_path / STATE_NAME
    write(state, {**META, "step": 11})
    before = state.read_bytes()

    def damage(path: Path, original=checkpoint._seal) -> None:
        original(path)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)

    monkeypatch.setattr(checkpoint, "_seal", damage)
    with pytest.raises(DataError, match="not the whole state"):
        write(state, {**META, "step": 12})
    assert state.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [STATE_NAME]


def test_without_hard_links_the_state_before_is_kept_too(tmp_path, monkeypatch):
    def refuse(*paths: Path) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "link", refuse)
    for step in (11, 12):
        write(tmp_path / STATE_NAME, {**META, "step": step})
    steps = [checkpoint.load_meta(tmp_path / name)["step"] for name in (PREVIOUS_NAME, STATE_NAME)]
    assert steps == [11, 12]
