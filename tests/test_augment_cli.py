from __future__ import annotations

import argparse
import dataclasses
import runpy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from common import train_flags
from deeplabv3p.data.augment import Augmentation
from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.dataset import open_dataset
from deeplabv3p.data.pipeline import batches
from deeplabv3p.data.shapes import ShapesSet, generate
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.spec import SYMMETRIC

SCRIPT = Path(__file__).parents[1] / "tools" / "misc" / "augment_test.py"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> ShapesSet:
    return generate(tmp_path_factory.mktemp("shapes"), train=6, val=2, test=0, size_hw=(64, 80))


def run(shapes: ShapesSet, output: Path, *flags: Any) -> np.ndarray:
    command = [
        "--dataset_path",
        shapes.root,
        "--dataset_file",
        shapes.train_list,
        "--val_dataset_file",
        shapes.val_list,
    ]
    command += ["--classes_path", shapes.classes_file, "--output", output, *flags]
    runpy.run_path(str(SCRIPT))["main"]([str(part) for part in command])
    return np.asarray(cv2.imread(str(output), cv2.IMREAD_COLOR_RGB))


def test_the_sheet_shows_the_samples_of_the_run(shapes: ShapesSet, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'model_input_shape = "120x150"\nbatch_size = 4\ntotal_epoch = 3\nseed = 7\noptimizer = "sgd"\n'
        'aug_scale = "0.7-1.5"\naug_brightness = 0\naug_contrast = 0\naug_saturation = 0\n'
        "aug_rotate = 30\naug_copy_paste = 0.5\naug_gridmask = 0.5\naug_gridmask_ramp = 2\n"
    )
    sheet = run(shapes, tmp_path / "sheet.png", "--config", recipe, "--count", 3)
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.toml", "sheet.png"}
    augmentation = Augmentation((0.7, 1.5), rotate=30, copy_paste=0.5, gridmask=0.5, gridmask_ramp=2)
    dataset = open_dataset(shapes.root, shapes.train_list, load_classes(shapes.classes_file), 255)
    iterator = batches(
        dataset,
        size_hw=(120, 150),
        batch_size=4,
        preprocessing=SYMMETRIC,
        augmentation=augmentation,
        seed=7,
        steps_per_epoch=1,
        epochs=3,
        start_step=2,
    )
    images, _ = next(iterator)
    iterator.close()
    for row in range(3):  # each of them twice as large, below a title
        top = row * (240 + 22 + 6) + 22
        shown = sheet[top : top + 240, :300]
        expected = cv2.resize(np.round(images[row] * 127.5 + 127.5).astype(np.uint8), (300, 240))
        np.testing.assert_array_equal(shown, expected)


def test_every_option_is_a_flag() -> None:
    """That recipes may name it follows: their keys are the flags."""
    parser = argparse.ArgumentParser()
    train_flags.augmentation.add(parser.add_argument_group())
    flags = vars(parser.parse_args([]))
    assert set(flags) == {f"aug_{field.name}" for field in dataclasses.fields(Augmentation)}
    off = Augmentation()
    for field in dataclasses.fields(Augmentation):
        if field.name not in ("brightness", "contrast", "saturation"):  # on by default in train.py
            assert flags[f"aug_{field.name}"] == getattr(off, field.name)


def test_the_same_flags_draw_the_same_sheet(shapes: ShapesSet, tmp_path: Path) -> None:
    flags = ("--count", 2, "--model_input_shape", "48x64", "--aug_cutmix", 0.5)
    first = run(shapes, tmp_path / "a.png", *flags)
    np.testing.assert_array_equal(first, run(shapes, tmp_path / "b.png", *flags))
    assert not np.array_equal(first, run(shapes, tmp_path / "c.png", *flags, "--seed", 1))


@pytest.mark.parametrize(
    ("flags", "error", "text"),
    [
        (("--dataset_file", "none.txt"), DataError, "none.txt does not exist"),
        (("--aug_rotate", "200"), UsageError, "aug_rotate"),
        (("--aug_gridmask_d", "0-0.5"), UsageError, "gridmask_d"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    shapes: ShapesSet, tmp_path: Path, flags: tuple[str, str], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        run(shapes, tmp_path / "sheet.png", *flags)
    assert not list(tmp_path.iterdir())
