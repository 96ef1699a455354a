"""Classes of weights and of a network, by name: which row of a classifier belongs where."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deeplabv3p.weights.source import Array

Rows = tuple[int | None, ...]
"""For each class of a network, which class of the source it is; None: the source has no such class."""


def rows_by_name(theirs: Sequence[str], ours: Sequence[str]) -> Rows:
    """The rows of a network of the classes ``ours`` from weights for the classes ``theirs``."""
    places = {name: index for index, name in enumerate(theirs)}
    return tuple(places.get(name) for name in ours)


def moved(found: Sequence[Array], own: Sequence[Array], rows: Rows, num_theirs: int) -> list[Array] | None:
    """The tensors of a classifier with the rows of the source at the places of ``rows``.

    Args:
        found: the source's tensors; the last axis is ``num_theirs`` classes, or that for each sub-pixel in turn.
        own: those of the network, in which the other rows stay as they are.
        rows: a row a class of the network.
        num_theirs: classes of the source.

    Returns:
        The tensors, in the shapes of ``own``; None where these are not two classifiers of the same features.
    """
    result = []
    for theirs, ours in zip(found, own, strict=False):
        blocks, rest = divmod(ours.shape[-1], len(rows))
        features = ours.shape[:-1]
        same = [size for size in theirs.shape[:-1] if size != 1] == [size for size in features if size != 1]
        if rest or not same or theirs.shape[-1] != blocks * num_theirs:
            return None
        source = np.reshape(theirs, (*features, blocks, num_theirs))
        target = np.reshape(np.array(ours), (*features, blocks, len(rows)))
        for place, row in enumerate(rows):
            if row is not None:
                target[..., place] = source[..., row]
        result.append(np.reshape(target, ours.shape))
    return result if len(found) == len(own) else None
