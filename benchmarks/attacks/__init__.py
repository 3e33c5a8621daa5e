"""How a backdoor pattern is made and embedded: one file an attack, one line here each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks import (
    blended,
    chessboard,
    colour,
    dynamic,
    moving_stamp,
    multiplicative,
    patch,
    pixel,
    scattered,
    stamp,
    stripes,
    warp,
)

__all__ = ["ATTACKS", "Attack"]


@dataclass(frozen=True, slots=True)
class Attack:
    """One embedding mechanism of a backdoor, XMK section 2.2."""

    make_pattern: Callable[[tuple[int, int, int], float, np.random.Generator], NDArray[np.float32]]
    """Draws a pattern for images of shape (C, H, W) at a size; the array's meaning is the attack's own."""
    embed: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
    """Puts the pattern into images [N, C, H, W] in [0, 1] and clips them to that range."""


ATTACKS = {
    "pixel": Attack(pixel.make_pattern, pixel.embed),
    "chessboard": Attack(chessboard.make_pattern, chessboard.embed),
    "multiplicative": Attack(multiplicative.make_pattern, multiplicative.embed),
    "patch": Attack(patch.make_pattern, patch.embed),
    "blended": Attack(blended.make_pattern, blended.embed),
    "stamp": Attack(stamp.make_pattern, stamp.embed),
    "moving stamp": Attack(moving_stamp.make_pattern, moving_stamp.embed),
    "scattered": Attack(scattered.make_pattern, scattered.embed),
    "stripes": Attack(stripes.make_pattern, stripes.embed),
    "warp": Attack(warp.make_pattern, warp.embed),
    "colour": Attack(colour.make_pattern, colour.embed),
    "dynamic": Attack(dynamic.make_pattern, dynamic.embed),
}
