from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.runs import check_output_folder, latest_run, new_run_folder
from deeplabv3p.errors import DataError


def test_runs_are_numbered_from_000(tmp_path: Path) -> None:
    parent = tmp_path / "deep" / "logs"
    assert [new_run_folder(parent).name for _ in range(3)] == ["000", "001", "002"]
    assert latest_run(parent) == parent / "002"


def test_a_deleted_run_does_not_give_its_number_away(tmp_path: Path) -> None:
    for _ in range(3):
        new_run_folder(tmp_path)
    (tmp_path / "001").rmdir()
    assert new_run_folder(tmp_path).name == "003"


def test_other_names_and_large_numbers(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "500").write_text("a file, not a run")
    (tmp_path / "999").mkdir()
    assert new_run_folder(tmp_path).name == "1000"
    assert latest_run(tmp_path).name == "1000"


def test_two_processes_never_share_a_run(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: new_run_folder(tmp_path), range(64)))
    assert len(set(folders)) == 64


def test_a_file_in_the_way_of_the_next_number_is_stepped_over(tmp_path: Path) -> None:
    (tmp_path / "000").write_text("")
    assert new_run_folder(tmp_path).name == "001"


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("")])
def test_no_run_is_a_clear_error(tmp_path: Path, make: object) -> None:
    make(tmp_path / "logs")  # type: ignore[operator]
    with pytest.raises(DataError, match=r"no run found in .*logs\. Train first"):
        latest_run(tmp_path / "logs")


def test_run_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    with pytest.raises(DataError, match="cannot make a run folder"):
        new_run_folder(tmp_path / "logs")


def test_output_folder_check_creates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_output_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.chdir(tmp_path)
    assert check_output_folder("result") == Path("result")
    assert check_output_folder(tmp_path) == tmp_path


@pytest.mark.parametrize("below", ["", "sub", "sub/sub"])
def test_output_folder_on_or_below_a_file(tmp_path: Path, below: str) -> None:
    (tmp_path / "result").write_text("precious")
    with pytest.raises(DataError, match="is a file"):
        check_output_folder(tmp_path / "result" / below)
    assert (tmp_path / "result").read_text() == "precious"


def test_output_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.runs.os.access", lambda path, mode: False)  # whoever runs the tests may be root
    with pytest.raises(DataError, match="read-only"):
        check_output_folder(tmp_path / "result")
