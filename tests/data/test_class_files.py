"""Class files of other habits: the same list from all of them, and nothing that is no name becomes one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from deeplabv3p.data.classes import load_classes, save_classes
from deeplabv3p.errors import DataError
from deeplabv3p.spec import ClassInfo

Items = Sequence[tuple[str, tuple[int, int, int]]]
Habit = Callable[[Items], list[str]]

COLORED: dict[str, Habit] = {
    "name R G B": lambda items: [f"{n} {r} {g} {b}" for n, (r, g, b) in items],
    "R G B name": lambda items: [f"{r} {g} {b} {n}" for n, (r, g, b) in items],
    "R G B\t\tname": lambda items: [f"{r} {g} {b}\t\t{n}" for n, (r, g, b) in items],
    "R,G,B,name": lambda items: [f"{r},{g},{b},{n}" for n, (r, g, b) in items],
    "name,r,g,b without a header": lambda items: [f"{n},{r},{g},{b}" for n, (r, g, b) in items],
    "name, r, g, b": lambda items: ["name, r, g, b", *(f"{n}, {r}, {g}, {b}" for n, (r, g, b) in items)],
    "class,r,g,b": lambda items: ["class,r,g,b", *(f"{n}, {r}, {g}, {b}" for n, (r, g, b) in items)],
    "name;r;g;b": lambda items: ["name;r;g;b", *(f"{n};{r};{g};{b}" for n, (r, g, b) in items)],
    "Name Red Green Blue": lambda items: ["Name\tRed\tGreen\tBlue", *(f"{n}\t{r}\t{g}\t{b}" for n, (r, g, b) in items)],
    "r,g,b,name": lambda items: ["r,g,b,name", *(f"{r},{g},{b},{n}" for n, (r, g, b) in items)],
    "id,name,r,g,b": lambda items: [
        "id,name,r,g,b",
        *(f"{i},{n},{r},{g},{b}" for i, (n, (r, g, b)) in enumerate(items)),
    ],
    "name,id,rgb": lambda items: ["name,id,rgb", *(f'{n},{i},"{r},{g},{b}"' for i, (n, (r, g, b)) in enumerate(items))],
    "name,hex": lambda items: ["name,hex", *(f"{n},#{r:02x}{g:02X}{b:02x}" for n, (r, g, b) in items)],
    "name #RRGGBB": lambda items: [f"{n} #{r:02x}{g:02x}{b:02x}" for n, (r, g, b) in items],
    "#RRGGBB name": lambda items: [f"#{r:02x}{g:02x}{b:02x} {n}" for n, (r, g, b) in items],
    "name: (r, g, b)": lambda items: [f"{n}: ({r}, {g}, {b})" for n, (r, g, b) in items],
    "(r, g, b) name": lambda items: [f"({r}, {g}, {b}) {n}" for n, (r, g, b) in items],
    "[r, g, b] name": lambda items: [f"[{r}, {g}, {b}] {n}" for n, (r, g, b) in items],
    "0 name R G B": lambda items: [f"{i} {n} {r} {g} {b}" for i, (n, (r, g, b)) in enumerate(items)],
    "0: name r,g,b": lambda items: [f"{i}: {n} {r},{g},{b}" for i, (n, (r, g, b)) in enumerate(items)],
    "0 R G B name": lambda items: [f"{i} {r} {g} {b} {n}" for i, (n, (r, g, b)) in enumerate(items)],
    "name 0 R G B": lambda items: [f"{n} {i} {r} {g} {b}" for i, (n, (r, g, b)) in enumerate(items)],
    "CVAT": lambda items: ["# label:color_rgb:parts:actions", *(f"{n}:{r},{g},{b}::" for n, (r, g, b) in items)],
    "comments": lambda items: ["# made by hand", *(f"{n} {r} {g} {b}" for n, (r, g, b) in items), "# end"],
    "name -> r, g, b": lambda items: [f"{n} -> {r}, {g}, {b}" for n, (r, g, b) in items],
    "rgb(r, g, b) name": lambda items: [f"rgb({r}, {g}, {b}) {n}" for n, (r, g, b) in items],
    "0xRRGGBB name": lambda items: [f"0x{r:02x}{g:02x}{b:02x} {n}" for n, (r, g, b) in items],
    "numbered upside down": lambda items: [f"{i} {n} {r} {g} {b}" for i, (n, (r, g, b)) in enumerate(items)][::-1],
}
PLAIN: dict[str, Habit] = {
    "name": lambda items: [n for n, _ in items],
    "0 name": lambda items: [f"{i} {n}" for i, (n, _) in enumerate(items)],
    "0: name": lambda items: [f"{i}: {n}" for i, (n, _) in enumerate(items)],
    "0,name": lambda items: [f"{i},{n}" for i, (n, _) in enumerate(items)],
    "0\tname": lambda items: [f"{i}\t{n}" for i, (n, _) in enumerate(items)],
    "name 0": lambda items: [f"{n} {i}" for i, (n, _) in enumerate(items)],
    "name,0": lambda items: [f"{n},{i}" for i, (n, _) in enumerate(items)],
    "Pixel Value, Class": lambda items: ["Pixel Value, Class", *(f"{i}, {n}" for i, (n, _) in enumerate(items))],
    "class_index,class": lambda items: ["class_index,class", *(f"{i},{n}" for i, (n, _) in enumerate(items))],
    "0. name": lambda items: [f"{i}. {n}" for i, (n, _) in enumerate(items)],
    "[0] name": lambda items: [f"[{i}] {n}" for i, (n, _) in enumerate(items)],
    "0 - name": lambda items: [f"{i} - {n}" for i, (n, _) in enumerate(items)],
    "name -> 0": lambda items: [f"{n} -> {i}" for i, (n, _) in enumerate(items)],
    "class 0: name": lambda items: [f"class {i}: {n}" for i, (n, _) in enumerate(items)],
    "| 0 | name |": lambda items: [f"| {i} | {n} |" for i, (n, _) in enumerate(items)],
    "name,": lambda items: [f"{n}," for n, _ in items],
    "labelme": lambda items: ["__ignore__", *(n for n, _ in items)],
    "a table of names": lambda items: ["name", *(n for n, _ in items)],
    "quoted": lambda items: [f'"{n}"' for n, _ in items],
    "CVAT without colours": lambda items: ["# label:color_rgb:parts:actions", *(f"{n}:::" for n, _ in items)],
}

words = st.from_regex(r"[a-zA-Z_äß日][a-z_äß日/&-]{0,9}( [a-z(][a-z&)-]{0,5}){0,2}", fullmatch=True).map(str.strip)
words = words.filter(lambda name: name.lower() not in {"name", "class", "label", "category", "item", "names", "r", "g"})
items = st.lists(
    st.tuples(words, st.tuples(*[st.integers(0, 255)] * 3)),
    min_size=2,
    max_size=8,
    unique_by=(lambda i: i[0], lambda i: i[1]),
)


def load(folder: Path, lines: Sequence[str]) -> tuple[ClassInfo, ...]:
    path = folder / "classes.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_classes(path).classes


@settings(max_examples=40, deadline=None)
@given(items)
def test_every_habit_gives_the_same_list(tmp_path_factory: pytest.TempPathFactory, items: Items) -> None:
    # A channel that counts from 0 up could be the numbers of the labels, and such lists are refused.
    assume(not any(sorted(color[at] for _, color in items) == list(range(len(items))) for at in range(3)))
    folder = tmp_path_factory.mktemp("habits")
    expected = tuple(ClassInfo(name, color) for name, color in items)
    for habit, lines in COLORED.items():
        assert load(folder, lines(items)) == expected, habit
    for habit, lines in PLAIN.items():
        assert [item.name for item in load(folder, lines(items))] == [name for name, _ in items], habit


@pytest.mark.parametrize(
    "names",
    [
        ("class 1", "class 2", "class 10"),
        ("class 0", "class 1", "class 2"),
        ("route 66", "highway 7"),
        ("2 wheeler", "car", "4 wheeler"),
        ("3d object", "2-wheeler", "78-60", "1st floor"),
        ("door, double door", "wall"),
        ("person", "person 2"),
        ("a:b", "c:d"),
        ("0", "1", "2"),
        ("a=b", "x|y"),
        ("R2 D2", "C 3PO"),
        ("1. FC", "car"),
        ("front - left", "front - right"),
        ("boat (big)", "boat (small)"),
        ("facade", "decade"),
        ("void", "label", "name tag"),
        ("o'clock", '"', "it's"),
    ],
)
def test_names_with_digits_and_marks_stay_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert tuple(item.name for item in load(tmp_path, names)) == names
    colors = [(place, 2, 3) for place in range(len(names))]
    path = tmp_path / "classes.txt"
    for saved in (names, names[:1]):
        classes = tuple(ClassInfo(name, color) for name, color in zip(saved, colors, strict=False))
        save_classes(path, classes)
        assert load_classes(path).classes == classes


@pytest.mark.parametrize(
    "name", ["0 background", "128 64 128 road", "# label", "name", "item {", "5", "a,1,2,3", "- x", "{"]
)
def test_any_name_can_be_stored(tmp_path: Path, name: str) -> None:
    classes = (ClassInfo(name, (1, 2, 3)), ClassInfo("other", (4, 5, 6)))
    save_classes(tmp_path / "classes.txt", classes)
    assert load_classes(tmp_path / "classes.txt").classes == classes
    save_classes(tmp_path / "classes.txt", classes[:1])
    assert load_classes(tmp_path / "classes.txt").classes == classes[:1]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["128 64 128", "0 0 0"], "numbers without a name"),
        (["1 person", "2 car"], "has number 1"),
        (["1: person", "2: car"], "has number 1"),
        (["person 1", "car 2"], "has number 1"),
        (["0 person", "2 car"], "1 is missing"),
        (["7 void"], "0 is missing"),
        (["0 person", "0 car"], "has the number 0 of line 1 again"),
        (["0 background", "1 road", "tree"], "line 3 has no number"),
        (["road 128 64 128 255", "sky 1 2 3 255"], "four numbers"),
        (["0.5 0.25 0.5 road", "1.0 0.0 0.0 sky"], "whole numbers"),
        (["road 1 2", "sky 3 4"], "several things"),
        (["1 2 road", "3 4 sky"], "several things"),
        (["item {", "  id: 1", "  name: 'cat'", "}"], "no class list"),
        (['{"classes": ["a", "b"]}'], "no class list"),
        (["names:", "  0: person"], "no class list"),
        (["nc: 3", "names: [a, b, c]"], "no class list"),
        (["- person", "- car"], "no class list"),
        (["<annotation>"], "no class list"),
        (["name,id,trainId", "road,7,0", "sky,23,10"], "two columns of numbers"),
        (["Idx,Ratio,Train,Val,Stare,Name", "1,0.15,11664,1172,0,wall"], "number 1"),
        (["name,supercategory", "car,vehicle"], "header"),
        (["name,r,g", "road,1,2"], "columns r, g and b"),
        (["name,r,g,b"], "header alone"),
        (["name,r,g,b", "road,1,2"], "columns"),
        (["name,r,g,b", "road,1,2,x"], "whole numbers"),
        (["name,r,g,b", "road,1,2,999"], "0 to 255"),
        (["background, road, tree"], "several parts"),
        (["# only", "# comments"], "comments"),
        (["a" * 2000], "1000 characters"),
        (["a " + "9" * 900 + " 1 2", "b 1 2 3"], "whole numbers"),
        (["0 background", "9" * 900 + " b"], "number of the class"),
        (["id,name", "0,", "1,b"], "has no name"),
        (["road #abc", "sky #def"], "six digits"),
        (["road 8040c0", "sky 112233"], "without its #"),
        (["id: 0, name: road", "id: 1, name: sky"], "keys"),
    ],
)
def test_what_is_not_certain_is_refused_with_the_reason(tmp_path: Path, lines: list[str], reason: str) -> None:
    with pytest.raises(DataError, match=re.escape(reason)) as error:
        load(tmp_path, lines)
    assert str(tmp_path / "classes.txt") in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["background,0", "road,1", "void,255"], "parts of names or numbers"),
        (["background 0", "road 2", "tree 5"], "parts of names or numbers"),
        (["背景 ０ ０ ０", "道路 １ ２ ３"], "digits other than 0 to 9"),
        (["٠ خلفية", "١ طريق"], "digits other than 0 to 9"),
        (["background 0/0/0", "road 128/64/128"], "may be a colour"),
        (["background 0 0 0 # none", "road 128 64 128"], "comment behind a number"),
        (["3", "background", "road", "tree"], "count of the lines"),
        (["#background", "road"], "commented out"),
        (["cafe\u0301", "caf\u00e9"], "again"),
        (["road", "road\u200b"], "again"),
    ],
)
def test_what_would_be_an_odd_name_is_refused(tmp_path: Path, lines: list[str], reason: str) -> None:
    with pytest.raises(DataError, match=re.escape(reason)):
        load(tmp_path, lines)


def test_colours_in_quotes_are_colours(tmp_path: Path) -> None:
    for shown in ('"{},{},{}"', '"({}, {}, {})"'):
        lines = ["background," + shown.format(0, 0, 0), "road," + shown.format(128, 64, 128)]
        found = load(tmp_path, lines)
        assert [(item.name, item.color) for item in found] == [
            ("background", (0, 0, 0)),
            ("road", (128, 64, 128)),
        ]


@settings(max_examples=300, deadline=None)
@example([";", "0;"])  # a list with a mark behind each name, the first of them empty
@given(st.lists(st.text(st.sampled_from("ab 019,;:#\t()[]{}\"'-.r\n"), max_size=14), max_size=5))
def test_any_text_is_read_or_refused_and_no_name_begins_like_a_row(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    try:
        found = load_classes(path)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most texts are refused
        return
    names = [item.name for item in found.classes]
    assert all(name == name.strip() and name for name in names)
    if len(names) > 1 and lines and not lines[0].startswith("name"):
        assert not all(re.match(r"[0-9]+[\s,;:]+\S*[a-z]", name) for name in names)
        assert not any(re.search(r"[0-9]+[\s,]+[0-9]+[\s,]+[0-9]+$", name) and " " in name[:2] for name in names)
    save_classes(path, found.classes)
    assert load_classes(path).classes == found.classes
