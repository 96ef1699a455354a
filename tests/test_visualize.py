from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from deeplabv3p import charts, visualize
from deeplabv3p.data.classes import VOID_COLOR, default_colors, load_classes
from deeplabv3p.data.decode import read_label
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo

CLASSES = (ClassInfo("background", (0, 0, 0)), ClassInfo("road", (128, 64, 128)), ClassInfo("pole", (10, 200, 30)))
LABELS = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([0, 1, 2, IGNORE])
)


def photograph() -> np.ndarray:
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[:96, :128])


def test_the_void_colour_is_the_one_that_labels_are_read_with() -> None:
    assert visualize.IGNORE_COLOR == VOID_COLOR


@settings(deadline=None)
@given(LABELS)
def test_colorize_gives_every_pixel_the_colour_of_its_class(label: np.ndarray) -> None:
    colored = visualize.colorize(label, CLASSES)
    assert colored.shape == (*label.shape, 3)
    for value, color in [*enumerate(item.color for item in CLASSES), (IGNORE, visualize.IGNORE_COLOR)]:
        assert (colored[label == value] == color).all()


def test_overlay_mixes_classes_and_leaves_black_and_ignored_pixels() -> None:
    image = photograph()
    label = np.full(image.shape[:2], 1, np.uint8)
    label[:20], label[20:30] = 0, IGNORE
    before = image.copy()
    result = visualize.overlay(image, label, CLASSES, alpha=0.25)
    assert np.array_equal(result[:30], image[:30])
    expected = 0.75 * image[30:].astype(float) + 0.25 * np.array(CLASSES[1].color)
    assert np.abs(result[30:] - expected).max() <= 0.5001
    assert np.array_equal(image, before)
    full = visualize.overlay(image, np.full_like(label, 2), CLASSES, alpha=1)
    assert np.array_equal(full, visualize.colorize(np.full_like(label, 2), CLASSES))


def test_legend_shows_the_colours_asked_for() -> None:
    def colors(picture: np.ndarray) -> set[tuple[int, ...]]:
        return {tuple(color) for color in picture.reshape(-1, 3).tolist()}

    every, some = visualize.legend(CLASSES), visualize.legend(CLASSES, present=[2])
    assert {item.color for item in CLASSES} <= colors(every)
    assert CLASSES[2].color in colors(some)
    assert CLASSES[1].color not in colors(some)
    assert every.shape[0] > some.shape[0]
    assert visualize.legend(CLASSES, present=[]).size


def test_legend_fits_long_names_and_many_classes() -> None:
    long = visualize.legend([ClassInfo("a name that is as long as a whole sentence, Дорога 道路", (1, 2, 3))])
    assert (long[:, -8:] == 255).all()  # the text ends inside
    assert (long[:, -100:-10] != 255).any()
    many = visualize.legend([ClassInfo(f"class {i}", color) for i, color in enumerate(default_colors(255))])
    assert max(many.shape[:2]) < 2500


def test_error_map_marks_what_is_wrong_and_only_that() -> None:
    image = photograph()
    truth = np.zeros(image.shape[:2], np.uint8)
    prediction = truth.copy()
    truth[10:20], prediction[30:40], prediction[15:20] = IGNORE, 2, 1
    result = visualize.error_map(image, truth, prediction)
    red = (result[..., 0] > 200) & (result[..., 1] < 80)
    assert red[30:40].all()
    assert red.sum() == red[30:40].size
    assert (result[10:20] == visualize.IGNORE_COLOR).all()
    rest = result[40:].astype(int)
    assert (rest[..., 0] == rest[..., 1]).all()


def test_side_by_side_scales_to_one_height() -> None:
    tall, flat = np.full((80, 40, 3), 10, np.uint8), np.full((20, 60, 3), 200, np.uint8)
    row = visualize.side_by_side([tall, flat])
    assert row.shape == (80, 40 + 6 + 240, 3)
    assert (row[:, :40] == 10).all()
    assert (row[:, 46:] == 200).all()
    titled = visualize.side_by_side([tall, flat], ["tall", "flat"], height=40)
    assert titled.shape == (62, 20 + 6 + 120, 3)
    assert (titled[:22] < 128).any()


def test_what_is_looked_at_can_be_told_apart_and_files_keep_their_palette(tmp_path: Path) -> None:
    classes = (ClassInfo("background", (0, 0, 0)), ClassInfo("plane", (128, 0, 0)), ClassInfo("chair", (192, 0, 0)))
    label = np.array([[0, 1, 2]], np.uint8)
    image = np.full((1, 3, 3), 100, np.uint8)
    tinted = visualize.overlay(image, label, classes).astype(int)
    assert np.abs(tinted[0, 1] - tinted[0, 2]).max() > 60
    assert (visualize.legend(classes).reshape(-1, 3) == visualize.screen_palette(classes)[2]).all(axis=1).any()
    assert not (visualize.legend(classes).reshape(-1, 3) == classes[2].color).all(axis=1).any()
    visualize.save_label_png(tmp_path / "l.png", label, classes)
    with Image.open(tmp_path / "l.png") as png:
        assert png.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 192, 0, 0]  # type: ignore[index]
    np.testing.assert_array_equal(visualize.colorize(label, classes)[0, 2], classes[2].color)


def test_names_that_opencv_cannot_write_are_numbers() -> None:
    def drawn(*names: str) -> np.ndarray:
        return visualize.legend([ClassInfo(name, (0, 90 * index, 200)) for index, name in enumerate(names)])

    np.testing.assert_array_equal(drawn("road", "सड़क", "طريق"), drawn("road", "class 1", "class 2"))
    assert not np.array_equal(drawn("road", "дорога"), drawn("road", "class 1")) or not hasattr(cv2, "FontFace")


def test_comparison_has_four_panels() -> None:
    image = photograph()
    truth = np.zeros(image.shape[:2], np.uint8)
    truth[:40] = 1
    result = visualize.comparison(image, truth, np.where(truth == 1, 2, 0).astype(np.uint8), CLASSES)
    height, width = image.shape[:2]
    assert result.shape == (height + 22, 4 * width + 18, 3)
    panels = [result[22:, start : start + width] for start in range(0, 4 * width, width + 6)]
    assert np.array_equal(panels[0], image)
    assert np.array_equal(panels[1], visualize.overlay(image, truth, CLASSES, 0.65))
    assert not np.array_equal(panels[1], panels[2])


@settings(deadline=None, max_examples=25)  # each is a file
@given(label=LABELS)
def test_label_pngs_read_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, label: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("labels") / "label.png"
    visualize.save_label_png(path, label, CLASSES)
    with Image.open(path) as png:
        assert png.mode == "P"
        assert np.array_equal(np.asarray(png), label)
        assert np.array_equal(np.asarray(png.convert("RGB")), visualize.colorize(label, CLASSES))
    classes = path.with_suffix(".txt")
    classes.write_text("background\nroad\npole\n")
    assert np.array_equal(read_label(path, load_classes(classes), IGNORE), label)


def test_label_pngs_hold_all_255_classes(tmp_path: Path) -> None:
    label = np.arange(256, dtype=np.uint8).reshape(16, 16)
    classes = [ClassInfo(str(i), color) for i, color in enumerate(default_colors(255))]
    visualize.save_label_png(tmp_path / "label.png", label, classes)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "label.png")), label)


def test_pictures_are_saved_in_rgb(tmp_path: Path) -> None:
    image = photograph()
    visualize.save_image(tmp_path / "a.png", image)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), image)
    visualize.save_image(tmp_path / "a.JPG", image)
    with Image.open(tmp_path / "a.JPG") as jpeg:
        assert jpeg.format == "JPEG"
        assert np.abs(np.asarray(jpeg).astype(int) - image).mean() < 5
    (tmp_path / "file").write_text("")
    for save in (visualize.save_image, lambda path, label: visualize.save_label_png(path, label[..., 0], CLASSES)):
        with pytest.raises(DataError, match="cannot write"):
            save(tmp_path / "file" / "a.png", image)


def blue_share(path: Path) -> float:
    picture = cv2.imread(str(path)).astype(int)
    return float(np.mean((picture[..., 0] - picture[..., 2]) > 80))


def test_iou_chart_shows_the_scores(tmp_path: Path) -> None:
    names = ["road", "a $name$ with signs_", "道路"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        charts.iou_chart(tmp_path / "high.png", names, [0.9, 1.0, 0.8])
        charts.iou_chart(tmp_path / "low.png", names, [0.1, float("nan"), 0.2])
        charts.iou_chart(tmp_path / "none.png", names, [float("nan")] * 3)
    assert blue_share(tmp_path / "high.png") > 4 * blue_share(tmp_path / "low.png") > 0
    assert blue_share(tmp_path / "none.png") == 0


@pytest.mark.parametrize("count", [1, 7])
def test_confusion_chart_shows_the_matrix(tmp_path: Path, count: int) -> None:
    names = [f"class number {index}" for index in range(count)]
    diagonal = np.diag(np.full(count, 5, np.int64))
    charts.confusion_chart(tmp_path / "diagonal.png", diagonal, names)
    charts.confusion_chart(tmp_path / "spread.png", np.ones_like(diagonal), names)
    charts.confusion_chart(tmp_path / "empty.png", np.zeros_like(diagonal), names)  # no true pixels at all
    pictures = [cv2.imread(str(tmp_path / f"{name}.png")) for name in ("diagonal", "spread", "empty")]
    assert len({picture.tobytes() for picture in pictures}) == (2 if count == 1 else 3)
    assert min(picture.std() for picture in pictures) > 5


def test_charts_of_many_classes_stay_of_a_size_that_can_be_looked_at(tmp_path: Path) -> None:
    names = [f"class number {index}" for index in range(255)]
    charts.confusion_chart(tmp_path / "confusion.png", np.eye(255, dtype=np.int64), names)
    assert max(cv2.imread(str(tmp_path / "confusion.png")).shape) < 2000


def test_curves_chart_leaves_gaps_out(tmp_path: Path) -> None:
    rows = [
        {"epoch": n, "loss": 1 / n, "train_miou": 1 - 1 / n, "val_miou": 0.5 if n == 2 else None, "learning_rate": 0.1}
        for n in (1, 2, 3)
    ]
    charts.curves_chart(tmp_path / "with.png", rows)
    charts.curves_chart(tmp_path / "without.png", [{**row, "val_miou": None} for row in rows])
    charts.curves_chart(tmp_path / "empty.png", [])
    with_one, without = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("with", "without"))
    orange = [((p[..., 2].astype(int) - p[..., 0]) > 100).sum() for p in (with_one, without)]
    assert orange[0] > 0 == orange[1]


def test_matplotlib_is_imported_by_charts_only_and_pyplot_never(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from deeplabv3p import charts as c\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"c.iou_chart({str(tmp_path / 'a.png')!r}, ['a'], [0.5])\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
