"""Watchers in a real fit: what they decide, what they leave, and that a resumed run is watched on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deeplabv3p.data.augment import Augmentation
from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.dataset import Dataset, open_dataset
from deeplabv3p.data.pipeline import batches, sample_names
from deeplabv3p.errors import DivergedError
from deeplabv3p.models.factory import model_spec
from deeplabv3p.training.config import TrainConfig, WatchOptions
from deeplabv3p.training.fit import fit
from deeplabv3p.training.history import TENSORBOARD_NAME

SIZE = (64, 64)
# The backbone and its batch norms are frozen and the steps are too small to count: every epoch has the same score.
STILL = TrainConfig(
    size_hw=SIZE,
    batch_size=4,
    optimizer="sgd",
    learning_rate=1e-12,
    freeze_level=2,
    transfer_epoch=9,
    total_epoch=9,
    eval_epoch_interval=1,
    deterministic=True,
    augmentation=Augmentation(scale=(1.0, 1.0), flip=0.5),
    watch=WatchOptions(keep_top=2, plateau_patience=1, plateau_factor=0.25, early_stop_patience=3, board_pictures=2),
)


def data(folder: Path, split: str) -> Dataset:
    return open_dataset(folder, folder / f"{split}.txt", load_classes(folder / "classes.txt"), 255)


def run_fit(folder: Path, run: Path, config: TrainConfig = STILL, **options):
    run.mkdir(exist_ok=True)
    keras.utils.set_random_seed(3)
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.BatchNormalization(name="bn_Conv1")(layers.Conv2D(8, 3, strides=4, padding="same", name="Conv1")(image))
    model = keras.Model(image, layers.Conv2D(7, 1, name="logits")(layers.ReLU(name="Conv1_relu")(x)), name="small")
    classes = load_classes(folder / "classes.txt").classes
    spec = model_spec("mobilenetv2", size_hw=SIZE, output_stride=16, classes=classes).replace(model={"name": "small"})
    return fit(model, spec, config, data(folder, "train"), data(folder, "val"), run, **options)


def test_a_plateau_lowers_the_rate_and_then_ends_the_run_resumed_or_not(shapes, tmp_path):
    """Epoch 1 is the best; 2, 3 and 4 are not better. The second run is stopped in epoch 3."""
    run = tmp_path / "whole"
    whole = run_fit(shapes, run)
    assert whole.finished
    assert whole.early_stop == "no better validation mIoU in 3 evaluations"
    # A row has the rate of its epoch's last step; what a plateau does shows in the next one.
    expected = [1e-12, 1e-12, 0.25e-12, 0.0625e-12]
    assert [row["learning_rate"] for row in whole.history] == pytest.approx(expected, rel=1e-6)  # float32
    kept = {path.name[:8] for path in run.glob("epoch*.keras")}
    assert kept == {"epoch001", "epoch002"}, "of equal scores the earlier is kept"
    events = EventAccumulator(str(run / TENSORBOARD_NAME), size_guidance={"images": 0})
    events.Reload()
    names = [sample.name for sample in data(shapes, "val").samples]
    assert set(events.Tags()["images"]) == {"confusion", f"predictions/{names[0]}", f"predictions/{names[3]}"}
    assert all([e.step for e in events.Images(tag)] == [1, 2, 3, 4] for tag in events.Tags()["images"])

    parts, plain = tmp_path / "parts", replace(STILL, watch=replace(STILL.watch, board_pictures=0))
    count = iter(range(1, 99))
    assert not run_fit(shapes, parts, plain, stop_requested=lambda: next(count) == 8).finished
    for _ in range(2):  # the second time there is nothing left to do
        result = run_fit(shapes, parts, plain, resume=True)
        assert result.early_stop == whole.early_stop
        assert [row["learning_rate"] for row in result.history] == [row["learning_rate"] for row in whole.history]
        assert {path.name for path in parts.glob("epoch*")} == {path.name for path in run.glob("epoch*")}


def test_the_batch_of_the_step_that_diverged_is_written(shapes, tmp_path):
    config = replace(STILL, transfer_epoch=0, learning_rate=1e30)
    with pytest.raises(DivergedError, match=r"at step \d+ \(epoch \d+\)\. Its batch is in .*\.npz") as error:
        run_fit(shapes, tmp_path, config)
    (archive,) = tmp_path.glob("diverged_step*.npz")
    assert archive.with_suffix(".png").exists()
    assert str(archive) in str(error.value)
    step = int(archive.stem.removeprefix("diverged_step"))
    assert f"at step {step} " in str(error.value)
    with np.load(archive, allow_pickle=False) as saved:
        train_set = data(shapes, "train")
        order = {"batch_size": 4, "steps_per_epoch": 3, "seed": config.seed}
        names = sample_names(train_set, step=step - 1, **order)
        assert saved["samples"].tolist() == names
        spec = model_spec("mobilenetv2", size_hw=SIZE, output_stride=16, classes=train_set.classes)
        stream = batches(
            train_set,
            size_hw=SIZE,
            preprocessing=spec.input.preprocessing,
            augmentation=config.augmentation,
            epochs=9,
            start_step=step - 1,
            **order,
        )
        images, labels = next(stream)
        np.testing.assert_array_equal(saved["images"], images)
        np.testing.assert_array_equal(saved["labels"], labels)
        stream.close()
