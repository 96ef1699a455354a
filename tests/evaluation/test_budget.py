"""What --budget says, and who misses it."""

from __future__ import annotations

import pytest

from deeplabv3p.errors import UsageError
from deeplabv3p.evaluation.budget import DEFAULTS, describe, missed, parse_budgets

FIGURES = {"agreement": 99.95, "band_agreement": 98.0, "miou_drop": 0.4, "max_error": None, "mean_error": 1e-6}


def test_the_defaults_are_the_promised_ones():
    assert parse_budgets(None) == DEFAULTS
    assert DEFAULTS["f32"] == {"agreement": 99.9}
    assert DEFAULTS["int8"] == {"miou_drop": 1.0}
    assert all(DEFAULTS.values()), "every precision has a budget, or it would always pass"


def test_a_budget_without_precision_replaces_it_where_the_defaults_have_it():
    budgets = parse_budgets("agreement=99.99, miou_drop=0.25")
    assert budgets["f32"] == {"agreement": 99.99}
    assert budgets["int8"] == budgets["f16"] == {"miou_drop": 0.25}
    assert DEFAULTS["f32"] == {"agreement": 99.9}, "the defaults stay"


def test_a_budget_that_no_default_has_holds_for_all_and_a_precision_for_itself():
    budgets = parse_budgets("max_error=0.1,int8.agreement=97,int8.miou_drop=2")
    assert budgets["f32"] == {"agreement": 99.9, "max_error": 0.1}
    assert budgets["int8"] == {"miou_drop": 2, "max_error": 0.1, "agreement": 97}


@pytest.mark.parametrize(
    "text", ["speed=3", "agreement", "f64.agreement=1", "agreement=x", "agreement=nan", "miou_drop=-1"]
)
def test_a_budget_that_makes_no_sense_is_named(text):
    with pytest.raises(UsageError, match=text.split("=", maxsplit=1)[0]):
        parse_budgets(text)


def test_floors_and_ceilings_are_kept_at_the_limit_itself():
    assert missed({"agreement": 99.95, "miou_drop": 0.4}, FIGURES) == []
    assert missed({"agreement": 99.9500001}, FIGURES) == ["agreement 99.95 %, under 99.9500001 %"]
    assert missed({"miou_drop": 0.3, "band_agreement": 98.5}, FIGURES) == [
        "mIoU drop 0.4 points, over 0.3 points",
        "agreement at boundaries 98 %, under 98.5 %",
    ]


def test_a_miss_is_told_with_the_digits_that_show_it():
    assert missed({"agreement": 99.9}, {"agreement": 99.8997}) == ["agreement 99.8997 %, under 99.9 %"]


def test_what_cannot_be_measured_keeps_no_budget():
    assert missed({"max_error": 1}, FIGURES) == ["largest logit error cannot be measured (budget 1)"]
    assert missed({"miou_drop": 1}, {"miou_drop": float("nan")}) != []
    assert missed({"agreement": 1}, {}) != []


def test_a_budget_in_words():
    assert describe({"agreement": 99.9, "miou_drop": 1}) == "agreement at least 99.9 %, mIoU drop at most 1 points"
