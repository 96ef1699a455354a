"""What a call comes to, so that two can be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deeplabv3p.errors import DataError, UsageError


def outcome(call: Callable[[], Any]) -> Any:
    """The result, or the class of the error that was raised."""
    try:
        return call()
    except (DataError, UsageError) as error:
        return type(error)
