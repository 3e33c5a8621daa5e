"""Classes that look alike, in matrices that are made by formula."""

import numpy as np


def add_look_alikes(logs: np.ndarray, rng: np.random.Generator, *, groups: int, scale: float) -> None:
    """Bring so many groups of two classes nearer in a matrix of logarithms, more or less, and about alike both ways."""
    for _ in range(groups):
        one, other = rng.choice(len(logs), 2, replace=False)
        near = rng.exponential(scale)
        logs[one, other] += near * rng.uniform(0.6, 1.0)
        logs[other, one] += near * rng.uniform(0.6, 1.0)
