from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deeplabv3p import visualize
from deeplabv3p.data.balance import sample_counts
from deeplabv3p.data.classes import VOID_COLOR, ClassList, default_colors
from deeplabv3p.data.dataset import Dataset, open_dataset
from deeplabv3p.data.palettes import UnclearMapsError
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo

Color = tuple[int, int, int]
STREET = ((128, 128, 128), (128, 64, 128), (128, 128, 0), (0, 0, 0))  # sky, road, tree, void
OTHER = ((9, 8, 7), (200, 30, 40), (40, 200, 30), (30, 40, 200))  # colours of nobody's classes


def class_list(colors: Sequence[Color], *, explicit: bool = True) -> ClassList:
    return ClassList(tuple(ClassInfo(f"c{i}", color) for i, color in enumerate(colors)), explicit)


def save_indexed(path: Path, label: np.ndarray, palette: Sequence[Color], **options: object) -> None:
    picture = Image.fromarray(label.astype(np.uint8))
    picture.putpalette(np.array(palette, np.uint8).tobytes())
    picture.save(path, format="PNG", **options)


def save_optimised(path: Path, label: np.ndarray, colors: Sequence[Color], seed: int = 0, pad: int = 0) -> None:
    """As an optimiser stores a map of colours: only those that occur, in an order of its own; the rest is anything."""
    rng = np.random.default_rng(seed)
    used = rng.permutation(np.unique(label))
    table = {int(number): place for place, number in enumerate(used)}
    palette = [VOID_COLOR if number == IGNORE else colors[number] for number in used.tolist()]
    palette += [tuple(rng.integers(0, 256, 3).tolist()) for _ in range(pad)]
    save_indexed(path, np.vectorize(table.__getitem__)(label), palette)


def put(root: Path, labels: dict[str, np.ndarray]) -> None:
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, label in labels.items():
        Image.new("RGB", label.shape[::-1], (90, 90, 90)).save(root / "images" / f"{name}.png")
    (root / "list.txt").write_text("".join(f"{name}\n" for name in labels))


def opened(root: Path, classes: ClassList, ignore: int | None = 255) -> Dataset:
    return open_dataset(root, "list.txt", classes, ignore)


def check(root: Path, labels: dict[str, np.ndarray], classes: ClassList, ignore: int | None = 255) -> None:
    dataset = opened(root, classes, ignore)
    for sample in dataset.samples:
        np.testing.assert_array_equal(dataset.label(sample), labels[sample.name], err_msg=sample.name)


def some_maps(seed: int, count: int, classes: int, *, ignored: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {}
    for place in range(count):
        present = rng.choice(classes, rng.integers(1, classes + 1), replace=False)
        label = rng.choice(present, (6, 7)).astype(np.uint8)
        if ignored:
            label[0, :3] = IGNORE
        found[f"m{place}"] = label
    return found


def test_two_maps_of_one_colour_each(tmp_path: Path) -> None:
    labels = {"a": np.full((8, 8), 1, np.uint8), "b": np.full((8, 8), 2, np.uint8)}
    put(tmp_path, labels)
    for name, label in labels.items():
        save_optimised(tmp_path / "labels" / f"{name}.png", label, STREET)
    check(tmp_path, labels, class_list(STREET))
    dataset = opened(tmp_path, class_list(STREET))
    assert sample_counts(dataset).tolist() == [[0, 64, 0, 0], [0, 0, 64, 0]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(1, 6), st.booleans(), st.integers(0, 9))
def test_optimised_colour_maps_are_read_as_the_rgb_maps_they_were(
    tmp_path_factory: pytest.TempPathFactory, seed: int, classes: int, count: int, ignored: bool, pad: int
) -> None:
    """Whatever order an optimiser chose in each file, some files staying RGB or numbers with the class colours."""
    root = tmp_path_factory.mktemp("maps")
    rng = np.random.default_rng(seed)
    colors = [(int(c) & 255, int(c) >> 8 & 255, int(c) >> 16) for c in rng.choice(1 << 24, classes, replace=False)]
    labels = some_maps(seed, count, classes, ignored=ignored)
    put(root, labels)
    for place, (name, label) in enumerate(labels.items()):
        path = root / "labels" / f"{name}.png"
        kind = rng.integers(4)
        if kind == 0:
            visualize.save_image(path, visualize.colorize(label, class_list(colors).classes))
        elif kind == 1:
            visualize.save_label_png(path, label, class_list(colors).classes)
        else:
            save_optimised(path, label, colors, seed + place, pad)
    check(root, labels, class_list(colors))


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("palette", [default_colors(256), default_colors(4), OTHER, [(v, v, v) for v in range(256)]])
def test_numbers_stay_numbers_under_a_palette_that_is_the_same_everywhere(
    tmp_path: Path, palette: Sequence[Color], explicit: bool
) -> None:
    labels = some_maps(1, 5, 4)
    put(tmp_path, labels)
    for name, label in labels.items():
        save_indexed(tmp_path / "labels" / f"{name}.png", label, palette)
    colors = ((255, 0, 1), (0, 255, 1), (1, 0, 255), (77, 78, 79)) if explicit else default_colors(4)
    check(tmp_path, labels, class_list(colors, explicit=explicit))


def test_vocs_palette_over_classes_whose_colours_it_has_elsewhere(tmp_path: Path) -> None:
    """CamVid's colours are in VOC's palette, too, for other numbers."""
    colors = ((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128))
    labels = {"a": np.array([[0, 1], [2, 3]], np.uint8), "b": np.array([[1, 1], [3, 3]], np.uint8)}
    put(tmp_path, labels)
    for name, label in labels.items():
        save_indexed(tmp_path / "labels" / f"{name}.png", label, default_colors(256))
    check(tmp_path, labels, class_list(colors))


def test_voc_numbers_of_some_classes_are_read_by_colour(tmp_path: Path) -> None:
    """Numbers 0, 7 and 15 under VOC's palette are no numbers of three classes; their colours are."""
    voc = default_colors(256)
    stored = np.array([[0, 7], [15, 255]], np.uint8)
    put(tmp_path, {"a": stored})
    save_indexed(tmp_path / "labels/a.png", stored, voc)
    labels = {"a": np.array([[1, 2], [0, IGNORE]], np.uint8)}
    check(tmp_path, labels, class_list((voc[15], voc[0], voc[7])))


@pytest.mark.parametrize("ignore", [3, 255])
def test_void_as_a_class_that_is_ignored(tmp_path: Path, ignore: int) -> None:
    labels = some_maps(5, 4, 4)
    put(tmp_path, labels)
    for name, label in labels.items():
        save_optimised(tmp_path / "labels" / f"{name}.png", label, STREET, seed=3)
    expected = {name: np.where(label == ignore, IGNORE, label) for name, label in labels.items()}
    check(tmp_path, expected, class_list(STREET), ignore)


def test_palettes_that_differ_without_class_colours_are_refused_by_name(tmp_path: Path) -> None:
    labels = {"a": np.full((8, 8), 1, np.uint8), "b": np.full((8, 8), 2, np.uint8)}
    put(tmp_path, labels)
    for name, label in labels.items():
        save_optimised(tmp_path / "labels" / f"{name}.png", label, STREET)
    for colors, explicit in ((default_colors(4), False), (OTHER, True)):
        with pytest.raises(UnclearMapsError, match=r"a\.png and .*b\.png show different colours at number 0") as error:
            opened(tmp_path, class_list(colors, explicit=explicit))
        assert "\n" not in str(error.value)
        assert "ignore_index" not in str(error.value)


def test_optimised_palettes_of_vocs_colours_are_no_standard_ones(tmp_path: Path) -> None:
    """Short ones, which hold what occurs and nothing else, in another order in every other file."""
    labels = {f"m{place}": np.arange(64, dtype=np.uint8).reshape(8, 8) % 3 for place in range(4)}
    put(tmp_path, labels)
    voc = default_colors(3)
    for place, (name, label) in enumerate(labels.items()):
        order = (0, 1, 2) if place % 2 else (0, 2, 1)
        stored = np.array(order, np.uint8)[label]  # 0 2 1 is its own inverse
        save_indexed(tmp_path / "labels" / f"{name}.png", stored, [voc[number] for number in order])
    with pytest.raises(UnclearMapsError, match="show different colours at number 1"):
        opened(tmp_path, class_list(voc, explicit=False))


def test_a_palette_that_differs_is_found_when_it_is_read(tmp_path: Path) -> None:
    """Only some maps are looked at when the dataset is opened."""
    labels = {f"m{place:03}": np.array([[0, 1]], np.uint8) for place in range(100)}
    put(tmp_path, labels)
    for name, label in labels.items():
        palette = OTHER[::-1] if name == "m051" else OTHER
        save_indexed(tmp_path / "labels" / f"{name}.png", label, palette)
    dataset = opened(tmp_path, class_list(default_colors(4), explicit=False))
    for place, sample in enumerate(dataset.samples):
        if place == 51:
            with pytest.raises(DataError, match=r"m051\.png show different colours at number 0"):
                dataset.label(sample)
        else:
            dataset.label(sample)


def test_colours_of_no_class_among_moved_ones_name_both_readings(tmp_path: Path) -> None:
    label = np.array([[0, 1], [2, 2]], np.uint8)
    put(tmp_path, {"a": label})
    save_indexed(tmp_path / "labels/a.png", label, [STREET[1], STREET[0], (255, 255, 255)])
    with pytest.raises(UnclearMapsError, match=re.escape("'c0' by its number and 'c1' by its colour")) as error:
        opened(tmp_path, class_list(STREET))
    assert "(255, 255, 255)" in str(error.value)
    assert "ignore_index" not in str(error.value)


def test_a_colour_of_no_class_in_one_map_of_colours_is_told_of_that_map(tmp_path: Path) -> None:
    labels = some_maps(2, 6, 3)
    put(tmp_path, labels)
    for place, (name, label) in enumerate(labels.items()):
        colors = (*STREET[:2], (250, 1, 1)) if name == "m2" else STREET
        save_optimised(
            tmp_path / "labels" / f"{name}.png", np.maximum(label, 2) if name == "m2" else label, colors, place
        )
    dataset = opened(tmp_path, class_list(STREET))
    with pytest.raises(DataError, match=r"m2\.png is read by colour.*\(250, 1, 1\)"):
        dataset.label(dataset.samples[2])


GREYS = ((0, 0, 0), (255, 255, 255), (128, 128, 128))


@pytest.mark.parametrize("bits", [1, 8])
def test_grey_maps_that_were_black_and_white(tmp_path: Path, bits: int) -> None:
    labels = some_maps(3, 5, 2)
    put(tmp_path, labels)
    for name, label in labels.items():
        picture = Image.fromarray(np.where(label > 0, 255, 0).astype(np.uint8))
        picture.convert("1" if bits == 1 else "L").save(tmp_path / "labels" / f"{name}.png")
    check(tmp_path, labels, class_list(GREYS[:2]))
    if bits == 1:  # without colours 1 bit may be numbers or scaled ones
        with pytest.raises(DataError, match="1 bits a channel"):
            check(tmp_path, labels, class_list(default_colors(2), explicit=False))


def test_grey_maps_whose_colours_are_grey_steps(tmp_path: Path) -> None:
    labels = some_maps(4, 5, 3)
    put(tmp_path, labels)
    for name, label in labels.items():
        Image.fromarray(np.array([0, 255, 128], np.uint8)[label]).save(tmp_path / "labels" / f"{name}.png")
    check(tmp_path, labels, class_list(GREYS))


def test_grey_numbers_stay_numbers_where_some_class_is_grey(tmp_path: Path) -> None:
    labels = some_maps(6, 5, 4, ignored=True)
    put(tmp_path, labels)
    for name, label in labels.items():
        Image.fromarray(label).save(tmp_path / "labels" / f"{name}.png")
    check(tmp_path, labels, class_list(STREET))  # number 0 is sky, black is void


def test_a_black_map_among_colour_maps_is_black(tmp_path: Path) -> None:
    """Sky is number 0, void is black: optimisers store a map of void alone as grey."""
    labels = {"a": np.array([[0, 1], [2, 3]], np.uint8), "b": np.full((2, 2), 3, np.uint8)}
    put(tmp_path, labels)
    visualize.save_image(tmp_path / "labels/a.png", visualize.colorize(labels["a"], class_list(STREET).classes))
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "labels/b.png")
    check(tmp_path, labels, class_list(STREET))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_no_map_is_read_otherwise_than_it_was_meant(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Maps of one kind, by numbers or by colour: they are read right, or refused."""
    root = tmp_path_factory.mktemp("any")
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 6))
    pool = [*default_colors(16), *GREYS, *OTHER]
    colors = [pool[place] for place in rng.permutation(len(pool))[:classes]]
    if len(set(colors)) < classes:
        return
    labels = some_maps(seed, int(rng.integers(2, 7)), classes)
    put(root, labels)
    numbers = rng.random() < 0.5
    palette = default_colors(256) if rng.random() < 0.5 else OTHER + OTHER[::-1]
    for place, (name, label) in enumerate(labels.items()):
        path = root / "labels" / f"{name}.png"
        if numbers:
            save_indexed(path, label, palette)
        else:
            save_optimised(path, label, colors, seed + place)
    if numbers and set(map(tuple, np.array(palette)[:classes].tolist())) <= set(colors):
        return  # the palette says that colours are meant, and nothing says otherwise
    try:
        dataset = opened(root, class_list(colors))
        read = [dataset.label(sample) for sample in dataset.samples]
    except DataError:
        return
    for label, found in zip(labels.values(), read, strict=True):
        if numbers and not (found == label).all():
            shown = {tuple(palette[value]) for item in labels.values() for value in np.unique(item)}
            assert shown <= {*colors, VOID_COLOR}  # all that occurs has the colours of classes
        else:
            np.testing.assert_array_equal(found, label)
