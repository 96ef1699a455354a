"""Budgets: how far a model may lie from its reference. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from deeplabv3p.errors import UsageError


@dataclass(frozen=True)
class Measure:
    """Something that can have a budget: ``floor`` values must not fall below it, others must not exceed it."""

    title: str
    unit: str
    floor: bool


MEASURES = {
    "agreement": Measure("agreement", " %", floor=True),
    "band_agreement": Measure("agreement at boundaries", " %", floor=True),
    "miou_drop": Measure("mIoU drop", " points", floor=False),
    "max_error": Measure("largest logit error", "", floor=False),
    "mean_error": Measure("mean logit error", "", floor=False),
}
"""By the names that --budget takes. Percentages are of pixels; a point is a hundredth of mIoU 1."""

DEFAULTS: dict[str, dict[str, float]] = {
    "f32": {"agreement": 99.9},
    "f16": {"miou_drop": 0.5},
    "bf16": {"miou_drop": 0.5},
    "w8": {"miou_drop": 0.5},
    "int16x8": {"miou_drop": 0.5},
    "int8": {"miou_drop": 1.0},
}
"""By precision. Single precision computes the same function and only rounds otherwise, so nearly every label must stay.
The others compute another function, close by: what counts is what it costs. Half precision and 8-bit weights with float
arithmetic cost next to nothing where they work (0.5 points is noise of a hundred pictures); int8 may cost a point."""

Budgets = Mapping[str, Mapping[str, float]]


def parse_budgets(text: str | None) -> Budgets:
    """The budgets of each precision: the defaults, changed by ``agreement=99.99,int8.miou_drop=2``.

    ``PRECISION.NAME=VALUE`` sets one. ``NAME=VALUE`` replaces that budget wherever the defaults have it (agreement:
    f32; miou_drop: all others), and where none has it sets it for every precision.

    Raises:
        UsageError: an unknown name or precision, or a value that is not a number of 0 or more.
    """
    budgets = {precision: dict(values) for precision, values in DEFAULTS.items()}
    for item in filter(None, (part.strip() for part in (text or "").split(","))):
        key, equals, number = item.partition("=")
        precision, _, name = key.strip().rpartition(".")
        if not equals or name not in MEASURES or (precision and precision not in budgets):
            raise UsageError(
                f"'{item}' is not a budget. Write NAME=VALUE or PRECISION.NAME=VALUE with one of "
                f"{', '.join(MEASURES)} and one of {', '.join(budgets)}."
            )
        having = [values for values in budgets.values() if name in values] or list(budgets.values())
        for values in [budgets[precision]] if precision else having:
            values[name] = _number(number, item)
    return budgets


def missed(budget: Mapping[str, float], figures: Mapping[str, float | None]) -> list[str]:
    """The budgets that figures miss, a phrase each; empty when all are kept.

    Args:
        budget: name → limit.
        figures: name → what was measured. None where it cannot be measured (errors of logits on another grid), which
            cannot keep a budget; nor can nan.
    """
    phrases = []
    for name, limit in budget.items():
        measure, value = MEASURES[name], figures.get(name)
        side, limit_text = ("under" if measure.floor else "over"), f"{limit:.12g}{measure.unit}"
        if value is None or math.isnan(value):
            phrases.append(f"{measure.title} cannot be measured (budget {limit_text})")
        elif (value < limit) if measure.floor else (value > limit):
            phrases.append(f"{measure.title} {_figure(value, limit, measure.floor)}{measure.unit}, {side} {limit_text}")
    return phrases


def describe(budget: Mapping[str, float]) -> str:
    """A budget in words: ``agreement at least 99.9 %, mIoU drop at most 1 point``."""
    parts = []
    for name, limit in budget.items():
        measure = MEASURES[name]
        parts.append(f"{measure.title} at {'least' if measure.floor else 'most'} {limit:.12g}{measure.unit}")
    return ", ".join(parts)


def _number(text: str, item: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"'{item}': a budget is a number of 0 or more.")
    return value


def _figure(value: float, limit: float, floor: bool) -> str:
    """The value with as many digits as it takes to be on its side of the limit: 99.9 under 99.9 helps nobody."""
    for digits in range(3, 17):
        text = f"{value:.{digits}g}"
        if float(text) < limit if floor else float(text) > limit:
            return text
    return repr(value)
