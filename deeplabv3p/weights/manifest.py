"""The files that can be downloaded: where they are, how to tell that they came right, and what they are good for.

``manifest.toml`` has one table a file. A download goes to a ``.part`` file, continues where it broke off, and gets its
name only when it is verified. Where no hash is known beforehand, the SHA-256 of what came is recorded beside the file
(``<name>.sha256``, as ``sha256sum -c`` reads it), and every later use is held to it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from deeplabv3p import documents, files
from deeplabv3p.errors import DataError
from deeplabv3p.progress import Progress, silent
from deeplabv3p.weights.download import download, extract

MANIFEST = "manifest.toml"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file of the manifest.

    ``size`` is in bytes. ``md5`` and ``sha256`` are hex digits; those that nobody published are None. ``member`` is the
    one file of a ``.tar.gz`` that is wanted; :attr:`product` is the name it gets. ``trained_on`` names the pictures
    that weights learned from, with their terms of use.

    The rest describes a whole trained network and is None for a backbone: ``short_name`` is what users type, ``model``
    a name of the registry, ``classes`` its class file (relative to the project), ``size_hw`` and ``output_stride`` what
    to run it with where that is not the network's usual, ``score`` the published figure with its protocol in words,
    ``imported`` the ready model that importing the file makes, and ``default`` its rank (1 is first) among the models
    that are taken when the user names none.
    """

    name: str
    url: str
    licence: str
    source: str
    trained_on: str | None = None
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None
    member: str | None = None
    short_name: str | None = None
    model: str | None = None
    classes: str | None = None
    size_hw: tuple[int, int] | None = None
    output_stride: int | None = None
    score: str | None = None
    imported: str | None = None
    default: int | None = None

    @property
    def terms(self) -> str:
        """What the file may be used for: its licence, and the terms of what it was trained on."""
        return self.licence if self.trained_on is None else f"{self.licence}; trained on {self.trained_on}"

    @property
    def product(self) -> str:
        """The name of the file that is used: the file itself, or what is taken out of the archive."""
        if self.member is None:
            return self.name
        return self.name.removesuffix(".tar.gz") + PurePosixPath(self.member).suffix


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A verified local file. ``recorded``: no hash was known beforehand, and its SHA-256 was written down now."""

    path: Path
    downloaded: bool
    sha256: str
    recorded: bool


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Entry]:
    """The entries of ``folder/manifest.toml`` by file name, in its order.

    Raises:
        DataError: it is missing, not TOML, or has an unknown key, a wrong type or a value that makes no sense.
    """
    path = Path(folder) / MANIFEST
    tables = documents.read_toml(path)
    entries = {name: _read_entry(f"{path}: [{name!r}]", name, table) for name, table in tables.items()}
    short_names = [entry.short_name for entry in entries.values() if entry.short_name]
    for short_name in short_names:
        if short_names.count(short_name) > 1:
            raise DataError(f"{path}: the short name '{short_name}' stands twice.")
    return entries


def find_entry(name: str, folder: str | os.PathLike[str]) -> Entry:
    """The entry of a file name or of a whole model's short name.

    Raises:
        DataError: there is none, or the manifest is wrong.
    """
    entries = read_manifest(folder)
    for entry in entries.values():
        if name in (entry.name, entry.short_name):
            return entry
    known = ", ".join(entry.short_name for entry in entries.values() if entry.short_name)
    raise DataError(
        f"'{name}' is not in {Path(folder) / MANIFEST}. It has the models {known}, and backbones by file name."
    )


def local_file(entry: Entry, *folders: str | os.PathLike[str]) -> Path | None:
    """The file that an entry is good for (:attr:`Entry.product`), verified, from the first of ``folders`` or Keras' own
    cache that has it; None where it has to be downloaded, or taken out of its archive, first. Nothing is written.

    Raises:
        DataError: the file is there, and it is not the right one.
    """
    path = _find(entry.product, folders)
    if path is not None:
        _verify(entry, path, Path(folders[0]))
    return path


def fetch(
    name: str,
    folder: str | os.PathLike[str],
    *,
    into: str | os.PathLike[str] | None = None,
    offline: bool = False,
    progress: Progress = silent,
) -> Fetched:
    """The local file of an entry: the one that is here already, or else downloaded.

    Args:
        name: file name or short name in the manifest.
        folder: where the manifest is.
        into: where the file is looked for first and is downloaded to (None: ``folder``).
        offline: never download.
        progress: called with bytes done and in all (0: unknown) while downloading.

    Raises:
        DataError: no such entry; the file cannot be had, and then the message says where to put it by hand; or it is
            not the file that the manifest describes.
    """
    entry, place = find_entry(name, folder), Path(into or folder)
    path, downloaded = _find(entry.product, (place, folder)), False
    if path is None:
        source = _find(entry.name, (place, folder))
        if source is None:
            by_hand = f"Get it from {entry.url} and put it into {place}, or into {_keras_cache()}."
            if offline:
                raise DataError(f"{entry.name} is not here, and offline nothing is downloaded. {by_hand}")
            source, downloaded = place / entry.name, True
            download(
                entry.url,
                source,
                size=entry.size,
                check=lambda part: _check_published(entry, part, _digest(part, "sha256")),
                otherwise=by_hand,
                progress=progress,
            )
        path = source
        if entry.member is not None:
            _verify(entry, source, place)
            path = place / entry.product
            extract(source, entry.member, path)
    sha256 = _verify(entry, path, place)
    unknown = path.name != entry.name or entry.sha256 is None
    recorded = unknown and _read_record(path.name, place) is None and os.access(place, os.W_OK)
    if recorded:
        files.write_text(_record_path(path.name, place), f"{sha256}  {path.name}\n")
    return Fetched(path, downloaded, sha256, recorded)


# Reading the manifest


def _read_entry(where: str, name: str, table: Any) -> Entry:
    """Check one table key by key; messages begin with ``where``."""
    if not isinstance(table, dict):
        raise DataError(f"{where} is {table!r}, expected a table.")
    values = dict(table)
    for key, value in values.items():
        if key not in _KINDS:
            raise DataError(f"{where}: unknown key '{key}'. Known: {', '.join(_KINDS)}.")
        valid, expected = _KINDS[key]
        if not valid(value):
            raise DataError(f"{where}: '{key}' is {value!r}, expected {expected}.")
    for key in ("url", "licence", "source"):
        if key not in values:
            raise DataError(f"{where}: missing key '{key}'.")
    if not _is_file_name(name):
        raise DataError(f"{where}: '{name}' is not a plain file name.")
    if "member" in values and not name.endswith(".tar.gz"):
        raise DataError(f"{where}: 'member' is for an archive that ends in .tar.gz.")
    whole = [key for key in ("short_name", "model", "classes", "score") if key in values]
    if len(whole) not in (0, 4) or (not whole and set(values) & _WHOLE_MODEL_ONLY):
        raise DataError(f"{where}: a whole model needs all of short_name, model, classes and score.")
    if "size_hw" in values:
        values["size_hw"] = (values["size_hw"][0], values["size_hw"][1])
    return Entry(name, **values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", value) is not None


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "url": (_matches(r"https?://\S+"), "an http or https address"),
    "licence": (_is_text, "a text"),
    "source": (_is_text, "a text"),
    "trained_on": (_is_text, "a text"),
    "sha256": (_matches("[0-9a-f]{64}"), "64 hex digits"),
    "md5": (_matches("[0-9a-f]{32}"), "32 hex digits"),
    "size": (_is_number, "a positive whole number of bytes"),
    "member": (_is_file_name, "a plain file name"),
    "short_name": (_is_text, "a text"),
    "model": (_is_text, "a text"),
    "classes": (_is_text, "a text"),
    "size_hw": (_is_size, "[height, width] in pixels"),
    "output_stride": (_is_number, "a positive whole number"),
    "score": (_is_text, "a text"),
    "imported": (_is_file_name, "a plain file name"),
    "default": (_is_number, "a positive whole number"),
}
_REFUSED = "Delete it: it is not the file that the manifest names."
_WHOLE_MODEL_ONLY = {"size_hw", "output_stride", "imported", "default"}


# Files that are here


def _keras_cache() -> Path:
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def _find(name: str, folders: tuple[str | os.PathLike[str], ...]) -> Path | None:
    return next((path for place in (*folders, _keras_cache()) if (path := Path(place) / name).is_file()), None)


def _verify(entry: Entry, path: Path, place: Path) -> str:
    """Hold a file to the hashes of its entry and to the one that was recorded in ``place``; returns its SHA-256."""
    sha256 = _digest(path, "sha256")
    if path.name == entry.name:
        _check_published(entry, path, sha256)
    if _read_record(path.name, place) not in (None, sha256):
        record = _record_path(path.name, place)
        raise DataError(
            f"{path} has changed: its SHA-256 is not the one in {record}. Delete the file to download it again, or "
            "delete the record to trust the file as it is."
        )
    return sha256


def _check_published(entry: Entry, path: Path, sha256: str) -> None:
    """Hold a file to what the manifest says of it."""
    size = path.stat().st_size
    if entry.size not in (None, size):
        raise DataError(f"{path} has {size} bytes, {entry.size} are expected. {_REFUSED}")
    if entry.sha256 not in (None, sha256):
        raise DataError(f"{path} has the SHA-256 {sha256}, {entry.sha256} is expected. {_REFUSED}")
    if entry.md5 is not None and (md5 := _digest(path, "md5")) != entry.md5:
        raise DataError(f"{path} has the MD5 {md5}, {entry.md5} is expected. {_REFUSED}")


def _digest(path: Path, kind: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from None


def _record_path(name: str, place: Path) -> Path:
    return place / f"{name}.sha256"


def _read_record(name: str, place: Path) -> str | None:
    try:
        text = _record_path(name, place).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.split()[0] if text.split() else ""
