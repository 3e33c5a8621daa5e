"""How a scan under a time limit spends its time, so that something can be said when the time is up.

A part is kept for what follows from a search: conclusions, the replay and the reports. Searches are asked to end by
then; the process of the model is ended a little later, if it did not. Before the search every step has a share.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from backscan.converters.sandbox.clock import Clock, clock
from backscan.scanner.inference.verdict import Judgement
from backscan.scanner.reports.words import duration
from backscan.scanner.results import Verdict

if TYPE_CHECKING:
    from backscan.scanner.results import Inference, TimeRecord

_CONCLUDING_SHARE, _CONCLUDING_SECONDS = 0.15, 2.0
_ENDING_SHARE, _ENDING_SECONDS = 0.07, 0.8
_REPORTING_SHARE, _REPORTING_SECONDS = 0.05, 0.5
_PLURALS = {"class pair": "class pairs", "target class": "target classes"}
_MOST = 0.4
"""Most of a short limit that is kept."""
GRAPH_SHARE = 0.15
"""Of what is left: for switches in the graph and units that stand still."""
IMAGES_SHARE = 0.1
"""Of what is left: for each step before the search that passes images, such as parity."""


def concluding(time: Clock) -> float:
    """Seconds that are kept for what follows from a search; 0 without a limit."""
    return _part(time, _CONCLUDING_SHARE, _CONCLUDING_SECONDS)


def ending(time: Clock) -> float:
    """Seconds before the end at which the process is ended that is still searching; 0 without a limit."""
    return _part(time, _ENDING_SHARE, _ENDING_SECONDS)


def reporting(time: Clock) -> float:
    """Seconds that are kept for reports, whatever the scan does; 0 without a limit."""
    return _part(time, _REPORTING_SHARE, _REPORTING_SECONDS)


def _part(time: Clock, share: float, least: float) -> float:
    return min(max(share * time.limit, least), _MOST * time.limit) if time.is_limited else 0.0


def for_search() -> float | None:
    """Seconds that searches may still take, all together; None without a limit."""
    time = clock()
    return max(0.0, time.left_for_work() - concluding(time)) if time.is_limited else None


def for_others(searches: int) -> float:
    """Seconds that are left to the other searches, of so many that are to come; 0 without a limit."""
    time = clock()
    return time.left() * (searches - 1) / searches if time.is_limited else 0.0


def most_images(number: int, seconds_per_image: float, *, fewest: int, share: float = IMAGES_SHARE) -> int:
    """How many of some images a step before the search may pass.

    Args:
        number: How many there are.
        seconds_per_image: What one costs.
        fewest: Fewer say nothing.
        share: Share of the time that is left for it.
    """
    time = clock()
    if not time.is_limited or seconds_per_image <= 0.0:
        return number
    return min(number, max(fewest, int(share * time.left() / seconds_per_image)))


def reasons(time: TimeRecord, *, detected: bool) -> tuple[str, ...]:
    """Why a scan says less than it could, and what it left to do."""
    early = f" about {duration(time.seconds_left)} before it was done" if time.seconds_left else ""
    whole = f" (all of it takes about {duration(time.estimate)} here)" if time.estimate else ""
    ended = f"the time limit of {time.limit:g} s ended the search{early}{whole}"
    if detected:
        first = f"{ended}, which takes nothing from this detection; what was left out may hold other backdoors"
    else:
        first = f"{ended}, so a backdoor in what it left out may not have been noticed: raise --time-limit"
    parts = [f"{each.number} of {each.planned} {_PLURALS[each.unit]} ({each.detector})" for each in time.left]
    return (first, f"left to search: {', '.join(parts)}") if parts else (first,)


def limited(judgement: Judgement, conclusions: Sequence[Inference], time: TimeRecord) -> Judgement:
    """The judgement of a scan that its time limit ended: a confirmed detection stands, and nothing is cleared.

    Without any p-value the search was too short to say anything, and why it says nothing is the time limit alone.
    """
    if judgement.verdict is Verdict.BACKDOOR_DETECTED:
        told = (*judgement.reasons, *reasons(time, detected=True))
        return Judgement(judgement.verdict, told, judgement.switch)
    known = judgement.reasons if any(entry.p_value is not None for entry in conclusions) else ()
    # That a detector has too little to compare is the clock's doing, where it had more to search.
    cut = tuple(f"detector {each.detector}: " for each in time.left)
    known = tuple(reason for reason in known if not reason.startswith(cut))
    return Judgement(Verdict.INCONCLUSIVE, (*reasons(time, detected=False), *known), judgement.switch)


def make_ready() -> None:
    """Load what conclusions need while the model's process is at work, so that it is there when the time is short."""
    if clock().is_limited:
        threading.Thread(target=_load, daemon=True).start()


def _load() -> None:
    with contextlib.suppress(Exception):  # whoever needs it meets what is wrong with it
        import scipy.stats  # noqa: F401

        from backscan.scanner.inference import agreement, order_test, rates, target_test  # noqa: F401
