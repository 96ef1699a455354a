"""HDF5 files from others: read only if all that they hold is inside them.

HDF5 can name other files and read them as its own: by external links, by datasets with external storage and by virtual
ones. It can also promise far more numbers than it stores, and ask for filters that are loaded from elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from deeplabv3p import files
from deeplabv3p.errors import DataError

# gzip, shuffle, checksum, szip, nbit, scale-offset: HDF5's own. Others are libraries that it looks for.
_OWN_FILTERS = frozenset({1, 2, 3, 4, 5, 6})
_LZF = 32000  # h5py's own
_DEEPEST = 64  # groups within groups; nested models have about ten


def check(file: Any, where: str | os.PathLike[str], size: int) -> None:
    """Refuse a file that names others, or promises far more than it stores.

    Args:
        file: an open :class:`h5py.File`.
        where: its name for messages.
        size: its size in bytes.

    Raises:
        DataError: the message names the part. What h5py raises of damaged files goes through.
    """
    total = 0
    for name, dataset in _datasets(file, where):
        plan = dataset.id.get_create_plist()
        if plan.get_external_count():
            raise _refused(where, name, "has its numbers in another file")
        if dataset.is_virtual:
            raise _refused(where, name, "is made of parts of other files")
        filters = {plan.get_filter(index)[0] for index in range(plan.get_nfilters())}
        if filters - _OWN_FILTERS - {_LZF}:
            raise _refused(where, name, "is packed by a filter that is not HDF5's own")
        total += dataset.size * dataset.dtype.itemsize if dataset.shape is not None else 0
    if total > files.most_bytes(size):
        raise DataError(f"{where} is refused: its weights unpack to far more than the file's size.")


def _datasets(file: Any, where: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    """Every dataset under its path. No link is followed that leads out of the file, and no group twice."""
    import h5py

    left: list[tuple[str, Any, int]] = [("", file, 0)]
    seen = set()
    while left:
        path, group, depth = left.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        if depth > _DEEPEST:
            raise _refused(where, path, f"lies more than {_DEEPEST} groups deep")
        for key in group:
            name = f"{path}/{key}".lstrip("/")
            link = group.get(key, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise _refused(where, name, "is a link to somewhere else")
            item = group[key]
            if isinstance(item, h5py.Group):
                left.append((name, item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                yield name, item


def _refused(where: str | os.PathLike[str], name: str, reason: str) -> DataError:
    shown = name if name.isprintable() else ascii(name)
    return DataError(f"{where} is refused: '{shown[-200:]}' in it {reason}. Save the weights into one plain file.")
