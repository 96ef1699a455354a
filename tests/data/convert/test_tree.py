"""Messages about what cannot be taken say which of the causes it is."""

from __future__ import annotations

import pytest

from deeplabv3p.data.convert.json_file import take
from deeplabv3p.data.convert.tree import File, Tree, not_one
from deeplabv3p.errors import DataError


def file(name: str) -> File:
    return File(name, f"src/{name}", 1, None, lambda: b"x")


def test_a_picture_that_cannot_be_taken_says_why():
    tree = Tree([file("a/1.json"), file("x/p.jpg"), file("y/p.jpg"), file("a/q.heic"), file("a/good.jpg")], [])
    near = tree.files["a/1.json"]
    assert tree.picture(near, "good.jpg").name == "a/good.jpg"
    for name, why in (
        ("p.jpg", r"'p\.jpg' is there 2 times: src/x/p\.jpg, src/y/p\.jpg\."),
        ("none.jpg", r"'none\.jpg' is missing\."),
        ("q.heic", r"src/a/q\.heic is of a kind that is not read \(\.heic\)"),
    ):
        with pytest.raises(DataError, match=why):
            tree.picture(near, name)
    assert not_one("z.png", []) == "its picture 'z.png' is missing."


def test_a_key_that_cannot_be_taken_says_why():
    assert take({"id": 3}, "id", int, "f.json") == 3
    for item, why in (
        ({}, r"f\.json: 'id' is missing\."),
        ({"id": "3"}, r"f\.json: 'id' is not a whole number\."),
        ({"id": True}, "is not a whole number"),
        ([3], r"what should hold 'id' is not an object"),
    ):
        with pytest.raises(DataError, match=why):
            take(item, "id", int, "f.json")
