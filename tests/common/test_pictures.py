from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.pictures import ResultNames, find_pictures, left_aside
from deeplabv3p.errors import DataError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", "sub/c.webp", "sub/d [x].tif"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def test_a_folder_means_its_own_pictures_sorted(folder: Path) -> None:
    assert find_pictures([str(folder)]) == [folder / "a.png", folder / "b.JPG"]


def test_a_pattern_means_pictures_only(folder: Path) -> None:
    found = find_pictures([str(folder / "**" / "*")])
    assert [path.name for path in found] == ["a.png", "b.JPG", "c.webp", "d [x].tif"]


def test_a_file_is_taken_whatever_its_name(folder: Path) -> None:
    bracketed = folder / "sub" / "d [x].tif"
    assert find_pictures([str(bracketed), str(folder / "notes.txt")]) == [bracketed, folder / "notes.txt"]


def test_each_picture_once_in_the_order_given(folder: Path) -> None:
    assert find_pictures([str(folder / "b.JPG"), str(folder)]) == [folder / "b.JPG", folder / "a.png"]


@pytest.mark.parametrize(
    ("name", "why"), [("no.png", "no such file"), ("*.gif", "no such file"), ("empty", "no picture")]
)
def test_no_picture_is_a_clear_error(folder: Path, name: str, why: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=why):
        find_pictures([str(folder), str(folder / name)])


def test_result_names_stay_inside_and_apart() -> None:
    names = ResultNames()
    wanted = ["a", "sub/a", "A", "a", "../a", "/etc/a", "C:\\x\\a", "a.b", "a.c", ".."]
    assert [names.unique(name) for name in wanted] == [
        "a", "sub/a", "A_2", "a_3", "a_4", "etc/a", "C_/x/a", "a.b", "a.c", "picture",
    ]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.text(alphabet="aA_2./\\:", max_size=6)))
def test_no_two_result_names_are_the_same(wanted: list[str]) -> None:
    names = ResultNames()
    got = [names.unique(name) for name in wanted]
    assert len({name.casefold() for name in got}) == len(got)
    assert all(not Path(name).is_absolute() and ".." not in Path(name).parts for name in got)


def test_other_kinds_are_said(folder: Path) -> None:
    for name in ("x.heic", "y.HEIC", "z.gif", "w.arw", "data.json"):
        (folder / name).write_bytes(b"x")
    (folder / "nameless").write_bytes(b"\xff\xd8\xff\xe0")
    (folder / "sub" / "deep.heic").write_bytes(b"x")
    said = "5 files of kinds that are not read: .heic 2"
    text = left_aside([str(folder)])
    assert text.startswith(said)
    assert all(part in text for part in (".gif 1", ".arw 1", "(no suffix) 1"))
    assert left_aside([str(folder / "x.heic")]) == ""  # what is named is read, or an error
    assert left_aside([str(folder / "**" / "*")]).startswith("6 files")
    (folder / "only").mkdir()
    (folder / "only" / "a.heic").touch()
    with pytest.raises(DataError, match=r"holds no picture, but 1 file of a kind that is not read: \.heic 1\. Convert"):
        find_pictures([str(folder / "only")])


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_current_folder(name: str) -> None:
    with pytest.raises(UsageError, match="is empty"):
        find_pictures([name])
