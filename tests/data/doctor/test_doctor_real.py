"""On real datasets the doctor says what is true, and raises no false alarm."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted_dataset import kinds, only

from deeplabv3p.data.doctor import diagnose

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.mark.slow
def test_camvid(deeplab_data: Path) -> None:
    diagnosis = diagnose(deeplab_data / "camvid", classes_path=CONFIGS / "camvid_classes.txt", ignore_index=11)
    assert len(diagnosis.records) == 701
    assert kinds(diagnosis, "note") == {"alike_across", "tiny_regions"}
    # Papers divide its drives between the lists; the doctor says so, by the names of the frames.
    assert kinds(diagnosis, "warning") == {"group_across"}
    assert diagnosis.healthy
    # The last frame of the training part of a video and the first of the test part, a second later.
    alike = only(diagnosis, "alike_across")
    assert alike.files == ("images/0001TP_008550.jpg ~ images/0001TP_008520.jpg",)
    assert "neighbouring frames" in alike.message


@pytest.mark.slow
def test_camvid_without_its_void_label(deeplab_data: Path) -> None:
    diagnosis = diagnose(deeplab_data / "camvid", classes_path=CONFIGS / "camvid_classes.txt")
    assert kinds(diagnosis, "error") == {"off_by_one"}
    assert "--ignore_index 11" in only(diagnosis, "off_by_one").message


@pytest.mark.slow
def test_voc(deeplab_data: Path) -> None:
    diagnosis = diagnose(deeplab_data / "VOC2012", classes_path=CONFIGS / "voc_classes.txt")
    assert len(diagnosis.records) == 485
    assert kinds(diagnosis) == {"tiny_regions"}
