"""One rule for all commands says whose classes are used."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from example_spec import SPEC

from common.classes import VOC_CLASSES, described, resolve, with_own, without_model
from common.network import agreed_classes
from deeplabv3p.data.classes import default_colors, load_classes
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.spec import ClassInfo


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    return tmp_path


def test_a_named_list_comes_first_and_the_datasets_own_next(root: Path) -> None:
    assert resolve(None, root) is None
    (root / "class_dict.csv").write_text("name,r,g,b\nroad,1,2,3\nsky,4,5,6\n")
    assert without_model(None, root) == str(root / "class_dict.csv")
    (root / "classes.txt").write_text("road\nsky\n")
    assert without_model(None, root) == str(root / "classes.txt")
    assert without_model("other.txt", root) == "other.txt"


def test_vocs_classes_are_for_vocs_layout_only(tmp_path: Path, root: Path) -> None:
    with pytest.raises(UsageError, match="one class name a line, label 0 first") as error:
        without_model(None, root)
    assert "\n" not in str(error.value)
    voc = tmp_path / "voc"
    for name in ("JPEGImages", "SegmentationClass"):
        (voc / name).mkdir(parents=True)
    assert without_model(None, voc) == str(VOC_CLASSES)
    assert described(load_classes(VOC_CLASSES), VOC_CLASSES, voc).endswith("no list of its own)")
    (voc / "class_names.txt").write_text("_background_\ncat\n")
    assert without_model(None, voc) == str(voc / "class_names.txt")
    with pytest.raises(DataError, match="does not exist"):
        without_model(None, tmp_path / "nowhere")


def test_what_is_taken_is_said(root: Path) -> None:
    other = root / "other.txt"
    other.write_text("a\nb\nc\n")
    classes = load_classes(other)
    assert described(classes, other, root) == f"classes: 3 of {other}"
    assert described(classes, None, root) == "classes: 3 of the model"
    (root / "classes.txt").write_text("a\nb\n")
    assert "not those of" in described(classes, other, root)
    assert described(classes, root / "classes.txt", root) == f"classes: 3 of {root / 'classes.txt'}"


def test_commands_with_a_model_refuse_a_dataset_of_other_classes(root: Path) -> None:
    options = argparse.Namespace(classes_path=None, dataset_path=str(root))
    assert with_own(options).classes_path is None
    names = [item.name for item in SPEC.classes]
    (root / "classes.txt").write_text("\n".join(names) + "\n")
    own = with_own(options).classes_path
    assert agreed_classes(SPEC, own).classes == SPEC.classes
    (root / "classes.txt").write_text("\n".join([*names[:-1], "else"]) + "\n")
    with pytest.raises(UsageError, match="'else'"):
        agreed_classes(SPEC, own)


def test_the_models_own_colours_read_maps_unless_they_are_nobodys() -> None:
    for colors, explicit in ((default_colors(3), False), (((9, 9, 0), (9, 9, 1), (9, 9, 2)), True)):
        classes = tuple(ClassInfo(item.name, color) for item, color in zip(SPEC.classes, colors, strict=True))
        assert agreed_classes(SPEC.replace(classes=classes), None).explicit_colors == explicit
