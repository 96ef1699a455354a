"""What the scripts share: arguments, console, run folders. Importing any of it costs no heavy import."""

import os
import sys


def _forget_current_folder() -> None:
    """Import nothing from the current folder from here on, unless this project, or Python itself, lives there.

    An empty entry of PYTHONPATH means that folder, and it is where people unpack models of others. Before anything else
    is imported: even the version of a package is read by modules that such a folder could have.
    """
    try:
        here = os.path.realpath(os.curdir)
    except FileNotFoundError:  # it is gone, and nothing can be imported from it
        return
    root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120 - pathlib imports too much
    if here != root and not here.startswith((sys.prefix, sys.base_prefix)):
        sys.path[:] = [item for item in sys.path if os.path.realpath(item or os.curdir) != here]


_forget_current_folder()
