"""A finished report taken up again: other statistics on its pairs, or its pattern replayed on a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backscan.scanner.config import ScanConfig
from backscan.scanner.detectors import DETECTORS
from backscan.scanner.errors import ReportError
from backscan.scanner.executors import open_subject
from backscan.scanner.inference import with_reciprocals
from backscan.scanner.judgement import combined_p_value, judge, most_extreme
from backscan.scanner.model_file import audit, read
from backscan.scanner.objectives import OBJECTIVES
from backscan.scanner.results import PairResult, ScanResult, Verdict
from backscan.scanner.verification import replay

if TYPE_CHECKING:
    from backscan.converters import Normalisation
    from backscan.scanner.cleanset import CleanSet


def infer(result: ScanResult, chosen: Mapping[str, Any]) -> ScanResult:
    """The report with its pairs judged by other statistics.

    Args:
        result: A report of `scanner check`.
        chosen: Options that replace those of the scan: statistic, inference, order, null, significance, draws.

    Returns:
        The report with new conclusions. A replay of the same pair stays; another pair has none, so that its
        detection is inconclusive until `verify` or `check` confirms it.

    Raises:
        ReportError: the report has no pairs.
        OptionError: an option out of range.
    """
    if not result.pairs or result.model.num_classes is None:
        raise ReportError("expected a report with class pairs, found one without: run `scanner check` with --data")
    config = replace(ScanConfig.from_dict(result.config), **chosen)
    config.check()
    num_classes = result.model.num_classes
    pairs = with_reciprocals(result.pairs, inference=config.inference, order=config.order)
    inferences = tuple(
        conclusion
        for name in config.detectors
        for conclusion in DETECTORS[name].infer([p for p in pairs if p.detector == name], config, num_classes)
    )
    extreme = most_extreme(inferences, published=config.published_p)
    pair = None if extreme is None else (extreme.source, extreme.target)
    same_pair = pair == (result.source, result.target)
    verification = result.verification if same_pair else None
    judgement = judge(pairs, inferences, verification, significance=config.significance, published=config.published_p)
    return replace(
        result,
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        config=config.to_dict(),
        source=None if extreme is None else extreme.source,
        target=None if extreme is None else extreme.target,
        p_value=None if extreme is None else extreme.p_value,
        calibrated_p_value=combined_p_value(inferences, published=False),
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
        model: The ONNX file; a note is added when it is not the one of the report.
        clean: The images of the scan, or others of the same classes.
        sandbox: Whether the model is opened in a limited child process.

    Returns:
        The report with the new replay. `backdoor_detected` only if the replay confirms and the statistics detect.

    Raises:
        ReportError: the report has no pattern or no preprocessing.
        UserError: the model or the images cannot be used.
    """
    if not result.patterns or result.preprocessing is None:
        raise ReportError("expected a report with a recovered pattern, found one without: run `scanner check` first")
    config = replace(ScanConfig.from_dict(result.config), sandbox=sandbox)
    artifact = read(model)
    pattern, pair = result.patterns[0], _pair(result)
    with open_subject(config) as subject:
        artifact = audit(subject, artifact, model.parent)
        opened = subject.open(artifact, config, runtime_only=True)
        subject.settle(_normalisation(result))
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
            replace(pair, pattern=pattern.values.decode()),
            fitted.images[drawn.optimise[pair.source]],
            {label: fitted.images[indices] for label, indices in drawn.held_out.items() if len(indices)},
            goal_rate=config.goal_rate,
            provider=opened.provider,
            seed=config.seed,
            only_correct=OBJECTIVES[config.objective].only_correct,
        )
    judgement = judge(
        result.pairs, result.detectors, verification, significance=config.significance, published=config.published_p
    )
    other = artifact.sha256 != result.model.sha256
    note = (
        (f"replayed on another file than the report's: {artifact.name}, sha256 {artifact.sha256[:16]}",)
        if other
        else ()
    )
    return replace(
        result,
        verdict=judgement.verdict if result.verdict is not Verdict.NO_VERDICT else result.verdict,
        reasons=judgement.reasons,
        verification=verification,
        warnings=(*result.warnings, *note),
    )


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
