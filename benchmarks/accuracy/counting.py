"""Which trained networks count: an attack that failed, or a network that learned little, says nothing of a test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.accuracy.rows import VictimRow
from benchmarks.victims.plans import Plan, make_plans

LEAST_SUCCESS = 0.9
"""Share of test images on which an attack must succeed."""
LARGEST_LOSS = 0.03
"""How far from the mean accuracy of unattacked networks of its structure and schedule a victim may be."""

Kind = tuple[str, str, int, int]
"""What makes networks comparable: structure, digest of the schedule, number of classes, and the seed that draws few."""


@dataclass(frozen=True)
class Population:
    """All networks of a preset."""

    rows: tuple[VictimRow, ...]
    """Their rows."""

    @cached_property
    def means(self) -> Mapping[Kind, float]:
        """Mean accuracy of the unattacked networks with nothing unusual about them, by kind."""
        found: dict[Kind, list[float]] = {}
        for row in self.rows:
            plan = plan_of(row)
            if not row.targets and plan.hard is None:
                found.setdefault(_kind(plan), []).append(row.accuracy)
        return {kind: float(np.mean(values)) for kind, values in found.items()}

    def objection(self, row: VictimRow) -> str | None:
        """Why a network does not count; None where it does."""
        if row.success_rate is None:
            gate = least_accuracy(row)
            return f"accuracy below {gate:.2f}" if row.accuracy < gate else None
        if row.success_rate < LEAST_SUCCESS:
            return f"success below {LEAST_SUCCESS:g}"
        mean = self.means.get(_kind(plan_of(row)))
        if mean is None:
            return "no unattacked network of its structure"
        return "accuracy off" if abs(row.accuracy - mean) > LARGEST_LOSS else None

    def counting(self, rows: Iterable[VictimRow]) -> list[VictimRow]:
        """Those that count."""
        return [row for row in rows if self.objection(row) is None]


def plan_of(row: VictimRow) -> Plan:
    """The plan of a row."""
    [plan] = make_plans(row.preset, row.group, [row.seed])
    return plan


def least_accuracy(row: VictimRow) -> float:
    """The scanner's gate: half the way between chance and 1."""
    num_classes = len(row.head[0]) if row.head and len(row.head[0]) > 1 else 2
    return 0.5 * (1.0 + 1.0 / num_classes)


def _kind(plan: Plan) -> Kind:
    return plan.network, repr(plan.schedule), plan.classes or 0, plan.seed if plan.classes else 0
