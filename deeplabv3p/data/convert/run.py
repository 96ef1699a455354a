"""A conversion from beginning to end."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from deeplabv3p.data.convert.foreign import Foreign
from deeplabv3p.data.convert.formats import AUTO, Format, Options, find_format
from deeplabv3p.data.convert.recognise import Recognised, recognise, what_it_is
from deeplabv3p.data.convert.sources import fingerprint, open_tree
from deeplabv3p.data.convert.state import SCRATCH, Conversion, find_conversion
from deeplabv3p.data.convert.tree import Tree
from deeplabv3p.data.convert.writer import write_dataset
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.progress import Progress, silent

_VERSION = 2  # raise it whenever a conversion would come out differently


def convert(
    format_name: str,
    sources: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    options: Options | None = None,
    *,
    announce: Callable[[Recognised], None] | None = None,
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
        format_name: a name of :data:`deeplabv3p.data.convert.formats.FORMATS`, or AUTO: what the source is is found by
            looking.
        sources: folders, archives or files.
        output: the folder to write; a new or empty one, or that of an earlier conversion.
        options: what is asked of the format.
        announce: told what the source was recognised as, with AUTO.
        link: make hard links of pictures that are files on the same disk, instead of copies.
        overwrite: convert again where ``output`` holds a conversion of something else.
        checking: told about bytes of tar files and single files that are compared with those of an earlier call.
        unpacking: told about bytes of compressed tar files, which cannot be read in place.
        progress: told about pictures.

    Raises:
        UsageError: there is no such format, or an option that the recognised format does not know.
        DataError: a source is missing, damaged, unsafe or not of this format, nothing can be converted, or ``output``
            cannot be written.
    """
    chosen, options = AUTO if format_name == AUTO.name else find_format(format_name), options or Options()
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
            if chosen is AUTO:
                recognised = _recognised(tree, paths)
                if announce is not None:
                    announce(recognised)
                chosen = find_format(recognised.format or "")
                _check_options(options, chosen)
            foreign = read_foreign(chosen.name, tree, options)
            foreign.notes[:0] = tree.notes
            return write_dataset(
                foreign, root, format_name=chosen.name, key=key, link=link, overwrite=overwrite, progress=progress
            )
    finally:
        _remove(scratch)
        if not was_there:
            with contextlib.suppress(OSError):  # only if there is nothing in it
                root.rmdir()


def read_foreign(format_name: str, tree: Tree, options: Options) -> Foreign:
    """Understand a source without writing anything; raises as :func:`convert` does. Where it is of another format, the
    error says of which."""
    chosen = find_format(format_name)
    options = dataclasses.replace(options, order=options.order or chosen.order)
    module = importlib.import_module(f"deeplabv3p.data.convert.{chosen.module}")
    try:
        foreign: Foreign = getattr(module, f"read_{format_name}")(tree, options)
    except DataError as error:
        raise DataError(_or_what_it_is(str(error), format_name, tree)) from None
    if not foreign.records:
        reason = f" {foreign.skipped[0].file}: {foreign.skipped[0].reason}" if foreign.skipped else ""
        raise DataError(_or_what_it_is(f"no picture with annotations was found.{reason}", format_name, tree))
    return foreign


def _or_what_it_is(message: str, format_name: str, tree: Tree) -> str:
    """The message, or what the source is instead of ``format_name``."""
    found = recognise(tree)
    if not found or any(item.format == format_name for item in found):
        return message
    return f"this is not {format_name}: {what_it_is(found)}."


def _recognised(tree: Tree, paths: Sequence[Path]) -> Recognised:
    """The one format that a source is of."""
    where = ", ".join(map(str, paths))
    found = recognise(tree)
    sure = [item for item in found if item.format is not None]
    if len({item.format for item in sure}) > 1:
        both = " and ".join(f"{item.name} ({item.evidence}; `convert {item.format}`)" for item in sure)
        raise DataError(f"{where} may be {both}. Say which is meant.")
    if sure:
        return sure[0]
    if found:
        raise DataError(f"{where}: {what_it_is(found)}.")
    kinds = Counter(file.suffix.lower() or "no suffix" for file in tree.files.values()).most_common(4)
    held = ", ".join(f"{count:,} files with {kind}" for kind, count in kinds) or "no files"
    raise DataError(f"{where} is of no format that is known: it holds {held}. `dataset.py list` says what is known.")


def _check_options(options: Options, chosen: Format) -> None:
    changed = [item.name for item in dataclasses.fields(Options) if getattr(options, item.name) != item.default]
    unknown = [name for name in changed if name not in chosen.options]
    if unknown:
        raise UsageError(f"{chosen.name} has no option '{unknown[0]}'. It has {', '.join(chosen.options) or 'none'}.")


def _is_inside(inner: Path, outer: Path) -> bool:
    return outer.is_dir() and inner.resolve().is_relative_to(outer.resolve())


def _remove(scratch: Path) -> None:
    """The folder of unpacked files is this module's own."""
    shutil.rmtree(scratch, ignore_errors=True)
