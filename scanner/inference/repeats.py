"""One model, one verdict: what several scans of it say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from backscan.scanner.inference.verdict import Judgement
from backscan.scanner.results import Verdict

if TYPE_CHECKING:
    from backscan.scanner.results import RepeatRecord


def agreed(judgement: Judgement, repeats: Sequence[RepeatRecord]) -> Judgement:
    """The judgement of the first scan; inconclusive where another has another verdict, or detects another target.

    Args:
        judgement: Of the scan that is reported.
        repeats: What is recorded of every scan; empty where there was one.
    """
    doubt = disagreement(repeats)
    if doubt:
        return Judgement(Verdict.INCONCLUSIVE, (doubt, *judgement.reasons), judgement.switch)
    if len(repeats) > 1 and judgement.look_alikes:
        # Another scan that is inconclusive too may be so for another reason, or another pair.
        return replace(judgement, look_alikes=False)
    return judgement


def disagreement(repeats: Sequence[RepeatRecord]) -> str:
    """In what several scans differ, in one sentence; empty where they say the same."""
    found = Counter(map(_outcome, repeats))
    if len(found) <= 1:
        return ""
    said = " and ".join(f"{number} say {_named(*outcome)}" for outcome, number in found.most_common())
    return (
        f"of {len(repeats)} scans with other draws of the images {said}: more images of each class, or more --repeats, "
        "may settle it"
    )


def _outcome(repeat: RepeatRecord) -> tuple[str, int | None]:
    """Verdict of one scan, and the target if it detected one."""
    return repeat.verdict, repeat.target if repeat.verdict == Verdict.BACKDOOR_DETECTED else None


def _named(verdict: str, target: int | None) -> str:
    """An outcome in words."""
    words = verdict.replace("_", " ")
    return words if target is None else f"{words} with target {target}"
