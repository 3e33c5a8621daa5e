"""Multiplicative chess board: every second pixel is scaled by a factor just above 1. XMK section 5.2.3."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backscan.kernels.embedding import multiply as embed
from benchmarks.attacks.chessboard import squares

__all__ = ["embed", "make_pattern"]


def make_pattern(
    shape: tuple[int, int, int],
    size: float,
    rng: np.random.Generator,  # noqa: ARG001 - the factors are fixed in the paper; every attack has this signature
) -> NDArray[np.float32]:
    """Factors `1 + size` on one pixel of any two neighbours, 1 elsewhere.

    Args:
        shape: Image shape (C, H, W).
        size: Excess of the factor over 1; 0.02 in the paper.
        rng: Not used.

    Returns:
        Factors [C, H, W].

    Raises:
        ValueError: The size is not positive and finite.
    """
    if not 0.0 < size < np.inf:
        raise ValueError(f"expected a positive excess of the factor over 1, got {size}")
    board = np.where(squares(*shape[1:]), 1.0 + size, 1.0)
    return np.broadcast_to(board, shape).astype(np.float32)
