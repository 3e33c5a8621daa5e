"""Which networks choose defaults and which report: by their seeds, before anything is trained.

Networks with seeds from 2000 on report. They are trained after the commit that fixes the default, which a file in git
names, so that nothing of them can have been looked at when it was chosen. Those with seeds from 1000 to 1999 reported
on the default of before; what is chosen after that has seen them, so they choose.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

ONCE_REPORTING, FIRST_REPORTING = 1000, 2000
FIXED_DEFAULT = Path(__file__).parents[1] / "results" / "fixed_default.txt"
"""Holds the commit that fixes the default; missing as long as none does."""
_HASH_LENGTH = 40


def reports(seed: int) -> bool:
    """Whether a network of this seed reports; the others choose."""
    return seed >= FIRST_REPORTING


def check_seeds(seeds: Iterable[int], *, fixed_default: Path = FIXED_DEFAULT) -> None:
    """Refuse to train networks that report before the default is fixed.

    Args:
        seeds: Of networks that are about to be trained.
        fixed_default: The file that names the commit.

    Raises:
        ValueError: A seed reports, and the file is missing or names no commit.
    """
    early = [seed for seed in seeds if reports(seed)]
    if not early:
        return
    found = fixed_default.read_text(encoding="utf-8").strip() if fixed_default.exists() else ""
    if len(found) != _HASH_LENGTH or not set(found) <= set("0123456789abcdef"):
        raise ValueError(
            f"expected seeds below {FIRST_REPORTING}, found {early[0]}: networks that report are trained after the "
            f"default is fixed; write the full hash of the commit that fixes it into {fixed_default.name} first"
        )
