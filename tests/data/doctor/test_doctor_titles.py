"""Plain words for what the doctor finds."""

from __future__ import annotations

from deeplabv3p.data.doctor import KINDS
from deeplabv3p.data.doctor.titles import _TITLES, title


def test_every_kind_has_a_title_of_its_own_in_words():
    assert set(KINDS) <= set(_TITLES)
    assert len(set(_TITLES.values())) == len(_TITLES)
    for kind in KINDS:
        assert "_" not in title(kind)
        assert title(kind) != kind


def test_a_kind_without_a_title_is_still_words():
    assert title("some_new_kind") == "Some new kind"
