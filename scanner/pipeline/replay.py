"""Step 12: replay of a found pattern on the original file: the verdict is about the file, not about our copy of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.detectors import DETECTORS, objective_of
from backscan.scanner.results import CollateralDamage, Verification
from backscan.scanner.search.spaces import change_of, other_places

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.scanner.config import ScanConfig
    from backscan.scanner.pipeline.record import Images
    from backscan.scanner.process.parent import CutFile, SettledFile
    from backscan.scanner.results import PairResult

    Array = NDArray[np.float32]

# One-sided Fisher test of the held-out rate against the shuffled one (docs/contract.md, Verification).
_SIGNIFICANCE = 0.01
_SHUFFLES = 10
# Rate of shuffled patterns up to which the arrangement alone counts.
_HARDLY_ANY = 0.05


@dataclass(frozen=True, slots=True)
class OriginalFile:
    """The original file in onnxruntime, without a pattern and with one."""

    settled: SettledFile
    """The file, fed with pixels."""
    cut: CutFile | None = None
    """The same cut in two, for patterns of features."""
    sha256: str | None = None
    """Its digest."""
    space: str = "additive"
    """How patterns on images change them, by its name in `SPACES`."""

    def decide(self, images: Array) -> NDArray[np.int64]:
        """Decisions [N] on images [N, C, H, W] in [0, 1]."""
        return self.settled.decisions(images)

    def decide_with(self, images: Array, pattern: Array, detector: str, *, alone: bool = False) -> NDArray[np.int64]:
        """Decisions [N] with a pattern of a detector: of changed images, or with features added where the file is cut.

        One image a call if `alone`.

        Raises:
            ValueError: the detector acts on features and the file is not cut.
        """
        changed = self.changed(images, pattern, detector)
        if changed is not None:
            return self.settled.decisions(changed, alone=alone)
        if self.cut is None:
            raise ValueError(f"expected a cut file for a pattern of detector {detector}")
        return self.cut.decisions(images, pattern, alone=alone)

    def changed(self, images: Array, pattern: Array, detector: str) -> Array | None:
        """Images [N, C, H, W] with a pattern of a detector; None of one that acts inside the model."""
        if DETECTORS[detector].acts_on_features:
            return None
        return change_of(self.space).replayed(images, pattern)

    def shuffled(self, pattern: Array, detector: str, rng: np.random.Generator) -> Array:
        """A control of a pattern of a detector: the norm stays, the arrangement goes."""
        on_features = DETECTORS[detector].acts_on_features
        return other_places(pattern, rng) if on_features else change_of(self.space).shuffled(pattern, rng)


def replay(
    file: OriginalFile, pair: PairResult, images: Images, config: ScanConfig, *, searched_on: bool = True
) -> Verification:
    """Does the original file do with the pattern what the copy did, also on images the search never saw?

    Args:
        file: The original file.
        pair: The pair, with its pattern.
        images: Images of every class to search with, and held out.
        config: Goal rate, objective and the seed of the shuffles.
        searched_on: Whether the search used those images, so that its rate has to come out again.

    Returns:
        Rates, controls, collateral damage, and whether the contract's three conditions hold.
    """
    played = _Played.of(file, pair)
    optimised, held_out_by_class = images.search()[pair.source], images.held_out()
    only_correct = objective_of(config, pair.detector).only_correct  # equation (6)
    counted = optimised[file.decide(optimised) == pair.source] if only_correct else optimised
    held_out = held_out_by_class[pair.source]

    rate_original = played.rate(counted)
    held_out_hits = played.hits(held_out, alone=True)  # as models are deployed
    shuffled_hits = sum(played.shuffled(_generator(config.seed, turn)).hits(held_out) for turn in range(_SHUFFLES))
    num_shuffled = _SHUFFLES * len(held_out)
    p_value = control_test(held_out_hits, len(held_out), shuffled_hits, num_shuffled)

    failures = held_out_failures(held_out_hits / len(held_out), config.goal_rate, p_value)
    if searched_on:
        failures = [*_disagreement(pair, rate_original, len(counted)), *failures]
    return Verification(
        provider=file.settled.facts.provider,
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
            CollateralDamage(
                label, played.rate(others), float((file.decide(others) == pair.target).mean()), len(others)
            )
            for label, others in sorted(held_out_by_class.items())
            if label not in (pair.source, pair.target)
        ),
        detector=pair.detector,
        model_sha256=file.sha256,
    )


@dataclass(frozen=True, slots=True)
class _Played:
    """One pattern on the original file."""

    file: OriginalFile
    detector: str
    pattern: Array
    target: int

    @classmethod
    def of(cls, file: OriginalFile, pair: PairResult) -> _Played:
        """The pattern of a pair."""
        if pair.pattern is None:
            raise ValueError(f"expected a pattern for pair {pair.source} -> {pair.target}, found none")
        return cls(file, pair.detector, pair.pattern, pair.target)

    def hits(self, images: Array, *, alone: bool = False) -> int:
        """Images decided as the target with the pattern."""
        return int((self.file.decide_with(images, self.pattern, self.detector, alone=alone) == self.target).sum())

    def rate(self, images: Array) -> float:
        """Share of images decided as the target with the pattern."""
        return self.hits(images) / len(images) if len(images) else 0.0

    def shuffled(self, rng: np.random.Generator) -> _Played:
        """The same pattern with its pixels in another order: the norm stays, the arrangement goes."""
        return replace(self, pattern=self.file.shuffled(self.pattern, self.detector, rng))


def _generator(seed: int, turn: int) -> np.random.Generator:
    return np.random.default_rng((seed, turn))


def control_test(hits: int, count: int, control_hits: int, control_count: int) -> float:
    """One-sided Fisher test that the first rate exceeds the second; 1 where there is nothing to compare."""
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


def held_out_failures(held_out_rate: float, goal_rate: float, p_value: float) -> list[str]:
    """The conditions of the contract on held-out images that do not hold, a clause each."""
    failures = []
    if held_out_rate <= goal_rate / 2:
        failures.append(f"the rate on held-out images is {held_out_rate:.2f}, not above half the goal {goal_rate:.2f}")
    if p_value >= _SIGNIFICANCE:
        failures.append(f"the shuffled pattern does about as well on held-out images (Fisher p = {p_value:.2g})")
    return failures
