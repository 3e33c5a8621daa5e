"""What each of several scans of one model said, that differ in the images drawn and in the seed."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from backscan.scanner.results.base import STRICT


@dataclass(frozen=True, slots=True, config=STRICT)
class RepeatRecord:
    """One of the scans of `--repeats`."""

    seed: int
    """Seed by which its images were drawn and its search began."""
    preprocessing: str
    """Preprocessing under which it searched."""
    verdict: str
    """What it would have said alone: a value of `Verdict`."""
    target: int | None
    """Target class that it names, the most extreme one where nothing was detected."""
    source: int | None
    """Source class that it names."""
    calibrated_p_value: float | None
    """Its calibrated p-value, corrected for the number of conclusions that decide."""
