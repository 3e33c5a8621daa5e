"""One model, one verdict: what several scans of it say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from backscan.scanner.inference.verdict import Judgement
from backscan.scanner.results import Verdict

if TYPE_CHECKING:
    from backscan.scanner.results import RepeatRecord


def agreed(judgements: Sequence[Judgement], repeats: Sequence[RepeatRecord]) -> Judgement:
    """The judgement of the first scan; inconclusive where another has another verdict, or detects another target.

    Args:
        judgements: Of every scan, the first being the one that is reported.
        repeats: What is recorded of each.
    """
    doubt = disagreement(repeats)
    if not doubt:
        return judgements[0]
    return Judgement(Verdict.INCONCLUSIVE, (doubt, *judgements[0].reasons), judgements[0].switch)


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
