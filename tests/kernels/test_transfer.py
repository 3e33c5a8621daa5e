"""Expected transferability of small tables, beside a direct computation."""

from __future__ import annotations

import numpy as np
import pytest

from backscan.kernels import transferability


def directly(moved: np.ndarray) -> tuple[float, float]:
    """The mean over ordered pairs, and the jackknife by leaving images out one by one."""

    def mean(images: list[int]) -> float:
        return float(np.mean([moved[i, j] for i in images for j in images if i != j]))

    images = list(range(len(moved)))
    without = np.array([mean([j for j in images if j != i]) for i in images])
    number = len(images)
    return mean(images), float(np.sqrt((number - 1) / number * np.square(without - without.mean()).sum()))


@pytest.mark.parametrize("seed", range(4))
def test_mean_and_jackknife_are_the_direct_ones(seed: int) -> None:
    moved = np.random.default_rng(seed).random((3 + 4 * seed, 3 + 4 * seed)) < 0.4
    np.testing.assert_allclose(transferability(moved), directly(moved), atol=1e-12)


def test_an_image_does_not_move_itself() -> None:
    assert transferability(np.eye(6, dtype=bool)) == (0.0, 0.0)
    assert transferability(~np.eye(6, dtype=bool)) == (1.0, 0.0)


def test_ordered_sizes_give_one_half() -> None:
    """Pattern i moves image j where it is the longer one: of two images exactly one moves the other."""
    sizes = np.random.default_rng(0).random(30)
    assert transferability(sizes[:, None] >= sizes[None, :]) == (pytest.approx(0.5), pytest.approx(0.0, abs=1e-12))


@pytest.mark.parametrize("shape", [(2, 2), (4, 5), (9,)])
def test_other_tables_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected a square of at least 3 images"):
        transferability(np.zeros(shape, bool))
