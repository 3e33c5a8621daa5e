"""Rates of many class pairs under a beta-binomial null: whether the least likely of them is too high.

Each pair has h hits out of n images; on an unattacked model its chance of a hit is drawn from a beta distribution of
some mean, and with a correlation between the images of a pair. The K - 1 largest rates, as many as one attacked target
can hold, are left out of the fit, which is conditional on not exceeding the smallest of them, and on no more than those
exceeding it. A few zeros more or less then decide nothing: a weak prior keeps mean and correlation off their edges.
Fits are looked up on a grid, so that a bootstrap of thousands costs little.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from backscan.kernels.order import order_p_value

Vector = NDArray[np.float64]
Counts = NDArray[np.int64]

_MEANS = 1.0 / (1.0 + np.exp(-np.linspace(-8.5, 2.5, 56)))
_CORRELATIONS = np.concatenate([np.geomspace(0.001, 0.3, 22), np.linspace(0.35, 0.9, 12)])
# Exponents of the prior, of mean, correlation and 1 - correlation. The last keeps the fit from putting into the part
# that was left out whatever was seen there: what is conditional on low rates says next to nothing about large ones.
_PRIOR = (0.5, 4.0, 8.0)
_SLACK = 1e-9


def beta_binomial_log_pmf(hits: Vector | Counts, trials: int, mean: Vector, correlation: Vector) -> Vector:
    """Logarithm of the chance of some hits; the arguments broadcast.

    Args:
        hits: From 0 to `trials`.
        trials: Images.
        mean: Mean chance of a hit, in (0, 1).
        correlation: Correlation of two images of a pair, in (0, 1): a + b = 1 / correlation - 1.
    """
    from scipy.special import betaln, gammaln

    total = 1.0 / correlation - 1.0
    a, b = mean * total, (1.0 - mean) * total
    ways = gammaln(trials + 1.0) - gammaln(hits + 1.0) - gammaln(trials - hits + 1.0)
    log_pmf: Vector = ways + betaln(hits + a, trials - hits + b) - betaln(a, b)
    return log_pmf


@dataclass(frozen=True, slots=True)
class RateTest:
    """What the rates of all pairs say."""

    mean: float
    """Fitted mean chance of a hit."""
    correlation: float
    """Fitted correlation of two images of a pair."""
    cutoff: float
    """Smallest rate that was left out of the fit, or more: pairs of the fit do not exceed it."""
    num_fitted: int
    """Pairs of the fit."""
    tails: Vector
    """Chance of as many hits or more, P(H >= h), for each pair [N]."""
    p_value: float
    """1 - (1 - smallest tail)^N."""
    calibrated_p_value: float | None
    """The same among draws from the fit that were fitted anew; None without draws."""


def judge_rates(
    hits: Counts, trials: Counts, num_excluded: int, *, num_draws: int = 0, rng: np.random.Generator | None = None
) -> RateTest:
    """Whether the rate of some pair is too high for the others.

    Args:
        hits: Images that go to the target, [N].
        trials: Images of each pair, at least 1, [N].
        num_excluded: Largest rates to leave out of the fit, less than N.
        num_draws: Draws of the calibration; 0 makes none.
        rng: Source of the draws.

    Raises:
        ValueError: no pair is left to fit, or hits are not from 0 to the trials.
    """
    if not 0 <= num_excluded < hits.size or hits.shape != trials.shape:
        raise ValueError(f"expected more than {num_excluded} pairs, found hits {hits.shape} of trials {trials.shape}")
    if not (np.all(trials >= 1) and np.all((hits >= 0) & (hits <= trials))):
        raise ValueError("expected hits from 0 to the trials, which are at least 1, found others")
    fitted, cutoffs = _fit(hits[None], trials, num_excluded)
    tails = np.exp(_log_tails(hits[None], trials, fitted)[0])
    mean, correlation = _parameters(int(fitted[0]))
    p_value = order_p_value(float(tails.min()), hits.size)
    calibrated = None
    if num_draws:
        rng = rng or np.random.default_rng(0)
        total = 1.0 / correlation - 1.0
        chances = rng.beta(mean * total, (1.0 - mean) * total, (num_draws, hits.size))
        draws = rng.binomial(trials, chances)
        smallest = np.exp(_log_tails(draws, trials, _fit(draws, trials, num_excluded)[0]).min(axis=1))
        calibrated = (1 + int((smallest <= tails.min() * (1.0 + _SLACK)).sum())) / (num_draws + 1)
    return RateTest(mean, correlation, float(cutoffs[0]), hits.size - num_excluded, tails, p_value, calibrated)


def _parameters(place: int) -> tuple[float, float]:
    """Mean and correlation at a place of the grid."""
    return float(_MEANS[place // _CORRELATIONS.size]), float(_CORRELATIONS[place % _CORRELATIONS.size])


@lru_cache(maxsize=256)
def _tables(trials: int) -> tuple[Vector, Vector, Vector]:
    """Logarithms of P(H = h), P(H <= h) and P(H >= h) on the grid, [trials + 1, G] each."""
    mean, correlation = np.repeat(_MEANS, _CORRELATIONS.size), np.tile(_CORRELATIONS, _MEANS.size)
    pmf = np.exp(beta_binomial_log_pmf(np.arange(trials + 1)[:, None], trials, mean, correlation))
    with np.errstate(divide="ignore"):
        below, above = np.log(np.cumsum(pmf, axis=0)), np.log(np.cumsum(pmf[::-1], axis=0)[::-1])
        return np.log(pmf), np.minimum(below, 0.0), np.minimum(above, 0.0)


def _fit(hits: Counts, trials: Counts, num_excluded: int) -> tuple[Counts, Vector]:
    """Place on the grid of the likeliest null of each row [B], given its largest rates are left out; the cutoffs [B].

    Args:
        hits: [B, N].
        trials: [N].
        num_excluded: Largest rates to leave out.
    """
    rates = hits / trials
    order = np.argsort(rates, axis=1, kind="stable")
    kept = np.ones(hits.shape, bool)
    np.put_along_axis(kept, order[:, hits.shape[1] - num_excluded :], False, axis=1)
    smallest_excluded = np.where(kept, np.inf, rates).min(axis=1)
    # Below one hit there is nothing to be conditional on: without it zeros alone would say nothing.
    cutoffs = np.maximum(np.minimum(smallest_excluded, 1.0), 1.0 / trials.max())
    likelihood, exceeding = np.tile(_log_prior(), (len(hits), 1)), np.zeros((len(hits), _log_prior().size))
    for number in np.unique(trials):
        log_pmf, log_below, _ = _tables(int(number))
        own = trials == number
        counted = np.stack([(kept[:, own] & (hits[:, own] == h)).sum(axis=1) for h in range(number + 1)], axis=1)
        most = np.clip(np.floor(cutoffs * number + _SLACK).astype(np.int64), 1, number)
        likelihood += counted @ np.maximum(log_pmf, -1e6) - counted.sum(axis=1)[:, None] * log_below[most]
        exceeding -= own.sum() * np.expm1(log_below[most])
    likelihood += _log_few(exceeding / hits.shape[1], hits.shape[1], num_excluded)
    return likelihood.argmax(axis=1), cutoffs


def _log_few(chance: Vector, num_pairs: int, most: int) -> Vector:
    """Logarithm of the chance that no more pairs exceed the cutoff than were left out; it has to be credible.

    What lies below the cutoff is as likely under a null that puts most pairs above it, where only a few are.
    """
    from scipy.special import bdtr

    grid = np.linspace(0.0, 1.0, 4001)  # asked of every null of every draw
    few: Vector = np.interp(chance, grid, np.log(np.maximum(bdtr(most, num_pairs, grid), 1e-300)))
    return few


def _log_prior() -> Vector:
    mean, correlation = np.repeat(_MEANS, _CORRELATIONS.size), np.tile(_CORRELATIONS, _MEANS.size)
    prior: Vector = _PRIOR[0] * np.log(mean) + _PRIOR[1] * np.log(correlation) + _PRIOR[2] * np.log1p(-correlation)
    return prior


def _log_tails(hits: Counts, trials: Counts, fitted: Counts) -> Vector:
    """Logarithm of P(H >= h) of every pair under the null of its row, [B, N]."""
    tails = np.empty(hits.shape)
    for number in np.unique(trials):
        own = trials == number
        tails[:, own] = _tables(int(number))[2][hits[:, own], fitted[:, None]]
    return tails
