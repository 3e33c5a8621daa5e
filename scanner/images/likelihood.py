"""Of readings of the pixels that explain the labels equally well, those by which the model is surer than it was taught.

A network that is fed values of another scale than in training often decides the same, as scaling the input of a
network of rectifiers mostly scales its scores. A reading that is too large then makes it much surer than it is right:
the labels that it misses become very unlikely. A network that was trained for too long is a little surer than it is
right by itself, so only a large excess counts, and the scan says what it left out. The opposite says nothing, as a
network that was trained for a short time is less sure than it could be.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_LEAST_POSTERIOR = 1e-6
PLAINLY = 1.5
"""By this factor the mean surprise, -log of the label's posterior, must be larger, and by more than its error. By the
true reading it is at most .6 times that by a tied one of a smaller scale (benchmarks/readings.py)."""
_SIGNIFICANCE = 0.01


def surprise(posterior: NDArray[np.float32]) -> NDArray[np.float64]:
    """How unlikely a model finds the labels of images, -log of their posterior [N]."""
    return -np.log(np.maximum(posterior.astype(np.float64), _LEAST_POSTERIOR))


def too_sure(surprises: Mapping[str, NDArray[np.float64]], scales: Mapping[str, float]) -> frozenset[str]:
    """Names of readings by which the labels are plainly less likely than by one of a smaller scale.

    Args:
        surprises: Surprise [N] at the same images by each reading.
        scales: What each reading makes of the step from black to white.
    """
    return frozenset(
        name
        for name, own in surprises.items()
        if any(scales[name] > scales[other] and _is_plainly_larger(own, least) for other, least in surprises.items())
    )


def _is_plainly_larger(own: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    from scipy.stats import ttest_rel

    if own.mean() < PLAINLY * other.mean() or (own == other).all():
        return False
    return bool(ttest_rel(own, other, alternative="greater").pvalue <= _SIGNIFICANCE)
