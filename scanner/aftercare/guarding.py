"""A file that says of every image how strongly it carries a recovered pattern, and what that costs and catches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.aftercare.attempt import Attempt, check_places, keep, written
from backscan.scanner.aftercare.guard import Guard, threshold_for
from backscan.scanner.aftercare.subject import check_digest, opened_for, places_of
from backscan.scanner.errors import NoVerdictError, OptionError
from backscan.scanner.pipeline.admission import as_clean_set, read
from backscan.scanner.process.protocol import AddScore
from backscan.scanner.results import FileRecord, GuardResult, ScanResult

if TYPE_CHECKING:
    from backscan.scanner.aftercare.guard import Pixels
    from backscan.scanner.images.cleanset import CleanSet

OUTPUT = "pattern_score"
"""Name of the output."""
_LARGEST_GAP = 1e-3
"""Largest difference of a score in the file from the guard's own."""


def guard_model(
    model: Path | str,
    clean: CleanSet | Path | str,
    out: Path | str,
    report: ScanResult,
    *,
    rate: float = 0.01,
    sandbox: bool = True,
) -> GuardResult:
    """Write the model with one more output, `pattern_score` in [0, 1] for every image.

    Args:
        model: The ONNX file of the report; it is never written to.
        clean: Clean images, or the archive or folder to load them from.
        out: Where the file goes.
        report: A report with a recovered pattern on images.
        rate: False-alarm rate on clean images that the threshold is set for.
        sandbox: Whether models are opened in a limited child process.

    Returns:
        Threshold, false alarms, what is caught, and the cost; nothing is written where no threshold reaches the rate.

    Raises:
        UserError: paths, images, options or a report that cannot be used.
        NoVerdictError: the file cannot have the output.
    """
    model, out = Path(model), Path(out)
    check_places(model, out)
    if not 0 < rate < 1:
        raise OptionError(f"expected --false-alarms between 0 and 1, found {rate:g}")
    found = Guard(report).planted.found  # refuses a report without a pattern before anything is opened
    clean = as_clean_set(clean, report.model.class_names, sandbox=sandbox)
    if report.model.signature is not None:  # the new output must not be taken for that of the classes
        report = replace(report, config={**report.config, "output_name": report.model.signature.output_name})
    with opened_for(report, read(model), model.parent, clean, sandbox=sandbox) as subject:
        check_digest(report, subject)
        guard = Guard(report, subject.clean.images[places_of(subject.images.drawn.optimise)])
        places = places_of(subject.images.drawn.held_out)
        ordinary, labels = subject.clean.images[places], subject.labels[places]
        decisions = subject.decide(ordinary)
        beside = f"{out.name}.data" if subject.artifact.external else ""
        answer = subject.settled.add_score(AddScore(guard.weights, guard.offset, OUTPUT, beside))
        before, attempt = FileRecord(model.name, subject.artifact.sha256), Attempt(subject.artifact, answer)
    threshold = threshold_for(guard.pattern_score(ordinary), rate)
    told = GuardResult(before, found.source, found.target, rate, len(ordinary), ())
    if threshold is None:
        return replace(told, reasons=("no threshold reaches the rate: the pattern is too much like clean images",))
    with written(attempt, out) as place:
        with opened_for(report, read(place), place.parent, clean, sandbox=sandbox) as subject:
            scored = subject.settled.read_score(ordinary, OUTPUT)
            if not np.array_equal(subject.decide(ordinary), decisions):
                raise NoVerdictError(
                    "expected the same decisions with the output as without, found others: do not use it"
                )
            _check(guard, ordinary, scored.scores)
            carriers = guard.planted.embed(ordinary[np.isin(labels, guard.planted.sources)])
            planted = subject.settled.read_score(carriers, OUTPUT).scores if len(carriers) else carriers[:0]
            after = FileRecord(out.name, subject.artifact.sha256)
        keep(place, out, believed=True)
    each = 1e6 / len(ordinary)
    return replace(
        told,
        reasons=(f"the file has the output {OUTPUT}; images above {threshold.value:.3f} are suspicious",),
        after=after,
        threshold=threshold.value,
        alarms_on_clean=threshold.alarms,
        interval=threshold.interval,
        extrapolated=threshold.extrapolated,
        num_planted=len(carriers),
        caught=float((planted > threshold.value).mean()) if len(carriers) else None,
        microseconds=max(0.0, scored.seconds - scored.seconds_without) * each,
        microseconds_without=scored.seconds_without * each,
    )


def _check(guard: Guard, images: Pixels, scores: Pixels) -> None:
    """Refuse a file whose scores are not the guard's.

    Raises:
        NoVerdictError: they differ.
    """
    gap = float(np.abs(guard.pattern_score(images) - scores).max())
    if not gap <= _LARGEST_GAP:
        raise NoVerdictError(f"expected the guard's own scores from the file, found some that differ by {gap:.2g}")
