"""Expressions that name losses, the options' limits, and what `make_loss` refuses."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from deeplabv3p.errors import UsageError
from deeplabv3p.losses.options import LOSS_NAMES, LossOptions, Term, parse_loss


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("crossentropy", [("crossentropy", 1)]),
        ("ce", [("crossentropy", 1)]),
        (" ce + 0.5*dice ", [("crossentropy", 1), ("dice", 0.5)]),
        (
            "1e-3*lovasz+2.*ohem+.5 * boundary+1e+2*focal",
            [("lovasz", 1e-3), ("ohem", 2), ("boundary", 0.5), ("focal", 100)],
        ),
    ],
)
def test_sums_are_read(text, terms):
    assert parse_loss(text) == tuple(Term(name, factor) for name, factor in terms)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "cannot be read"),
        ("ce+", "cannot be read"),
        ("+ce", "cannot be read"),
        ("ce dice", "cannot be read"),
        ("dice*0.5", "cannot be read"),
        ("-1*ce", "cannot be read"),
        ("ce-dice", "cannot be read"),
        ("1,5*ce", "cannot be read"),
        ("CE", "cannot be read"),
        ("cross_entropy", "no loss 'cross_entropy'"),
        ("ce+0.5*jaccard", "no loss 'jaccard'"),
        ("0*ce", "above 0"),
        ("1e999*ce", "above 0"),
        ("ce+0.5*crossentropy", "twice"),
    ],
)
def test_other_text_is_refused_with_what_is_wrong(text, named):
    with pytest.raises(UsageError, match=named.replace("*", r"\*")):
        LossOptions(loss=text)


@pytest.mark.parametrize(
    "values",
    [
        {"label_smoothing": -0.1},
        {"label_smoothing": 1.0},
        {"label_smoothing": float("nan")},
        {"focal_alpha": 0.0},
        {"focal_gamma": -1.0},
        {"focal_gamma": float("inf")},
        {"ohem_fraction": 0.0},
        {"ohem_fraction": 1.1},
        {"boundary_weight": 0.5},
        {"boundary_width": 0},
        {"weighted_type": "none"},
        {"loss": "dice+lovasz", "weighted_type": "adaptive"},  # would do nothing
        {"loss": "focal+dice", "label_smoothing": 0.1},
    ],
)
def test_values_out_of_range_and_options_without_effect_are_refused(values):
    with pytest.raises(UsageError, match=list(values)[-1]):
        LossOptions(**values)


def test_options_load_no_keras():
    code = "import sys, deeplabv3p.losses.options; print(sorted({'keras', 'numpy', 'tensorflow'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_every_flag_of_the_loss_is_an_option_with_the_same_default():
    import argparse

    from common.train_flags import loss

    parser = argparse.ArgumentParser()
    loss.add(parser.add_argument_group())
    assert vars(parser.parse_args([])) == dataclasses.asdict(LossOptions())


def test_every_name_makes_a_loss_that_survives_serialization():
    import keras

    from deeplabv3p.losses.make import make_loss

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (1, 4, 4)).astype(np.uint8)
    logits = rng.normal(size=(1, 4, 4, 3)).astype(np.float32)
    options = LossOptions(loss="+".join(LOSS_NAMES), weighted_type="balanced", boundary_width=1)
    loss = make_loss(options, num_classes=3, align_corners=True, class_weights=np.float32([0.1, 1, 2]))
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    assert float(again(labels, logits)) == float(loss(labels, logits)) > 0


@pytest.mark.parametrize("weights", [None, np.ones(4), np.ones((3, 1))])
def test_balanced_needs_a_weight_a_class(weights):
    from deeplabv3p.losses.make import make_loss

    with pytest.raises(UsageError, match="3 numbers"):
        make_loss(LossOptions(weighted_type="balanced"), num_classes=3, align_corners=False, class_weights=weights)
