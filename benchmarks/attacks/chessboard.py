"""Global perturbation like a chess board: every second pixel a little brighter. XMK section 5.1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backscan.kernels import add as embed
from benchmarks.attacks.additive import magnitudes, scale_to

__all__ = ["embed", "make_pattern", "squares"]


def squares(height: int, width: int) -> NDArray[np.bool_]:
    """The perturbed pixels [H, W]: exactly one of any two neighbours."""
    rows, columns = np.indices((height, width))
    return (rows + columns) % 2 == 0


def make_pattern(shape: tuple[int, int, int], size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Brighten one pixel of any two neighbours, in all channels alike.

    Args:
        shape: Image shape (C, H, W).
        size: L2 norm of the pattern.
        rng: Draws the magnitudes.

    Returns:
        Additive pattern [C, H, W], nowhere negative at any plausible draw (20 standard deviations).

    Raises:
        ValueError: The size is not positive.
    """
    perturbed = squares(*shape[1:])
    board = np.zeros(shape[1:])
    board[perturbed] = magnitudes(int(perturbed.sum()), rng)
    return scale_to(np.broadcast_to(board, shape), size)
