"""How numbers, classes and pairs read in every report."""

import math
import re
from collections.abc import Sequence

from backscan.scanner.results import DormantUnits, Inference, ModelRecord, ScanResult

NORM_NAMES = {"l1": "L1", "l2": "L2"}


def number(value: float | None) -> str:
    """Three significant digits, `n/a` for None."""
    if value is None:
        return "n/a"
    return f"{value:.1e}" if value != 0 and not 1e-3 <= abs(value) < 1e6 else f"{float(f'{value:.3g}'):,.10g}"


def percent(rate: float | None) -> str:
    """Share in [0, 1] as a percentage, `n/a` for None; 0 and 100 only when exact."""
    if rate is None:
        return "n/a"
    shown = f"{100 * rate:.1f}".removesuffix(".0")
    return {"0": "under 0.1", "100": "over 99.9"}.get(shown, shown) + "%" if 0 < rate < 1 else f"{shown}%"


def p_text(p_value: float | None, *, floor: float = 0.0) -> str:
    """A p-value in a sentence after `p`: `= 0.037`, `= 2.0e-13`, or `<= 0.001` at the floor of a bootstrap."""
    if p_value is None:
        return "not available"
    if floor and p_value <= floor * (1 + 1e-9):
        return f"<= {number(floor)}"
    return f"= {number(p_value)}"


def calibrated_text(inference: Inference) -> str:
    """Calibrated p-value of one detector; with B draws nothing below 1 / (B + 1) can be told."""
    floor = 1 / (inference.bootstrap_draws + 1) if inference.bootstrap_draws else 0.0
    return p_text(inference.calibrated_p_value, floor=floor)


def num_tests(result: ScanResult) -> int:
    """Conclusions with a calibrated p-value that decide together, each detector by each statistic; at least 1."""
    return max(1, sum(each.decides and each.calibrated_p_value is not None for each in result.detectors))


def overall_text(result: ScanResult) -> str:
    """Calibrated p-value behind the verdict, corrected for the number of tests."""
    draws = num_draws(result)
    floor = num_tests(result) / (draws + 1) if draws else 0.0
    return p_text(result.calibrated_p_value, floor=min(floor, 1.0))


def num_draws(result: ScanResult) -> int:
    """Draws behind the calibrated p-value of the verdict: those of the conclusion that it rests on."""
    deciding = result.deciding_conclusion
    return result.bootstrap_draws if deciding is None else deciding.bootstrap_draws


def moment(result: ScanResult) -> str:
    """When the scan ended, `2026-11-29T12:50:00`; empty if the report does not say it, or says something else."""
    return result.finished[:-1] if re.fullmatch(r"\d{4}(-\d\d){2}T\d\d(:\d\d){2}Z", result.finished) else ""


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s` or `2 h 05 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def class_name(model: ModelRecord, index: int | None) -> str:
    """`cat (3)`, or `class 3` without names; None is every class."""
    if index is None:
        return "any class"
    if model.class_names is None or index >= len(model.class_names):
        return f"class {index}"
    return f"{model.class_names[index]} ({index})"


def short_name(model: ModelRecord, index: int) -> str:
    """The name alone, or the number without names."""
    named = model.class_names is not None and index < len(model.class_names)
    return model.class_names[index] if named and model.class_names else str(index)


def pair_name(model: ModelRecord, source: int | None, target: int | None) -> str:
    """`cat (3) → dog (5)`."""
    return f"{class_name(model, source)} → {class_name(model, target)}"


def size_text(size: float | None, norm: str) -> str:
    """`0.53 (L2)`."""
    return f"{number(size)} ({NORM_NAMES.get(norm, norm)})"


def times_text(numerator: float | None, denominator: float | None) -> str:
    """`3.2 times`, or an empty text when either is unknown or the ratio means nothing."""
    if numerator is None or not denominator or not math.isfinite(numerator / denominator):
        return ""
    return f"{numerator / denominator:.2g} times"


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "nothing"


def counted(count: int, noun: str) -> str:
    """`no findings`, `1 finding`, `2 findings`."""
    return f"{count or 'no'} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"


def dormant_text(units: DormantUnits) -> str:
    """How many units stand still, and what was tried of them: `12 dormant units, 12 moved, 3 of them decide, ...`."""
    if not units.dormant:
        return f"dormant units inside the model: {units.obstacle or 'none'}"
    told = (
        f"{counted(units.dormant, 'dormant unit')} inside the model, constant on all ordinary images: {units.tried} "
        f"moved, {units.deciding} of which then decide; a pattern that wakes them was searched for {units.searched}"
    )
    return f"{told} ({units.obstacle})" if units.obstacle else told


def shorten(text: str, limit: int = 48) -> str:
    """`text`, its middle left out where it is longer than `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-(limit // 2 - 1) :]}"
