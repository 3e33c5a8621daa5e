"""Labels that are right but in another order than the model's: found by its decisions, and told with the order.

Class folders sorted as text (0, 1, 10, 11, 2, ...) are the usual cause, on the side of the labels or of the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.images.stratified import stratified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

_MOST_IMAGES = 1000
_LEAST_EACH = 3
"""Images of a label without which its class is a guess."""
_SHOWN = 12


def order_note(
    labels: NDArray[np.int64], decide: Iterable[Callable[[NDArray[np.int64]], NDArray[np.int64]]], least: float
) -> str:
    """What to say of an order of the labels that explains the decisions; empty if none does.

    Args:
        labels: Class numbers [N].
        decide: For each normalisation that may be right, the decisions on images given by their indices.
        least: Share of the images that an order has to explain to be named.

    Returns:
        A part of a sentence with the share and the order.
    """
    judged = stratified(labels, _MOST_IMAGES, seed=0)
    found = [_explained(labels[judged], each(judged)) for each in decide]
    share, order = max(found, key=lambda each: each[0], default=(0.0, {}))
    moved = {label: number for label, number in order.items() if label != number}
    if share < least or not moved:
        return ""
    listed = ", ".join(f"{label} is {number}" for label, number in list(moved.items())[:_SHOWN])
    more = ", ..." if len(moved) > _SHOWN else ""
    return (
        f"; another order of the labels explains {share:.0%} of the images (label {listed}{more}){_cause(order)}: pass "
        "--labels with the model's number of every class folder, or correct `y`"
    )


def _explained(labels: NDArray[np.int64], decisions: NDArray[np.int64]) -> tuple[float, Mapping[int, int]]:
    """The order found on one half of the images, and the share of the other half that it explains."""
    from scipy.optimize import linear_sum_assignment

    first = np.isin(np.arange(len(labels)), stratified(labels, len(labels) // 2, seed=1))
    names, rows = np.unique(labels, return_inverse=True)
    if np.bincount(rows[first]).min(initial=_LEAST_EACH) < _LEAST_EACH or len(np.unique(rows[first])) < len(names):
        return 0.0, {}
    size = max(len(names), int(decisions.max()) + 1)
    counts = np.zeros((len(names), size), np.int64)
    np.add.at(counts, (rows[first], decisions[first]), 1)
    places, numbers = linear_sum_assignment(counts, maximize=True)
    order = {int(names[place]): int(number) for place, number in zip(places, numbers, strict=True)}
    right = np.array([order[int(label)] for label in labels[~first]]) == decisions[~first]
    return float(right.mean()), order


def _cause(order: Mapping[int, int]) -> str:
    """The usual cause, where the order is that of numbers sorted as text."""
    as_text = sorted(range(max(*order, *order.values()) + 1), key=str)
    if all(as_text[label] == number for label, number in order.items()):
        return ", the order of folders sorted as text (0, 1, 10, 11, ..., 2) when they were numbered"
    if all(as_text[number] == label for label, number in order.items()):
        return ", as the model was trained on folders sorted as text (0, 1, 10, 11, ..., 2)"
    return ""
