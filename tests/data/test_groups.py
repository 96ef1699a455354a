"""Which names are of one thing, and which are only numbered."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplabv3p.data.groups import group_names
from deeplabv3p.errors import UsageError

RANDOM = random.Random(0)


def hexes(count: int) -> list[str]:
    return [f"{RANDOM.getrandbits(128):032x}" for _ in range(count)]


# names by the group that they should be in
GROUPED = {
    "tiles": {f"IMG_{p}": [f"IMG_{p}_{t}" for t in range(3 + p % 2)] for p in range(40)},
    "tiles of two photographs": {f"IMG_{p}": [f"IMG_{p}_{t}" for t in range(8)] for p in (1, 2)},
    "tiles and their photograph": {f"a{p}": [f"a{p}", *(f"a{p}_{t}" for t in range(4))] for p in range(9)},
    "tiles of counted photographs": {f"{p:03}": [f"{p:03}_{t}" for t in range(5)] for p in range(20)},
    "rows and columns": {f"IMG_{p}": [f"IMG_{p}_{r}_{c}" for r in range(3) for c in range(4)] for p in range(10)},
    "left and top": {
        f"P{p:04}": [f"P{p:04}__1__{r * 512}___{c * 512}" for r in range(3) for c in range(4)] for p in range(10)
    },
    "boxes": {
        f"s{p}": [f"s{p}_{r * 64}_{c * 64}_{r * 64 + 64}_{c * 64 + 64}" for r in range(3) for c in range(4)]
        for p in range(10)
    },
    "x and y": {f"scene{p}": [f"scene{p}_x{r * 512}_y{c}" for r in range(3) for c in range(4)] for p in range(10)},
    "tiles by site": {
        f"site{s}_{p:03}": [f"site{s}_{p:03}_{t}" for t in range(4)] for s in range(3) for p in range(10)
    },
    "frames": {f"clip_{w}": [f"clip_{w}_{i:06}" for i in range(0, 900, 30)] for w in "abcd"},
    "some frames": {f"clip{w}": [f"clip{w}_{i:06}" for i in RANDOM.sample(range(1000), 20)] for w in range(5)},
    "frames as CamVid's": {
        "0001TP": [f"0001TP_{i:06}" for i in range(6690, 8000, 30)],
        "0016E5": [f"0016E5_{i:05}" for i in range(390, 1500, 30)],
        "Seq05VD": [f"Seq05VD_f{i:05}" for i in range(0, 900, 30)],
    },
    "frames of years": {f"{year}": [f"{year}_{i:06}" for i in range(0, 900, 30)] for year in range(2007, 2012)},
    "Roboflow's copies": {f"n{i}": [f"n{i}_jpg.rf.{h}" for h in hexes(3)] for i in range(10)},
    "Roboflow's copies of tiles": {
        f"IMG_{i}": [f"IMG_{i}_{t}_jpg.rf.{h}" for t in range(3) for h in hexes(2)] for i in range(9)
    },
    "copies": {f"IMG_{i}": [f"IMG_{i}{w}" for w in ("", "_flip", "_rot90", "_aug_2", " (1)")] for i in range(10)},
}
PLAIN = {
    "counted": [f"img_{i:04}" for i in range(1, 10000)],
    "counted few": [f"IMG_{i}" for i in range(5)],
    "numbers": [f"{i:06}" for i in range(100)],
    "with a version": [f"v2_img_{i:04}" for i in range(300)],
    "kinds": [f"{kind}_{i}" for kind in ("beagle", "pug", "boxer", "husky", "collie") for i in range(1, 60)],
    "cameras": [f"{camera}_{i:04}" for camera in ("IMG", "DSC", "DJI") for i in range(40)],
    "camera's without gap": [*(f"DSC{i:05}" for i in range(40)), *(f"P{i:07}" for i in range(90))],
    "VOC": [f"{year}_{i:06}" for year in range(2007, 2012) for i in RANDOM.sample(range(10000), 90)],
    "COCO": [f"COCO_{s}2014_{i:012}" for s in ("val", "train") for i in RANDOM.sample(range(10**6), 90)],
    "ADE": [f"ADE_{s}_{i:08}" for s in ("train", "val") for i in range(200)],
    "hashes": hexes(2000),
    "phone": [f"IMG_202103{d:02}_{RANDOM.randrange(240000):06}" for d in range(10, 30) for _ in range(5)],
    "one": ["a"],
    "train and val": [*(f"train_{i:05}" for i in range(90)), *(f"val_{i:05}" for i in range(30))],
    "words": ["cat", "dog", "a b", "ü", "_1", "1_", "-", "x.y"],
}


@pytest.mark.parametrize("kind", GROUPED)
def test_names_of_one_thing_are_one_group(kind: str) -> None:
    wanted = {frozenset(names) for names in GROUPED[kind].values()}
    names = [name for group in wanted for name in group]
    assert {frozenset(group) for group in group_names(names).groups.values()} == wanted


@pytest.mark.parametrize("kind", PLAIN)
def test_numbering_makes_no_groups(kind: str) -> None:
    grouping = group_names(PLAIN[kind])
    assert grouping.is_plain
    assert grouping.example() == ()


def test_a_long_series_is_said() -> None:
    grouping = group_names(PLAIN["counted"])
    assert (grouping.series, grouping.series_count) == ("img_0001", 9999)
    assert group_names(GROUPED["tiles"][f"IMG_{1}"] + GROUPED["tiles"]["IMG_2"]).series is None


def test_a_pattern() -> None:
    names = ["a_1_x", "a_2_x", "b_1_y", "other"]
    grouping = group_names(names, "^([ab])_")
    assert list(grouping.groups.values()) == [["other"], ["a_1_x", "a_2_x"], ["b_1_y"]]
    assert grouping.unmatched == 1
    assert len(group_names(names, "_([0-9])_(.)").groups) == 4
    assert len(group_names(names, "[xy]$").groups) == 3  # the match itself
    assert group_names(names, "none").is_plain
    for pattern, message in (("(", "no regular expression"), ("zzz", "matches no name, as 'a_1_x'")):
        with pytest.raises(UsageError, match=message):
            group_names(names, pattern)


NAMES = st.lists(st.one_of(st.text(max_size=12), st.from_regex(r"\A[ab]{0,2}[0-9]{0,2}([_-][0-9]{1,3}){0,5}\Z")))


@given(NAMES, st.randoms())
def test_every_name_has_a_group_whatever_the_order(names: list[str], order: random.Random) -> None:
    grouping = group_names(names)
    assert set(grouping.keys) == set(names)
    assert sorted(name for group in grouping.groups.values() for name in group) == sorted(set(names))
    order.shuffle(names)
    assert group_names(names) == grouping


@given(st.integers(3, 30), st.integers(2, 9), st.from_regex(r"\A[A-Za-z]{1,6}[_-]?\Z"), st.sampled_from("_-. "))
def test_tiles_of_numbered_photographs_are_found(photos: int, tiles: int, prefix: str, gap: str) -> None:
    names = [f"{prefix}{photo}{gap}{tile}" for photo in range(photos) for tile in range(tiles)]
    assert len(group_names(names).groups) == photos


@given(st.from_regex(r"\A[A-Za-z]{0,6}[_-]?\Z"), st.integers(2, 200), st.integers(1, 6), st.integers(0, 3000))
def test_one_numbering_is_never_one_group(prefix: str, count: int, width: int, first: int) -> None:
    assert group_names([f"{prefix}{first + i:0{width}}" for i in range(count)]).is_plain
