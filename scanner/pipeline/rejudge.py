"""A finished report taken up again: other statistics on its pairs, or its pattern replayed on a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors import DETECTORS, conclude, objective_of, searching
from backscan.scanner.errors import AbsentNameError, OptionError, ReportError
from backscan.scanner.inference.variants import with_reciprocals
from backscan.scanner.inference.verdict import Judgement, corrected_p_value, judge, suspicions, with_findings
from backscan.scanner.pipeline.admission import audit, model_record, read
from backscan.scanner.pipeline.pairs import wanted_pairs
from backscan.scanner.pipeline.replay import decisions_with_pattern, replay
from backscan.scanner.process.checks import is_possible
from backscan.scanner.process.parent import open_subject
from backscan.scanner.results import FoundPattern, Inference, PairResult, ScanResult, Verdict, Verification
from backscan.scanner.search.screening import STATISTIC

if TYPE_CHECKING:
    from backscan.converters import Artifact, Normalisation
    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.process.parent import OpenedModel, Subject


def infer(result: ScanResult, chosen: Mapping[str, Any]) -> ScanResult:
    """The report with its pairs judged by other statistics.

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
    config = replace(ScanConfig.from_dict(result.config), **chosen)
    config.check()
    if result.screens and set(chosen.get("statistics", ())) - {STATISTIC}:
        raise OptionError(
            f"expected --statistic {STATISTIC} alone for a scan that searched only some pairs, as others need every "
            "pair: scan with --screen off"
        )
    num_classes = _classes_of_search(result, config)
    pairs = with_reciprocals(result.pairs, inference=config.inference, order=config.order)
    inferences = conclude(pairs, result.targets, config, num_classes)
    shown = _shown(result)
    suspects = suspicions(pairs, inferences, significance=config.significance, published=config.published_p)
    extreme = next((entry for entry in suspects if _pair_key(entry) == shown), next(iter(suspects), None))
    same_pair = extreme is not None and _pair_key(extreme) == shown
    verification = result.verification if same_pair else None
    judgement = _held_back(result) or with_findings(
        judge(pairs, inferences, verification, significance=config.significance, published=config.published_p),
        result.findings,
    )
    return replace(
        result,
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        config=config.to_dict(),
        source=None if extreme is None else extreme.source,
        target=None if extreme is None else extreme.target,
        p_value=None if extreme is None else extreme.p_value,
        calibrated_p_value=None if extreme is None else corrected_p_value(extreme, inferences, published=False),
        bootstrap_draws=config.bootstrap_draws,
        significance=config.significance,
        detectors=inferences,
        pairs=pairs,
        null=None if extreme is None else extreme.null,
        patterns=result.patterns if same_pair else (),
        examples=result.examples if same_pair else (),
        controls=result.controls if same_pair else None,
        verification=verification,
    )


def verify(result: ScanResult, model: Path, clean: CleanSet, *, sandbox: bool) -> ScanResult:
    """The report with its pattern replayed on a model, with onnxruntime alone.

    Args:
        result: A report of `scanner check` with a recovered pattern.
        model: The ONNX file; where it is not the one of the report the result is about it, and a warning says so. Such
            a file was not searched, so nothing clears it.
        clean: The images of the scan, or others of the same classes.
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
    config = replace(ScanConfig.from_dict(result.config), sandbox=sandbox)
    artifact = read(model)
    pattern, pair = result.patterns[0].values.decode(), _pair(result)
    with open_subject(config) as subject:
        artifact = audit(subject, artifact, model.parent)
        opened = _open(subject, artifact, config)
        subject.settle(_normalisation(result))
        shape = _shape_of_patterns(subject, opened, result.patterns[0])
        if pattern.shape != shape:
            raise ReportError(
                f"expected a model of {_places(result)} {list(pattern.shape)}, as the report's pattern is, found one "
                f"of {list(shape)}: pass the model of the report"
            )
        fitted = clean.fit_to(opened.signature.input_shape)
        fitted.check_labels(opened.num_classes)
        labels = subject.decisions(fitted.images) if fitted.labels is None else fitted.labels
        drawn = fitted.draw(
            labels, images_per_class=config.images_per_class, seed=config.seed, num_classes=opened.num_classes
        )
        if pair.source not in drawn.optimise:
            raise ReportError(f"expected images of class {pair.source}, found too few: add images of that class")
        verification = replay(
            subject.decisions,
            decisions_with_pattern(subject, pair.detector),
            replace(pair, pattern=pattern),
            fitted.images[drawn.optimise[pair.source]],
            {label: fitted.images[indices] for label, indices in drawn.held_out.items() if len(indices)},
            goal_rate=config.goal_rate,
            provider=opened.provider,
            seed=config.seed,
            only_correct=objective_of(config, pair.detector).only_correct,
            searched_on=result.data is not None and clean.digest == result.data.digest,
        )
    held_back = _held_back(result)
    other_file = artifact.sha256 != result.model.sha256
    if other_file:
        result = _about(artifact, opened, result)
    if result.data is not None and clean.digest != result.data.digest:
        result = replace(result, warnings=(*result.warnings, _other_images(clean, verification)))
    judgement = held_back or with_findings(
        judge(
            result.pairs, result.detectors, verification, significance=config.significance, published=config.published_p
        ),
        result.findings,
    )
    if other_file and judgement.verdict is Verdict.NOT_DETECTED:
        judgement = Judgement(
            Verdict.INCONCLUSIVE,
            (
                "this file was not searched, only the pattern of another file's report was replayed on it: run "
                "`scanner check` on it",
            ),
        )
    return replace(result, verdict=judgement.verdict, reasons=judgement.reasons, verification=verification)


_OTHER_FILE = "this is not the file of the report"


def _about(artifact: Artifact, opened: OpenedModel, result: ScanResult) -> ScanResult:
    """The report as one about another file, of which it knows the replay alone."""
    record = model_record(artifact, result.model.class_names)
    searched = f"{result.model.name}, sha256 {result.model.sha256[:16]}"
    return replace(
        result,
        model=replace(record, num_classes=opened.num_classes, signature=opened.signature),
        findings=(),
        warnings=(*result.warnings, f"{_OTHER_FILE}: all but the replay is of {searched}"),
    )


def _refuse_other_file(result: ScanResult) -> None:
    """Refuse a report whose pairs are of another file than its replay: nothing more follows from it.

    Raises:
        ReportError: it is one.
    """
    if any(warning.startswith(_OTHER_FILE) for warning in result.warnings):
        raise ReportError("expected the report of a scan, found one of a replay on another file: pass that of the scan")


def _other_images(clean: CleanSet, verification: Verification) -> str:
    return (
        f"these are not the images of the scan: the replay and its collateral damage are from {clean.name}, with "
        f"{verification.num_images + verification.num_held_out} images of class {verification.source}; all else is "
        "from those of the scan"
    )


def _open(subject: Subject, artifact: Artifact, config: ScanConfig) -> OpenedModel:
    """The original file alone.

    Raises:
        ReportError: it has not the output that the report is about.
    """
    try:
        return subject.open(artifact, config, runtime_only=True)
    except AbsentNameError as error:
        raise ReportError(
            f"expected a model with output {config.output_name!r}, as the report's had: pass the model of the report"
        ) from error


def _classes_of_search(result: ScanResult, config: ScanConfig) -> int:
    """Number of classes of a report that holds every pair of its search.

    Raises:
        ReportError: pairs are missing, as after an interrupt, or cannot come from a search.
    """
    num_classes = result.model.num_classes
    if not result.pairs or num_classes is None or result.data is None:
        raise ReportError("expected a report with class pairs, found one without: run `scanner check` with --data")
    if num_classes != len(result.data.images_per_class):
        raise ReportError("expected images of every class in the report, found other classes: make the report again")
    wanted = {(name, *pair) for name in searching(config) for pair in wanted_pairs(config, num_classes)}
    found = [(pair.detector, pair.source, pair.target) for pair in result.pairs]
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
    return num_classes


def _held_back(result: ScanResult) -> Judgement | None:
    """The report's own verdict where it does not follow from its statistics, replay and graph, else None.

    A scan whose verdict depends on the preprocessing is inconclusive whatever its pairs say; that stays.
    """
    published = ScanConfig.from_dict(result.config).published_p
    own = with_findings(
        judge(
            result.pairs, result.detectors, result.verification, significance=result.significance, published=published
        ),
        result.findings,
    )
    return None if own.verdict is result.verdict else Judgement(result.verdict, result.reasons)


def _pair_key(found: Inference | FoundPattern) -> tuple[str, int | None, int | None]:
    return found.detector, found.source, found.target


def _shown(result: ScanResult) -> tuple[str, int | None, int | None] | None:
    """The pair whose pattern the report shows."""
    return _pair_key(result.patterns[0]) if result.patterns else None


def _places(result: ScanResult) -> str:
    return "features" if DETECTORS[result.patterns[0].detector].acts_on_features else "images"


def _shape_of_patterns(subject: Subject, opened: OpenedModel, pattern: FoundPattern) -> tuple[int, ...]:
    """Shape that patterns of a detector have on a model, which is cut if they act on its features.

    Raises:
        ReportError: the model cannot be cut where the pattern of the report acts.
    """
    if not DETECTORS[pattern.detector].acts_on_features:
        return opened.signature.input_shape
    expected = f"expected a model that can be cut at {pattern.space!r}, as the report's was"
    try:
        cut = subject.cut(pattern.space, None)
    except AbsentNameError as error:
        raise ReportError(f"{expected}: pass the model of the report") from error
    if cut.obstacle:
        raise ReportError(f"{expected}: {cut.obstacle}")
    return cut.shape


def _pair(result: ScanResult) -> PairResult:
    """The pair whose pattern the report carries."""
    pattern = result.patterns[0]
    wanted = (pattern.detector, pattern.source, pattern.target)
    for pair in result.pairs:
        if (pair.detector, pair.source, pair.target) == wanted:
            return pair
    raise ReportError(f"expected pair {pattern.source} -> {pattern.target} among the report's pairs, found none")


def _normalisation(result: ScanResult) -> Normalisation:
    from backscan.converters import Normalisation

    record = result.preprocessing
    assert record is not None  # noqa: S101 - checked by the caller
    return Normalisation(
        low=record.low, high=record.high, mean=record.mean, std=record.std, channel_order=record.channel_order
    )
