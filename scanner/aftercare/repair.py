"""Repair: learn, write back, measure the repaired file in onnxruntime, scan it again, and say whether to believe it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backscan.scanner.aftercare.attempt import Attempt, check_attempt, check_external, check_places, keep, written
from backscan.scanner.aftercare.options import RepairOptions
from backscan.scanner.aftercare.steps import Steps
from backscan.scanner.aftercare.subject import (
    Planted,
    Subject,
    check_digest,
    opened_for,
    places_of,
    planted_of,
    visible_pattern,
)
from backscan.scanner.config import ScanConfig
from backscan.scanner.errors import NoVerdictError, OptionError
from backscan.scanner.pipeline.admission import as_clean_set, read
from backscan.scanner.pipeline.provenance import provenance
from backscan.scanner.pipeline.scan import scan
from backscan.scanner.process.protocol import Repair
from backscan.scanner.results import FileRecord, RepairMeasures, RepairResult, ScanResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from backscan.scanner.images.cleanset import CleanSet
    from backscan.scanner.process.protocol import Difference
    from backscan.scanner.progress import Progress
    from backscan.scanner.results import GraphFinding

_DEFAULT, _CUT_GATE = "minimax", "cut-gate"
_SWITCHES = ("-by-predicate", "-by-side-path")
"""How rules of findings end that are about switches in the graph."""


def repair(
    model: Path | str,
    clean: CleanSet | Path | str,
    out: Path | str,
    *,
    report: ScanResult | None = None,
    options: RepairOptions | None = None,
    sandbox: bool = True,
    progress: Progress | None = None,
    command: str = "",
    only_detected: bool = False,
) -> RepairResult:
    """Make a model forget its backdoor, and write the repaired file if that is believed.

    Args:
        model: The ONNX file; it is never written to.
        clean: Clean images, or the archive or folder to load them from.
        out: Where the repaired file goes; what is there is replaced only by a repair that is believed.
        report: The scan of the model; None scans it first.
        options: Method and limits; None are the defaults.
        sandbox: Whether models are opened in a limited child process.
        progress: Observer.
        command: Command that repeats the repair, for its report.
        only_detected: Repair nothing unless the first scan detects a backdoor.

    Returns:
        What was changed and measured. An attempt that is not believed lies in `<stem of out>.attempt`.

    Raises:
        UserError: paths, images, options or a report that cannot be used.
        NoVerdictError: the model cannot be opened, or its weights cannot be written back.
    """
    model, out = Path(model), Path(out)
    check_places(model, out)
    check_attempt([model, Path(clean) if isinstance(clean, str | Path) else None], out)
    check_external(model, out, sandbox=sandbox)
    steps = Steps(progress)
    clean = as_clean_set(clean, report.model.class_names if report else None, sandbox=sandbox)
    if report is None:
        with steps.step("first scan"):
            report = scan(model, clean, ScanConfig(sandbox=sandbox), command=command)
    if only_detected and report.verdict is not Verdict.BACKDOOR_DETECTED:
        return _nothing(report, steps, command)
    case = _Case(report, clean, planted_of(report), _chosen(options or RepairOptions(), report), sandbox, steps)
    return _repaired(case, model, out, command)


def _nothing(report: ScanResult, steps: Steps, command: str) -> RepairResult:
    """The result where nothing was detected, and so nothing done."""
    return RepairResult(
        believed=False,
        reasons=(f"the scan says {report.verdict.value}, so nothing was repaired", *report.reasons),
        method="none",
        before=FileRecord(report.model.name, report.model.sha256),
        provenance=provenance(seed=0, command=command),
        verdict_before=report.verdict.value,
        timings=steps.timings,
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """What a repair starts from."""

    report: ScanResult
    clean: CleanSet
    planted: Planted | None
    options: RepairOptions
    sandbox: bool
    steps: Steps


def _chosen(options: RepairOptions, report: ScanResult) -> RepairOptions:
    """The options with the method that the report asks for, where none was named.

    Raises:
        OptionError: a method that the report gives nothing to work on.
    """
    gates = gates_of(report.findings)
    if options.method == _CUT_GATE and not gates:
        raise OptionError("expected a report with a demonstrated switch for --method cut-gate, found none: use another")
    return replace(options, method=options.method or (_CUT_GATE if gates else _DEFAULT))


def gates_of(findings: Sequence[GraphFinding]) -> tuple[str, ...]:
    """Nodes of the switches that a scan demonstrated, among what it found in the graph."""
    switches = (each for each in findings if each.demonstrated and each.rule.endswith(_SWITCHES))
    return tuple(dict.fromkeys(name for finding in switches for name in finding.nodes))


def _repaired(case: _Case, model: Path, out: Path, command: str) -> RepairResult:
    artifact = read(model)
    planted, options = case.planted, case.options
    told = RepairResult(
        believed=False,
        reasons=(),
        method=options.method or _DEFAULT,
        before=FileRecord(artifact.name, artifact.sha256),
        provenance=provenance(seed=options.seed, command=command),
        source=planted.found.source if planted else None,
        target=planted.found.target if planted else None,
        sources=planted.sources if planted else (),
        detector=planted.found.detector if planted else None,
        verdict_before=case.report.verdict.value,
        max_drop=options.max_drop,
        options=asdict(options),
    )
    with opened_for(case.report, artifact, model.parent, case.clean, sandbox=case.sandbox) as subject:
        check_digest(case.report, subject)
        _check_images(subject, planted)
        told = replace(
            told,
            before=FileRecord(artifact.name, subject.artifact.sha256),
            provenance=replace(
                told.provenance, device=subject.opened.facts.device, protections=subject.opened.protections
            ),
        )
        with case.steps.step("repair"):
            attempt = _attempt(case, subject, out)
        before = _Trial.before(subject, planted)
    with written(attempt, out) as place:
        told = _judged(replace(told, nodes=attempt.nodes), case, place, attempt, before)
        told = replace(told, timings=case.steps.timings)
        return replace(told, written_to=keep(place, out, believed=told.believed))


def _check_images(subject: Subject, planted: Planted | None) -> None:
    """Refuse images on which a known pattern could neither be unlearned nor tried.

    Raises:
        OptionError: none of a source class are for learning, or none are held out.
    """
    if planted is None:
        return
    labels, drawn = subject.labels, subject.images.drawn
    for places, purpose in ((places_of(drawn.optimise), "to learn from"), (places_of(drawn.held_out), "held out")):
        if not np.isin(labels[places], planted.sources).any():
            classes = ", ".join(map(str, planted.sources))
            raise OptionError(
                f"expected images of class {classes}, which the pattern of the report moves, found none {purpose}: "
                "pass more of them with --data"
            )


def _attempt(case: _Case, subject: Subject, out: Path) -> Attempt:
    """The file after the method has worked on it.

    Raises:
        OptionError: the method needs a pattern on images and the report has none.
    """
    from backscan.scanner.repair import METHODS

    planted, method = case.planted, case.options.method or _DEFAULT
    found = visible_pattern(case.report, planted)
    if METHODS[method].needs_pattern and found is None:
        raise OptionError(f"expected a report with a pattern on images for --method {method}, found none: use unlearn")
    learning = places_of(subject.images.drawn.optimise)
    answer = subject.settled.repair(
        Repair(
            way=method,
            images=subject.clean.images[learning],
            labels=subject.labels[learning],
            pattern=found.values.decode() if found else None,
            mask=found.mask.decode() if found and found.mask else None,
            target=planted.found.target if planted else None,
            steps=case.options.steps,
            seed=case.options.seed,
            gates=gates_of(case.report.findings) if method == _CUT_GATE else (),
            beside=f"{out.name}.data" if subject.artifact.external else "",
        )
    )
    return Attempt(subject.artifact, answer)


@dataclass(frozen=True, slots=True)
class _Trial:
    """Held-out images, and what a file decides on them."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    carrying: NDArray[np.bool_]
    clean: NDArray[np.int64]
    planted: NDArray[np.int64]

    @classmethod
    def before(cls, subject: Subject, planted: Planted | None) -> _Trial:
        """The file before, on the images that no step learnt from."""
        places = places_of(subject.images.drawn.held_out)
        images, labels = subject.clean.images[places], subject.labels[places]
        carrying = np.isin(labels, planted.sources if planted else ())
        nothing = np.empty(0, np.int64)
        return cls(images, labels, carrying, nothing, nothing).by(subject, planted)

    def by(self, subject: Subject, planted: Planted | None) -> _Trial:
        """The same images decided by a file."""
        moved = subject.decide(self.images[self.carrying], planted) if planted and self.carrying.any() else self.planted
        return replace(self, clean=subject.decide(self.images), planted=moved)

    def rate(self, target: int | None, decisions: NDArray[np.int64]) -> float | None:
        """Share of decisions for the target; None without images or without a target."""
        return float((decisions == target).mean()) if target is not None and len(decisions) else None


def _judged(told: RepairResult, case: _Case, place: Path, attempt: Attempt, before: _Trial) -> RepairResult:
    """The result with what is measured on the written file, and whether that allows to believe it."""
    try:
        with case.steps.step("measuring"):
            told, failures = _measured(told, case, place, attempt, before)
    except NoVerdictError as error:
        return replace(told, reasons=(f"the repaired file cannot be opened: {error}",))
    with case.steps.step("second scan"):
        config = replace(ScanConfig.from_dict(case.report.config), sandbox=case.sandbox)
        again = scan(place, case.clean, config, class_names=case.report.model.class_names)
    if again.verdict is Verdict.BACKDOOR_DETECTED:
        failures.append("the scan of the repaired file detects a backdoor")
    if again.verdict is Verdict.NO_VERDICT:  # also where copy and file no longer decide alike
        failures.append(f"the repaired file cannot be scanned: {again.reasons[0]}")
    return replace(
        told,
        verdict_after=again.verdict.value,
        scan_reasons=again.reasons,
        believed=not failures,
        reasons=tuple(failures) or (_success(told, again),),
    )


def _measured(
    told: RepairResult, case: _Case, place: Path, attempt: Attempt, before: _Trial
) -> tuple[RepairResult, list[str]]:
    """What the written file decides, in a process of its own, how it differs from the one before, and what is amiss."""
    with opened_for(case.report, read(place), place.parent, case.clean, sandbox=case.sandbox) as subject:
        difference = subject.opened.difference(attempt.before, told.nodes)
        after = before.by(subject, case.planted)
    target = told.target
    measures = RepairMeasures(
        num_images=len(before.images),
        labels="decisions" if case.clean.labels is None else "given",
        accuracy_before=float((before.clean == before.labels).mean()),
        accuracy_after=float((after.clean == before.labels).mean()),
        changed=float((after.clean != before.clean).mean()),
        num_carriers=int(before.carrying.sum()),
        success_before=before.rate(target, before.planted),
        success_after=after.rate(target, after.planted),
        success_without=before.rate(target, before.clean[before.carrying]),
    )
    num_classes = subject.settled.facts.num_classes
    failures = [
        *differs(difference, attempt),
        *lost(measures, case.options.max_drop),
        *still_works(measures, num_classes),
    ]
    after_file = FileRecord(subject.artifact.name, subject.artifact.sha256)
    return replace(told, after=after_file, tensors=difference.tensors, measures=measures), failures


def differs(difference: Difference, attempt: Attempt) -> list[str]:
    """What differs that must not."""
    same_tensors = set(difference.tensors) == set(attempt.answer.tensors)
    if same_tensors and not difference.elsewhere:
        return []
    return ["the repaired file differs in more than what the repair names"]


def lost(measures: RepairMeasures, max_drop: float) -> list[str]:
    """That too much accuracy went, if it did."""
    drop = measures.accuracy_before - measures.accuracy_after
    if drop < max_drop or drop <= 0:
        return []
    return [
        f"accuracy on {measures.num_images} held-out images fell from {measures.accuracy_before:.1%} to "
        f"{measures.accuracy_after:.1%}, by more than --max-drop allows"
    ]


def still_works(measures: RepairMeasures, num_classes: int) -> list[str]:
    """That the pattern still works, if it does; nothing where none is known."""
    if measures.success_after is None:
        return []
    allowed = max(1 / num_classes, measures.success_without or 0.0)
    if measures.success_after <= allowed:
        return []
    return [
        f"the pattern still sends {measures.success_after:.0%} of {measures.num_carriers} held-out source images to "
        f"the target (before {measures.success_before or 0:.0%}; at most {allowed:.0%} would be believed)"
    ]


def _success(told: RepairResult, again: ScanResult) -> str:
    measures = told.measures
    assert measures is not None  # noqa: S101 - measured before it is judged
    moved = "no pattern was known"
    if measures.success_after is not None:
        moved = (
            f"the pattern sends {measures.success_after:.0%} of {measures.num_carriers} held-out source images to the "
            f"target, before {measures.success_before or 0:.0%}"
        )
    return (
        f"{moved}; accuracy on {measures.num_images} held-out images is {measures.accuracy_after:.1%}, before "
        f"{measures.accuracy_before:.1%}; the scan of the repaired file says {again.verdict.value}"
    )
