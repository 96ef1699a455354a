"""Fonts for charts: letters that Matplotlib's own font lacks come from others, or are not claimed."""

from __future__ import annotations

import pytest

from deeplabv3p import charts, fonts

MISSING = "\U000e0001"  # a tag, which no font draws


def test_the_base_has_the_scripts_of_europe():
    assert fonts.families(["road", "дорога", "δρόμος", "ðØ"]) == [fonts.BASE]
    assert fonts.can_write("a road, 12 %")


def test_a_name_that_no_font_can_write_gets_its_number():
    assert not fonts.can_write(f"a{MISSING}")
    names = ["road", f"{MISSING}x", "a$b"]
    assert charts.unwritable(names) == {1}
    assert charts.class_names(names) == ["road", "class 1", r"a\$b"]


def test_letters_come_from_the_first_font_that_has_them(monkeypatch):
    letters = {"base": {ord("a")}, "han": {ord("a"), ord("道")}, "boxes": set()}
    monkeypatch.setattr(fonts, "_installed", lambda: (("Base", "base"), ("Boxes", "boxes"), ("Han", "han")))
    monkeypatch.setattr(fonts, "_letters", lambda path: frozenset(letters[path]))
    fonts.family_of.cache_clear()
    try:
        assert fonts.family_of("a") == "Base"
        assert fonts.families(["道", "a"]) == [fonts.BASE, "Base", "Han"]
        assert charts.class_names(["道", "ก"]) == ["道", "class 1"]
    finally:
        fonts.family_of.cache_clear()


@pytest.mark.parametrize("name", ["Last Resort", "LastResort", ".LastResort", "cmr10", "cmex10"])
def test_fonts_that_draw_boxes_or_other_letters_are_no_fonts(name):
    assert fonts._STAND_IN.match(name)
    assert not fonts._STAND_IN.match("Noto Sans CJK JP")
    assert name not in {family for family, _ in fonts._installed()}
