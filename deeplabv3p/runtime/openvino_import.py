"""Importing OpenVINO without its telemetry."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def unreported() -> Iterator[None]:
    """Keep OpenVINO and NNCF, where they are imported in this block, from reporting it to their makers, then and later.

    ``import openvino`` alone sends a message, and NNCF one a call. Both ask the environment once, while they are
    imported, whether this is a machine for continuous integration, and are silent there. Their other switch is a
    file in the user's home.
    """
    before = {name: os.environ.get(name) for name in ("CI", "NNCF_CI")}
    os.environ.update(CI="true", NNCF_CI="1")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
