"""A conversion from beginning to end."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from deeplabv3p.data.convert.foreign import Foreign
from deeplabv3p.data.convert.formats import Options, find_format
from deeplabv3p.data.convert.sources import fingerprint, open_tree
from deeplabv3p.data.convert.state import SCRATCH, Conversion, find_conversion
from deeplabv3p.data.convert.tree import Tree
from deeplabv3p.data.convert.writer import write_dataset
from deeplabv3p.errors import DataError
from deeplabv3p.progress import Progress, silent

_VERSION = 2  # raise it whenever a conversion would come out differently


def convert(
    format_name: str,
    sources: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    options: Options | None = None,
    *,
    link: bool = False,
    overwrite: bool = False,
    checking: Progress = silent,
    unpacking: Progress = silent,
    progress: Progress = silent,
) -> Conversion:
    """Convert a dataset to ``output``, in the project's own layout. Sources are only read.

    The same sources and options give the same bytes, and a second call does nothing. A call that is cut off is gone on
    with by the next one. Pictures are copied byte for byte. A picture that cannot be used is left out, and the result
    says which and why.

    Args:
        format_name: a name of :data:`deeplabv3p.data.convert.formats.FORMATS`.
        sources: folders, archives or files.
        output: the folder to write; a new or empty one, or that of an earlier conversion.
        options: what is asked of the format.
        link: make hard links of pictures that are files on the same disk, instead of copies.
        overwrite: convert again where ``output`` holds a conversion of something else.
        checking: told about bytes of tar files and single files that are compared with those of an earlier call.
        unpacking: told about bytes of compressed tar files, which cannot be read in place.
        progress: told about pictures.

    Raises:
        UsageError: there is no such format.
        DataError: a source is missing, damaged, unsafe or not of this format, nothing can be converted, or ``output``
            cannot be written.
    """
    chosen, options = find_format(format_name), options or Options()
    options = dataclasses.replace(options, order=options.order or chosen.order)
    paths = [Path(source) for source in sources]
    root = Path(output)
    for path in paths:
        if _is_inside(root, path) or _is_inside(path, root):
            raise DataError(f"the dataset cannot be written to {root}: it and the source {path} are one in the other.")
    asked = {name: getattr(options, name) for name in chosen.options}
    if options.classes is not None and "classes" in asked:
        asked["classes"] = dataclasses.asdict(options.classes)
    meaning = [_VERSION, format_name, asked, fingerprint(paths, checking)]
    key = hashlib.sha256(json.dumps(meaning).encode()).hexdigest()
    found = find_conversion(root, key, overwrite)
    if found is not None:
        return found
    scratch, was_there = root / SCRATCH, root.exists()
    try:
        _remove(scratch)
        with open_tree(paths, scratch, unpacking) as tree:
            foreign = read_foreign(format_name, tree, options)
            foreign.notes[:0] = tree.notes
            return write_dataset(
                foreign, root, format_name=format_name, key=key, link=link, overwrite=overwrite, progress=progress
            )
    finally:
        _remove(scratch)
        if not was_there:
            with contextlib.suppress(OSError):  # only if there is nothing in it
                root.rmdir()


def read_foreign(format_name: str, tree: Tree, options: Options) -> Foreign:
    """Understand a source without writing anything; raises as :func:`convert` does."""
    chosen = find_format(format_name)
    module = importlib.import_module(f"deeplabv3p.data.convert.{chosen.module}")
    foreign: Foreign = getattr(module, f"read_{format_name}")(tree, options)
    return foreign


def _is_inside(inner: Path, outer: Path) -> bool:
    return outer.is_dir() and inner.resolve().is_relative_to(outer.resolve())


def _remove(scratch: Path) -> None:
    """The folder of unpacked files is this module's own."""
    shutil.rmtree(scratch, ignore_errors=True)
