"""Flags that say what a model file does not say, or override what its spec says."""

from __future__ import annotations

import pytest
from example_spec import SPEC

from common import cli, spec_flags
from common.network import find_artifact
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.spec import sidecar_path


def parse(*words):
    parser = cli.Parser("test")
    spec_flags.add(parser)
    return parser.parse_args(words)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.onnx"
    path.touch()
    SPEC.save(sidecar_path(path))
    return path


def test_without_flags_the_spec_is_as_it_is(model, capsys):
    assert find_artifact(str(model), parse())[1] == SPEC
    assert find_artifact(str(model))[1] == SPEC
    assert capsys.readouterr().out == ""


def test_flags_change_the_spec_and_that_is_said(model, capsys):
    flags = parse("--mean", "123.675,116.28,103.53", "--std", "58", "--color", "BGR", "--align_corners")
    spec = find_artifact(str(model), flags)[1]
    expected = {"mean": (123.675, 116.28, 103.53), "std": (58.0,) * 3, "color": "BGR"}
    assert spec == SPEC.replace(input=expected, output={"align_corners": True})
    line = capsys.readouterr().out
    assert "m.onnx is changed by flags" in line
    assert "BGR" in line
    assert "mean 123.675, 116.28, 103.53, std 58" in line


@pytest.mark.parametrize(
    "words", [("--mean", "1,2"), ("--mean", "x"), ("--resize", "window"), ("--output_kind", "maps")]
)
def test_wrong_values_are_usage_errors(words):
    with pytest.raises(UsageError):
        parse(*words)


def test_std_must_be_positive(model):
    with pytest.raises(UsageError, match="above 0"):
        find_artifact(str(model), parse("--std", "0"))


def test_a_file_that_tells_too_little_says_which_flag_helps(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="not a TFLite file"):
        find_artifact(str(path), parse())
