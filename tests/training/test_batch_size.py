"""``--batch_size auto``: a forecast from measured steps, and the measurement itself."""

from __future__ import annotations

import dataclasses

import pytest

from deeplabv3p.errors import UsageError
from deeplabv3p.training.batch_size import MAX_BATCH, SHARE, largest_batch, measured, need
from deeplabv3p.training.config import TrainConfig

MIB = 2**20
PEAKS = [(2, 1200 * MIB), (4, 1400 * MIB), (8, 1800 * MIB)]  # 1000 MiB and 100 a picture


def found(free_mib: float, limit: int = 1000, peaks: list[tuple[int, int]] = PEAKS) -> int:
    return largest_batch(
        TrainConfig(), num_classes=3, limit=limit, measure=lambda config, classes: (peaks, int(free_mib * MIB))
    ).batch_size


def test_the_forecast_is_a_line():
    assert need(PEAKS, 32) == 4200 * MIB
    assert need(PEAKS[:2], 16) == 2600 * MIB


def test_the_largest_power_of_two_that_fits_is_found():
    assert found(4200 / SHARE + 1) == 32
    assert found(4200 / SHARE - 1) == 16
    assert found(1e6) == MAX_BATCH
    assert found(1e6, limit=11) == 8
    assert found(1e6, limit=1) == 1


def test_what_does_not_fit_is_a_usage_error():
    with pytest.raises(UsageError, match="gradient_checkpointing"):
        found(900)
    with pytest.raises(UsageError, match="training step of 4 pictures"):
        found(900, peaks=PEAKS[:1])


def test_a_flat_measurement_does_not_promise_less_than_was_seen():
    """Where the allocator holds more than a step needs, both probes give the same number."""
    assert need([(2, 100), (4, 100)], 64) == 100
    assert need([(2, 100), (4, 90)], 64) == 100


@pytest.mark.slow
def test_a_measured_step_grows_with_the_batch_and_less_with_checkpointing():
    config = TrainConfig(model_type="mobilenetv2_lite", size_hw=(256, 256), transfer_epoch=0)
    peaks, free = measured(config, 7)
    assert [pictures for pictures, _ in peaks] == [2, 4, 8]
    assert peaks[0][1] < peaks[1][1] < peaks[2][1] < free
    less, _ = measured(dataclasses.replace(config, gradient_checkpointing=True), 7)
    # Of about 1.5 GiB and 1.1 GiB; the process without a step has 0.8.
    assert less[2][1] < 0.9 * peaks[2][1]
