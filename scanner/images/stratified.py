"""A draw of images that has about as many of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def stratified(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Indices of about `count` images, drawn round by round: one of each class, then the next of each.

    Args:
        labels: Class numbers [N].
        count: Images wanted; all are taken if there are no more.
        seed: Decides the draw.

    Returns:
        Indices in increasing order, at most `count`.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    rounds = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rounds[members] = np.arange(len(members))
    return np.sort(order[np.argsort(rounds[order], kind="stable")][:count])
