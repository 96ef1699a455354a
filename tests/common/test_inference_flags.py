"""The flags of inference: what they mean, their defaults, and combinations that are refused."""

from __future__ import annotations

import dataclasses

import pytest
from example_spec import SPEC

from common import cli, inference_flags
from deeplabv3p.errors import UsageError
from deeplabv3p.inference import PLAIN, CrfOptions, InferenceOptions
from deeplabv3p.spec import Window

OPEN = SPEC.replace(input={"size_hw": None})


def parse(*arguments):
    parser = cli.Parser("test")
    inference_flags.add(parser)
    return parser.parse_args(arguments)


def test_without_flags_nothing_is_asked_for():
    assert inference_flags.options_from(parse(), SPEC) == PLAIN
    assert inference_flags.given(parse()) == []


def test_every_flag_arrives():
    asked = parse(
        *("--window", "64x96", "--window_stride", "40x50", "--window_batch", "8", "--flip"),
        *("--scales", "0.5,1,1.5", "--temperature", "1.5"),
        *("--do_crf", "--crf_iterations", "5", "--crf_gaussian_sxy", "2", "--crf_gaussian_compat", "4"),
        *("--crf_bilateral_sxy", "50", "--crf_bilateral_srgb", "7", "--crf_bilateral_compat", "6"),
    )
    assert inference_flags.options_from(asked, SPEC) == InferenceOptions(
        window=Window((64, 96), (40, 50)),
        window_batch=8,
        flip=True,
        scales=(0.5, 1.0, 1.5),
        crf=CrfOptions(5, 2, 4, 50, 7, 6),
        temperature=1.5,
    )
    assert len(inference_flags.given(asked)) == 13


def test_the_help_tells_the_defaults_of_the_crf():
    parser = cli.Parser("test")
    inference_flags.add(parser)
    assert inference_flags.options_from(parse("--do_crf"), SPEC).crf == CrfOptions()
    helps = {action.dest: action.help for action in parser._actions}
    for field in dataclasses.fields(CrfOptions):
        assert f"(default: {field.default:g})" in helps[f"crf_{field.name}"]


@pytest.mark.parametrize(
    ("arguments", "window"),
    [
        (["--window", "513x512"], Window((513, 512), (385, 384))),
        (["--window", "513x512", "--window_stride", "513x512"], Window((513, 512), (513, 512))),
    ],
)
def test_the_stride_of_a_window_is_three_quarters_of_it(arguments, window):
    assert inference_flags.options_from(parse(*arguments), OPEN).window == window


def test_what_flags_leave_open_is_the_models_own_window():
    spec = SPEC.replace(input={"size_hw": None, "resize": "window"}, window=Window((64, 64), (32, 32)))
    for arguments, window in (
        ([], None),
        (["--window_stride", "48x48"], Window((64, 64), (48, 48))),
        (["--window", "64x64"], Window((64, 64), (32, 32))),
        (["--window", "80x80"], Window((80, 80), (60, 60))),
    ):
        assert inference_flags.options_from(parse(*arguments), spec).window == window


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window_stride", "8x8"], "--window_stride needs --window"),
        (["--window", "64x96", "--window_stride", "65x96"], "leaves pixels out"),
        (["--window", "32x32"], "takes 64x96 pixels, so the window must have that size"),
        (["--scales", "0.5,1"], "--window 64x96"),
        (
            ["--crf_iterations", "5", "--crf_gaussian_sxy", "2"],
            "--crf_iterations, --crf_gaussian_sxy: only with --do_crf",
        ),
        (["--temperature", "2"], "--temperature changes no label alone"),
    ],
)
def test_flags_that_do_not_fit_each_other_or_the_model(arguments, message):
    with pytest.raises(UsageError) as error:
        inference_flags.options_from(parse(*arguments), SPEC)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window", "64"], "is not a size"),
        (["--scales", "0.5,x"], "'x' is not a number"),
        (["--scales", "0"], "out of range"),
        (["--window_batch", "0"], "out of range"),
        (["--temperature", "nan"], "is not a number"),
        (["--crf_bilateral_srgb", "0"], "out of range"),
    ],
)
def test_values_that_cannot_be(arguments, message):
    with pytest.raises(UsageError, match=message):
        parse(*arguments)
