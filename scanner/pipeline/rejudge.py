"""A finished report taken up again: other statistics on its pairs (`infer`), or its pattern on a model (`verify`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backscan.scanner.config import COMMONALITY, ScanConfig
from backscan.scanner.detectors import DETECTORS, RATE_DETECTORS, Searched, searching
from backscan.scanner.errors import OptionError, ReportError
from backscan.scanner.inference.repeats import agreed
from backscan.scanner.inference.statistics import OF_SOME_PAIRS
from backscan.scanner.inference.verdict import Judgement, candidates_for_replay, judge, with_findings
from backscan.scanner.pipeline.admission import as_clean_set, read
from backscan.scanner.pipeline.conclusion import infer_from, resting_on
from backscan.scanner.pipeline.pairs import wanted_pairs
from backscan.scanner.pipeline.record import model_record
from backscan.scanner.pipeline.reopening import Given, Openable, cut_for, reopened
from backscan.scanner.pipeline.replay import OriginalFile, replay
from backscan.scanner.pipeline.replay_support import replay_support
from backscan.scanner.process.parent import ModelProcess, SettledFile
from backscan.scanner.results import (
    FileRecord,
    PairResult,
    ScanResult,
    TargetResult,
    Verdict,
    Verification,
    find_pair,
    find_target,
    is_possible,
)

if TYPE_CHECKING:
    from backscan.converters import Artifact
    from backscan.scanner.images.cleanset import CleanSet


# An option that older reports do not name, as scans behaved before there was one.
_MEANT_BEFORE = {"combination": "each"}


def infer(result: ScanResult, chosen: Mapping[str, Any]) -> ScanResult:
    """The report with its pairs judged by other statistics: steps 11 and 12 on what is stored.

    Args:
        result: A report of `scanner check`.
        chosen: Options that replace those of the scan: statistic, inference, order, null, significance, draws.

    Returns:
        The report with new conclusions. A replay of the same pair stays; another pair has none, so that its
        detection is inconclusive until `verify` or `check` confirms it.

    Raises:
        ReportError: the report has no pairs, or not all of them, or is one of a replay on another file.
        OptionError: an option out of range, or a statistic that a screened search cannot give.
    """
    _refuse_other_file(result)
    config = replace(ScanConfig.from_dict(_MEANT_BEFORE | result.config), **chosen)
    config.check()
    if result.screens and set(chosen.get("statistics", ())) - {OF_SOME_PAIRS}:
        raise OptionError(
            f"expected --statistic {OF_SOME_PAIRS} alone for a scan that searched only some pairs, as others need "
            "every pair: scan with --screen off"
        )
    measured = any(map(config.measures_individuals_of, config.detectors))
    if measured and all(pair.individual_size is None for pair in result.pairs):
        raise OptionError(
            f"expected a scan that found what single images need, for --statistic {COMMONALITY}: scan again with it"
        )
    searched, conclusions = infer_from(_searched(result, config), config)
    candidates = candidates_for_replay(
        searched.pairs, conclusions, significance=config.significance, published=config.published_p
    )
    shown = result.patterns[0].key if result.patterns else None
    deciding = next((each for each in candidates if each.key == shown), next(iter(candidates), None))
    concluded = resting_on(deciding, conclusions)
    if deciding is not None and deciding.key == shown:
        kept = {name: getattr(result, name) for name in ("verification", "patterns", "examples", "controls")}
        concluded = replace(concluded, **kept)
    changed = replace(
        result,
        surplus={name: value for name, value in result.surplus.items() if name not in concluded.fields()},
        config=config.to_dict(),
        bootstrap_draws=config.bootstrap_draws,
        significance=config.significance,
        pairs=searched.pairs,
        **concluded.fields(),
    )
    return _judged(changed, config)


def verify(result: ScanResult, model: Path | str, clean: CleanSet | Path | str, *, sandbox: bool = True) -> ScanResult:
    """The report with its pattern replayed on a model with onnxruntime alone: steps 1 to 5, 8, 9 and 12.

    Args:
        result: A report of `scanner check` with a recovered pattern.
        model: The ONNX file; where it is not the one of the report the result is about it, and a warning says so. Such
            a file was not searched, so nothing clears it.
        clean: The images of the scan, or others of the same classes; or the archive or folder to load them from.
        sandbox: Whether the model is opened in a limited child process.

    Returns:
        The report with the new replay. `backdoor_detected` only if the replay confirms and the statistics detect.

    Raises:
        ReportError: the report has no pattern or no preprocessing, or is one of a replay on another file.
        UserError: the model or the images cannot be used.
    """
    if not result.patterns or result.preprocessing is None:
        raise ReportError("expected a report with a recovered pattern, found one without: run `scanner check` first")
    _refuse_other_file(result)
    found = result.patterns[0]
    play = _replayed_pair(result) if found.mask is None else _replayed_target(result)
    model = Path(model)
    clean = as_clean_set(clean, result.model.class_names, sandbox=sandbox)
    given, config = Given(read(model), model.parent, clean), ScanConfig.from_dict(result.config)
    same_images = result.data is not None and clean.digest == result.data.digest
    with reopened(result, given, ModelProcess.open_file, sandbox=sandbox) as again:
        artifact, opened = again.artifact, again.opened
        if found.source not in again.images.drawn.optimise:
            raise ReportError(f"expected images of class {found.source}, found too few: add images of that class")
        file = OriginalFile(again.settled, cut_for(again.settled, found), artifact.sha256, found.space)
        verification = play(file, again.images, config, searched_on=same_images)
    if artifact.sha256 != result.model.sha256:
        result = _about(artifact, opened, result)
    if not same_images:
        result = replace(result, warnings=(*result.warnings, _other_images(clean, verification)))
    return _judged(replace(result, verification=verification), config)


def _judged(result: ScanResult, config: ScanConfig) -> ScanResult:
    """The report with the verdict that follows from what is stored in it.

    A scan that ended without a verdict has none whatever its pairs say, one whose verdict depends on the preprocessing
    is inconclusive, and a file that was not searched is not cleared.
    """
    if result.verdict is Verdict.NO_VERDICT:
        return _told(result, Judgement(result.verdict, result.reasons))
    judgement = judge(
        result.pairs,
        result.detectors,
        result.deciding_conclusion,
        result.verification,
        significance=config.significance,
        published=config.published_p,
    )
    if result.preprocessing is not None and result.preprocessing.disagreement:
        judgement = Judgement(Verdict.INCONCLUSIVE, result.preprocessing.disagreement)
    judgement = with_findings(agreed(judgement, result.repeats), result.findings)
    if (result.time is not None and result.time.ended_the_scan) or (
        result.preprocessing is not None and result.preprocessing.repeated_as
    ):
        judgement = replace(judgement, look_alikes=False)
    is_cleared = judgement.verdict is Verdict.NOT_DETECTED or judgement.look_alikes
    if result.searched_file is not None and is_cleared:
        judgement = Judgement(
            Verdict.INCONCLUSIVE,
            (
                "this file was not searched, only the pattern of another file's report was replayed on it: run "
                "`scanner check` on it",
            ),
        )
    return _told(result, judgement)


def _told(result: ScanResult, judgement: Judgement) -> ScanResult:
    """The report with a judgement, and the classes of what it rests on."""
    source, target = judgement.classes(result.deciding_conclusion)
    return replace(
        result,
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        look_alikes=judgement.look_alikes,
        source=source,
        target=target,
    )


def _about(artifact: Artifact, opened: Openable[SettledFile], result: ScanResult) -> ScanResult:
    """The report as one about another file, of which it knows the replay alone."""
    record = model_record(artifact, result.model.class_names)
    searched = f"{result.model.name}, sha256 {result.model.sha256[:16]}"
    return replace(
        result,
        model=replace(record, num_classes=opened.facts.num_classes, signature=opened.facts.signature),
        findings=(),
        searched_file=FileRecord(result.model.name, result.model.sha256),
        warnings=(*result.warnings, f"this is not the file of the report: all but the replay is of {searched}"),
    )


def _refuse_other_file(result: ScanResult) -> None:
    """Refuse a report whose pairs are of another file than its replay: nothing more follows from it.

    Raises:
        ReportError: it is one.
    """
    if result.searched_file is not None:
        raise ReportError("expected the report of a scan, found one of a replay on another file: pass that of the scan")


def _other_images(clean: CleanSet, verification: Verification) -> str:
    return (
        f"these are not the images of the scan: the replay and its collateral damage are from {clean.name}, with "
        f"{verification.num_images + verification.num_held_out} images of class {verification.source}; all else is "
        "from those of the scan"
    )


def _searched(result: ScanResult, config: ScanConfig) -> Searched:
    """What a report holds of its search, with every pair.

    Raises:
        ReportError: pairs are missing, as after an interrupt, or cannot come from a search.
    """
    num_classes = result.model.num_classes
    if not (result.pairs or result.targets) or num_classes is None or result.data is None:
        raise ReportError("expected a report with class pairs, found one without: run `scanner check` with --data")
    if num_classes != len(result.data.images_per_class):
        raise ReportError("expected images of every class in the report, found other classes: make the report again")
    wanted = {(name, *pair) for name in searching(config, config.cut) for pair in wanted_pairs(config, num_classes)}
    found = [pair.key for pair in result.pairs]
    num_left_out = sum(each.num_pairs - each.num_drawn - each.num_chosen for each in result.screens)
    if len(set(found)) != len(found) or not wanted.issuperset(found) or len(found) != len(wanted) - num_left_out:
        raise ReportError(
            f"expected all {len(wanted) - num_left_out} class pairs of the search, found "
            f"{len(wanted.intersection(found))} of them: let the scan finish first, from its --journal if it had one"
        )
    for pair in result.pairs:
        if not is_possible(pair):
            raise ReportError(
                f"expected sizes and rates of a search, found others at pair {pair.source}:{pair.target}: "
                "make the report again"
            )
    return Searched(config.detectors, num_classes, config.cut, result.pairs, result.screens, result.targets)


def _pair(result: ScanResult) -> PairResult:
    """The pair whose pattern the report carries, with that pattern.

    Raises:
        ReportError: the pair is missing, or no detector of this version found it.
    """
    pattern = result.patterns[0]
    pair = find_pair(result.pairs, pattern.key)
    if pair is None or pattern.detector not in DETECTORS:
        raise ReportError(f"expected pair {pattern.source} -> {pattern.target} among the report's pairs, found none")
    return replace(pair, pattern=pattern.values.decode())


def _target(result: ScanResult) -> TargetResult:
    """The target whose content the report carries.

    Raises:
        ReportError: it is missing, or its mask is not of its size.
    """
    pattern = result.patterns[0]
    entry = find_target(result.targets, pattern.detector, pattern.target)
    if entry is None or pattern.weights is None or pattern.detector not in RATE_DETECTORS:
        raise ReportError(f"expected target {pattern.target} among the report's targets, found none")
    return entry


def _replayed_pair(result: ScanResult) -> Callable[..., Verification]:
    """The replay of the report's pattern; errors as of `_pair`."""
    pair = _pair(result)
    return lambda file, images, config, searched_on: replay(file, pair, images, config, searched_on=searched_on)


def _replayed_target(result: ScanResult) -> Callable[..., Verification]:
    """The replay of what takes the place of the image in the report; errors as of `_target`."""
    entry, found = _target(result), result.patterns[0]
    return lambda file, images, config, searched_on: replay_support(
        file, entry, found, images, config, searched_on=searched_on
    )
