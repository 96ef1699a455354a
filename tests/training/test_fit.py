"""The fit on a small network: it learns, stages and scores are right, a stopped run ends as if it had not been."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from deeplabv3p.data.augment import Augmentation
from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.dataset import Dataset, open_dataset
from deeplabv3p.data.shapes import generate
from deeplabv3p.errors import DataError, DivergedError
from deeplabv3p.models.factory import model_spec
from deeplabv3p.runtime.artifact import load_spec
from deeplabv3p.training import checkpoint
from deeplabv3p.training.config import TrainConfig
from deeplabv3p.training.fit import Report, Stage, fit, stages

SIZE = (64, 64)
CONFIG = TrainConfig(
    size_hw=SIZE,
    batch_size=4,
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=1e-2,
    decay_type="cosine",
    transfer_epoch=0,
    total_epoch=3,
    eval_epoch_interval=2,
    deterministic=True,
    augmentation=Augmentation(scale=(0.8, 1.25), brightness=0.1),
)


def data(folder: Path, split: str) -> Dataset:
    return open_dataset(folder, folder / f"{split}.txt", load_classes(folder / "classes.txt"), 255)


def network(folder: Path):
    """Layers named as those of a real one: a backbone, a head with dropout and batch norm, the classifier."""
    keras.utils.set_random_seed(3)
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.Conv2D(8, 3, strides=4, padding="same", name="Conv1")(image)
    x = layers.ReLU(name="Conv1_relu")(layers.BatchNormalization(momentum=0.9, name="bn_Conv1")(x))
    x = layers.Conv2D(8, 1, name="aspp_1x1")(x)
    x = layers.Dropout(0.5, name="aspp_dropout")(layers.ReLU(name="aspp_relu")(x))
    model = keras.Model(image, layers.Conv2D(7, 1, name="logits")(x), name="small")
    classes = load_classes(folder / "classes.txt").classes
    spec = model_spec("mobilenetv2", size_hw=SIZE, output_stride=16, classes=classes)
    return model, spec.replace(model={"name": "small"})


def run_fit(folder: Path, run: Path, config: TrainConfig = CONFIG, **options):
    run.mkdir(exist_ok=True)
    model, spec = network(folder)
    result = fit(model, spec, config, data(folder, "train"), data(folder, "val"), run, **options)
    return model, result


def weights_of(path: Path) -> list[np.ndarray]:
    return keras.saving.load_model(path).get_weights()


def test_a_run_learns_and_leaves_what_it_promises(shapes, tmp_path):
    steps = []
    report = Report(progress=lambda done, total, info=None: steps.append((done, total)))
    config = replace(CONFIG, total_epoch=12, eval_epoch_interval=5, save_eval_checkpoint=True)
    model, result = run_fit(shapes, tmp_path / "run", config, report=report)
    assert result.finished
    rows = result.history
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert [row["epoch"] for row in rows if row["val_miou"] is not None] == [5, 10, 12]
    best = max((row for row in rows if row["val_miou"] is not None), key=lambda row: row["val_miou_in_truth"])
    assert result.best_miou == best["val_miou"]
    assert steps == [(i, 36) for i in range(1, 37)]
    assert all(0 <= row["data_wait"] <= 1 for row in rows)
    for name in ("best.keras", "last.keras", "trained_final.keras"):
        spec = load_spec(tmp_path / "run" / name)
        assert spec.provenance.miou is not None
        assert "64x64" in spec.provenance.protocol
        assert len(spec.provenance.weights_sha256) == 64
    assert load_spec(tmp_path / "run" / "best.keras").provenance.miou == result.best_miou
    assert any((tmp_path / "run").glob("epoch*-miou*.keras"))
    for ours, saved in zip(model.get_weights(), weights_of(tmp_path / "run" / "trained_final.keras"), strict=True):
        np.testing.assert_array_equal(ours, saved)
    with (tmp_path / "run" / "training.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12


def test_the_tensorboard_log_is_readable(shapes, tmp_path):
    run_fit(shapes, tmp_path / "run")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    assert [event.step for event in events.Scalars("val_miou")] == [2, 3]


def test_best_is_the_epoch_of_the_best_score(shapes, tmp_path):
    """A learning rate that ruins the second half: best.keras stays from the first."""
    _, good = run_fit(shapes, tmp_path / "run", replace(CONFIG, total_epoch=6, eval_epoch_interval=1))
    best = max(good.history, key=lambda row: row["val_miou_in_truth"])
    assert load_spec(tmp_path / "run" / "best.keras").provenance.miou == best["val_miou"]


def test_stages():
    config = replace(CONFIG, transfer_epoch=2, freeze_level=1, total_epoch=5)
    assert stages(config) == [Stage(0, 2, 1), Stage(2, 5, 0)]
    assert stages(replace(config, freeze_level=0)) == [Stage(0, 5, 0)]
    assert stages(replace(config, init_epoch=3)) == [Stage(3, 5, 0)]
    assert stages(replace(config, transfer_epoch=9)) == [Stage(0, 5, 1)]
    assert stages(replace(config, init_epoch=5)) == []


@pytest.mark.parametrize(("level", "moves"), [(1, {"aspp_1x1", "logits"}), (2, {"logits"})])
def test_the_transfer_stage_moves_only_what_is_open(shapes, tmp_path, level, moves):
    before, _ = network(shapes)
    after, _ = run_fit(shapes, tmp_path / "run", replace(CONFIG, transfer_epoch=9, freeze_level=level, total_epoch=1))
    changed = {
        layer.name
        for layer in before.layers
        if any(
            (a != b).any() for a, b in zip(layer.get_weights(), after.get_layer(layer.name).get_weights(), strict=True)
        )
    }
    assert changed == moves


@pytest.mark.parametrize(
    ("stop_at", "options"),
    [
        (1, {"average_type": "ema", "accumulate_steps": 2, "mixed_precision": "float16", "warmup_epoch": 0.5}),
        (3, {}),
        (5, {"average_type": "lookahead", "accumulate_steps": 3, "clip_norm": 1.0}),
        (7, {"average_type": "swa", "optimizer": "rmsprop"}),
    ],
)
def test_a_stopped_run_ends_bit_identical(shapes, tmp_path, stop_at, options):
    """Stopped inside an epoch, at its end and at the border of two stages, with everything that has a state."""
    config = replace(CONFIG, transfer_epoch=1, total_epoch=3, **options)
    whole, expected = run_fit(shapes, tmp_path / "whole", config)
    count = 0

    def stop() -> bool:
        nonlocal count
        count += 1
        return count == stop_at

    _, stopped = run_fit(shapes, tmp_path / "parts", config, stop_requested=stop)
    assert not stopped.finished
    assert not (tmp_path / "parts" / "trained_final.keras").exists()
    resumed, result = run_fit(shapes, tmp_path / "parts", config, resume=True)
    assert result.finished
    for ours, theirs in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    timings = {"images_per_s", "data_wait", "seconds"}
    ours, theirs = (
        [{k: v for k, v in row.items() if k not in timings} for row in r.history] for r in (result, expected)
    )
    assert ours == theirs


def test_a_finished_run_resumes_to_itself(shapes, tmp_path):
    """Its average, too, which lies in the optimizer of a stage that has no step left."""
    config = replace(CONFIG, average_type="ema")
    first, _ = run_fit(shapes, tmp_path / "run", config)
    again, result = run_fit(shapes, tmp_path / "run", config, resume=True)
    assert result.finished
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights(), strict=True))


def test_a_changed_dataset_is_not_resumed(shapes, tmp_path):
    run_fit(shapes, tmp_path / "run")
    model, spec = network(shapes)
    fewer = replace(data(shapes, "train"), samples=data(shapes, "train").samples[:8])
    with pytest.raises(DataError, match="dataset has changed"):
        fit(model, spec, CONFIG, fewer, data(shapes, "val"), tmp_path / "run", resume=True)


def test_a_state_of_another_network_is_refused(shapes, tmp_path):
    run_fit(shapes, tmp_path / "run")
    image = keras.Input((*SIZE, 3), name="image")
    model = keras.Model(image, layers.Conv2D(7, 3, strides=4, padding="same", name="logits")(image), name="small")
    with pytest.raises(DataError, match="another network"):
        fit(
            model, network(shapes)[1], CONFIG, data(shapes, "train"), data(shapes, "val"), tmp_path / "run", resume=True
        )


def test_divergence_names_the_step(shapes, tmp_path):
    config = replace(CONFIG, optimizer="sgd", learning_rate=1e30, decay_type="None", weight_decay=0.0)
    with pytest.raises(DivergedError, match=r"at step \d+") as error:
        run_fit(shapes, tmp_path / "run", config)
    assert error.value.exit_code == 6


def test_a_bad_picture_ends_the_run_with_its_name(shapes, tmp_path):
    broken = tmp_path / "data"
    generate(broken, train=8, val=2, test=0, size_hw=SIZE, seed=6)
    victim = data(broken, "train").samples[3].image
    victim.write_bytes(victim.read_bytes()[:200])
    with pytest.raises(DataError, match=victim.name):
        run_fit(broken, tmp_path / "run")


def test_a_picture_that_breaks_later_ends_the_run_with_its_name(shapes, tmp_path):
    """Then batches come through TensorFlow's own threads, which wrap errors."""
    fragile = tmp_path / "data"
    generate(fragile, train=12, val=2, test=0, size_hw=SIZE, seed=6)

    def break_all(row) -> None:
        for sample in data(fragile, "train").samples:
            sample.image.write_bytes(sample.image.read_bytes()[:200])

    with pytest.raises(DataError, match=r"images.*\.jpg"):
        run_fit(fragile, tmp_path / "run", replace(CONFIG, total_epoch=20), report=Report(epoch=break_all))


def test_a_full_disk_leaves_the_last_checkpoint(shapes, tmp_path, monkeypatch):
    """The write fails in the third epoch: a clear error, and the files of the second stay loadable."""
    calls = []

    def fail_later(path, groups, meta, original=checkpoint.save_state):
        calls.append(path)
        if len(calls) == 4:  # one before the first step, then one an epoch
            with monkeypatch.context() as patch:
                patch.setattr(np, "savez", _no_space)
                original(path, groups, meta)
        original(path, groups, meta)

    def _no_space(out, **arrays):
        out.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_state", fail_later)
    with pytest.raises(DataError, match="No space left"):
        run_fit(shapes, tmp_path / "run")
    _, meta = checkpoint.load_state(tmp_path / "run" / checkpoint.STATE_NAME)
    assert meta["step"] == 6
    assert not list((tmp_path / "run").glob(".*tmp*"))
    monkeypatch.undo()
    _, result = run_fit(shapes, tmp_path / "run", resume=True)
    assert result.finished


@pytest.mark.parametrize(
    "delay", [0.013, *(pytest.param(0.005 * i, marks=pytest.mark.slow, id=f"{5 * i} ms") for i in range(10))]
)
def test_kill_9_while_a_checkpoint_is_written_keeps_the_previous_one(tmp_path, delay):
    """A process that does nothing but write states is killed in the middle; the file is whole each time."""
    code = textwrap.dedent("""
        import sys, keras, numpy as np
        from pathlib import Path
        from deeplabv3p.training import checkpoint
        image = keras.Input((8, 8, 64))
        model = keras.Model(image, keras.layers.Conv2D(2048, 3)(image))
        step = 0
        while True:
            for variable in model.trainable_variables: variable.assign(variable * 0 + step)
            checkpoint.save_state(Path(sys.argv[1]), {"model": model.variables}, {"step": step})
            print(step, flush=True); step += 1
    """)
    path, root = tmp_path / "state.npz", Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        for _ in range(3):
            last = int(process.stdout.readline())
        time.sleep(delay)  # somewhere inside the next write
    finally:
        os.kill(process.pid, signal.SIGKILL)
        last = max([last, *(int(line) for line in process.stdout.read().split())])
        process.wait()
    arrays, meta = checkpoint.load_state(path)
    assert meta["step"] in (last, last + 1)
    kernel = next(a for name, a in arrays.items() if name.startswith("model/") and a.ndim == 4)
    assert (kernel == meta["step"]).all(), "weights and position are of the same step"


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut"])
def test_a_damaged_state_is_one_clear_error(tmp_path, content):
    path = tmp_path / "state.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"state\.npz"):
        checkpoint.load_state(path)
