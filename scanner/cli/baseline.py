"""Findings that are known already: only new ones fail a pipeline.

A finding is known by model, rule, source and target, so that it stays known when sizes and p-values move a little;
a model whose bytes changed since is named, as a known finding in it deserves a new look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backscan.scanner.errors import ReportError
from backscan.scanner.reports.rules import NATURAL, Finding, findings_of
from backscan.scanner.results import ScanResult, Verdict
from backscan.scanner.store.files import read_text, why_unreadable
from backscan.scanner.store.reports import parse

Identity = tuple[str, str, int | None, int | None]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What earlier scans found."""

    known: frozenset[Identity]
    """Identities of all findings."""
    digests: Mapping[str, str]
    """Digest of every scanned model, by name."""

    def is_new(self, finding: Finding) -> bool:
        """Whether the earlier scans lack the finding."""
        return finding.identity not in self.known

    def is_accepted(self, result: ScanResult) -> bool:
        """Whether a detection, or a pair that may be as near without an attack, holds nothing but known findings.

        A scan that is inconclusive for another reason, or without a verdict, is never accepted: it says nothing about
        what is there.
        """
        found = findings_of(result)
        serious = [finding for finding in found if finding.level == "error" or finding.rule in NATURAL]
        settled = result.verdict is Verdict.BACKDOOR_DETECTED or result.look_alikes
        return settled and bool(serious) and not any(map(self.is_new, serious))

    def has_changed(self, result: ScanResult) -> bool:
        """Whether the model's bytes differ from those that the earlier scan saw under this name."""
        return self.digests.get(result.model.name, result.model.sha256) != result.model.sha256


def read_baseline(path: Path) -> Baseline:
    """The findings of a JSON report, of one model or of several.

    Raises:
        ReportError: the file cannot be read or is no report.
    """
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(
            f"expected a JSON report for --baseline at {path}, found: {why_unreadable(error)}; "
            "write one with `scanner check ... --report FILE.json`"
        ) from error
    return baseline_of(parse(text, name=path.name))


def baseline_of(results: Sequence[ScanResult]) -> Baseline:
    """The findings of earlier scans."""
    return Baseline(
        known=frozenset(finding.identity for result in results for finding in findings_of(result)),
        digests={result.model.name: result.model.sha256 for result in results},
    )
