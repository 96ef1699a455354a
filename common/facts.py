"""What a number must stand beside: versions, machine, commit."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import deeplabv3p
from deeplabv3p import processes

_PACKAGES = {
    "numpy": "numpy",
    "opencv": "cv2",
    "pillow": "PIL",
    "grain": "grain",
    "keras": "keras",
    "tensorflow": "tensorflow",
    "jax": "jax",
}
# The widest first.
_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx512f", "avx2", "avx", "sve", "asimd")
_DISTRIBUTIONS = {"opencv": "opencv-python-headless"}


def versions() -> dict[str, str]:
    """The versions behind a result: this project, Python, and the packages that are loaded."""
    found = {"deeplabv3p": deeplabv3p.__version__, "python": platform.python_version()}
    for name, module in _PACKAGES.items():
        if module in sys.modules:
            loaded = getattr(sys.modules[module], "__version__", None)
            found[name] = loaded or version(_DISTRIBUTIONS.get(name, name))
    return found


def processor() -> str:
    """The name of the processor; the architecture where the system does not tell."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def instructions() -> str | None:
    """The widest vector instructions of the processor that engines tell apart; None where the system does not tell."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features") or "").split()
    return next((name for name in _INSTRUCTIONS if name in flags), None)


def overflows_8_bit() -> bool:
    """Whether this x86 processor lacks VNNI: ONNX Runtime and OpenVINO add pairs of 8-bit products in 16 bits there."""
    return instructions() in ("avx", "avx2", "avx512f")


def _cpuinfo(key: str) -> str | None:
    """The first value of a key in Linux' description of its processors."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), None)


def commit() -> str | None:
    """The commit of the source tree, with ``+changes`` if files differ from it; None outside a git checkout."""
    root = Path(__file__).resolve().parents[1]
    words = ["-C", str(root), "describe", "--always", "--dirty=+changes", "--exclude=*"]
    try:
        done = processes.run_tool("git", words, capture_output=True, check=True, timeout=10)
    except (OSError, processes.ProcessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()


def machine_facts() -> dict[str, Any]:
    """All of it, JSON-ready. ``load_average`` is that of the last minute: other work spoils a measurement."""
    return {
        "processor": processor(),
        "instructions": instructions(),
        "cpu_threads": os.cpu_count(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "versions": versions(),
        "commit": commit(),
    }
