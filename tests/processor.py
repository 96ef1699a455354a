"""What tests have to know of the processor they run on."""

from __future__ import annotations

import pytest

from common.facts import overflows_8_bit

saturates = pytest.mark.xfail(
    overflows_8_bit(),
    reason="without VNNI, ONNX Runtime and OpenVINO overflow when they add 8-bit products (docs/convert.md)",
)
"""For int8 files of these two engines, which keep the whole range of 8 bits for their weights."""
