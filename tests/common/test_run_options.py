"""The options of a run in config.json: each read back as its flag takes it, or refused; what a resume may change."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

import train
from common import recipe, run_options
from common.run_options import CONFIG_NAME
from deeplabv3p.errors import DataError, UsageError

FLAGS = [
    *(
        "--model_input_shape",
        "64x48",
        "--aug_scale",
        "0.00001-1.25",
        "--batch_size",
        "4",
        "--weights_path",
        "a b.keras",
    ),
    *("--learning_rate", "1e-7", "--no-eval_online", "--loss", "ce+0.5*dice", "--output_stride", "16"),
    *("--backbone_weights", "none", "--bn_sync", "--total_epoch", "10", "--crop_shape", "32x32", "--alpha", "0.35"),
]


def options_of(*argv: str):
    return recipe.parse_given(train._parser(), list(argv))


@pytest.fixture
def run(tmp_path) -> Path:
    run_options.write_new(tmp_path, run_options.saved(options_of(*FLAGS)[0]))
    return tmp_path


def test_what_is_written_is_read(run):
    values = run_options.read(run)
    written = run_options.saved(options_of(*FLAGS)[0])
    assert values == written
    assert (values["learning_rate"], values["aug_scale"], values["model_input_shape"]) == (1e-7, [1e-5, 1.25], [64, 48])


HOSTILE: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**400, float("nan"), float("inf"), "", "x", "\0", "\ud800", "None", [], [1], {}),
    *([64, 64.5], [[64], 64], ["64", "64"], "64x64", 1e300, 10**30),
)


def test_every_value_that_is_not_one_of_its_flag_is_one_clear_line(run):
    """Nothing else is raised, and what passes is what the flag itself would have given."""
    record = json.loads((run / CONFIG_NAME).read_text())
    for name in record["options"]:
        for value in HOSTILE:
            changed = copy.deepcopy(record)
            changed["options"][name] = value
            (run / CONFIG_NAME).write_text(json.dumps(changed))
            try:
                found = run_options.read(run)[name]
            except DataError as error:
                assert "\n" not in str(error)  # noqa: PT017
            else:
                assert found == value
                assert value is None or not isinstance(value, float) or abs(value) < float("inf")


@pytest.mark.parametrize("rounds", [400, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_damaged_file_is_read_or_refused(rounds, run):
    path, chance = run / CONFIG_NAME, random.Random(2)
    whole = path.read_bytes()
    for _ in range(rounds):
        at, length = chance.randrange(len(whole)), chance.randrange(1, 30)
        data = chance.choice(
            [
                whole[:at] + bytes([chance.randrange(256)]) + whole[at + 1 :],
                whole[:at] + whole[at + length :],
                whole[:at],
                whole[:at] + whole[at : at + length] + whole[at:],
            ]
        )
        path.write_bytes(data)
        try:
            run_options.read(run)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"options": []}', "[" * 5000, '{"options": {"seed": ' + "9" * 5000 + "}}"]
)
def test_no_options_are_one_clear_line(run, text):
    (run / CONFIG_NAME).write_text(text)
    with pytest.raises(DataError, match=r"config\.json"):
        run_options.read(run)


def change(run: Path, *argv: str) -> dict[str, Any]:
    options, given = options_of(*argv)
    return run_options.changed(run, run_options.read(run), options, given)


def test_equal_flags_and_those_that_are_not_given_change_nothing(run, tmp_path):
    assert change(run, "--resume", str(run)) == {}
    assert change(run, "--resume", str(run), *FLAGS) == {}
    assert change(run, "--resume", str(run), *FLAGS, "--batch_size", "auto") == {}
    recipe_file = tmp_path / "recipe.toml"
    recipe_file.write_text('learning_rate = 1e-7\nmodel_input_shape = "64x48"\neval_online = false\nbatch_size = 4\n')
    assert change(run, "--resume", str(run), "--config", str(recipe_file), "--gpu_num", "2") == {}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--learning_rate", "0.5"], r"--learning_rate 0\.5 \(the run has 0\.0000001\) cannot change"),
        (["--model_type", "unet"], r"--model_type unet \(the run has mobilenetv2_lite\)"),
        (["--learning_rate", "0.001"], "--learning_rate 0.001"),
        (["--model_input_shape", "48x64"], r"--model_input_shape 48x64 \(the run has 64x48\)"),
        (["--no-bn_sync"], r"--bn_sync off \(the run has on\)"),
        (["--seed", "1", "--total_epoch", "12"], r"--seed 1 \(the run has 0\) cannot"),
        (["--weights_path", "b.keras"], "--weights_path"),
        (["--config", "RECIPE"], r"--decay_type cosine \(the run has None\)"),
    ],
)
def test_what_may_not_change_is_refused_by_name_with_the_value_of_the_run(run, tmp_path, argv, said):
    (tmp_path / "recipe.toml").write_text('decay_type = "cosine"\n')
    argv = [str(tmp_path / "recipe.toml") if part == "RECIPE" else part for part in argv]
    before = (run / CONFIG_NAME).read_bytes()
    with pytest.raises(UsageError, match=said) as error:
        change(run, "--resume", str(run), *argv)
    assert "\n" not in str(error.value)
    assert (run / CONFIG_NAME).read_bytes() == before


def test_every_flag_is_either_free_or_refused():
    """A flag that comes later is refused until somebody has thought about it."""
    names = set(run_options.saved(options_of()[0])) - set(run_options.DEVICES)
    assert names > run_options.MAY_CHANGE


def test_what_decides_the_weights_by_way_of_scores_may_not_change(tmp_path):
    run_options.write_new(tmp_path, run_options.saved(options_of("--plateau_patience", "2")[0]))
    with pytest.raises(UsageError, match="--eval_epoch_interval 3"):
        change(tmp_path, "--eval_epoch_interval", "3")
    run_options.write_new(tmp_path, run_options.saved(options_of("--average_type", "swa")[0]))
    assert change(tmp_path, "--eval_epoch_interval", "3") == {"eval_epoch_interval": 3}
    with pytest.raises(UsageError, match="--total_epoch 200"):
        change(tmp_path, "--total_epoch", "200")


def test_what_lies_in_the_datasets_folder_moves_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c").mkdir()
    flags = ["--dataset_path", "a/b", "--dataset_file", "a/b/train.txt", "--val_dataset_file", "lists/val.txt"]
    run_options.write_new(tmp_path, run_options.saved(options_of(*flags)[0]) | {"classes_path": "a/b/classes.txt"})
    assert change(tmp_path, "--dataset_path", "c") == {
        "dataset_path": "c",
        "dataset_file": str(Path("c/train.txt").absolute()),
        "classes_path": str(Path("c/classes.txt").absolute()),
    }
    assert change(tmp_path, "--dataset_path", "c", "--dataset_file", "x.txt", "--classes_path", "a/b/classes.txt") == {
        "dataset_path": "c",
        "dataset_file": "x.txt",
    }


def test_changes_are_recorded_with_their_step(run):
    first = change(run, "--total_epoch", "12", "--threads", "4")
    assert first == {"total_epoch": 12, "threads": 4}
    devices = {"gpu_num": 1, "num_processes": 1}
    told = run_options.write_changes(run, run_options.read(run), first, devices, 50)
    assert told == ["--threads 4 (was 2)", "--total_epoch 12 (was 10)"]
    told = run_options.write_changes(run, run_options.read(run), {}, {"gpu_num": 2, "num_processes": 1}, 60)
    assert told == ["--gpu_num 2 (was 1)"]
    assert run_options.write_changes(run, run_options.read(run), {}, {"gpu_num": 2, "num_processes": 1}, 70) == []
    record = json.loads((run / CONFIG_NAME).read_text())
    assert run_options.read(run)["total_epoch"] == 12
    assert [(item["step"], item["options"]) for item in record["changes"]] == [
        (50, {"total_epoch": [10, 12], "threads": [2, 4]}),
        (60, {"gpu_num": [1, 2]}),
    ]
    assert "python" in record["command"]
