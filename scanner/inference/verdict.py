"""From what the detectors concluded and the replay showed to a verdict and its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backscan.scanner.inference import sentences
from backscan.scanner.inference.correction import corrected_by_null, corrected_p_value, deciding_p_value
from backscan.scanner.inference.doubts import doubt_of, doubts_of, may_lean, without_p_value
from backscan.scanner.results import (
    DEPENDS_ON_CALL,
    OF_FEW_CLASSES,
    OF_TARGETS_TOGETHER,
    Verdict,
)

if TYPE_CHECKING:
    from backscan.scanner.results import GraphFinding, Inference, PairKey, PairResult, Verification, Witness

_MOST_NODES = 3
# Student's t of a target by a witness up to which its pattern is not replayed: every sixth has it by chance.
_LEAST_T = 1.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reasons."""

    verdict: Verdict
    """What may be said."""
    reasons: tuple[str, ...]
    """Why, most important first; a sentence each."""
    switch: GraphFinding | None = None
    """The demonstrated switch that it rests on, where no pattern was detected."""
    look_alikes: bool = False
    """Whether nothing keeps it from being a detection but that classes come as near without an attack: one pair alone
    stands out, which the original file confirms, and other pairs come nearly as near or, of few classes, the boundary
    between the two may lean."""

    def classes(self, deciding: Inference | None) -> tuple[int | None, int | None]:
        """Source and target class of what it rests on: the switch, else the deciding conclusion."""
        basis = self.switch or deciding
        return (None, None) if basis is None else (basis.source, basis.target)


def candidates_for_replay(
    pairs: Sequence[PairResult], inferences: Sequence[Inference], *, significance: float, published: bool
) -> tuple[Inference, ...]:
    """The conclusions whose pattern is to be replayed, in turn until one is confirmed.

    Returns:
        Those that are significant after the correction and in no doubt, the most extreme first and each pair of a
        detector once; without any, the one that only look-alikes keep from being it, else the most extreme alone, for
        the report.
    """
    ordered = _by_p_value(inferences, published=published)
    significant: dict[PairKey, Inference] = {}
    for entry in ordered:
        for shown in _shown_by_each(entry, inferences):
            if _is_significant(pairs, shown, inferences, significance=significance, published=published):
                significant.setdefault(shown.key, shown)
    if significant:
        return tuple(significant.values())
    near = _look_alikes(inferences, significance=significance, published=published)
    return (near[0][1],) if near else tuple(ordered[:1])


def _shown_by_each(conclusion: Inference, inferences: Sequence[Inference]) -> tuple[Inference, ...]:
    """A conclusion; one of several witnesses with the pattern of each of them, the strongest first."""
    parts = {(entry.detector, entry.statistic): entry for entry in inferences if entry.part_of == conclusion.statistic}
    if not conclusion.witnesses or not parts:
        return (conclusion,)
    return tuple(
        _shown_by(conclusion, witness, parts[witness.detector, witness.statistic])
        for witness in conclusion.witnesses
        if witness.source is not None and (witness.detector, witness.statistic) in parts and _sees_it(witness)
    )


def _sees_it(witness: Witness) -> bool:
    """Whether the target stands out by a witness at all; ordinary content, too, is confirmed where it succeeds."""
    return witness.t is None or witness.t > _LEAST_T


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
        fitted_p_value=own.fitted_p_value and min(1.0, len(conclusion.witnesses) * own.fitted_p_value),
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
    return replace(judgement, reasons=(*judgement.reasons, *sentences.hints(inferences)))


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
    doubts = doubts_of(pairs, inferences)
    if deciding is None or p_value is None:
        return Judgement(Verdict.INCONCLUSIVE, doubts or (without_p_value(inferences),))
    strength = sentences.written(p_value, deciding, inferences, published=published)
    finding = f"{sentences.finding(deciding)} ({strength})"
    abnormal = p_value <= significance and doubt_of(pairs, deciding) is None
    if abnormal and verification is not None and verification.confirmed:
        told = (finding, sentences.extent(deciding, verification), sentences.confirmation(verification))
        return Judgement(Verdict.BACKDOOR_DETECTED, tuple(filter(None, told)))
    if doubts:
        is_named = deciding.statistic in OF_FEW_CLASSES and p_value <= significance
        if not is_named or verification is None or not verification.confirmed:
            return Judgement(Verdict.INCONCLUSIVE, doubts)
        reasons = (*doubts, finding, sentences.confirmation(verification))
        leans = len(doubts) == 1 and may_lean(pairs, deciding) and _is_alone(deciding, inferences, significance)
        return Judgement(Verdict.INCONCLUSIVE, reasons, look_alikes=leans)
    others = [entry for entry in inferences if entry is not deciding]
    significant = [
        entry
        for entry in others
        if _is_significant(pairs, entry, inferences, significance=significance, published=published)
    ]
    if not abnormal and significant:
        reason = f"{sentences.finding(significant[0])}, but no pattern of it was confirmed on the original file"
        return Judgement(Verdict.INCONCLUSIVE, (reason,))
    if not abnormal and _is_at_floor(deciding, inferences, significance):
        least = f"no smaller p can be told with so few classes: pass a --significance above {p_value:.2g}"
        return Judgement(Verdict.INCONCLUSIVE, (f"{finding}, and {least}",))
    if not abnormal and (near := _look_alikes(inferences, significance=significance, published=published)):
        return _among_look_alikes(near, verification)
    if not abnormal:
        reason = sentences.unremarkable(deciding, strength)
        borderline = sentences.borderline(p_value, inferences, significance=significance, published=published)
        power, basis = sentences.power(deciding, inferences), sentences.basis(inferences)
        return Judgement(Verdict.NOT_DETECTED, (reason, *borderline, *power, *basis))
    if verification is None:
        return Judgement(Verdict.INCONCLUSIVE, (f"{finding}, but it was not replayed on the original file",))
    return Judgement(
        Verdict.INCONCLUSIVE, (f"{finding}, but the original file does not confirm it: {verification.reason}",)
    )


def _among_look_alikes(near: Sequence[tuple[float, Inference]], verification: Verification | None) -> Judgement:
    """The verdict where only look-alikes keep pairs from being significant; see `_look_alikes`."""
    by_null, nearest = near[0]
    reason = sentences.look_alike(nearest, by_null)
    if verification is None or verification.key != nearest.key:
        return Judgement(Verdict.INCONCLUSIVE, (reason,))
    if not verification.confirmed:
        denied = f"the original file does not confirm it: {verification.reason}"
        return Judgement(Verdict.INCONCLUSIVE, (reason, denied))
    is_alone = len({(each.source, each.target) for _, each in near}) == 1
    return Judgement(Verdict.INCONCLUSIVE, (reason,), look_alikes=is_alone)


def _is_alone(conclusion: Inference, inferences: Sequence[Inference], significance: float) -> bool:
    """Whether every conclusion that is significant by itself is about the same pair."""
    own = (conclusion.source, conclusion.target)
    return all(
        entry.calibrated_p_value is None
        or entry.calibrated_p_value > significance
        or (entry.source, entry.target) == own
        for entry in inferences
    )


def _look_alikes(
    inferences: Sequence[Inference], *, significance: float, published: bool
) -> list[tuple[float, Inference]]:
    """What is about pairs that only look-alikes keep from being significant, with the corrected p by the null.

    The smallest p first; of each conclusion its nearest pair alone, and those of its witnesses.
    """
    shown = [each for entry in inferences for each in _shown_by_each(entry, inferences)]
    near = [
        (by_null, each)
        for each in shown
        if each.fitted_p_value is not None
        and (by_null := corrected_by_null(each, inferences, published=published)) is not None
        and by_null <= significance
    ]
    return sorted(near, key=lambda each: each[0])


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
    return p_value is not None and p_value <= significance and doubt_of(pairs, conclusion) is None


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
    if not unresolved or not (judgement.verdict is Verdict.NOT_DETECTED or judgement.look_alikes):
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


def _by_p_value(inferences: Sequence[Inference], *, published: bool) -> list[Inference]:
    """The conclusions that decide, smallest p-value first; ties go to the smaller published one, then to the first."""
    deciding = [entry for entry in inferences if deciding_p_value(entry, published=published) is not None]
    return sorted(deciding, key=lambda entry: (deciding_p_value(entry, published=published), entry.p_value))


def _is_at_floor(conclusion: Inference, inferences: Sequence[Inference], significance: float) -> bool:
    """Whether nothing but the least p that its calibration can tell keeps a conclusion from being abnormal."""
    if conclusion.statistic not in OF_FEW_CLASSES or conclusion.p_value == conclusion.calibrated_p_value:
        return False
    without_floor = corrected_p_value(conclusion, inferences, published=True)
    return without_floor is not None and without_floor <= significance
