"""Convert a Keras model to a frozen TensorFlow graph: convert.py --to pb under its older name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--input_model", required=True, metavar="FILE", help="Keras model, .keras or .h5")
    parser.add_argument("--output_model", required=True, type=Path, metavar="FILE", help="graph to write, .pb")
    options = parser.parse_args(argv)
    from common.conversion import Request, convert

    return convert(Request(options.input_model, ("pb",), output_path=options.output_model))


if __name__ == "__main__":
    cli.run(main)
