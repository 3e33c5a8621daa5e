"""Two scans of models for the same task, pair by pair: what became easier from the first to the second."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Any

from pydantic.dataclasses import dataclass

from backscan.scanner.results.base import STRICT, plain

COMPARISON_SCHEMA = "comparison-1.0"


class ComparisonOutcome(StrEnum):
    """How a comparison ends."""

    BACKDOOR_DETECTED = "backdoor_detected"
    """One of the models is detected by itself."""
    NO_VERDICT = "no_verdict"
    """One of them could not be scanned."""
    NEW_SHORTCUT = "new_shortcut"
    """A pair became easier than other pairs and resampling of the images explain."""
    INCONCLUSIVE = "inconclusive"
    """One of them is inconclusive, or too few pairs can be compared."""
    NO_NEW_SHORTCUT = "no_new_shortcut"
    """Both are not detected, and no pair stands out."""


@dataclass(frozen=True, slots=True, config=STRICT)
class ComparedModel:
    """What one of the two scans said."""

    name: str
    """File that was scanned."""
    sha256: str
    """Its digest."""
    verdict: str
    """Verdict of its own scan."""
    reasons: tuple[str, ...]
    """Why."""
    p_value: float | None
    """The p-value that its verdict rests on."""
    clean_accuracy: float | None
    """Accuracy on the labelled images."""


@dataclass(frozen=True, slots=True, config=STRICT)
class ComparedPair:
    """One pair of classes in both models."""

    source: int
    """Source class."""
    target: int
    """Target class."""
    size_before: float
    """Size in the first model; where its search ended at a limit, at least that."""
    size_after: float
    """Size in the second."""
    ratio: float
    """Size after over size before, over the median quotient of all pairs: below 1 it became easier than others did."""
    t: float
    """Minus the logarithm of the ratio over the spread of all pairs: the larger, the more it stands out."""
    error: float | None
    """Standard error of that logarithm by resampling the images of the source; None where it is not known."""
    p_value: float
    """Chance that any of the pairs, in any of the spaces, stands out so, if the models differ by training alone."""
    is_new: bool
    """Whether it is a new shortcut (docs/contract.md, Comparison)."""


@dataclass(frozen=True, slots=True, config=STRICT)
class ComparedSpace:
    """All pairs of one detector that both searches reached."""

    detector: str
    """Detector that searched them."""
    num_tests: int
    """Pairs that the p-values are corrected for: all that the search chose from."""
    median_ratio: float
    """Median quotient of the sizes, after over before: how much harder or easier all pairs became."""
    spread: float
    """Robust standard deviation of the logarithms of the quotients."""
    pairs: tuple[ComparedPair, ...]
    """The pairs, the one that became easier first."""
    not_compared: tuple[tuple[int, int], ...] = ()
    """Pairs that the second search counts and that have no counterpart."""


@dataclass(frozen=True, slots=True, config=STRICT)
class ComparisonResult:
    """What became easier between two models. The fields are the top level of its JSON report."""

    outcome: ComparisonOutcome
    """How it ends."""
    reasons: tuple[str, ...]
    """Why, most important first."""
    before: ComparedModel
    """The first model."""
    after: ComparedModel
    """The second."""
    significance: float
    """Threshold on the p-values of pairs."""
    spaces: tuple[ComparedSpace, ...] = ()
    """The compared pairs of each detector."""
    warnings: tuple[str, ...] = ()
    """What weakens the comparison."""
    schema_version: str = COMPARISON_SCHEMA
    """Version of this layout."""

    @property
    def shortcuts(self) -> tuple[ComparedPair, ...]:
        """The new shortcuts of all spaces, each pair of classes once, the most significant first."""
        found = sorted((pair for space in self.spaces for pair in space.pairs if pair.is_new), key=lambda p: p.p_value)
        return tuple({(pair.source, pair.target): pair for pair in reversed(found)}.values())[::-1]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        document: dict[str, Any] = plain(asdict(self))
        return document
