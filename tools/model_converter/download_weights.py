"""List the weights that can be downloaded, and download them: verified, and resumed where a download broke off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from deeplabv3p.errors import DataError
from deeplabv3p.models.backbones import BACKBONES
from deeplabv3p.models.registry import MODELS

if TYPE_CHECKING:
    from deeplabv3p.weights.manifest import Entry

EPILOG = """A file is looked for in the folder and in Keras' own cache first. Without a network, put it there by hand:
commands that need one say its name."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = cli.Parser(__doc__, EPILOG)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="what to get: a model of the list, or a file name (default: none)")
    add("--list", action="store_true", help="list what there is; without a NAME this is what happens")
    add("--offline", action="store_true", help="never download; say where to put which file")
    add("--folder", type=Path, metavar="DIR", help="folder for the files (default: weights/ of this project)")
    options = parser.parse_args(argv)

    from common import pretrained
    from common.runs import check_output_folder

    folder = check_output_folder(options.folder or pretrained.WEIGHTS_FOLDER)
    for name in options.names:
        _get(name, folder, offline=options.offline)
    if options.list or not options.names:
        print(_listing(folder))


def _get(name: str, folder: Path, *, offline: bool) -> None:
    """Get one file and tell what it is good for."""
    from common import pretrained
    from deeplabv3p.weights.manifest import find_entry

    entry = find_entry(name, pretrained.WEIGHTS_FOLDER)
    print(f"{entry.name}: {entry.source}\nterms of use: {entry.terms}", flush=True)
    fetched = pretrained.fetch_weights(name, offline=offline, into=folder)
    print(f"{'downloaded' if fetched.downloaded else 'here already, verified'}: {pretrained.shown(fetched.path)}")
    if entry.model is None:
        print(f"train.py takes it as the first weights of --model_type {_users(entry)}")
        return
    print(f"use it: {pretrained.use_command(entry, fetched.path)}")
    if entry.imported is not None:
        print(f"or make a ready model of it first: {pretrained.import_command(entry, fetched.path)}")


def _listing(folder: Path) -> str:
    """A table of the whole models, then one of the backbones; scores stand below, because they need a sentence."""
    from common import pretrained
    from deeplabv3p.weights.manifest import local_file, read_manifest

    def here(entry: Entry) -> str:
        if entry.imported is not None and (pretrained.WEIGHTS_FOLDER / entry.imported).is_file():
            return "imported"
        try:
            return "yes" if local_file(entry, folder, pretrained.WEIGHTS_FOLDER) else "no"
        except DataError:
            return "wrong file"

    entries = read_manifest(pretrained.WEIGHTS_FOLDER).values()
    models = [entry for entry in entries if entry.model is not None]
    backbones = [entry for entry in entries if entry.model is None]
    rows = [(str(e.short_name), here(e), _size(e), e.licence, str(e.model)) for e in models]
    lines = _table(("model", "here", "size", "licence", "--model_type"), rows)
    lines += ["", *(f"{entry.short_name}: {entry.score}" for entry in models), ""]
    rows = [(e.name, here(e), _size(e), e.licence, _users(e)) for e in backbones]
    lines += _table(("ImageNet backbone", "here", "size", "licence", "--model_type"), rows)
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]


def _size(entry: Entry) -> str:
    return "unknown" if entry.size is None else f"{entry.size / 1e6:.1f} MB"


def _users(entry: Entry) -> str:
    """The networks, with their width multiplier, whose first weights a backbone's file can be."""
    for name, backbone in BACKBONES.items():
        for alpha in backbone.alphas if backbone.imagenet_file else ():
            if str(backbone.imagenet_file).format(alpha=alpha) == entry.name:
                users = ", ".join(record.name for record in MODELS.values() if record.backbone == name)
                return users if alpha == 1 else f"{users} with --alpha {alpha:g}"
    return "none yet"


if __name__ == "__main__":
    cli.run(main)
