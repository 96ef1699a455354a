"""The errors a user can cause or meet, each with the exit code its command ends with.

Library code raises these with one complete sentence: what is wrong, where, and what to do about it.
Scripts print that sentence and exit; nobody sees a traceback for a mistake of their own.
"""

from __future__ import annotations


class DeeplabError(Exception):
    """Base class: something a user can act on. ``exit_code`` is what the command returns."""

    exit_code = 1


class UsageError(DeeplabError):
    """The command line or a recipe asks for something that does not exist or does not fit together."""

    exit_code = 2


class DataError(DeeplabError):
    """A picture, label map, list, class file, model file or output location cannot be used."""

    exit_code = 3


class BudgetError(DeeplabError):
    """A budget on parity or accuracy was missed."""

    exit_code = 4


class RuntimeMissingError(DeeplabError):
    """A runtime that was asked for is not installed; the message names the extra that brings it."""

    exit_code = 5


class DivergedError(DeeplabError):
    """Training produced a loss that is not a finite number."""

    exit_code = 6
