"""The command train.py: a small run from a recipe, then eval.py and deeplab.py on it; mistakes and interrupts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import deeplab
import eval as evaluation
import train
from common import cli
from deeplabv3p.data.shapes import generate
from deeplabv3p.runtime.artifact import load_spec

ROOT = Path(__file__).parents[1]
RECIPE = """
model_type = "mobilenetv2"
alpha = 0.35
head_width = 16
backbone_weights = "none"
model_input_shape = "64x64"
batch_size = 4
learning_rate = 2e-3
transfer_epoch = 1
freeze_level = 2
total_epoch = 2
eval_epoch_interval = 1
bn_momentum = 0.9
aug_scale = "0.8-1.2"
deterministic = true
"""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("my pictures ü")  # a space and a letter outside ASCII, as people have
    generate(folder, train=12, val=3, test=1, size_hw=(64, 80), seed=2)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def arguments(shapes: Path, logs: Path, *more: str) -> list[str]:
    return [
        *("--config", str(shapes / "recipe.toml"), "--dataset_path", str(shapes), "--log_dir", str(logs)),
        *("--dataset_file", str(shapes / "train.txt"), "--val_dataset_file", str(shapes / "val.txt")),
        *("--classes_path", str(shapes / "classes.txt"), *more),
    ]


def run(argv: list[str], command=train.main) -> int:
    return cli.exit_code(lambda: command(argv))


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory) -> Path:
    logs = tmp_path_factory.mktemp("runs")
    assert run(arguments(shapes, logs)) == 0
    return logs / "000"


def test_a_run_folder_holds_what_the_docs_say(trained, shapes):
    names = {p.name for p in trained.iterdir()}
    models = {"best.keras", "last.keras", "trained_final.keras"}
    sidecars = {f"{name}.spec.json" for name in models}
    assert names == models | sidecars | {
        "state.npz",
        "state.previous.npz",
        "config.json",
        "train.log",
        "train.txt",
        "val.txt",
        "training.csv",
        "training_curves.png",
        "confusion_matrix.png",
        "report.html",
        "tensorboard",
    }
    config = json.loads((trained / "config.json").read_text())
    assert config["options"]["learning_rate"] == 2e-3
    assert config["options"]["batch_size"] == 4, "the recipe wins over the default"
    assert config["options"]["output_stride"] == 16, "the default is written down, too"
    spec = load_spec(trained / "best.keras")
    assert spec.model.name == "mobilenetv2:alpha=0.35,width=16"
    assert spec.provenance.dataset == f"{shapes.name}/train.txt", "a model that is passed on tells nobody's folders"


def test_eval_gives_the_score_that_training_saw(trained, shapes, tmp_path):
    data = ["--dataset_path", str(shapes), "--dataset_file", str(shapes / "val.txt")]
    argv = ["--model_path", str(trained / "best.keras"), *data, "--output_path", str(tmp_path), "--save_result"]
    assert run(argv, evaluation.main) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["miou"] == load_spec(trained / "best.keras").provenance.miou


@pytest.mark.parametrize("output_stride", [8, 32])
def test_a_dump_at_another_size_and_stride_scores(trained, shapes, tmp_path, output_stride):
    """Train at 16, dump at 8 and 32 and at an odd, non-square size; the dump runs and scores by itself."""
    target = tmp_path / "dumped.keras"
    dump = ["--model_path", str(trained / "best.keras"), "--output_stride", str(output_stride), "--dump_model"]
    assert run([*dump, "--model_input_shape", "65x81", "--output_model_file", str(target)], deeplab.main) == 0
    spec = load_spec(target)
    assert (spec.model.output_stride, spec.input.size_hw) == (output_stride, (65, 81))
    data = ["--dataset_path", str(shapes), "--dataset_file", str(shapes / "val.txt")]
    assert run(["--model_path", str(target), *data, "--output_path", str(tmp_path / "r")], evaluation.main) == 0
    assert 0 <= json.loads((tmp_path / "r" / "scores.json").read_text())["miou"] <= 1


def test_flags_win_over_the_recipe_and_bad_recipes_are_refused(shapes, tmp_path, capsys):
    options = train.recipe.parse(train._parser(), arguments(shapes, tmp_path, "--batch_size", "2"))
    assert (options.batch_size, options.alpha, options.deterministic) == (2, 0.35, True)
    assert options.aug_scale == (0.8, 1.2)
    for text, said in (
        ("learnin_rate = 1", "learnin_rate"),
        ("batch_size = 0", "batch_size"),
        ("batch_size = 'x'", "batch_size"),
        ("deterministic = 1", "deterministic"),
        ("optimizer = 'lion'", "optimizer"),
        ("model_pruning = 2", "model_pruning"),
        ("loss = 'cross'", "cross"),
        ("batch_size = 'most'", "batch_size"),
        ("nesterov = true", "sgd"),
        ("not toml", "TOML"),
        ("resume = 'x'", "resume"),
    ):
        (tmp_path / "bad.toml").write_text(text)
        assert run(["--config", str(tmp_path / "bad.toml")]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1, error
    assert run(["--config", str(tmp_path / "none.toml")]) == 2


def test_a_flag_that_does_nothing_yet_is_refused(capsys):
    assert run(["--model_pruning"]) == 2
    assert "not available yet" in capsys.readouterr().err


def _change(shapes: Path, tmp_path: Path, what: str) -> list[str]:
    """Command-line arguments with one thing wrong; ``what`` says which."""
    copy = tmp_path / "copy"
    generate(copy, train=8, val=2, test=0, size_hw=(64, 80), seed=4)
    first = (copy / "train.txt").read_text().split()[0]
    label, image = copy / "labels" / f"{first}.png", copy / "images" / f"{first}.jpg"
    more: list[str] = []
    if what == "missing folder":
        more = ["--dataset_path", str(tmp_path / "nowhere")]
    elif what == "empty list":
        (copy / "train.txt").write_text("\n")
    elif what == "missing picture":
        image.unlink()
    elif what == "truncated picture":
        image.write_bytes(image.read_bytes()[:-200])
    elif what == "label of another size":
        cv2.imwrite(str(label), np.zeros((64, 64), np.uint8))
    elif what == "label out of range":
        cv2.imwrite(str(label), np.full((64, 80), 77, np.uint8))
    elif what == "RGB label":
        (copy / "classes.txt").write_text("".join(f"class{i}\n" for i in range(7)))
        cv2.imwrite(str(label), np.zeros((64, 80, 3), np.uint8))
    elif what == "text named .png":
        label.write_text("not a picture")
    elif what == "duplicate classes":
        (copy / "classes.txt").write_text("a\nb\na\n")
    elif what == "blank class":
        (copy / "classes.txt").write_text("a\n\nb\n")
    elif what == "weights of another model":
        import keras

        picture = keras.Input((8, 8, 3))
        keras.Model(picture, keras.layers.Conv2D(2, 1, name="other")(picture)).save(tmp_path / "other.keras")
        more = ["--weights_path", str(tmp_path / "other.keras")]
    elif what == "no such weights":
        more = ["--backbone_weights", str(tmp_path / "none.npz")]
    elif what == "unwritable output":
        (tmp_path / "file").write_text("")
        more = ["--log_dir", str(tmp_path / "file")]
    recipe = copy / "recipe.toml"
    recipe.write_text(RECIPE)
    return arguments(copy, tmp_path / "logs", *more)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing folder", "nowhere"),
        ("empty list", "train.txt"),
        ("missing picture", "train_00000"),
        ("truncated picture", ".jpg"),
        ("label of another size", ".png"),
        ("label out of range", "77"),
        ("RGB label", ".png"),
        ("text named .png", ".png"),
        ("duplicate classes", "classes.txt"),
        ("blank class", "classes.txt"),
        ("weights of another model", "other.keras"),
        ("no such weights", "none.npz"),
        ("unwritable output", "file"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_3(what, said, shapes, tmp_path, capfd):
    argv = _change(shapes, tmp_path, what)
    capfd.readouterr()
    assert run(argv) == 3
    error = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert said in error[0]
    models = list((tmp_path / "logs").rglob("*.keras")) if (tmp_path / "logs").exists() else []
    assert not models, "nothing half-written"


def test_imagenet_weights_offline_are_a_message(shapes, tmp_path, capsys, monkeypatch):
    from common import pretrained

    (tmp_path / "weights").mkdir()
    shutil.copy(pretrained.WEIGHTS_FOLDER / "manifest.toml", tmp_path / "weights")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(pretrained, "WEIGHTS_FOLDER", tmp_path / "weights")
    assert run(arguments(shapes, tmp_path / "logs", "--backbone_weights", "imagenet", "--offline")) == 3
    error = capsys.readouterr().err
    assert "0.35_224_no_top.h5" in error
    assert str(tmp_path / "weights") in error
    assert "--backbone_weights FILE" in error
    assert "--backbone_weights none" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "logs").exists()


def test_what_is_left_to_the_network_is_chosen_by_it(shapes, tmp_path, capsys):
    """A network without ImageNet weights and with one output stride only."""
    recipe = shapes / "whole.toml"
    lines = [line for line in RECIPE.splitlines() if not line.startswith(("backbone_weights", "model_type"))]
    recipe.write_text("\n".join([*lines, 'model_type = "fast_scnn"']))
    argv = ["--config", str(recipe), *arguments(shapes, tmp_path)[2:], "--total_epoch", "1", "--transfer_epoch", "0"]
    assert run(argv) == 0
    assert "fast_scnn: no ImageNet weights are known for it" in capsys.readouterr().out
    options = json.loads((tmp_path / "000" / "config.json").read_text())["options"]
    assert (options["output_stride"], options["backbone_weights"]) == (32, "none")
    assert load_spec(tmp_path / "000" / "best.keras").output.stride == 8


@pytest.mark.parametrize(
    ("flags", "batch_size", "transfer_epoch"),
    [
        (["--backbone_weights", "none"], 2, 0),
        (["--weights_path", "{trained}", "--backbone_weights", "none"], 2, 5),
        (["--batch_size", "16", "--transfer_epoch", "3", "--backbone_weights", "none"], 16, 3),
    ],
    ids=["random", "whole network", "given"],
)
def test_batch_and_transfer_stage_are_chosen_by_data_and_weights(
    flags, batch_size, transfer_epoch, trained, shapes, tmp_path, monkeypatch, capsys
):
    """12 pictures: a batch of 2 makes five steps, and a random backbone has nothing that freezing would keep."""
    recipe = tmp_path / "short.toml"
    recipe.write_text("\n".join(line for line in RECIPE.splitlines() if not line.startswith(("batch", "transfer"))))
    monkeypatch.setattr("common.training._train", lambda *args, **named: 0)  # not a step is needed for this
    flags = [flag.format(trained=trained / "best.keras") for flag in flags]
    assert run(["--config", str(recipe), *arguments(shapes, tmp_path)[2:], *flags]) == 0
    options = json.loads((tmp_path / "000" / "config.json").read_text())["options"]
    assert (options["batch_size"], options["transfer_epoch"]) == (batch_size, transfer_epoch)
    said = capsys.readouterr()
    assert ("--batch_size 2: five steps of an epoch of 12 pictures" in said.out) == (batch_size == 2)
    assert ("12 pictures to train on fill no batch of 16" in said.err) == (batch_size == 16)


def test_head_options_reach_the_network(shapes, tmp_path):
    flags = ["--head", "aspp_lite", "--no-decoder", "--subpixel", "4", "--total_epoch", "1", "--transfer_epoch", "0"]
    assert run(arguments(shapes, tmp_path, *flags)) == 0
    spec = load_spec(tmp_path / "000" / "best.keras")
    assert spec.model.name == "mobilenetv2:alpha=0.35,width=16,head=aspp_lite,decoder=0,subpixel=4"
    assert spec.output.stride == 4


def test_a_frozen_graph_is_fine_tuned_on_other_classes_in_one_command(deeplab_data, shapes, tmp_path, capsys):
    """Its folded batch norms get statistics of the training pictures, all but the classifier is kept."""
    graph = deeplab_data / "weights" / "deeplabv3_mnv2_pascal_trainval" / "frozen_inference_graph_rebuilt.pb"
    flags = [
        "--model_type",
        "deeplabv3_mobilenetv2",
        "--alpha",
        "1",
        "--head_width",
        "256",
        "--weights_path",
        str(graph),
    ]
    assert run(arguments(shapes, tmp_path, *flags, "--total_epoch", "1")) == 0
    said = capsys.readouterr().out
    assert "all but the classifier is kept, which starts anew" in said
    assert "measured on 12 training pictures" in said
    spec = load_spec(tmp_path / "000" / "best.keras")
    assert spec.output.align_corners
    assert spec.input.resize == "pad"
    assert spec.num_classes == len((shapes / "classes.txt").read_text().split("\n")) - 1


def test_ctrl_c_saves_and_resume_goes_on(trained, shapes, tmp_path):
    """The real command, interrupted for real: exit code 130, then --resume finishes the run. It needs the run folder
    alone, not the weights that the run started from; and options that an earlier version did not write."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = shutil.copy(trained / "best.keras", tmp_path / "first.keras")
    more = ["--total_epoch", "60", "--weights_path", str(first)]
    command = [sys.executable, str(ROOT / "train.py"), *arguments(shapes, tmp_path / "logs", *more)]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch 2:"):
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "--resume" in rest
    rows = len((tmp_path / "logs/000/training.csv").read_text().splitlines()) - 1
    assert 2 <= rows < 60
    first.unlink()
    config = tmp_path / "logs/000/config.json"
    record = json.loads(config.read_text())
    record["options"]["total_epoch"] = rows + 1
    for flag in ("save_steps", "average_type", "loss", "keep_top"):
        del record["options"][flag]
    config.write_text(json.dumps(record))
    assert run(["--log_dir", str(tmp_path / "logs"), "--resume"]) == 0
    assert (tmp_path / "logs/000/trained_final.keras").is_file()
    assert len((tmp_path / "logs/000/training.csv").read_text().splitlines()) - 1 == rows + 1


def test_fine_tuning_on_a_model_with_a_damaged_spec_is_refused(trained, shapes, tmp_path, capsys):
    """Training on with another preprocessing than the weights know would be a silent mistake."""
    model = tmp_path / "model.keras"
    model.write_bytes((trained / "best.keras").read_bytes())
    (tmp_path / "model.keras.spec.json").write_text("{}")
    assert run(arguments(shapes, tmp_path / "logs", "--weights_path", str(model))) == 3
    assert "model.keras.spec.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no run", "no run found"),
        ("no config", "config.json"),
        ("damaged state", "state.npz"),
        ("unknown flag", "--of_tomorrow"),
        ("state of another version", "--weights_path"),
    ],
)
def test_what_cannot_be_resumed_says_so(what, said, trained, tmp_path, capsys):
    logs = tmp_path / "logs"
    if what != "no run":
        (logs / "000").mkdir(parents=True)
    record = json.loads((trained / "config.json").read_text())
    if what == "unknown flag":
        record["options"]["of_tomorrow"] = 1
    if what not in ("no run", "no config"):
        (logs / "000" / "config.json").write_text(json.dumps(record))
    if what == "damaged state":
        (logs / "000" / "state.npz").write_bytes(b"PK")
    if what == "state of another version":
        np.savez(logs / "000" / "state.npz", meta=np.frombuffer(b'{"step": 1}', np.uint8))
    assert run(["--log_dir", str(logs), "--resume"]) == 3
    error = capsys.readouterr().err
    assert "error:" in error
    assert said in error


@pytest.mark.parametrize("script", ["train.py", "eval.py", "deeplab.py"])
def test_help_answers_in_half_a_second(script):
    best = float("inf")
    for _ in range(3):  # the best of three: the promise is about the program, not about a busy machine
        start = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / script), "--help"], check=True, capture_output=True)
        best = min(best, time.perf_counter() - start)
    assert best < 0.5
