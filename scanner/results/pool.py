"""Where one scan stands among those of models that the user trusts."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from backscan.scanner.results.base import STRICT


@dataclass(frozen=True, slots=True, config=STRICT)
class PoolRecord:
    """The rank of a model's p-value in a pool of reports, as a p-value that assumes no family of distributions."""

    num_reports: int
    """Reports that were compared with."""
    num_other: int
    """Reports of the folder that were not: of the same file, without a p-value, or made with other options."""
    p_value: float
    """(1 + reports that are at least as extreme) / (1 + reports)."""
    num_trimmed: int
    """The most extreme reports that `trimmed_p_value` leaves out, as some trusted models may be attacked too."""
    trimmed_p_value: float
    """The same without them."""
