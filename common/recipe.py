"""Recipes: TOML files whose keys are flag names. Defaults < recipe < flags."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import cli
from deeplabv3p import documents
from deeplabv3p.errors import DataError, UsageError

_MAX_BYTES = 1 << 20


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line whose ``--config FILE`` may name a recipe; flags on the line win over the recipe.

    A recipe value is checked as the flag's argument would be. Booleans switch a flag on or off. Paths in a recipe are
    relative to the folder the command runs in, as on the command line.

    Raises:
        UsageError: the recipe is missing, not TOML, has a key that is no flag, or a value its flag refuses.
    """
    return parse_given(parser, argv)[0]


def parse_given(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, frozenset[str]]:
    """As :func:`parse`, and the names of the flags that the line or the recipe sets, at whatever value."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    path = finder.parse_known_args(argv)[0].config
    recipe = {} if path is None else _read(parser, Path(path))
    parser.set_defaults(**recipe)
    options = parser.parse_args(argv)
    # argparse sets no defaults where there are values.
    untouched = object()
    line = parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(vars(options), untouched)))
    return options, frozenset(recipe) | {name for name, value in vars(line).items() if value is not untouched}


def _read(parser: argparse.ArgumentParser, path: Path) -> dict[str, Any]:
    try:
        values = documents.read_toml(path, what="the recipe", limit=_MAX_BYTES)
    except DataError as error:
        raise UsageError(str(error)) from None
    actions = {action.dest: action for action in parser._actions if action.option_strings}
    result: dict[str, Any] = {}
    for key, value in values.items():
        if key in actions and cli.is_reserved(actions[key]):
            raise UsageError(f"{path}: '{key}' is not available yet. Leave it out.")
        if key not in actions or key in ("config", "help", "version", "resume"):
            raise UsageError(f"{path}: '{key}' is not a flag that a recipe can set. `{parser.prog} --help` lists them.")
        result[key] = _check(parser, actions[key], value, f"{path}: {key}")
    return result


def _check(parser: argparse.ArgumentParser, action: argparse.Action, value: Any, where: str) -> Any:
    """The value as the flag's own type and choices make it."""
    if action.nargs == 0:  # a switch
        if not isinstance(value, bool):
            raise UsageError(f"{where} is {value!r}, expected true or false.")
        return value
    if isinstance(value, (dict, list, bool)):
        raise UsageError(f"{where} is {value!r}, expected what --{action.dest} takes on the command line.")
    if not str(value).strip() and action.type is not cli.any_text:
        raise UsageError(f"{where} is empty. Give it a value, or leave it out.")
    try:
        checked = parser._get_value(action, str(value))
        parser._check_value(action, checked)
    except argparse.ArgumentError as error:
        raise UsageError(f"{where}: {error.message}.") from None
    return checked
