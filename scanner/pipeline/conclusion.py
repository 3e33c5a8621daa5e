"""Steps 11 and 12: what the detectors conclude, the replay of their patterns on the original file, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from backscan.scanner.detectors import conclude
from backscan.scanner.inference.variants import with_reciprocals
from backscan.scanner.inference.verdict import (
    Judgement,
    candidates_for_replay,
    corrected_p_value,
    deciding_conclusion,
    judge,
)
from backscan.scanner.pipeline import evidence
from backscan.scanner.pipeline.record import Concluded
from backscan.scanner.pipeline.replay import OriginalFile, replay
from backscan.scanner.results import Inference, Verification, find_pair

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors import Searched
from backscan.scanner.pipeline.record import Images, Run


def infer_from(searched: Searched, config: ScanConfig) -> tuple[Searched, tuple[Inference, ...]]:
    """Step 11: the pairs with their reciprocals, and what every detector concludes from them."""
    pairs = with_reciprocals(searched.pairs, inference=config.inference, order=config.order)
    searched = replace(searched, pairs=pairs)
    return searched, conclude(searched, config)


def replay_and_judge(
    run: Run, file: OriginalFile, searched: Searched, conclusions: Sequence[Inference], images: Images
) -> tuple[Concluded, Judgement]:
    """Step 12: the patterns that stand out replayed on the original file, and the verdict with its evidence."""
    config = run.config
    verification = _replayed(run, file, searched, conclusions, images)
    deciding = deciding_conclusion(conclusions, verification, published=config.published_p)
    judgement = judge(
        searched.pairs,
        conclusions,
        deciding,
        verification,
        significance=config.significance,
        published=config.published_p,
    )
    concluded = resting_on(deciding, conclusions)
    if deciding is not None:
        concluded = _with_evidence(concluded, deciding, searched, file, images if config.images_in_report else None)
    return replace(concluded, verification=verification), judgement


def resting_on(deciding: Inference | None, conclusions: Sequence[Inference]) -> Concluded:
    """All conclusions, and the one that the verdict rests on."""
    if deciding is None:
        return Concluded(tuple(conclusions))
    return Concluded(
        detectors=tuple(conclusions),
        deciding=next(place for place, conclusion in enumerate(conclusions) if conclusion is deciding),
        calibrated_p_value=corrected_p_value(deciding, conclusions, published=False),
    )


def _with_evidence(
    concluded: Concluded, deciding: Inference, searched: Searched, file: OriginalFile, images: Images | None
) -> Concluded:
    """The pattern that the verdict rests on, beside other pairs and on held-out images if they may be shown."""
    pair = find_pair(searched.pairs, deciding.key)
    if pair is None:
        return concluded
    own = [other for other in searched.pairs if other.detector == pair.detector]
    held_out = images.held_out().get(pair.source) if images else None
    return replace(
        concluded,
        patterns=(evidence.found_pattern(pair, deciding),),
        controls=evidence.controls(own, pair.source, pair.target),
        examples=() if held_out is None else evidence.examples(file, pair, held_out),
    )


def _replayed(
    run: Run, file: OriginalFile, searched: Searched, conclusions: Sequence[Inference], images: Images
) -> Verification | None:
    """The patterns that stand out on the original file, until one is confirmed; without any the first replay."""
    config, replays = run.config, list[Verification]()
    for conclusion in candidates_for_replay(
        searched.pairs, conclusions, significance=config.significance, published=config.published_p
    ):
        pair = find_pair(searched.pairs, conclusion.key)
        if pair is None or pair.source not in images.held_out():
            continue
        with run.record.phase("verification"):
            replays.append(replay(file, pair, images, config))
        if replays[-1].confirmed:
            return replays[-1]
    return replays[0] if replays else None
