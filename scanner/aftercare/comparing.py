"""A second opinion by comparison: two scans of models for the same task, and what it says to a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backscan.scanner.aftercare.easier import FEWEST_PAIRS, Terms, compare_pairs, detectors_of, only_after
from backscan.scanner.config import OPTIONS
from backscan.scanner.errors import OptionError, ReportError
from backscan.scanner.results import ComparedModel, ComparisonOutcome, ComparisonResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backscan.scanner.results import ComparedPair, ComparedSpace, ScanResult

SAME_SEARCH = ("objective", "norm", "box", "step_rule", "goal_rate")
"""Options that decide what a size means."""
_MOST_NAMED = 8


def compare(before: ScanResult, after: ScanResult) -> ComparisonResult:
    """What became easier from one scan to another, pair by pair.

    Args:
        before: Scan of the first model: the last version, or another vendor's.
        after: Scan of the second model, for the same classes in the same order.

    Raises:
        OptionError: the scans were made with options under which sizes mean different things.
        ReportError: the models have different classes.
    """
    check_alike(before.config, after.config)
    _check_classes(before, after)
    detectors = detectors_of(before, after)
    terms = Terms(after.significance, max(1, len(detectors)))
    compared = (compare_pairs(before, after, name, terms) for name in detectors)
    spaces = tuple(space for space in compared if space is not None)
    outcome = _outcome(before, after, spaces)
    return ComparisonResult(
        outcome=outcome,
        reasons=_reasons(before, after, spaces),
        before=_told(before),
        after=_told(after),
        significance=terms.significance,
        spaces=spaces,
        warnings=_warnings(before, after, spaces),
    )


def check_alike(before: Mapping[str, object], after: Mapping[str, object]) -> None:
    """Refuse to compare sizes that were found in different ways.

    Raises:
        OptionError: which options differ.
    """
    differing = [
        f"{OPTIONS[name].spelled} ({before.get(name)} and {after.get(name)})"
        for name in SAME_SEARCH
        if before.get(name) != after.get(name)
    ]
    if differing:
        raise OptionError(
            f"expected two scans with the same search, found others in {', '.join(differing)}: scan both alike"
        )


def _check_classes(before: ScanResult, after: ScanResult) -> None:
    old, new = before.model, after.model
    if old.num_classes is not None and new.num_classes is not None and old.num_classes != new.num_classes:
        raise ReportError(
            f"expected two models for the same task, found {old.num_classes} and {new.num_classes} classes: compare "
            "models with the same classes in the same order"
        )
    if old.class_names and new.class_names and tuple(old.class_names) != tuple(new.class_names):
        raise ReportError(
            "expected the same classes in the same order, found other names or another order: compare models for "
            "the same task"
        )


def _outcome(before: ScanResult, after: ScanResult, spaces: Sequence[ComparedSpace]) -> ComparisonOutcome:
    verdicts = {before.verdict, after.verdict}
    if Verdict.BACKDOOR_DETECTED in verdicts:
        return ComparisonOutcome.BACKDOOR_DETECTED
    if Verdict.NO_VERDICT in verdicts:
        return ComparisonOutcome.NO_VERDICT
    if _new(spaces):
        return ComparisonOutcome.NEW_SHORTCUT
    if Verdict.INCONCLUSIVE in verdicts or not spaces:
        return ComparisonOutcome.INCONCLUSIVE
    return ComparisonOutcome.NO_NEW_SHORTCUT


def _new(spaces: Sequence[ComparedSpace]) -> list[ComparedPair]:
    found = (pair for space in spaces for pair in space.pairs if pair.is_new)
    return sorted(found, key=lambda pair: pair.p_value)


def _reasons(before: ScanResult, after: ScanResult, spaces: Sequence[ComparedSpace]) -> tuple[str, ...]:
    sides = ((before, "the first model"), (after, "the second model"))
    told = [
        f"{side} by itself is {result.verdict.value}: {next(iter(result.reasons), 'no reason given')}"
        for result, side in sides
        if result.verdict is not Verdict.NOT_DETECTED
    ]
    return (*told, _of_pairs(spaces))


def _of_pairs(spaces: Sequence[ComparedSpace]) -> str:
    if not spaces:
        return (
            f"pairs of classes could not be compared: fewer than {FEWEST_PAIRS}, or less than half of those of the "
            "second model, were searched in both"
        )
    shortcuts = _new(spaces)
    if not shortcuts:
        return "no pair of classes became easier than the other pairs and the choice of images explain"
    first, pairs = shortcuts[0], sorted({(pair.source, pair.target) for pair in shortcuts})
    targets = {target for _, target in pairs}
    more = f"; {len(pairs)} pairs did" if len(pairs) > 1 else ""
    more += f", all to class {first.target}" if len(pairs) > 1 and len(targets) == 1 else ""
    return (
        f"class {first.source} to class {first.target} became easier than the other pairs and the choice of images "
        f"explain: {first.ratio:.2g} times the size (p = {first.p_value:.2g}){more}"
    )


def _warnings(before: ScanResult, after: ScanResult, spaces: Sequence[ComparedSpace]) -> tuple[str, ...]:
    warnings = []
    if before.model.sha256 == after.model.sha256:
        warnings.append("both are the same file")
    if before.data is not None and after.data is not None and before.data.digest != after.data.digest:
        warnings.append("the scans saw different images: their choice adds to every difference")
    confused = only_after(before, after)
    if confused:
        warnings.append(
            f"the second model confuses classes on clean images that the first tells apart, and these pairs are not "
            f"compared: {_named(confused)}"
        )
    warnings += [
        f"{len(space.not_compared)} pairs of {space.detector} were searched in the second model alone, and are not "
        f"compared: {_named(space.not_compared)}"
        for space in spaces
        if space.not_compared and not set(space.not_compared) <= set(confused)
    ]
    return tuple(warnings)


def _named(pairs: Sequence[tuple[int, int]]) -> str:
    named = ", ".join(f"{source} to {target}" for source, target in pairs[:_MOST_NAMED])
    return f"{named} and {len(pairs) - _MOST_NAMED} more" if len(pairs) > _MOST_NAMED else named


def _told(result: ScanResult) -> ComparedModel:
    return ComparedModel(
        name=result.model.name,
        sha256=result.model.sha256,
        verdict=result.verdict.value,
        reasons=result.reasons,
        p_value=result.p_value if result.config.get("published_p") else result.calibrated_p_value,
        clean_accuracy=result.clean_accuracy,
    )
