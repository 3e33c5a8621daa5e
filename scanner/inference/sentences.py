"""What conclusions and replays say, as sentences and clauses of a verdict's reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backscan.scanner.config import MARGIN_CONTRAST
from backscan.scanner.inference.content import words_of
from backscan.scanner.inference.correction import NEAR, deciding_p_value
from backscan.scanner.results import (
    LIMITS_OF_TRANSFERABILITY,
    MUTUAL_TRANSFER,
    OF_FEW_CLASSES,
    OF_TARGETS_TOGETHER,
    ONE_WAY,
    TARGET_MASK,
    TARGET_RATE,
    TARGET_REACH,
    TRANSFERABILITY,
    first_with_power,
)

if TYPE_CHECKING:
    from backscan.scanner.results import Inference, Verification

_MOST_PAIRS = 10
_TOLD = {
    TARGET_RATE: "{content} sends many images of the other classes to it",
    TARGET_MASK: "an abnormally small mask sends most images of the other classes to it",
    "commonality-target": "patterns that lead all images to it are hardly larger than what single images need",
    "target-contrast": "small patterns lead to it, and none as small away from it",
    MARGIN_CONTRAST: "small patterns lead to it, none as small away from it, and clean images do not explain that",
    "target-wise": "small patterns lead to it",
}
"""What a witness says of a target class, as a clause."""


def borderline(
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


def hints(inferences: Sequence[Inference]) -> tuple[str, ...]:
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


def written(p_value: float, conclusion: Inference, inferences: Sequence[Inference], *, published: bool) -> str:
    """A p-value for reading; the least that the conclusion's own bootstrap can give is an upper bound and says so."""
    deciding = [entry for entry in inferences if deciding_p_value(entry, published=published) is not None]
    has_draws = conclusion.bootstrap_draws > 0 and not published
    floor = len(deciding) / (conclusion.bootstrap_draws + 1) if has_draws else 0.0
    return f"p <= {p_value:.2g}" if p_value <= floor else f"p = {p_value:.2g}"


def finding(inference: Inference) -> str:
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
    if inference.statistic == TARGET_MASK:
        return (
            f"an abnormally small mask sends most images of the other classes to class {inference.target}"
            f"{'' if inference.source is None else f', most of class {inference.source}'}"
        )
    if inference.is_of_rates:
        return f"{words_of(inference.detector).found} sends abnormally many images from {_pair_name(inference)}"
    if inference.statistic == TRANSFERABILITY:
        return (
            f"the patterns that move single images from {_pair_name(inference)} move the others too, at sizes far "
            "below those of the way back"
        )
    if inference.statistic == ONE_WAY:
        return (
            f"the pattern from {_pair_name(inference)} is far smaller than the one back, by more than single images "
            "explain, as a planted shortcut leads one way"
        )
    return f"the pattern from {_pair_name(inference)} is abnormally small"


def unremarkable(inference: Inference, strength: str) -> str:
    """That the most extreme of what was compared is not abnormal, as a sentence without its end."""
    if inference.statistic == TRANSFERABILITY:
        share = _value(inference)
        moved = "" if share is None else f" {share:.0%} of them,"
        return (
            f"the patterns that move single images from {_pair_name(inference)}, of all pairs those that move others "
            f"most, move{moved} not reliably more than half ({strength})"
        )
    if inference.statistic == ONE_WAY:
        return (
            f"the pattern from {_pair_name(inference)}, of all pairs the one that is smallest beside the way back, is "
            f"not abnormally so ({strength})"
        )
    return f"the most extreme {_extreme(inference)}, is not abnormal among the others ({strength})"


def look_alike(inference: Inference, p_value: float) -> str:
    """That a pair is abnormal by the fitted null, but not beside others that are as near, as a sentence."""
    return (
        f"the pattern from {_pair_name(inference)} is abnormally small by the fitted null (p = {p_value:.2g}), but "
        "other pairs come nearly as near, as classes do that look alike: look whether these two do; that would explain "
        "this pair and clear no other, and if they do not, trust the model no more than an attacked one"
    )


def _extreme(inference: Inference) -> str:
    if inference.statistic == OF_TARGETS_TOGETHER:
        return f"target by all witnesses together, class {inference.target}"
    if inference.statistic == TARGET_REACH:
        return f"target, the one that is reached farthest, class {inference.target}"
    if inference.statistic in (TARGET_RATE, TARGET_MASK):
        return f"target {words_of(inference.detector).about}, class {inference.target}"
    about = f" {words_of(inference.detector).about}" if inference.is_of_rates else ""
    return f"pair{about}, {_pair_name(inference)}"


def _value(inference: Inference) -> float | None:
    """The value of the pair that a conclusion names."""
    if inference.source is None or inference.target is None or not inference.values:
        return None
    return inference.values[inference.source][inference.target]


def _pair_name(inference: Inference) -> str:
    return f"class {inference.source} to class {inference.target}"


def extent(conclusion: Inference, verification: Verification) -> str:
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


def confirmation(verification: Verification) -> str:
    """What the original file does with a pattern, as a clause."""
    return (
        f"onnxruntime confirms it on the original file: {verification.rate_held_out:.0%} of "
        f"{verification.num_held_out} held-out images change to class {verification.target}, "
        f"{verification.rate_shuffled:.0%} with the pattern shuffled"
    )


def power(extreme: Inference, inferences: Sequence[Inference]) -> tuple[str, ...]:
    """What would have been found, as a sentence: by the most extreme conclusion, or another that speaks of sizes."""
    if extreme.statistic in OF_FEW_CLASSES:
        return (LIMITS_OF_TRANSFERABILITY,)
    known = first_with_power((extreme, *inferences))
    if known is None:
        return ()
    size = f"{known.detectable_size:.3g} ({known.norm.upper()})"
    where = " inside the model" if known.detector == "features" else ""
    return (f"of planted pairs whose smallest pattern{where} has size {size} four in five would have been found",)


def basis(inferences: Sequence[Inference]) -> tuple[str, ...]:
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
