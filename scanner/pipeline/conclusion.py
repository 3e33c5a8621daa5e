"""Steps 11 and 12: what the detectors conclude, the replay of their patterns on the original file, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from backscan.scanner.detectors import conclude
from backscan.scanner.errors import TimeUpError
from backscan.scanner.inference.correction import corrected_p_value
from backscan.scanner.inference.variants import with_reciprocals
from backscan.scanner.inference.verdict import (
    Judgement,
    candidates_for_replay,
    deciding_conclusion,
    judge,
)
from backscan.scanner.pipeline import evidence
from backscan.scanner.pipeline.record import Concluded
from backscan.scanner.pipeline.replay import OriginalFile, replay
from backscan.scanner.pipeline.replay_support import covered, found_support, replay_support
from backscan.scanner.results import Inference, Verification, find_pair, find_target

if TYPE_CHECKING:
    from backscan.scanner.config import ScanConfig
    from backscan.scanner.detectors import Searched
    from backscan.scanner.pipeline.record import Images, Run
    from backscan.scanner.results import FoundPattern, TargetResult


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
        shown = images if config.images_in_report else None
        try:
            concluded = _with_evidence(concluded, deciding, searched, file, shown)
        except TimeUpError:
            run.record.out_of_time = True
            concluded = _with_evidence(concluded, deciding, searched, file, None)
    return replace(concluded, verification=verification), judgement


def resting_on(deciding: Inference | None, conclusions: Sequence[Inference]) -> Concluded:
    """All conclusions, and the one that the verdict rests on."""
    if deciding is None:
        return Concluded(tuple(conclusions))
    # One of several witnesses stands with the pattern that was replayed, in the place of the same conclusion.
    named = deciding.statistic, deciding.witnesses
    place = next(
        place
        for place, each in enumerate(conclusions)
        if each is deciding or (deciding.witnesses and (each.statistic, each.witnesses) == named)
    )
    return Concluded(
        detectors=(*conclusions[:place], deciding, *conclusions[place + 1 :]),
        deciding=place,
        calibrated_p_value=corrected_p_value(deciding, conclusions, published=False),
    )


def _with_evidence(
    concluded: Concluded, deciding: Inference, searched: Searched, file: OriginalFile, images: Images | None
) -> Concluded:
    """The pattern that the verdict rests on, beside other pairs and on held-out images if they may be shown."""
    if deciding.is_of_rates:
        return _with_support(concluded, deciding, searched, file, images)
    pair = find_pair(searched.pairs, deciding.key)
    if pair is None:
        return concluded
    own = [other for other in searched.pairs if other.detector == pair.detector]
    held_out = images.held_out().get(pair.source) if images else None
    return replace(
        concluded,
        patterns=(evidence.found_pattern(pair, deciding, file.settled.facts.signature.input_shape),),
        controls=evidence.controls(own, pair.source, pair.target),
        examples=() if held_out is None else evidence.examples(file, pair, held_out),
    )


def _with_support(
    concluded: Concluded, deciding: Inference, searched: Searched, file: OriginalFile, images: Images | None
) -> Concluded:
    """The content that the verdict rests on, on held-out images if they may be shown."""
    content = _support(deciding, searched, file)
    if content is None:
        return concluded
    found = content[1]
    held_out = images.held_out().get(found.source) if images else None
    examples = () if held_out is None else evidence.covered_examples(file, found, held_out, covered(held_out, found))
    return replace(concluded, patterns=(found,), examples=examples)


def _replay_support(
    run: Run, file: OriginalFile, searched: Searched, conclusion: Inference, images: Images
) -> Verification | None:
    """The content of a conclusion on the original file; None where it has none, or no image to ask."""
    content = _support(conclusion, searched, file)
    if content is None or content[1].source not in images.held_out():
        return None
    with run.record.phase("verification"):
        return replay_support(file, *content, images, run.config)


def _support(conclusion: Inference, searched: Searched, file: OriginalFile) -> tuple[TargetResult, FoundPattern] | None:
    """The target of a conclusion with its content as a pattern; None where it has none."""
    entry, source = find_target(searched.targets, conclusion.detector, conclusion.target), conclusion.source
    if entry is None or entry.support is None or entry.support.content is None or source is None:
        return None
    return entry, found_support(entry, source, file.settled.facts.signature.input_shape)


def _replayed(
    run: Run, file: OriginalFile, searched: Searched, conclusions: Sequence[Inference], images: Images
) -> Verification | None:
    """The patterns that stand out on the original file, until one is confirmed; without any the first replay."""
    config, replays = run.config, list[Verification]()
    for conclusion in candidates_for_replay(
        searched.pairs, conclusions, significance=config.significance, published=config.published_p
    ):
        try:
            replayed = _replay(run, file, searched, conclusion, images)
        except TimeUpError:
            run.record.out_of_time = True
            break
        replays += [] if replayed is None else [replayed]
        if replayed is not None and replayed.confirmed:
            return replayed
    return replays[0] if replays else None


def _replay(
    run: Run, file: OriginalFile, searched: Searched, conclusion: Inference, images: Images
) -> Verification | None:
    """The pattern of a conclusion on the original file; None where it has none, or no image to ask.

    Raises:
        TimeUpError: the time limit of the scan is up.
    """
    if conclusion.is_of_rates:
        return _replay_support(run, file, searched, conclusion, images)
    pair = find_pair(searched.pairs, conclusion.key)
    if pair is None or pair.source not in images.held_out():
        return None
    with run.record.phase("verification"):
        return replay(file, pair, images, run.config)
