"""One row of ``options.py``: train for two short epochs in this process, and tell what a step cost.

Run through :func:`deeplabv3p.evaluation.isolation.call`, so that the peak of the memory is the row's own.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import cli, train_flags, training
from common.first_weights import make_network
from deeplabv3p.errors import DataError
from deeplabv3p.evaluation import isolation

EPOCHS = 2
"""The first warms up: it traces, fills the pipeline and makes the optimizer's variables. The second is measured."""


def measure(send: isolation.Send, argv: list[str], steps: int, seconds: float) -> dict[str, Any]:
    """Train as ``train.py argv`` does, for two epochs of ``steps`` steps, or until ``seconds`` after the first step.

    Returns:
        ``step_s`` (seconds between the ends of two steps: median, mean, min, max, steps), ``peak_mib``, ``data_wait``
        (the share of the epoch that steps waited for data; None where the time was up before the epoch's end), and
        ``epoch_end_s``, from the last step to the end of the epoch.

    Raises:
        DeeplabError: the options cannot be used, or the time was up before a step could be measured.
    """
    parser = cli.Parser(__doc__)
    train_flags.add(parser)
    values = vars(parser.parse_args(argv))
    config = training.make_config(values)
    train_set, val_set = training.open_datasets(values)
    training.start_keras(config)
    from deeplabv3p.training.fit import Report, fit

    repeats = -(-steps * config.batch_size // len(train_set))
    samples = (train_set.samples * repeats)[: steps * config.batch_size]
    train_set = dataclasses.replace(train_set, samples=samples)
    model, spec = make_network(config, train_set, offline=True)
    ends: list[list[float]] = [[] for _ in range(EPOCHS + 1)]  # by epoch; the last one is left after a step
    rows: list[dict[str, Any]] = []
    epoch_end = 0.0

    def step_done(done: int, total: int, info: Mapping[str, float | str] | None = None) -> None:
        del total, info
        ends[(done - 1) // steps].append(time.perf_counter())

    def epoch_done(row: dict[str, Any]) -> None:
        nonlocal epoch_end
        epoch_end = time.perf_counter() - ends[len(rows)][-1]
        rows.append(row)

    def enough() -> bool:
        return len(rows) == EPOCHS or time.perf_counter() - ends[0][0] > seconds

    with tempfile.TemporaryDirectory() as run:
        report = Report(progress=step_done, epoch=epoch_done)
        fit(model, spec, config, train_set, val_set, Path(run), report=report, stop_requested=enough)
    figures = step_times(ends)
    if figures is None:
        raise DataError(f"only {sum(map(len, ends))} steps were done in {seconds:g} s. Allow more with --row_seconds.")
    peak = isolation.peak_memory()
    return {
        "step_s": figures,
        "peak_mib": None if peak is None else round(peak / 2**20),
        "data_wait": rows[1]["data_wait"] if len(rows) == EPOCHS else None,
        "epoch_end_s": epoch_end if rows else None,
    }


def step_times(ends: list[list[float]]) -> dict[str, float] | None:
    """Seconds a step from the times at which the steps of each epoch ended: of the second epoch, else of the first one
    without the first two steps. None where there are no two of them."""
    first, second = ends[:EPOCHS]
    times = second if len(second) > 1 else first[2:]
    seconds = [later - earlier for earlier, later in itertools.pairwise(times)]
    if not seconds:
        return None
    middle, mean = statistics.median(seconds), statistics.fmean(seconds)
    return {"median": middle, "mean": mean, "min": min(seconds), "max": max(seconds), "steps": len(seconds)}
