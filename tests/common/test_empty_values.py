"""``--image ''``, as a variable of the shell that is not set gives it, is an error in every command, for every flag."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

import pytest

from common import cli, recipe
from deeplabv3p.errors import UsageError

ROOT = Path(__file__).parents[2]
SCRIPTS = [ROOT / name for name in ("train.py", "eval.py", "deeplab.py")]
SCRIPTS += sorted(path for path in (ROOT / "tools").rglob("*.py") if "cli.run(main)" in path.read_text())


class CaughtError(Exception):
    pass


def actions(parser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in dict.fromkeys(action.choices.values()):
                yield from actions(inner)
        elif action.nargs != 0 and not cli.is_reserved(action):
            yield parser, action


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_no_flag_of_any_command_takes_an_empty_value(script, monkeypatch):
    caught = []

    def catch(self, args=None, namespace=None):
        caught.append(self)
        raise CaughtError

    for name in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(cli.Parser, name, catch)
    monkeypatch.setattr(sys, "argv", [script.name])
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    main = runpy.run_path(str(script))["main"]
    with pytest.raises(CaughtError):
        main([])
    seen = 0
    for parser, action in actions(caught[0]):
        seen += 1
        values = [""] * (action.nargs if isinstance(action.nargs, int) else 1)
        if action.type is cli.any_text:
            assert parser._get_values(action, values) == ""
            continue
        with pytest.raises(argparse.ArgumentError, match="the value is empty"):
            parser._get_values(action, values)
    assert seen


def test_flags_without_a_value_and_sub_commands_are_as_before(tmp_path):
    parser = cli.Parser("does something")
    parser.add_argument("--image", nargs="*")
    parser.add_argument("--resume", nargs="?", const="")
    assert parser.parse_args(["--image"]).image == []
    assert parser.parse_args(["--resume"]).resume == ""
    for words in (["--image", ""], ["--image="], ["--image", "a", " "], ["--resume="]):
        with pytest.raises(UsageError, match=r"argument --\w+: the value is empty; is a variable of the shell not set"):
            parser.parse_args(words)
    (tmp_path / "recipe.toml").write_text('image = ""\n')
    parser.add_argument("--config")
    with pytest.raises(UsageError, match="image is empty"):
        recipe.parse(parser, ["--config", str(tmp_path / "recipe.toml")])
