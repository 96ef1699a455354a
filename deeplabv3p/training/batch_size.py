"""The largest batch that fits into memory, from measured training steps (``--batch_size auto``).

Training steps of 2, 4 and 8 pictures run in a process of their own, with the options of the run, on random pictures.
What a step needs grows by the same amount with each picture, so that two measurements foretell the rest.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deeplabv3p.errors import UsageError
from deeplabv3p.evaluation import isolation
from deeplabv3p.training.config import TrainConfig

MAX_BATCH = 64  # more pictures a step change what a learning rate means, and are to be chosen, not found
SHARE = 0.8  # of the free memory; the rest is for the pictures on their way, for validation and for other programs
PROBES = (2, 4, 8)  # pictures a step


@dataclasses.dataclass(frozen=True)
class Found:
    """``batch_size``, a power of two, is foretold to need ``needed`` of ``free`` bytes."""

    batch_size: int
    needed: int
    free: int


def largest_batch(
    config: TrainConfig,
    *,
    num_classes: int,
    limit: int,
    measure: Callable[[TrainConfig, int], tuple[list[tuple[int, int]], int]] | None = None,
) -> Found:
    """The largest power of two, up to ``limit`` (the number of samples) and ``MAX_BATCH``, whose training step fits
    into ``SHARE`` of the free memory: that of the accelerator (JAX), or the free main memory on a CPU.

    Args:
        config: how to train; its ``batch_size`` does not count.
        num_classes: of the network.
        limit: the largest batch that makes sense.
        measure: stands for :func:`measured`, in tests.

    Raises:
        UsageError: not even one picture fits, or this machine does not tell its memory.
    """
    peaks, free = (measure or measured)(config, num_classes)
    if len(peaks) < 2:
        raise UsageError(
            f"--batch_size auto: a training step of {PROBES[len(peaks)]} pictures does not fit into memory. Use a "
            "smaller --crop_shape, --gradient_checkpointing, or give a number."
        )
    batch_size = foretold = 0
    for candidate in (2**power for power in range(MAX_BATCH.bit_length())):
        needed = need(peaks, candidate)
        if candidate <= limit and (needed <= SHARE * free or not batch_size):
            batch_size, foretold = candidate, needed
    if foretold > free:
        raise UsageError(
            f"--batch_size auto: one picture needs about {foretold / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free. "
            "Use a smaller --crop_shape or --gradient_checkpointing."
        )
    return Found(batch_size, foretold, free)


def need(peaks: list[tuple[int, int]], batch_size: int) -> int:
    """Bytes for a step of ``batch_size`` pictures, on the line through the last two of the measured (pictures, bytes),
    but at least what the first took: below that, the line knows nothing."""
    (few, low), (many, high) = peaks[-2:]
    slope = max(0.0, (high - low) / (many - few))
    return max(peaks[0][1] if batch_size >= peaks[0][0] else 0, int(high + slope * (batch_size - many)))


def measured(config: TrainConfig, num_classes: int) -> tuple[list[tuple[int, int]], int]:
    """((pictures, peak bytes) of each probe that ran, free bytes now).

    Raises:
        UsageError: see :func:`largest_batch`.
    """
    free = _free_memory()
    peaks: list[tuple[int, int]] = []
    limits: list[int] = []

    def take(message: tuple[int, int, int]) -> None:
        pictures, peak, limit = message
        peaks.append((pictures, peak))
        limits.append(limit)

    try:
        isolation.call(_probe, config, num_classes, free, on_message=take)
    except isolation.CrashError as error:
        if not peaks:
            raise UsageError(
                f"--batch_size auto: no training step could be measured: {error}. Give a number."
            ) from None
    return peaks, (limits[-1] if limits else 0) or free


def _probe(send: Callable[[tuple[int, int, int]], None], config: TrainConfig, num_classes: int, free: int) -> None:
    """In the child: train two steps of each size, tell (pictures, peak bytes, bytes of the accelerator or 0), and stop
    before a size that would not fit."""
    import numpy as np

    from deeplabv3p.losses.make import make_loss
    from deeplabv3p.models.factory import build_model, model_spec
    from deeplabv3p.spec import ClassInfo
    from deeplabv3p.training.step import compile_model, training_model

    name, size_hw, stride = config.model_name, config.size_hw, config.output_stride
    stock = build_model(name, num_classes=num_classes, size_hw=size_hw, output_stride=stride, dropout=config.dropout)
    classes = tuple(ClassInfo(str(number), (0, 0, 0)) for number in range(num_classes))
    spec = model_spec(name, size_hw=size_hw, output_stride=stride, classes=classes)
    model = training_model(stock, spec, config)
    weights = np.ones(num_classes, np.float32)
    loss = make_loss(
        config.loss, num_classes=num_classes, align_corners=spec.output.align_corners, class_weights=weights
    )
    compile_model(model, spec, config, loss=loss, steps=100, epoch_steps=100)
    peaks: list[tuple[int, int]] = []
    for pictures in PROBES:
        if len(peaks) > 1 and need(peaks, pictures) > free:
            return
        images = np.zeros((pictures, *config.train_hw, 3), np.float32)
        labels = np.zeros((pictures, *config.train_hw), np.uint8)
        for _ in range(2):
            model.train_on_batch(images, labels)
        peak, limit = _peak()
        peaks.append((pictures, peak))
        send((pictures, peak, limit))
        free = limit or free


def _peak() -> tuple[int, int]:
    """(the most bytes used so far, all that an accelerator has or 0 on a CPU)."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        stats: dict[str, Any] = jax.local_devices()[0].memory_stats() or {}  # nothing on a CPU
        if "bytes_limit" in stats:
            return int(stats["peak_bytes_in_use"]), int(stats["bytes_limit"])
    else:
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            raise UsageError("--batch_size auto knows the memory of a GPU on the JAX backend only. Give a number.")
    return isolation.peak_memory() or 0, 0


def _free_memory() -> int:
    """Bytes of main memory that this process may still take: those of the machine, or of its control group if less.

    Raises:
        UsageError: the system does not tell.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # half of all: a guess of what is free
        except (AttributeError, ValueError, OSError):
            raise UsageError("--batch_size auto: this system does not tell its free memory. Give a number.") from None
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return free if limit == "max" else min(free, int(limit) - int(used))
    except (OSError, ValueError):
        return free
