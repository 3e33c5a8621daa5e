"""From what the detectors concluded and the replay showed to a verdict and its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscan.scanner.results import PairStatus, Verdict

if TYPE_CHECKING:
    from backscan.scanner.results import GraphFinding, Inference, PairResult, Verification

# More pairs than this without a size leave too little to fit a null to (CONTRACT, Optimisation).
_MOST_UNREACHED = 0.1
FEWEST_CLASSES = 3


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reasons."""

    verdict: Verdict
    """What may be said."""
    reasons: tuple[str, ...]
    """Why, most important first; a sentence each."""


def combined_p_value(inferences: Sequence[Inference], *, published: bool) -> float | None:
    """One p-value behind one verdict: m times the smallest of the m that decide, at most 1; None without any."""
    values = [p for p in (deciding_p_value(entry, published=published) for entry in inferences) if p is not None]
    return min(1.0, len(values) * min(values)) if values else None


def deciding_p_value(inference: Inference, *, published: bool) -> float | None:
    """The p-value of one detector that enters the verdict; None if it only informs."""
    if not inference.decides:
        return None
    return inference.p_value if published else inference.calibrated_p_value


def most_extreme(inferences: Sequence[Inference], *, published: bool) -> Inference | None:
    """The conclusion with the smallest deciding p-value; ties go to the smaller published one, then to the first."""
    deciding = [entry for entry in inferences if deciding_p_value(entry, published=published) is not None]
    if not deciding:
        return None
    return min(deciding, key=lambda entry: (deciding_p_value(entry, published=published), entry.p_value))


def judge(
    pairs: Sequence[PairResult],
    inferences: Sequence[Inference],
    verification: Verification | None,
    *,
    significance: float,
    published: bool,
) -> Judgement:
    """The verdict on one search.

    Args:
        pairs: Every pair of the deciding detector.
        inferences: What the detectors concluded.
        verification: Replay of the most extreme pair, if there was one.
        significance: Threshold on the deciding p-value.
        published: Whether the published p-value decides instead of the calibrated one.
    """
    doubt = _doubt(pairs, inferences)
    if doubt:
        return Judgement(Verdict.INCONCLUSIVE, (doubt,))
    extreme = most_extreme(inferences, published=published)
    p_value = combined_p_value(inferences, published=published)
    if extreme is None or p_value is None:
        return Judgement(Verdict.INCONCLUSIVE, ("no detector gave a p-value: add images or classes",))
    pair = f"class {extreme.source} to class {extreme.target}"
    strength = _written(p_value, inferences, published=published)
    if p_value > significance:
        reason = f"the most extreme pair, {pair}, is not abnormal among the others ({strength})"
        return Judgement(Verdict.NOT_DETECTED, (reason, *_power(extreme)))
    finding = f"the pattern from {pair} is abnormally small ({strength})"
    if verification is None:
        return Judgement(Verdict.INCONCLUSIVE, (f"{finding}, but it was not replayed on the original file",))
    if not verification.confirmed:
        return Judgement(
            Verdict.INCONCLUSIVE, (f"{finding}, but the original file does not confirm it: {verification.reason}",)
        )
    confirmed = (
        f"onnxruntime confirms it on the original file: {verification.rate_held_out:.0%} of "
        f"{verification.num_held_out} held-out images change to class {verification.target}, "
        f"{verification.rate_shuffled:.0%} with the pattern shuffled"
    )
    return Judgement(Verdict.BACKDOOR_DETECTED, (finding, confirmed))


def with_findings(judgement: Judgement, findings: Sequence[GraphFinding]) -> Judgement:
    """The judgement with what was found in the graph: a demonstrated switch is a backdoor whatever the pairs say."""
    shown = tuple(finding.message for finding in findings if finding.demonstrated)
    if not shown:
        return judgement
    return Judgement(Verdict.BACKDOOR_DETECTED, (*shown, *judgement.reasons))


def _written(p_value: float, inferences: Sequence[Inference], *, published: bool) -> str:
    """A p-value for reading; the least that the bootstrap can give is an upper bound and says so."""
    deciding = [entry for entry in inferences if deciding_p_value(entry, published=published) is not None]
    floor = 0.0 if published else max(len(deciding) / (entry.bootstrap_draws + 1) for entry in deciding)
    return f"p <= {p_value:.2g}" if p_value <= floor else f"p = {p_value:.2g}"


def _doubt(pairs: Sequence[PairResult], inferences: Sequence[Inference]) -> str | None:
    """Why the search cannot support any verdict, or None."""
    counting = [pair for pair in pairs if pair.status.counts]
    classes = {pair.source for pair in counting} | {pair.target for pair in counting}
    if len(classes) < FEWEST_CLASSES:
        return (
            f"expected at least {FEWEST_CLASSES} classes with enough images, found {len(classes)}: "
            "the null needs other pairs to compare with; add images"
        )
    unreached = [pair for pair in counting if pair.status is not PairStatus.REACHED]
    if len(unreached) > _MOST_UNREACHED * len(counting):
        return (
            f"{len(unreached)} of {len(counting)} pairs did not reach the goal rate: {unreached[0].status.explanation}"
        )
    for entry in inferences:
        if entry.decides and entry.null is not None and entry.null.status != "reached":
            return (
                f"the null distribution could not be fitted ({entry.null.status}): "
                "the pairs differ too little or are too few; add classes or images"
            )
    return None


def _power(extreme: Inference) -> tuple[str, ...]:
    """What would have been found, as a sentence."""
    if extreme.detectable_size is None:
        return ()
    return (f"a planted pair of size up to {extreme.detectable_size:.3g} ({extreme.norm}) would have been found",)
