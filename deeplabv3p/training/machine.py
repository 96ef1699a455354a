"""With how many threads the arithmetic of a run is done: sums of another number of threads differ in rounding."""

from __future__ import annotations

import os
from collections.abc import Mapping

import keras

Machine = dict[str, "int | str"]

_OPS = ("intra", "inter")


def machine() -> Machine:
    """The backend and its threads as they are in this process, ready for JSON. Threads that decode do not count."""
    schedulable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    backend = keras.backend.backend()
    found: Machine = {"backend": backend, "processors": schedulable}
    if backend == "tensorflow":
        import tensorflow as tf

        for kind in _OPS:  # 0: TensorFlow takes what the environment says, or all there are
            chosen = getattr(tf.config.threading, f"get_{kind}_op_parallelism_threads")()
            text = os.environ.get(f"TF_NUM_{kind.upper()}OP_THREADS", "")
            found[f"{kind}-op threads"] = chosen or (int(text) if text.isdecimal() and int(text) else schedulable)
    return found


def differences(then: Mapping[str, int | str], now: Mapping[str, int | str]) -> str | None:
    """What is another, such as ``processors 8 (now 2)``; None if nothing is."""
    changed = [
        f"{name} {value} (now {now.get(name, 'none')})" for name, value in then.items() if now.get(name) != value
    ]
    return ", ".join(changed) or None
