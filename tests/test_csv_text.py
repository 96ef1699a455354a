"""CSV: no cell is a formula in a spreadsheet, numbers stay numbers, and what was written comes back."""

from __future__ import annotations

import ast
import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplabv3p.csv_text import from_csv, to_csv

ROOT = Path(__file__).parents[1]
STARTS = "=+-@\t\r\n'＝＋－＠ "
# Surrogates cannot be written as UTF-8, and no reader of ours lets them in.
TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(STARTS + '",;0'), max_size=12)


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "=HYPERLINK(1)", " =1", "＝1"])
def test_text_that_a_spreadsheet_would_run_is_defused(name):
    ((head,), (cell,)) = cells(to_csv([name], [[name]]))
    assert head == cell == f"'{name}"


def test_numbers_stay_numbers():
    row = [-1, -0.5, np.float64(-0.25), np.int64(-3), np.float32(-2), True, None, "road", 1e-9]
    assert to_csv("abcdefghi", [row]) == "a,b,c,d,e,f,g,h,i\n-1,-0.5,-0.25,-3,-2.0,True,,road,1e-09\n"


def test_rows_may_be_by_name():
    assert to_csv(["a", "b"], [{"b": 1, "c": 2}, {"a": "x", "b": None}]) == "a,b\n,1\nx,\n"


@given(st.lists(TEXT, min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.tuples(st.just(names), st.lists(st.lists(TEXT, min_size=len(names), max_size=len(names))))
))  # fmt: skip
def test_no_cell_is_a_formula_and_all_come_back(table):
    names, rows = table
    text = to_csv(names, rows)
    for line in cells(text):
        for cell in line:
            assert not cell.lstrip().startswith(tuple("=+-@＝＋－＠"))
            assert not cell.startswith(("\t", "\r", "\n"))
    assert from_csv(text) == [dict(zip(names, row, strict=True)) for row in rows]


@given(st.lists(st.integers() | st.floats(allow_nan=False), min_size=1, max_size=5))
def test_numbers_come_back_as_they_were(values):
    (row,) = from_csv(to_csv([f"c{index}" for index in range(len(values))], [values]))
    assert [float(cell) for cell in row.values()] == [float(value) for value in values]


def test_nothing_else_writes_csv():
    """Other modules may read the CSV of others; what we write goes through ``to_csv``."""
    for path in [
        *ROOT.glob("*.py"),
        *(p for d in ("deeplabv3p", "common", "tools", "benchmarks") for p in (ROOT / d).rglob("*.py")),
    ]:
        if path.name == "csv_text.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("DictWriter", "writer"):
                owner = node.value.id if isinstance(node.value, ast.Name) else ""
                assert owner != "csv", f"{path}:{node.lineno} writes CSV by itself"
            if isinstance(node, ast.ImportFrom):
                assert node.module != "csv", f"{path}:{node.lineno} imports from csv"
