"""Calibration pictures: drawn evenly, prepared by the spec, never augmented."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from example_spec import SPEC

from deeplabv3p.data.classes import ClassList
from deeplabv3p.data.dataset import open_dataset
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.export.calibration import calibration_tensors, draw
from deeplabv3p.pixels import prepare


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, photographs: np.ndarray) -> list[Path]:
    """Three photographs as PNG, with labels that nothing can read, in the layout of a dataset."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    found = []
    for index, photograph in enumerate(photographs):
        path = folder / "images" / f"{index}.png"
        cv2.imwrite(str(path), cv2.cvtColor(photograph, cv2.COLOR_RGB2BGR))
        (folder / "labels" / f"{index}.png").write_text("not a picture")
        found.append(path)
    (folder / "list.txt").write_text("0\n1\n2\n")
    return found


@pytest.mark.parametrize("resize", ["stretch", "fit", "pad", "crop"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_tensors_are_what_inference_prepares_bit_by_bit(paths, photographs, resize, layout):
    """So no picture is augmented: flipped, cropped at random, recoloured or turned."""
    spec = SPEC.replace(input={"resize": resize})
    tensors = list(calibration_tensors(spec, paths, layout=layout)())
    assert len(tensors) == len(photographs)
    for tensor, photograph in zip(tensors, photographs, strict=True):
        expected, _ = prepare(photograph, spec.replace(input={"layout": layout}).input)
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, expected[None])


def test_every_pass_gives_the_same(paths):
    start = calibration_tensors(SPEC, paths)
    for first, second in zip(start(), start(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_dataset_is_read_without_its_labels(paths):
    root = paths[0].parents[1]
    dataset = open_dataset(root, "list.txt", ClassList(SPEC.classes, explicit_colors=False), 255)
    from_dataset = list(calibration_tensors(SPEC, dataset, 3)())
    for ours, theirs in zip(from_dataset, calibration_tensors(SPEC, paths)(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_draws_are_even_and_keep_the_order():
    assert draw(range(100), 4, "a list") == [0, 25, 50, 75]
    assert draw(range(7), 7, "a list") == list(range(7))
    drawn = draw(range(101), 30, "a list")
    assert len(set(drawn)) == 30
    assert set(np.diff(drawn)) == {3, 4}


def test_too_few_pictures_say_how_many_there_are(paths):
    with pytest.raises(DataError, match="holds no picture to calibrate with"):
        calibration_tensors(SPEC, [])
    with pytest.raises(DataError, match=r"holds 3 pictures, but 30 are to be drawn.*ask for 3"):
        calibration_tensors(SPEC, paths, 30)


def test_a_damaged_picture_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        list(calibration_tensors(SPEC, [tmp_path / "broken.jpg"])())


def test_a_quantized_model_is_refused(paths):
    spec = SPEC.replace(input={"dtype": "int8", "scale": 0.01, "zero_point": 0})
    with pytest.raises(UsageError, match="takes int8"):
        calibration_tensors(spec, paths)
