"""The K x K table of sizes for the HTML page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backscan.scanner.reports.text import printable
from backscan.scanner.reports.words import class_name, number, pair_name, short_name, size_text
from backscan.scanner.results import Inference, PairResult, PairStatus, ScanResult

LEGEND = (
    ("q5", "up to a quarter of the median size"),
    ("q4", "up to 40%"),
    ("q3", "up to 60%"),
    ("q2", "up to 85%"),
    ("q1", "up to 120%"),
    ("q0", "more"),
    ("found", "most extreme pair"),
    ("limit", "goal rate not reached up to this size"),
    ("void", "not searched, or confused without a pattern"),
)
_SHARES = ((0.25, "q5"), (0.4, "q4"), (0.6, "q3"), (0.85, "q2"), (1.2, "q1"))
_UPRIGHT = 2
_COMPACT_FROM = 16
"""Classes from which cells are small squares without a number."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One class pair."""

    text: str
    """Its size."""
    kind: str
    """Style classes."""
    pair: str
    """`source-target`, empty on the diagonal and for pairs that were not searched."""
    first: bool
    """Whether the keyboard enters the table here."""


@dataclass(frozen=True, slots=True)
class Row:
    """All pairs of one source class."""

    name: str
    """Source class."""
    cells: tuple[Cell, ...]
    """By target class."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """The sizes of all pairs that one detector searched."""

    id: str
    """Unique on the page."""
    detector: str
    """Name of the detector."""
    curves: str
    """Prefix of the ids of this detector's curves."""
    compact: bool
    """Cells without numbers."""
    names: tuple[str, ...]
    """Target classes."""
    rows: tuple[Row, ...]
    """By source class."""
    first: str
    """Shown until a cell is chosen."""
    data: Mapping[str, Any]
    """What the page's script shows of each pair."""

    @property
    def upright(self) -> bool:
        """Whether the names of the columns are short enough to stand upright."""
        return not self.compact and all(len(name) <= _UPRIGHT for name in self.names)


def size_matrix(result: ScanResult, inference: Inference, pairs: Sequence[PairResult], *, name: str) -> Matrix:
    """The table for the pairs of one detector.

    Args:
        result: The scan, for class names.
        inference: The detector's inference, for norm and most extreme pair.
        pairs: The detector's pairs.
        name: Prefix of the ids.
    """
    num_classes = result.model.num_classes or 1 + max(max(pair.source, pair.target) for pair in pairs)
    by_pair = {(pair.source, pair.target): pair for pair in pairs}
    counted = [pair.size for pair in pairs if pair.size is not None]
    median = statistics.median(counted) if counted else 0.0
    found = (inference.source, inference.target)
    enter = found if found in by_pair else (0, 0)
    rows = tuple(
        Row(
            short_name(result.model, source),
            tuple(
                _cell(
                    by_pair.get((source, target)),
                    median,
                    found=(source, target) == found,
                    first=(source, target) == enter,
                )
                if source != target or (source, target) in by_pair
                else Cell("", "", "", first=(source, target) == enter)
                for target in range(num_classes)
            ),
        )
        for source in range(num_classes)
    )
    return Matrix(
        id=f"{name}matrix",
        detector=f"detector {inference.detector}",
        curves=f"{name}curves-",
        compact=num_classes >= _COMPACT_FROM,
        names=tuple(short_name(result.model, target) for target in range(num_classes)),
        rows=rows,
        first=_first(result, inference, by_pair.get(found)),  # type: ignore[arg-type]
        data=_data(result, inference, pairs, num_classes),
    )


def _cell(pair: PairResult | None, median: float, *, found: bool, first: bool) -> Cell:
    if pair is None:
        return Cell("", "void", "", first)
    key = f"{pair.source}-{pair.target}"
    if pair.size is None:
        return Cell("none", "void", key, first)
    level = next((kind for share, kind in _SHARES if median and pair.size <= share * median), "q0")
    limit = pair.status is not PairStatus.REACHED
    kinds = [level, *(["limit"] if limit else []), *(["found"] if found else [])]
    return Cell(f">{number(pair.size)}" if limit else number(pair.size), " ".join(kinds), key, first)


def _first(result: ScanResult, inference: Inference, pair: PairResult | None) -> str:
    if pair is None or pair.size is None:
        return "Choose a cell."
    name = pair_name(result.model, pair.source, pair.target)
    return f"Most extreme pair: {name}, size {size_text(pair.size, inference.norm)}. Choose a cell to see another."


def _data(result: ScanResult, inference: Inference, pairs: Sequence[PairResult], num_classes: int) -> dict[str, Any]:
    statuses = list(PairStatus)
    return {
        "names": [printable(class_name(result.model, index)) for index in range(num_classes)],
        "norm": printable(inference.norm.upper()),
        "statuses": [status.explanation for status in statuses],
        "pairs": {
            f"{pair.source}-{pair.target}": [
                statuses.index(pair.status),
                _rounded(pair.size),
                _rounded(pair.rate),
                _rounded(pair.initial_rate),
                _rounded(pair.reciprocal),
                pair.steps,
            ]
            for pair in pairs
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
