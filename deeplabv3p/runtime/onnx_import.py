"""Importing ONNX Runtime without its telemetry."""

from __future__ import annotations

import os
from typing import Any

from deeplabv3p.runtime.engine import import_package


def import_onnxruntime(module: str = "onnxruntime") -> Any:
    """Import ONNX Runtime, or a module of it, with its telemetry off.

    Raises:
        RuntimeMissingError: it is not installed, or does not load.
    """
    silence_onnxruntime()
    loaded = import_package("onnxruntime", "onnx", "onnx")
    # For a library that something else has loaded before.
    disable = getattr(loaded, "disable_telemetry_events", None)
    if disable is not None:
        disable()
    return loaded if module == "onnxruntime" else import_package(module, "onnx", "onnx")


def silence_onnxruntime() -> None:
    """Keep ONNX Runtime from reporting its use to its makers, in this process and in those it starts.

    To be called before any package that imports it.

    From 1.32 on it writes a device id and a database of events into the user's cache and looks up its host while it is
    loaded: it asks the environment then, and its own function comes too late.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
