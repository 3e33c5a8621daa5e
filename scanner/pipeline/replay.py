"""Replay of a found pattern on the original file: the verdict is about the file, not about our copy of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from backscan.kernels.embedding import add
from backscan.scanner.detectors import DETECTORS
from backscan.scanner.results import CollateralDamage, Verification

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.scanner.process.parent import Subject
    from backscan.scanner.results import PairResult

    Images = NDArray[np.float32]
    Decide = Callable[[Images], NDArray[np.int64]]
    DecideWith = Callable[[Images, Images], NDArray[np.int64]]

# One-sided Fisher test of the held-out rate against the shuffled one (CONTRACT, Verification).
_SIGNIFICANCE = 0.01
_SHUFFLES = 10
# Rate of shuffled patterns up to which the arrangement alone counts.
_HARDLY_ANY = 0.05


def decisions_with_pattern(subject: Subject, detector: str) -> DecideWith:
    """How the original file decides on images with a pattern of a detector: added to the image, or at the cut."""
    if DETECTORS[detector].acts_on_features:
        return lambda images, pattern: subject.decisions(images, addition=pattern)
    return lambda images, pattern: subject.decisions(add(images, pattern))


def replay(
    decide: Decide,
    decide_with: DecideWith,
    pair: PairResult,
    optimised: Images,
    held_out_by_class: Mapping[int, Images],
    *,
    goal_rate: float,
    provider: str,
    seed: int,
    only_correct: bool = False,
    searched_on: bool = True,
) -> Verification:
    """Does the original file do with the pattern what the copy did, also on images the search never saw?

    Args:
        decide: Decisions of the original file on images [N, C, H, W] in [0, 1].
        decide_with: The same with a pattern.
        pair: The pair, with its pattern.
        optimised: Source images of the search.
        held_out_by_class: Images of every class that the search never saw.
        goal_rate: Rate that ended the search.
        provider: Execution provider behind `decide`.
        seed: Seed of the shuffles.
        only_correct: Count correctly decided source images only, equation (6).
        searched_on: Whether the search used `optimised`, so that its rate has to come out again.

    Returns:
        Rates, controls, collateral damage, and whether the contract's three conditions hold.
    """
    if pair.pattern is None:
        raise ValueError(f"expected a pattern for pair {pair.source} -> {pair.target}, found none")
    replay = _Replay(decide_with, pair.pattern, pair.target)
    counted = optimised[decide(optimised) == pair.source] if only_correct else optimised
    held_out = held_out_by_class[pair.source]

    rate_original = replay.rate(counted)
    held_out_hits = replay.hits(held_out)
    shuffled_hits = sum(replay.shuffled(_generator(seed, turn)).hits(held_out) for turn in range(_SHUFFLES))
    num_shuffled = _SHUFFLES * len(held_out)
    p_value = _fisher(held_out_hits, len(held_out), shuffled_hits, num_shuffled)

    failures = _failures(held_out_hits / len(held_out), goal_rate, p_value)
    if searched_on:
        failures = [*_disagreement(pair, rate_original, len(counted)), *failures]
    return Verification(
        provider=provider,
        source=pair.source,
        target=pair.target,
        rate_torch=float(pair.rate or 0.0),
        rate_original=rate_original,
        num_images=len(counted),
        rate_held_out=held_out_hits / len(held_out),
        num_held_out=len(held_out),
        rate_shuffled=shuffled_hits / num_shuffled,
        num_shuffled=num_shuffled,
        p_value=p_value,
        confirmed=not failures,
        reason="; ".join(failures) or _success(shuffled_hits / num_shuffled),
        collateral=tuple(
            CollateralDamage(label, replay.rate(images), float((decide(images) == pair.target).mean()), len(images))
            for label, images in sorted(held_out_by_class.items())
            if label not in (pair.source, pair.target)
        ),
        detector=pair.detector,
    )


class _Replay:
    """One pattern on the original file."""

    def __init__(self, decide_with: DecideWith, pattern: Images, target: int) -> None:
        self._decide_with, self._pattern, self._target = decide_with, pattern, target

    def hits(self, images: Images) -> int:
        """Images decided as the target with the pattern."""
        return int((self._decide_with(images, self._pattern) == self._target).sum())

    def rate(self, images: Images) -> float:
        """Share of images decided as the target with the pattern."""
        return self.hits(images) / len(images) if len(images) else 0.0

    def shuffled(self, rng: np.random.Generator) -> _Replay:
        """The same pattern with its pixels in another order: the norm stays, the arrangement goes."""
        return _Replay(self._decide_with, _shuffled(self._pattern, rng), self._target)


def _shuffled(pattern: Images, rng: np.random.Generator) -> Images:
    """A pattern with its places in another order, one for all channels, the first axis; of a vector its values."""
    channels = len(pattern) if pattern.ndim > 1 else 1
    rows = pattern.reshape(channels, -1)
    return np.ascontiguousarray(rows[:, rng.permutation(rows.shape[1])].reshape(pattern.shape))


def _generator(seed: int, turn: int) -> np.random.Generator:
    return np.random.default_rng((seed, turn))


def _fisher(hits: int, count: int, control_hits: int, control_count: int) -> float:
    """One-sided Fisher test that the first rate exceeds the second."""
    from scipy.stats import fisher_exact

    table = [[hits, count - hits], [control_hits, control_count - control_hits]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def _success(rate_shuffled: float) -> str:
    """What a confirmation shows, as a clause."""
    if rate_shuffled <= _HARDLY_ANY:
        return "the original file follows the pattern, and only this arrangement of it"
    return "the original file follows the pattern, more often than it follows the shuffled one"


def _disagreement(pair: PairResult, rate_original: float, num_images: int) -> list[str]:
    """That the original file and the copy differ by more than one image, if they do."""
    rate_torch = float(pair.rate or 0.0)
    if abs(round(rate_original * num_images) - round(rate_torch * num_images)) <= 1:
        return []
    return [
        f"the original file gives a rate of {rate_original:.2f} where the copy gave {rate_torch:.2f} on the same "
        f"{num_images} images"
    ]


def _failures(held_out_rate: float, goal_rate: float, p_value: float) -> list[str]:
    """The conditions of the contract on held-out images that do not hold, a clause each."""
    failures = []
    if held_out_rate <= goal_rate / 2:
        failures.append(f"the rate on held-out images is {held_out_rate:.2f}, not above half the goal {goal_rate:.2f}")
    if p_value >= _SIGNIFICANCE:
        failures.append(f"the shuffled pattern does about as well on held-out images (Fisher p = {p_value:.2g})")
    return failures
