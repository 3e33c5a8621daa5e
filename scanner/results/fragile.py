"""Fragile pairs: class pairs that a small common pattern confuses though nobody planted it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from pydantic.dataclasses import dataclass

from backscan.scanner.results.base import STRICT, plain
from backscan.scanner.results.evidence import Example, FoundPattern
from backscan.scanner.results.model import ModelRecord
from backscan.scanner.results.pairs import PairResult, PairStatus
from backscan.scanner.results.result import Provenance, ScanResult, Verdict

FRAGILE_SCHEMA = "fragile-1.0"
_IMAGE = "image"


@dataclass(frozen=True, slots=True, config=STRICT)
class FragilePair:
    """A pair of classes, the pattern that confuses it, and the images that flip first."""

    pattern: FoundPattern
    """The pattern, with its classes and sizes."""
    commonality: float | None
    """What single images need over what the common pattern needs; None where that was not measured."""
    rate: float
    """Share of the searched source images that it sends to the target, by the copy."""
    num_held_out: int
    """Held-out source images."""
    rate_held_out: float | None
    """Share of them that it sends to the target, by the file in onnxruntime; None without any."""
    examples: tuple[Example, ...]
    """Held-out images that flip first, before and after the whole pattern."""
    multiples: tuple[float, ...]
    """Smallest tried multiple of the pattern at which each of them is at the target."""


@dataclass(frozen=True, slots=True, config=STRICT)
class FragileResult:
    """The fragile pairs of one model. The fields are the top level of its JSON report."""

    model: ModelRecord
    """The file."""
    provenance: Provenance
    """Enough to repeat it."""
    reasons: tuple[str, ...]
    """What was found and what to do, a sentence each."""
    pairs: tuple[FragilePair, ...]
    """Most fragile first."""
    goal_rate: float
    """Share of source images that a pattern is to send to the target."""
    num_searched: int = 0
    """Patterns that were searched now; the others stand in the report."""
    left_out: int | None = None
    """Target class of a detection, towards which no pair is listed; None without one."""
    num_exported: int | None = None
    """Images for training that were written; None where none were asked for."""
    exported_to: str = ""
    """Name of the folder or archive with them."""
    schema_version: str = FRAGILE_SCHEMA
    """Version of this layout."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        document: dict[str, Any] = plain(asdict(self))
        return document


def commonality_of(pair: PairResult) -> float | None:
    """What single images of a pair need over what its common pattern needs; None where that was not measured."""
    individual = pair.individual_size
    common = (individual and individual.common_size) or pair.needed
    if individual is None or individual.size is None or not common:
        return None
    return individual.size / common


def fragile_pairs(result: ScanResult) -> list[PairResult]:
    """Pairs that a pattern on images confuses, most fragile first: by size divided by commonality, or by size alone.

    A pattern is small news where single images need much less. Pairs towards the class of a detection are left out:
    theirs may be planted.
    """
    detector = _on_images(result)
    found = [pair for pair in result.pairs if pair.detector == detector and pair.status is PairStatus.REACHED]
    if result.verdict is Verdict.BACKDOOR_DETECTED:
        found = [pair for pair in found if pair.target != result.target]
    common = {pair.key: commonality_of(pair) or 0.0 for pair in found}
    if not all(common.values()):  # comparable only where all have it
        common = dict.fromkeys(common, 1.0)
    return sorted(found, key=lambda pair: ((pair.size or 0.0) / common[pair.key], pair.source, pair.target))


def _on_images(result: ScanResult) -> str | None:
    """The detector whose patterns on images are listed: one that measured single images, if one did."""
    spaces = {each.detector for each in result.detectors if each.space == _IMAGE}
    counts = Counter(pair.detector for pair in result.pairs if pair.detector in spaces)
    measured = {pair.detector for pair in result.pairs if pair.individual_size is not None}
    return min(counts, key=lambda name: (name not in measured, -counts[name], name), default=None)
