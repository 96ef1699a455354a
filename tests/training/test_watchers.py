"""Watchers on events made by hand, interrupted anywhere; the pictures they leave, read back."""

from __future__ import annotations

import json
import types
from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from deeplabv3p.data.augment import Augmentation
from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.dataset import open_dataset
from deeplabv3p.data.pipeline import batches, sample_names
from deeplabv3p.data.shapes import generate
from deeplabv3p.errors import DataError, DivergedError
from deeplabv3p.models.factory import model_spec
from deeplabv3p.pixels import IGNORE
from deeplabv3p.runtime.keras_engine import KerasRuntime
from deeplabv3p.spec import ClassInfo
from deeplabv3p.training import watchers
from deeplabv3p.training.config import TrainConfig, WatchOptions
from deeplabv3p.training.history import TENSORBOARD_NAME, History
from deeplabv3p.training.sheets import batch_sheet, prediction_sheet
from deeplabv3p.training.watchers import (
    BestCheckpoints,
    Board,
    DivergenceStop,
    EarlyStop,
    EpochEvent,
    Plateau,
    StepEvent,
    make_watchers,
)

CLASSES = (ClassInfo("sky", (10, 20, 250)), ClassInfo("road", (200, 30, 40)), ClassInfo("tree", (0, 160, 0)))
SPEC = model_spec("mobilenetv2", size_hw=(32, 32), output_stride=16, classes=CLASSES)

# One score an epoch, None where it was not scored; few values, so that ties are frequent.
COURSES = st.lists(st.sampled_from([None, 0.1, 0.2, 0.3, 0.4]), max_size=14)
CUTS = st.sets(st.integers(0, 13))


class Log:
    """What watchers did to the run."""

    def __init__(self) -> None:
        self.factors: list[tuple[int, float]] = []
        self.ends: list[int] = []


def epoch_event(epoch: int, miou: float | None, log: Log, *, stage: int = 0, last_stage: bool = True) -> EpochEvent:
    """An epoch with this score, which stands in for the whole :class:`Scores`."""
    return EpochEvent(
        epoch=epoch,
        step=epoch,
        stage=stage,
        last_stage=last_stage,
        row={"epoch": epoch},
        scores=None if miou is None else types.SimpleNamespace(miou_in_truth=miou),
        stock=None,
        spec=SPEC,
        runtime=None,
        val_set=None,
        scale_learning_rate=lambda factor: log.factors.append((epoch, factor)),
        stop=lambda reason: log.ends.append(epoch),
    )


def step_event(loss: float, model=None, images=None, labels=None) -> StepEvent:
    images = np.zeros((2, 32, 32, 3), np.float32) if images is None else images
    labels = np.zeros((2, 32, 32), np.uint8) if labels is None else labels
    return StepEvent(17, 3, loss, model, batch=lambda: (images, labels), samples=lambda: ["a", "b/c"])


@pytest.fixture
def light_checkpoints(monkeypatch):
    """Checkpoints are one line of text and an empty sidecar."""

    def save(model, spec, path):
        path.write_text("weights")
        watchers.sidecar_path(path).touch()

    monkeypatch.setattr(watchers, "save_model", save)


def restored(watcher, fresh):
    fresh.restore(json.loads(json.dumps(watcher.state())))
    return fresh


@given(COURSES, CUTS, st.integers(1, 3))
def test_plateaus_are_the_same_however_often_the_run_is_resumed(course, cuts, patience):
    logs = []
    for resumes in (set(), cuts):
        log, watcher, early = Log(), Plateau(patience, 0.5), EarlyStop(patience)
        for epoch, miou in enumerate(course, 1):
            for one in (watcher, early):
                one.after_epoch(epoch_event(epoch, miou, log))
            if epoch in resumes:
                watcher = restored(watcher, Plateau(patience, 0.5))
                early = restored(early, EarlyStop(patience))
        logs.append((log.factors, log.ends))
    assert logs[0] == logs[1]


def test_the_rate_falls_after_patience_evaluations_and_then_patience_begins_anew():
    log, watcher = Log(), Plateau(2, 0.1)
    course = [0.3, 0.2, None, 0.3, 0.1, None, 0.2, 0.4, 0.3, 0.3, 0.3]  # an equal score is not a better one
    for epoch, miou in enumerate(course, 1):
        watcher.after_epoch(epoch_event(epoch, miou, log))
    assert log.factors == [(4, 0.1), (7, 0.1), (10, 0.1)]


def test_a_stage_has_patience_of_its_own_and_only_the_last_one_ends_early():
    log, watcher = Log(), EarlyStop(2)
    course = [(0, 0.3), (0, 0.2), (0, 0.2), (3, 0.2), (3, 0.1)]
    for epoch, (stage, miou) in enumerate(course, 1):
        watcher.after_epoch(epoch_event(epoch, miou, log, stage=stage, last_stage=stage == 3))
    assert log.ends == [5]


def course_files(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def expected_files(course, keep_top: int, keep_records: bool) -> set[str]:
    scored = [(epoch, miou) for epoch, miou in enumerate(course, 1) if miou is not None]
    kept = sorted(scored, key=lambda item: -item[1])[:keep_top]  # stable: the earlier of equal ones is first
    if keep_records:
        kept += [(epoch, miou) for epoch, miou in scored if all(miou > m for e, m in scored if e < epoch)]
    names = {f"epoch{epoch:03d}-miou{miou:.4f}.keras" for epoch, miou in kept}
    return names | {f"{name}.spec.json" for name in names}


@given(COURSES, CUTS, st.integers(0, 3), st.booleans())
def test_the_best_checkpoints_are_left_wherever_the_run_is_killed(
    tmp_path_factory, course, cuts, keep_top, keep_records
):
    """Killed after the watcher wrote and before the state was saved: that epoch is repeated from the state before."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        light_checkpoints.__wrapped__(patch)
        watcher = BestCheckpoints(folder, keep_top, keep_records=keep_records)
        for epoch, miou in enumerate(course, 1):
            saved = json.dumps(watcher.state())
            watcher.after_epoch(epoch_event(epoch, miou, Log()))
            if epoch in cuts:
                watcher = BestCheckpoints(folder, keep_top, keep_records=keep_records)
                watcher.restore(json.loads(saved))
                watcher.after_epoch(epoch_event(epoch, miou, Log()))
    assert course_files(folder) == expected_files(course, keep_top, keep_records)


def test_an_epoch_that_scores_otherwise_when_repeated_leaves_one_checkpoint(tmp_path, light_checkpoints):
    """Without deterministic operations a repeated epoch may differ. Its first file goes; nothing is counted twice."""
    watcher = BestCheckpoints(tmp_path, 2, keep_records=False)
    for epoch, miou in enumerate([0.3, 0.2], 1):
        watcher.after_epoch(epoch_event(epoch, miou, Log()))
    state = watcher.state()
    watcher.after_epoch(epoch_event(3, 0.4, Log()))  # removes the file of epoch 2, then the process is killed
    watcher = BestCheckpoints(tmp_path, 2, keep_records=False)
    watcher.restore(state)
    watcher.after_epoch(epoch_event(3, 0.1, Log()))
    assert course_files(tmp_path) == expected_files([0.3, None, 0.1], 2, keep_records=False)


def test_nothing_is_removed_before_the_new_checkpoint_is_written(tmp_path, light_checkpoints, monkeypatch):
    watcher = BestCheckpoints(tmp_path, 1, keep_records=False)
    watcher.after_epoch(epoch_event(1, 0.3, Log()))
    before = course_files(tmp_path)

    def full(model, spec, path):
        raise DataError("No space left on device")

    monkeypatch.setattr(watchers, "save_model", full)
    with pytest.raises(DataError, match="No space"):
        watcher.after_epoch(epoch_event(2, 0.4, Log()))
    assert course_files(tmp_path) == before


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_its_batch(tmp_path, loss):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    images[0, 3, 4] = np.nan
    labels = rng.integers(0, 3, (2, 32, 32)).astype(np.uint8)
    watcher = DivergenceStop(tmp_path, SPEC)
    watcher.after_step(step_event(1e30, None, images, labels))  # large is not too large
    with pytest.raises(DivergedError, match=r"the loss is -?(nan|inf) at step 17 \(epoch 3\).*diverged_step17\.npz"):
        watcher.after_step(step_event(loss, None, images, labels))
    with np.load(tmp_path / "diverged_step17.npz", allow_pickle=False) as saved:
        np.testing.assert_array_equal(saved["images"], images)
        np.testing.assert_array_equal(saved["labels"], labels)
        assert saved["samples"].tolist() == ["a", "b/c"]
        assert (saved["step"], saved["epoch"]) == (17, 3)
    assert cv2.imread(str(tmp_path / "diverged_step17.png")) is not None


def network() -> keras.Model:
    image = keras.Input((32, 32, 3), name="image")
    return keras.Model(image, layers.Conv2D(3, 1, strides=4, name="logits")(image), name="small")


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    """A gradient that overflows leaves the loss of its own step finite."""
    model, watcher = network(), DivergenceStop(tmp_path, SPEC)
    watcher.before_checkpoint(step_event(0.5, model))
    kernel = model.get_layer("logits").kernel
    values = np.array(kernel)
    values[0, 0, 1, 2] = np.inf
    kernel.assign(values)
    with pytest.raises(DivergedError, match=r"'logits/kernel' are not finite at step 17"):
        watcher.before_checkpoint(step_event(0.5, model))
    assert (tmp_path / "diverged_step17.npz").exists()


def test_a_batch_that_cannot_be_written_does_not_hide_the_divergence(tmp_path):
    def gone():
        raise DataError("street.jpg is gone.")

    event = replace(step_event(float("nan")), batch=gone)
    with pytest.raises(DivergedError, match=r"step 17.*could not be written: street\.jpg is gone\."):
        DivergenceStop(tmp_path, SPEC).after_step(event)


def test_a_process_that_is_not_the_chief_decides_and_writes_nothing(tmp_path):
    config = TrainConfig(watch=WatchOptions(keep_top=3, plateau_patience=1, early_stop_patience=1))
    log = Log()
    team = make_watchers(config, tmp_path, SPEC, History(tmp_path), chief=False)
    for epoch in (1, 2):
        for watcher in team:
            watcher.after_epoch(epoch_event(epoch, 0.5, log))
    with pytest.raises(DivergedError, match="step 17"):
        team[0].after_step(step_event(float("nan")))
    assert (log.factors, log.ends) == ([(2, 0.5)], [2])
    assert not course_files(tmp_path)


def test_there_are_the_watchers_that_were_asked_for(tmp_path):
    config = TrainConfig(
        save_eval_checkpoint=True, watch=WatchOptions(keep_top=1, plateau_patience=1, early_stop_patience=1)
    )
    names = [watcher.name for watcher in make_watchers(config, tmp_path, SPEC, History(tmp_path))]
    assert names == ["divergence", "checkpoints", "plateau", "early_stop", "board"]
    plain = TrainConfig(watch=WatchOptions(board_pictures=0))
    names = [watcher.name for watcher in make_watchers(plain, tmp_path, SPEC, History(tmp_path))]
    assert names == ["divergence"]


def test_sample_names_are_those_of_the_batch(tmp_path):
    """Without augmentation, and at the pictures' own size, a batch holds the very labels of the samples it names."""
    generate(tmp_path, train=7, val=1, test=0, size_hw=(64, 64), seed=1)
    dataset = open_dataset(tmp_path, tmp_path / "train.txt", load_classes(tmp_path / "classes.txt"), 255)
    labels = {sample.name: dataset.load(index)[1] for index, sample in enumerate(dataset.samples)}
    order = {"seed": 4, "batch_size": 3, "steps_per_epoch": 3}  # the third batch begins a second lap
    made = batches(
        dataset,
        size_hw=(64, 64),
        preprocessing=SPEC.input.preprocessing,
        augmentation=Augmentation((1, 1), flip=0),
        epochs=2,
        **order,
    )
    for step, (_, batch) in enumerate(made):
        names = sample_names(dataset, step=step, **order)
        for name, label in zip(names, batch, strict=True):
            np.testing.assert_array_equal(label, labels[name])
    assert step == 5


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_a_batch_is_drawn_as_the_pictures_it_was_made_of(color):
    spec = SPEC.replace(input={"color": color, "mean": (100.0, 110.0, 120.0), "std": (50.0, 60.0, 70.0)})
    picture = np.zeros((160, 160, 3), np.uint8) + np.array([250, 128, 3], np.uint8)
    seen = picture[..., ::-1] if color == "BGR" else picture
    images = ((seen - np.array(spec.input.mean)) / np.array(spec.input.std)).astype(np.float32)[None]
    labels = np.full((1, 160, 160), 1, np.uint8)
    labels[0, :40] = IGNORE
    sheet = batch_sheet(images, labels, ["only"], spec)
    assert sheet[100, 80].tolist() == [250, 128, 3]  # a bar of 22 pixels with the title, then the panels
    assert sheet[150, 246].tolist() == list(CLASSES[1].color)
    images[:] = np.nan
    assert sheet.shape == batch_sheet(images, labels, ["only"], spec).shape


def test_a_prediction_is_drawn_in_the_colours_of_its_classes():
    image = np.full((64, 64, 3), 90, np.uint8)
    sheet = prediction_sheet(image, np.full((64, 64), 1, np.uint8), np.full((64, 64), 2, np.uint8), CLASSES)
    row = sheet[22 + 32]
    assert [row[x].tolist() for x in (32, 70 + 32, 140 + 32)] == [[90] * 3, *(list(CLASSES[i].color) for i in (1, 2))]
    legend = sheet[:, 210:].reshape(-1, 3).tolist()
    assert list(CLASSES[1].color) in legend
    assert list(CLASSES[0].color) not in legend


def test_the_board_holds_the_same_pictures_once_an_evaluation(tmp_path):
    """The second evaluation is made twice: its process was killed before the state was saved."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data, run = tmp_path / "data", tmp_path / "run"
    generate(data, train=1, val=5, test=0, size_hw=(64, 64), seed=1)
    val_set = open_dataset(data, data / "val.txt", load_classes(data / "classes.txt"), 255)
    spec = model_spec("mobilenetv2", size_hw=(64, 64), output_stride=16, classes=val_set.classes)
    image = keras.Input((64, 64, 3), name="image")
    model = keras.Model(image, layers.Conv2D(7, 1, strides=4, name="logits")(image))
    scores = types.SimpleNamespace(confusion=np.eye(7, dtype=np.int64))
    runtime = KerasRuntime(model, spec)
    for epochs in ((1, 2), (2, 3)):
        history = History(run)
        board = Board(run, 3, history)
        for epoch in epochs:
            event = replace(epoch_event(epoch, None, Log()), spec=spec, runtime=runtime, val_set=val_set)
            board.after_epoch(event if epoch == 1 else replace(event, scores=scores))  # epoch 1 was not scored
        history.close()
    events = EventAccumulator(str(run / TENSORBOARD_NAME), size_guidance={"images": 0})
    events.Reload()
    chosen = [val_set.samples[index].name for index in (0, 2, 4)]
    assert set(events.Tags()["images"]) == {"confusion", *(f"predictions/{name}" for name in chosen)}
    for tag in events.Tags()["images"]:
        assert [event.step for event in events.Images(tag)] == [2, 3]
    shown = events.Images("confusion")[-1]
    picture = cv2.imdecode(np.frombuffer(shown.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(picture, cv2.imread(str(run / "confusion_matrix.png")))
