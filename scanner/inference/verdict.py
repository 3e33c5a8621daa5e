"""From what the detectors concluded and the replay showed to a verdict and its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backscan.scanner.inference.content import words_of
from backscan.scanner.results import (
    DEPENDS_ON_CALL,
    LIMITS_OF_TRANSFERABILITY,
    MUTUAL_TRANSFER,
    OF_TARGETS_TOGETHER,
    TARGET_RATE,
    TARGET_REACH,
    TRANSFERABILITY,
    PairStatus,
    TransferStatus,
    Verdict,
    first_with_power,
)

if TYPE_CHECKING:
    from backscan.scanner.results import GraphFinding, Inference, PairKey, PairResult, Verification, Witness

# More pairs than this without a size leave too little to fit a null to (CONTRACT, Optimisation).
_MOST_UNREACHED = 0.1
FEWEST_CLASSES = 3
FEWEST_IMAGES = 20
"""Images of each class without which the patterns of single images are not compared."""
_MOST_NODES = 3
# Share of a class that is decided as another from which on the boundary between few classes leans.
_LEANS = 0.05
NEAR = 4.0
"""Up to this many times the significance a p-value is borderline."""
_MOST_PAIRS = 10


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reasons."""

    verdict: Verdict
    """What may be said."""
    reasons: tuple[str, ...]
    """Why, most important first; a sentence each."""
    switch: GraphFinding | None = None
    """The demonstrated switch that it rests on, where no pattern was detected."""

    def classes(self, deciding: Inference | None) -> tuple[int | None, int | None]:
        """Source and target class of what it rests on: the switch, else the deciding conclusion."""
        basis = self.switch or deciding
        return (None, None) if basis is None else (basis.source, basis.target)


def corrected_p_value(inference: Inference, inferences: Sequence[Inference], *, published: bool) -> float | None:
    """The p-value of one conclusion times the number m of those that decide, at most 1; None if it has none."""
    values = [deciding_p_value(entry, published=published) for entry in inferences]
    own = deciding_p_value(inference, published=published)
    return None if own is None else min(1.0, own * sum(value is not None for value in values))


def deciding_p_value(inference: Inference, *, published: bool) -> float | None:
    """The p-value of one detector that enters the verdict; None if it only informs."""
    if not inference.decides:
        return None
    return inference.p_value if published else inference.calibrated_p_value


def candidates_for_replay(
    pairs: Sequence[PairResult], inferences: Sequence[Inference], *, significance: float, published: bool
) -> tuple[Inference, ...]:
    """The conclusions whose pattern is to be replayed, in turn until one is confirmed.

    Returns:
        Those that are significant after the correction and in no doubt, the most extreme first and each pair of a
        detector once; without any, the most extreme conclusion alone, for the report.
    """
    ordered = _by_p_value(inferences, published=published)
    significant: dict[PairKey, Inference] = {}
    for entry in ordered:
        for shown in _shown_by_each(entry, inferences):
            if _is_significant(pairs, shown, inferences, significance=significance, published=published):
                significant.setdefault(shown.key, shown)
    return tuple(significant.values()) or tuple(ordered[:1])


def _shown_by_each(conclusion: Inference, inferences: Sequence[Inference]) -> tuple[Inference, ...]:
    """A conclusion; one of several witnesses with the pattern of each of them, the strongest first."""
    parts = {(entry.detector, entry.statistic): entry for entry in inferences if entry.part_of == conclusion.statistic}
    if not conclusion.witnesses or not parts:
        return (conclusion,)
    return tuple(
        _shown_by(conclusion, witness, parts[witness.detector, witness.statistic])
        for witness in conclusion.witnesses
        if witness.source is not None and (witness.detector, witness.statistic) in parts
    )


def _shown_by(conclusion: Inference, witness: Witness, own: Inference) -> Inference:
    """A conclusion of several with the pattern of one witness; of pairs each has a p-value of its own."""
    shown = replace(
        conclusion,
        detector=own.detector,
        space=own.space,
        source=witness.source,
        target=witness.target,
        carried_by=own.statistic,
    )
    if conclusion.statistic == OF_TARGETS_TOGETHER:
        return shown
    published, calibrated = (
        None if value is None else min(1.0, len(conclusion.witnesses) * value)
        for value in (own.p_value, own.calibrated_p_value)
    )
    return replace(
        shown,
        values=own.values,
        null=own.null,
        num_pairs=own.num_pairs,
        abnormal=own.abnormal,
        p_value=published,
        calibrated_p_value=calibrated,
    )


def deciding_conclusion(
    inferences: Sequence[Inference], verification: Verification | None, *, published: bool
) -> Inference | None:
    """The conclusion that the verdict is about: the one that was replayed, else the most extreme."""
    ordered = _by_p_value(inferences, published=published)
    if verification is not None:
        shown = [each for entry in ordered for each in _shown_by_each(entry, inferences)]
        replayed = [each for each in shown if each.key == verification.key]
        ordered = _by_p_value(replayed, published=published) + ordered
    return next(iter(ordered), None)


def judge(
    pairs: Sequence[PairResult],
    inferences: Sequence[Inference],
    deciding: Inference | None,
    verification: Verification | None,
    *,
    significance: float,
    published: bool,
) -> Judgement:
    """The verdict on one search.

    Args:
        pairs: Every pair of every detector.
        inferences: What the detectors concluded.
        deciding: The one of them that the verdict rests on, see `deciding_conclusion`.
        verification: Replay of its pair, if there was one.
        significance: Threshold on the deciding p-value.
        published: Whether the published p-value decides instead of the calibrated one.
    """
    judgement = _decide(pairs, inferences, deciding, verification, significance=significance, published=published)
    return Judgement(judgement.verdict, (*judgement.reasons, *_hints(inferences)))


def _decide(
    pairs: Sequence[PairResult],
    inferences: Sequence[Inference],
    deciding: Inference | None,
    verification: Verification | None,
    *,
    significance: float,
    published: bool,
) -> Judgement:
    """The verdict by the detectors that decide."""
    p_value = None if deciding is None else corrected_p_value(deciding, inferences, published=published)
    doubts = _doubts(pairs, inferences)
    if deciding is None or p_value is None:
        return Judgement(Verdict.INCONCLUSIVE, doubts or (_without_p_value(inferences),))
    strength = _written(p_value, deciding, inferences, published=published)
    finding = f"{_finding(deciding)} ({strength})"
    abnormal = p_value <= significance and _doubt(pairs, deciding) is None
    if abnormal and verification is not None and verification.confirmed:
        told = (finding, _extent(deciding, verification), _confirmation(verification))
        return Judgement(Verdict.BACKDOOR_DETECTED, tuple(filter(None, told)))
    if doubts:
        return Judgement(Verdict.INCONCLUSIVE, doubts)
    others = [entry for entry in inferences if entry is not deciding]
    significant = [
        entry
        for entry in others
        if _is_significant(pairs, entry, inferences, significance=significance, published=published)
    ]
    if not abnormal and significant:
        reason = f"{_finding(significant[0])}, but no pattern of it was confirmed on the original file"
        return Judgement(Verdict.INCONCLUSIVE, (reason,))
    if not abnormal and _is_at_floor(deciding, significance):
        least = f"no smaller p can be told with so few classes: pass a --significance above {p_value:.2g}"
        return Judgement(Verdict.INCONCLUSIVE, (f"{finding}, and {least}",))
    if not abnormal:
        reason = _unremarkable(deciding, strength)
        borderline = _borderline(p_value, inferences, significance=significance, published=published)
        return Judgement(
            Verdict.NOT_DETECTED, (reason, *borderline, *_power(deciding, inferences), *_basis(inferences))
        )
    if verification is None:
        return Judgement(Verdict.INCONCLUSIVE, (f"{finding}, but it was not replayed on the original file",))
    return Judgement(
        Verdict.INCONCLUSIVE, (f"{finding}, but the original file does not confirm it: {verification.reason}",)
    )


def _borderline(
    p_value: float, inferences: Sequence[Inference], *, significance: float, published: bool
) -> tuple[str, ...]:
    """That a verdict is near the threshold, or one witness alone beyond it, and what would settle it; empty if not."""
    below = [
        f"{entry.detector} {entry.statistic}, class {entry.target}, p = {own:.2g}"
        for entry in inferences
        if entry.part_of and (own := entry.p_value if published else entry.calibrated_p_value) is not None
        if own <= significance
    ]
    if p_value > NEAR * significance and not below:
        return ()
    alone = f" ({'; '.join(below)} alone)" if below else ""
    return (f"this is borderline{alone}: more images (--images-per-class) or --repeats 3 show whether it holds",)


def _is_significant(
    pairs: Sequence[PairResult],
    conclusion: Inference,
    inferences: Sequence[Inference],
    *,
    significance: float,
    published: bool,
) -> bool:
    """Whether a conclusion that decides is significant after the correction and in no doubt."""
    p_value = corrected_p_value(conclusion, inferences, published=published)
    return p_value is not None and p_value <= significance and _doubt(pairs, conclusion) is None


def _hints(inferences: Sequence[Inference]) -> tuple[str, ...]:
    """What detectors that only inform call abnormal, as a sentence each: no verdict, yet a reason to look."""
    informing = [entry for entry in inferences if entry.detected and not entry.decides]
    indices = (
        f"detector {entry.detector} calls class {entry.target} abnormal as a target "
        f"(anomaly index {entry.anomaly_index:.2g}); it only informs"
        for entry in informing
        if entry.anomaly_index is not None
    )
    cores = (
        f"detector {entry.detector} finds {entry.remarks[0]}; it only informs"
        for entry in informing
        if entry.statistic == MUTUAL_TRANSFER
    )
    return (*indices, *cores)


def with_findings(judgement: Judgement, findings: Sequence[GraphFinding]) -> Judgement:
    """The judgement with what was found in the graph.

    A demonstrated switch is a backdoor whatever the pairs say; one that is not settled leaves nothing not detected.
    """
    shown = tuple(finding for finding in findings if finding.demonstrated)
    if shown:
        switch = None if judgement.verdict is Verdict.BACKDOOR_DETECTED else shown[0]
        told = (finding.message for finding in shown)
        return Judgement(Verdict.BACKDOOR_DETECTED, (*told, *judgement.reasons), switch)
    judgement = _with_dependence(judgement, findings)
    unresolved = tuple(_unresolved(finding) for finding in findings if finding.unresolved)
    if not unresolved or judgement.verdict is not Verdict.NOT_DETECTED:
        return judgement
    return Judgement(Verdict.INCONCLUSIVE, (*unresolved, *judgement.reasons))


def _with_dependence(judgement: Judgement, findings: Sequence[GraphFinding]) -> Judgement:
    """The judgement where answers depend on the call: what was searched with one image a call clears no other call."""
    dependence = dependence_reason(findings)
    if not dependence or judgement.verdict is Verdict.BACKDOOR_DETECTED:
        return judgement
    reasons = tuple(reason for reason in judgement.reasons if reason != dependence)
    verdict = Verdict.INCONCLUSIVE if judgement.verdict is Verdict.NOT_DETECTED else judgement.verdict
    return Judgement(verdict, (dependence, *reasons))


def dependence_reason(findings: Sequence[GraphFinding]) -> str:
    """Why findings leave a scan inconclusive whatever its search gave: answers depend on the call; empty if not."""
    if not any(finding.rule == DEPENDS_ON_CALL for finding in findings):
        return ""
    return (
        "the answer about an image depends on the other images of the call, so that no search speaks for all calls: "
        "export a model that answers every image by itself, without statistics over a call or a look at its size"
    )


def _unresolved(finding: GraphFinding) -> str:
    return (
        f"{finding.message}, and what turns them was not found: ask the supplier what {_listed(finding.nodes)} is for"
    )


def _listed(nodes: Sequence[str]) -> str:
    """The first nodes by name, as text that cannot act on a terminal."""
    names = ", ".join(ascii(name[:80]) for name in nodes[:_MOST_NODES])
    return f"node {names}" + (" and so on" if len(nodes) > _MOST_NODES else "")


def _written(p_value: float, conclusion: Inference, inferences: Sequence[Inference], *, published: bool) -> str:
    """A p-value for reading; the least that the conclusion's own bootstrap can give is an upper bound and says so."""
    deciding = [entry for entry in inferences if deciding_p_value(entry, published=published) is not None]
    has_draws = conclusion.bootstrap_draws > 0 and not published
    floor = len(deciding) / (conclusion.bootstrap_draws + 1) if has_draws else 0.0
    return f"p <= {p_value:.2g}" if p_value <= floor else f"p = {p_value:.2g}"


def _by_p_value(inferences: Sequence[Inference], *, published: bool) -> list[Inference]:
    """The conclusions that decide, smallest p-value first; ties go to the smaller published one, then to the first."""
    deciding = [entry for entry in inferences if deciding_p_value(entry, published=published) is not None]
    return sorted(deciding, key=lambda entry: (deciding_p_value(entry, published=published), entry.p_value))


_TOLD = {
    TARGET_RATE: "{content} sends many images of the other classes to it",
    "commonality-target": "patterns that lead all images to it are hardly larger than what single images need",
    "target-contrast": "small patterns lead to it, and none as small away from it",
    "target-wise": "small patterns lead to it",
}
"""What a witness says of a target class, as a clause."""


def _finding(inference: Inference) -> str:
    """What is abnormal, as a clause."""
    if inference.statistic == OF_TARGETS_TOGETHER:
        told = _TOLD[str(inference.carried_by)].format(content=words_of(inference.detector).found)
        return f"class {inference.target} stands out as a target: {told}"
    if inference.statistic == TARGET_REACH:
        return f"class {inference.target} is reached abnormally far beyond all other targets"
    if inference.statistic == TARGET_RATE:
        return (
            f"{words_of(inference.detector).found} sends abnormally many images of the other classes to class "
            f"{inference.target}, most of class {inference.source}"
        )
    if inference.is_of_rates:
        return f"{words_of(inference.detector).found} sends abnormally many images from {_pair_name(inference)}"
    if inference.statistic == TRANSFERABILITY:
        return (
            f"the patterns that move single images from {_pair_name(inference)} move the others too, at sizes far "
            "below those of the way back"
        )
    return f"the pattern from {_pair_name(inference)} is abnormally small"


def _is_at_floor(inference: Inference, significance: float) -> bool:
    """Whether nothing but the least p that its calibration can tell keeps a conclusion from being abnormal."""
    if inference.statistic != TRANSFERABILITY or inference.p_value is None:
        return False
    return inference.p_value <= significance and inference.p_value != inference.calibrated_p_value


def _unremarkable(inference: Inference, strength: str) -> str:
    """That the most extreme of what was compared is not abnormal, as a sentence without its end."""
    if inference.statistic == TRANSFERABILITY:
        return (
            f"the patterns that move single images from {_pair_name(inference)}, of all pairs those that move others "
            f"most, do not move more than half of them ({strength})"
        )
    return f"the most extreme {_extreme(inference)}, is not abnormal among the others ({strength})"


def _extreme(inference: Inference) -> str:
    if inference.statistic == OF_TARGETS_TOGETHER:
        return f"target by all witnesses together, class {inference.target}"
    if inference.statistic == TARGET_REACH:
        return f"target, the one that is reached farthest, class {inference.target}"
    if inference.statistic == TARGET_RATE:
        return f"target {words_of(inference.detector).about}, class {inference.target}"
    about = f" {words_of(inference.detector).about}" if inference.is_of_rates else ""
    return f"pair{about}, {_pair_name(inference)}"


def _pair_name(inference: Inference) -> str:
    return f"class {inference.source} to class {inference.target}"


def _extent(conclusion: Inference, verification: Verification) -> str:
    """Which classes go where: many pairs at once, from all or several classes to one, or a single pair."""
    targets = conclusion.scattered
    if targets:
        told = ", ".join(f"{source} to {target}" for source, target in sorted(targets.items())[:_MOST_PAIRS])
        more = " and so on" if len(targets) > _MOST_PAIRS else ""
        return f"images of {len(targets)} classes go to another class each ({told}{more})"
    others = verification.collateral
    follow = verification.followers
    if not others:
        return ""
    if not follow and conclusion.statistic == OF_TARGETS_TOGETHER:
        return ""  # what stands out is the target; a least pattern of one pair need not move other classes
    if not follow:
        return f"no other class follows it: class {verification.source} to class {verification.target} only"
    return f"images of {1 + len(follow)} of {1 + len(others)} other classes go to class {verification.target} with it"


def _confirmation(verification: Verification) -> str:
    return (
        f"onnxruntime confirms it on the original file: {verification.rate_held_out:.0%} of "
        f"{verification.num_held_out} held-out images change to class {verification.target}, "
        f"{verification.rate_shuffled:.0%} with the pattern shuffled"
    )


def _without_p_value(inferences: Sequence[Inference]) -> str:
    if inferences and not any(entry.decides for entry in inferences):
        return "no detector gave a p-value that decides, those chosen only inform: add --detector pairwise"
    return (
        "no detector gave a p-value, as the null needs pairs of several targets: add classes or images, or search more "
        "pairs (--targets, --pairs)"
    )


def _doubts(pairs: Sequence[PairResult], inferences: Sequence[Inference]) -> tuple[str, ...]:
    """Why the search cannot support any verdict, each reason once; with several detectors each names its own."""
    by_detector: dict[str, list[Inference]] = {}
    for entry in inferences:
        if entry.part_of or (entry.decides and not entry.witnesses):
            by_detector.setdefault(entry.detector, []).append(entry)
    found = ((name, _doubt_of_detector(pairs, own)) for name, own in by_detector.items())
    named = (f"detector {name}: {doubt}" if len(by_detector) > 1 else doubt for name, doubt in found if doubt)
    return tuple(dict.fromkeys(named))


def _doubt_of_detector(pairs: Sequence[PairResult], inferences: Sequence[Inference]) -> str | None:
    """Why one detector supports no verdict, or None.

    Where one of its statistics has a null and another has none, the first one judges: the other has p = 1, or no p.
    """
    doubts = [_doubt(pairs, entry) for entry in inferences]
    return None if None in doubts else doubts[0]


def _doubt(pairs: Sequence[PairResult], inference: Inference) -> str | None:
    """Why one conclusion supports no verdict, or None."""
    if inference.is_of_rates:  # no sizes, and no p-value where there is too little to compare
        return None
    if inference.statistic == TRANSFERABILITY:
        own = [pair for pair in pairs if pair.detector == inference.detector]
        return _doubt_of_transfers(own) or _leaning(own, inference)
    counting = [pair for pair in pairs if pair.detector == inference.detector and pair.status.counts]
    classes = {pair.source for pair in counting} | {pair.target for pair in counting}
    if len(classes) < FEWEST_CLASSES:
        return (
            f"expected at least {FEWEST_CLASSES} classes with enough images, found {len(classes)}: "
            "the null needs other pairs to compare with; add images, or pairs where --pairs names few"
        )
    unreached = [pair for pair in counting if pair.status is not PairStatus.REACHED]
    if len(unreached) > _MOST_UNREACHED * len(counting):
        return (
            f"{len(unreached)} of {len(counting)} pairs did not reach the goal rate: {unreached[0].status.explanation}"
        )
    if inference.null is not None and inference.null.status != "reached":
        return (
            f"the null distribution could not be fitted ({inference.null.status}): "
            "the pairs differ too little or are too few; add classes, images, or pairs where --pairs names few"
        )
    return None


def _doubt_of_transfers(pairs: Sequence[PairResult]) -> str | None:
    """Why the patterns of single images support no verdict, or None."""
    measured = [pair for pair in pairs if pair.transfer is not None]
    few = [pair for pair in pairs if pair.transfer is None or pair.transfer.status is TransferStatus.FEW_IMAGES]
    if few or not measured:
        where = f" of class {few[0].source} or {few[0].target}" if few else ""
        return (
            f"expected at least {FEWEST_IMAGES} images of every class that are decided as it, found fewer{where}: "
            f"add images, {FEWEST_IMAGES * 5 // 4} a class or more, as a fifth is held out"
        )
    lost = [pair for pair in measured if pair.transfer and pair.transfer.status is TransferStatus.LIMIT]
    if not lost:
        return None
    return (
        f"single images of class {lost[0].source} and class {lost[0].target} do not reach each other within the size "
        "limit, so that their patterns cannot be compared: raise --max-size"
    )


def _leaning(pairs: Sequence[PairResult], inference: Inference) -> str | None:
    """That a boundary between two classes leans towards one of them, whose images are then near without an attack."""
    rates = {(pair.source, pair.target): pair.initial_rate or 0.0 for pair in pairs}
    rate = rates.get((inference.source or 0, inference.target or 0), 0.0)
    if not inference.detected or rate <= _LEANS:
        return None
    return (
        f"the model decides {rate:.0%} of class {inference.source} as class {inference.target} without any pattern, so "
        "that a way there that is shorter than the way back is no sign of an attack: pass images that it decides "
        "rightly, or judge where the model comes from"
    )


def _power(extreme: Inference, inferences: Sequence[Inference]) -> tuple[str, ...]:
    """What would have been found, as a sentence: by the most extreme conclusion, or another that speaks of sizes."""
    if extreme.statistic == TRANSFERABILITY:
        return (LIMITS_OF_TRANSFERABILITY,)
    known = first_with_power((extreme, *inferences))
    if known is None:
        return ()
    size = f"{known.detectable_size:.3g} ({known.norm.upper()})"
    where = " inside the model" if known.detector == "features" else ""
    return (f"of planted pairs whose smallest pattern{where} has size {size} four in five would have been found",)


def _basis(inferences: Sequence[Inference]) -> tuple[str, ...]:
    """What the verdict rests on where a screen left pairs out, as a sentence for each detector."""
    counted = [
        (entry, sum(value is not None for row in entry.values for value in row))
        for entry in inferences
        if (entry.decides or entry.part_of) and not entry.witnesses and not entry.is_of_rates
    ]
    return tuple(
        f"detector {entry.detector} searched {num_searched} of {entry.num_pairs} pairs: one that a first estimate "
        "did not show among the smallest would have been missed"
        for entry, num_searched in counted
        if num_searched < entry.num_pairs
    )
