"""JSON and TOML of others: read, or refused in one line, whatever they hold."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from deeplabv3p import documents, files
from deeplabv3p.errors import DataError

REFUSED = {
    "nothing": b"",
    "a half": b'{"a": ',
    "no text": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a number of 5000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "a number of 401 digits": b'{"a": [1' + b"0" * 400 + b"]}",
    "a number beyond 64 bits": b"[9223372036854775808]",
    "an infinite fraction": b"[1e999]",
    "NaN": b"[NaN]",
    "Infinity": b"[-Infinity]",
    "5000 brackets": b"[" * 5000 + b"]" * 5000,
    "a million open brackets": b"[" * 1_000_000,
    "201 objects": b'{"a":' * 201 + b"1" + b"}" * 201,
    "half a character": b'["\\ud800bad"]',
    "half a character as a key": b'{"\\uDFFF": 1}',
    "halves in the wrong order": b'["\\udc00\\ud800"]',
    "a key twice": b'{"a\\nb": 1, "a\\nb": 2}',
}
TOML_REFUSED = {
    "a half": b"a = ",
    "no text": b'a = "\xff"',
    "a number of 5000 digits": b"a = " + b"9" * 5000,
    "a number beyond 64 bits": b"a = [1, {b = 99999999999999999999}]",
    "a number of 401 digits": b"a = 1" + b"0" * 400,
    "nan": b"a = nan",
    "inf": b"a = -inf",
    "an infinite fraction": b"a = 1e999",
    "5000 brackets": b"a = " + b"[" * 5000 + b"]" * 5000,
    "5000 dots": b"a" + b".a" * 5000 + b" = 1",
    "a half character": b'a = "\\ud800"',
    "a key twice": b"a = 1\na = 2",
}


@pytest.mark.parametrize("what", REFUSED)
def test_json_that_is_refused_is_one_line(what):
    with pytest.raises(DataError, match=r"^here: .*\.$|^here does not fit") as caught:
        documents.parse_json(REFUSED[what], "here")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("what", TOML_REFUSED)
def test_toml_that_is_refused_is_one_line(what, tmp_path):
    path = tmp_path / "a.toml"
    path.write_bytes(TOML_REFUSED[what])
    with pytest.raises(DataError, match="not valid TOML") as caught:
        documents.read_toml(path)
    assert "\n" not in str(caught.value)


def test_what_is_read_is_as_it_stands():
    text = '{"a": [1, -2.5, true, null, "\\ud83d\\ude00 ü"], "b": {"c": -9223372036854775808}}'
    value = {"a": [1, -2.5, True, None, "😀 ü"], "b": {"c": -(2**63)}}
    assert documents.parse_json(text, "here") == value
    assert documents.parse_json(b"\xef\xbb\xbf" + text.encode(), "here") == value
    deep = b"[" * documents.MAX_DEPTH + b"]" * documents.MAX_DEPTH
    assert documents.parse_json(deep, "here")


def test_files_of_others_may_hold_more_than_is_used(tmp_path):
    text = b'{"area": NaN, "id": 99999999999999999999999999999999999999, "x": -1e999, "x": 3}'
    assert documents.parse_json(text, "here", foreign=True) == {"area": None, "id": None, "x": 3}
    with pytest.raises(DataError, match="half a character"):
        documents.parse_json(REFUSED["half a character"], "here", foreign=True)


@hypothesis.given(st.binary(max_size=60) | st.text(max_size=60))
@hypothesis.example(b"[" * 100_000)
def test_any_bytes_are_read_or_refused(content):
    for foreign in (False, True):
        try:
            json.dumps(documents.parse_json(content, "here", foreign=foreign), allow_nan=False).encode()
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_a_deep_stack_does_not_matter():
    """A reader that is called from deep inside has less room for brackets; it says so all the same."""

    def inside(depth):
        if depth:
            return inside(depth - 1)
        return documents.parse_json(b"[" * 190 + b"]" * 190, "here")

    with pytest.raises(DataError, match="brackets"):
        inside(sys.getrecursionlimit() - 150)


def test_little_memory_is_one_line(monkeypatch, tmp_path):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(documents.json, "loads", full)
    with pytest.raises(DataError, match="does not fit into the memory"):
        documents.parse_json(b"[]", "here")


def test_a_toml_file_is_read(tmp_path):
    path = tmp_path / "a.toml"
    path.write_bytes(b'\xef\xbb\xbfa = 1\r\n[b]\r\nc = "d"\r\n')
    assert documents.read_toml(path) == {"a": 1, "b": {"c": "d"}}
    with pytest.raises(DataError, match=r"cannot read the recipe .*none\.toml"):
        documents.read_toml(tmp_path / "none.toml", what="the recipe")


def test_limits_of_length(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"[1, 2]")
    assert documents.read_json(path, limit=6) == [1, 2]
    with pytest.raises(DataError, match="longer than 5 bytes"):
        documents.read_json(path, limit=5)
    with pytest.raises(DataError, match="a device"):
        files.read_bytes("/dev/zero")


ROOT = Path(__file__).parents[1]
OWN_TEXT = {
    "deeplabv3p/documents.py",
    "deeplabv3p/runtime/keras_engine.py",  # what Keras says of a model in memory
    "deeplabv3p/runtime/keras_portable.py",  # what Keras has just written
    "deeplabv3p/export/mnn_integers.py",  # what MNN's converter has just written
    "deeplabv3p/export/mnn_quantize.py",
    "deeplabv3p/training/checkpoint.py",
    "common/training.py",
    "tools/demo.py",  # what the commands that it runs have written
}


def test_json_and_toml_are_read_in_one_place():
    found = set()
    for folder in ("deeplabv3p", "common", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and ast.unparse(node) in {
                    "json.loads",
                    "json.load",
                    "tomllib.loads",
                }:
                    found.add(path.relative_to(ROOT).as_posix())
    assert found - OWN_TEXT == set()
