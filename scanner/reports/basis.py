"""What a verdict rests on: a conclusion of the statistics, a switch in the graph, or nothing yet."""

from __future__ import annotations

from backscan.scanner.results import OF_FEW_CLASSES, GraphFinding, Inference, ScanResult, Verdict

LOOK_ALIKE_CLASSES, LEANING_BOUNDARY = "look-alikes", "leaning-boundary"
"""What brings a pair of classes near without an attack."""


def deciding(result: ScanResult) -> Inference | None:
    """The conclusion behind the verdict; where no p-value decides, the first that informs."""
    return result.deciding_conclusion or next(iter(result.detectors), None)


def demonstrated(result: ScanResult) -> GraphFinding | None:
    """The first graph finding that was shown to change a decision."""
    return next((finding for finding in result.findings if finding.demonstrated), None)


def by_transfer(inference: Inference | None) -> bool:
    """Whether a conclusion is one about few classes: without a null, draws or a size that would be found."""
    return inference is not None and inference.statistic in OF_FEW_CLASSES


def natural_cause(result: ScanResult) -> str | None:
    """What may bring a pair as near without an attack, where that alone keeps it from a detection: a name, or None."""
    if not result.look_alikes:
        return None
    return LEANING_BOUNDARY if by_transfer(deciding(result)) else LOOK_ALIKE_CLASSES


def rests_on_statistics(result: ScanResult) -> bool:
    """Whether the verdict follows from a p-value: not from a switch in the graph, nor from a lack of evidence."""
    inference = deciding(result)
    if result.verdict is Verdict.BACKDOOR_DETECTED:
        return inference is not None and inference.detected
    return result.verdict is Verdict.NOT_DETECTED
