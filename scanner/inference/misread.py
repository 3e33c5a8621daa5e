"""Classes whose images the model decides as others: a mistake in the numbering, or a class that nothing is known about.

The accuracy of all images hides that: two classes of ten under each other's number leave four images in five right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from backscan.scanner.results import PairResult

# Share of a class's images, decided as it, up to which its number is in doubt; half of chance's among five classes.
_MOST_OWN = 0.1
_MOST_NAMED = 4


def misread_note(pairs: Sequence[PairResult], num_classes: int) -> str:
    """Which classes are hardly ever decided as themselves, as a sentence with what to do; empty if none is.

    Args:
        pairs: Results of the search, which know what share of a source's clean images is decided as each target.
        num_classes: Classes K of the model; a source of which not every target was searched says nothing.
    """
    rates = np.full((num_classes, num_classes), np.nan)
    for pair in pairs:
        if pair.initial_rate is not None:
            rates[pair.source, pair.target] = pair.initial_rate
    np.fill_diagonal(rates, 0.0)
    own = 1.0 - rates.sum(axis=1)
    misread = [int(label) for label in np.flatnonzero(own <= _MOST_OWN)]
    if not misread:
        return ""
    told = (f"{label} (as {rates[label].argmax()}: {rates[label].max():.0%})" for label in misread[:_MOST_NAMED])
    more = f" and {len(misread) - _MOST_NAMED} more" if len(misread) > _MOST_NAMED else ""
    return (
        f"the model decides hardly any image of class {', '.join(told)}{more} as what its label says: if labels and "
        "model number their classes in different orders, pass --labels or correct `y`; else no attack from such a "
        "class can be seen"
    )
