from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplabv3p.data.classes import VOID_COLOR, default_colors, load_classes, save_classes
from deeplabv3p.errors import DataError
from deeplabv3p.spec import ClassInfo

CONFIGS = Path(__file__).parents[2] / "configs"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "classes.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_names_alone_get_the_voc_colours(tmp_path: Path) -> None:
    result = load_classes(write(tmp_path, "background\r\ntraffic light\r\nStraße\n\n"))
    assert [item.name for item in result.classes] == ["background", "traffic light", "Straße"]
    assert [item.color for item in result.classes] == [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    assert not result.explicit_colors


def test_colours_are_read_after_the_name(tmp_path: Path) -> None:
    result = load_classes(write(tmp_path, "\ufeffroad 1 128 64 128\ncar 64 0 128"))
    assert result.classes == (ClassInfo("road 1", (128, 64, 128)), ClassInfo("car", (64, 0, 128)))
    assert result.explicit_colors


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("a\n\nb\n", "line 2 is blank"),
        ("\na\n", "line 1 is blank"),
        ("a\nb\na\n", "line 3 names 'a' again (first in line 1)"),
        ("a 1 2 3\nb 4 5 6\nc 1 2 3\n", "line 3 has the colour of line 1"),
        ("a 1 2 3\nb\n", "line 2 has no colour, line 1 has one"),
        ("a\nb 1 2 3\n", "line 2 has a colour, line 1 has none"),
        ("a 1 2 3\nb 4 5\n", "line 2 has no colour"),
        ("a 1 2 256\n", "line 1 has the colour (1, 2, 256)"),
        ("a -1 2 3\n", "line 1 has the colour (-1, 2, 3)"),
        (b"a\n\xff\xfeb\n", "line 2 is not text"),
        ("a\nb\0\n", "line 2 is not text"),
        ("\n".join(f"c{i}" for i in range(256)), "256 classes"),
    ],
)
def test_a_bad_list_is_one_sentence_with_the_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=re.escape(message)) as error:
        load_classes(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: No such file"):
        load_classes(tmp_path / "none.txt")


def test_255_classes_fit(tmp_path: Path) -> None:
    assert len(load_classes(write(tmp_path, "\n".join(f"c{i}" for i in range(255)))).classes) == 255


def test_default_colours_are_vocs() -> None:
    colors = default_colors(256)
    assert colors[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert colors[15] == (192, 128, 128)  # person
    assert colors[20] == (0, 64, 128)  # tv monitor
    assert colors[255] == VOID_COLOR == (224, 224, 192)
    assert len(set(colors)) == 256


names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1).filter(
    lambda name: name == name.strip()
)
channel = st.integers(0, 255)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(names, min_size=1, max_size=9, unique=True),
    st.lists(st.tuples(channel, channel, channel), min_size=9, max_size=9, unique=True),
)
def test_saved_classes_read_back(tmp_path_factory: pytest.TempPathFactory, names: list[str], colors: list) -> None:
    classes = tuple(ClassInfo(name, color) for name, color in zip(names, colors, strict=False))
    path = tmp_path_factory.getbasetemp() / "classes.txt"
    save_classes(path, classes)
    assert load_classes(path).classes == classes


@pytest.mark.parametrize("name", ["two\nlines", " edge", ""])
def test_names_that_would_not_read_back_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError):
        save_classes(tmp_path / "classes.txt", (ClassInfo("a", (0, 0, 0)), ClassInfo(name, (1, 1, 1))))
    assert list(tmp_path.iterdir()) == []


def test_the_class_lists_of_the_project() -> None:
    voc, camvid = (load_classes(CONFIGS / f"{name}_classes.txt") for name in ("voc", "camvid"))
    assert voc.explicit_colors
    assert camvid.explicit_colors
    assert tuple(item.color for item in voc.classes) == default_colors(21)
    assert [voc.classes[label].name for label in (0, 15, 20)] == ["background", "person", "tvmonitor"]
    assert [item.name for item in camvid.classes][:4] == ["Sky", "Building", "Pole", "Road"]
    assert len(camvid.classes) == 11
