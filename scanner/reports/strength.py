"""How strong the evidence is: first as a chance in plain words, then as the p-values behind it."""

from __future__ import annotations

import math

from backscan.scanner.reports.basis import LOOK_ALIKE_CLASSES, by_transfer, deciding, natural_cause, rests_on_statistics
from backscan.scanner.reports.words import (
    calibrated_text,
    counted,
    num_draws,
    num_tests,
    number,
    overall_text,
    p_text,
)
from backscan.scanner.results import ScanResult, Verdict

_IN_HUNDRED = 0.1
_LEAST = 1e-6


def chances(p_value: float) -> str:
    """`68 chances in 100`, `1 chance in 250`, or `less than 1 chance in a million`: never less than there is."""
    if p_value < _LEAST:
        return "less than 1 chance in a million"
    if p_value < _IN_HUNDRED:
        return f"1 chance in {number(math.floor(1 / p_value + 1e-9))}"
    return f"{math.ceil(100 * p_value - 1e-9)} chances in 100"


def strength_text(result: ScanResult) -> str:
    """How often as much would be seen without a backdoor, in one sentence; empty where nothing was judged."""
    detected = result.verdict is Verdict.BACKDOOR_DETECTED
    if detected and not rests_on_statistics(result):
        return "It was shown on the original file, so chance plays no part."
    p_value = result.p_value if result.config.get("published_p") else result.calibrated_p_value
    if p_value is None:
        return ""
    bound = "at most " if not result.config.get("published_p") and overall_text(result).startswith("<=") else ""
    told = f"{bound}{chances(p_value)} of {'this' if detected else 'something as extreme'} without a backdoor"
    if p_value >= 1.0:
        told = "something as extreme is to be expected without a backdoor"
    tests = num_tests(result)
    after = f", after {counted(tests, 'test')}" if tests > 1 else ""
    needed = chances(result.significance).replace("chance ", "").replace("chances ", "")
    sentence = f"{told}{after}; a detection needs at most {needed}."
    if natural_cause(result) == LOOK_ALIKE_CLASSES:
        return f"Beside pairs that come as near {sentence}"
    if result.verdict is Verdict.INCONCLUSIVE:
        return f"The statistics alone, on which no verdict rests here: {sentence}"
    return f"{sentence[:1].upper()}{sentence[1:]}"


def p_value_text(result: ScanResult) -> str:
    """The p-values behind the verdict and the threshold; empty without statistics."""
    if result.p_value is None:
        return ""
    transfer = by_transfer(deciding(result))
    draws = "at least 1/45 by calibration" if transfer else f"{num_draws(result)} draws"
    origin = [_correction(result), draws if transfer or num_draws(result) else ""]
    shown = f" ({', '.join(filter(None, origin))})" if any(origin) else ""
    decider = "published" if result.config.get("published_p") else "calibrated"
    return (
        f"calibrated {overall_text(result)}{shown}, published {p_text(result.p_value)}; "
        f"threshold {number(result.significance)} on the {decider} p"
    )


def _correction(result: ScanResult) -> str:
    """How the p-value of one test became that of the verdict: `<= 0.001 x 4 tests`; empty with a single test."""
    inference, tests = deciding(result), num_tests(result)
    if inference is None or inference.calibrated_p_value is None or tests == 1:
        return ""
    capped = ", at most 1" if inference.calibrated_p_value * tests > 1 else ""
    return f"{calibrated_text(inference).removeprefix('= ')} x {tests} tests{capped}"
