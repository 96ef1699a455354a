from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from deeplabv3p.data.doctor.twins import Looks, Twins, difference_hash, find_twins, thumbnail


def looks(*pictures: np.ndarray) -> Looks:
    thumbs = [thumbnail(picture) for picture in pictures]
    digests = [picture.tobytes() for picture in pictures]
    return Looks(digests, np.array([difference_hash(thumb) for thumb in thumbs], np.uint64), np.stack(thumbs))


PHOTOS = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
CAT = PHOTOS[1]


def compressed(quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", CAT, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


@pytest.mark.parametrize(
    "copy",
    [
        compressed(15),
        cv2.resize(CAT, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA),
        cv2.resize(CAT, None, fx=2, fy=1.7),
        cv2.convertScaleAbs(CAT, alpha=0.7, beta=20),
        np.repeat(cv2.cvtColor(CAT, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    ],
    ids=["compressed", "small", "stretched", "paler", "grey"],
)
def test_copies_are_told_whatever_was_done_to_them(copy: np.ndarray) -> None:
    (twin,) = find_twins(looks(copy), looks(*PHOTOS))
    assert (twin.first, twin.second, twin.likeness) == (0, 1, "copy")


def test_equal_files_differ_by_nothing() -> None:
    assert find_twins(looks(CAT), looks(*PHOTOS)) == [Twins(0, 1, "copy", 0.0)]


def test_a_moved_camera_looks_alike() -> None:
    (twin,) = find_twins(looks(PHOTOS[0][:, 6:]), looks(PHOTOS[0][:, :-6]))
    assert twin.likeness == "alike"
    assert twin.difference > 3


@pytest.mark.parametrize("other", [CAT[:, ::-1], CAT[::-1], 255 - CAT, np.full_like(CAT, 90)])
def test_other_pictures_are_not_alike(other: np.ndarray) -> None:
    assert find_twins(looks(other), looks(CAT)) == []
    assert find_twins(looks(*PHOTOS[:2]), looks(*PHOTOS[2:])) == []


def test_flat_pictures_are_like_nothing() -> None:
    black, grey = np.zeros((20, 20, 3), np.uint8), np.full((20, 20, 3), 99, np.uint8)
    assert find_twins(looks(black), looks(grey)) == []
    assert [twin.likeness for twin in find_twins(looks(black), looks(black))] == ["copy"]  # the same file


def test_within_one_set_only_pairs_are_told_once() -> None:
    assert find_twins(looks(CAT, PHOTOS[0], CAT)) == [Twins(2, 0, "copy", 0.0)]
    assert find_twins(looks(*PHOTOS)) == []


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    many = looks(*PHOTOS, *PHOTOS)
    whole = find_twins(many)
    monkeypatch.setattr("deeplabv3p.data.doctor.twins._ROWS", 3)
    assert find_twins(many) == whole
    assert [(twin.first, twin.second) for twin in whole] == [(4, 0), (5, 1), (6, 2), (7, 3)]
