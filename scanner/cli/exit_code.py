"""One exit code for all scanned models, after what the user accepts (CONTRACT, Exit codes)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from backscan.scanner.cli.baseline import Baseline
from backscan.scanner.errors import ExitCode
from backscan.scanner.results import ScanResult, Verdict

CODES: Mapping[Verdict, ExitCode] = MappingProxyType(
    {
        Verdict.BACKDOOR_DETECTED: ExitCode.DETECTED,
        Verdict.NO_VERDICT: ExitCode.NO_VERDICT,
        Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
        Verdict.NOT_DETECTED: ExitCode.NOT_DETECTED,
    }
)
"""In order of precedence: the first that any model has is the exit code."""

FAIL_ON: Mapping[str, frozenset[Verdict]] = MappingProxyType(
    {
        "detected": frozenset({Verdict.BACKDOOR_DETECTED}),
        "inconclusive": frozenset({Verdict.BACKDOOR_DETECTED, Verdict.INCONCLUSIVE}),
        "any": frozenset({Verdict.BACKDOOR_DETECTED, Verdict.INCONCLUSIVE, Verdict.NO_VERDICT}),
    }
)
"""Verdicts that fail, by the value of `--fail-on`; the last is what happens without it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ends."""

    code: ExitCode
    """Exit code."""
    remarks: tuple[str, ...]
    """What was accepted and why, for standard error: no code becomes 0 in silence."""


def outcome(results: Sequence[ScanResult], *, fail_on: str = "any", baseline: Baseline | None = None) -> Outcome:
    """The exit code of a run.

    Args:
        results: One or more scans.
        fail_on: Key of `FAIL_ON`.
        baseline: Findings that are accepted.
    """
    verdicts, remarks = set(), []
    for result in results:
        accepted = _accepted(result, fail_on, baseline)
        verdicts.add(Verdict.NOT_DETECTED if accepted else result.verdict)
        remarks += [f"{result.model.name}: {accepted}"] if accepted else []
        if baseline is not None and baseline.has_changed(result):
            remarks.append(f"{result.model.name}: the file changed since the baseline was written; look again")
    code = next((code for verdict, code in CODES.items() if verdict in verdicts), ExitCode.NOT_DETECTED)
    return Outcome(code, tuple(remarks))


def _accepted(result: ScanResult, fail_on: str, baseline: Baseline | None) -> str:
    """Why a verdict that would fail does not; empty if it does, or if there is nothing to accept."""
    if baseline is not None and baseline.is_accepted(result):
        return f"{result.verdict.value} does not fail: the baseline knows every finding"
    if result.verdict is not Verdict.NOT_DETECTED and result.verdict not in FAIL_ON[fail_on]:
        return f"{result.verdict.value} does not fail because of --fail-on {fail_on}"
    return ""
