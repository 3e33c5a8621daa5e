"""Which way to conclude is best: ranked on the victims that choose, reported on those trained afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.accuracy.outcomes import CANDIDATES, JUDGES, Judge, default
from benchmarks.accuracy.study import Study
from benchmarks.provenance import share
from benchmarks.table import Table
from benchmarks.victims.seeds import FIRST_REPORTING

SIGNIFICANCE = 0.05
LARGEST_FALSE_ALARM_RATE = 0.1
"""Candidates that alarm on more of the unattacked victims that choose rank behind those that do not."""
_SHOWN = 12
_FEWEST = 10
"""Candidates with fewer attacked or unattacked victims to choose by rank last."""
_THETAS = (0.01, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True, slots=True)
class Record:
    """What one way to conclude did on some victims."""

    detected: int
    """Attacked victims with an alarm at the significance and a right target."""
    attacked: int
    """Attacked victims."""
    alarms: int
    """Unattacked victims with an alarm."""
    unattacked: int
    """Unattacked victims."""
    area: float
    """Area under the receiver operating curve, alarms with a wrong target counted as none; NaN without either kind."""

    @property
    def scarce(self) -> bool:
        """Whether there are too few victims to say anything."""
        return min(self.attacked, self.unattacked) < _FEWEST

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Sorts the better before the worse: few enough false alarms, then detections, then the area."""
        too_many = self.alarms > LARGEST_FALSE_ALARM_RATE * self.unattacked
        return (too_many, -self.detected / max(self.attacked, 1), -self.area)


def record(study: Study, judge: Judge) -> Record:
    """What a way to conclude did on the victims that have its searches."""
    attacked, unattacked = p_values(study, judge)
    return Record(
        detected=sum(p <= SIGNIFICANCE for p in attacked),
        attacked=len(attacked),
        alarms=sum(p <= SIGNIFICANCE for p in unattacked),
        unattacked=len(unattacked),
        area=area(attacked, unattacked),
    )


def p_values(study: Study, judge: Judge) -> tuple[list[float], list[float]]:
    """Deciding p-values of attacked victims, 2 where the target is wrong, and of unattacked ones."""
    attacked, unattacked = [], []
    for members in study.groups.values():
        for each in members:
            found = each.judged(judge)
            if found is None:
                continue
            if not each.victim.targets:
                unattacked.append(found.p_value)
            else:
                attacked.append(found.p_value if found.names_target(each.victim, 1.0) else 2.0)
    return attacked, unattacked


def area(attacked: Sequence[float], unattacked: Sequence[float]) -> float:
    """Probability that an attacked victim has the smaller p-value, ties counted half."""
    if not attacked or not unattacked:
        return float("nan")
    one, other = np.array(attacked)[:, None], np.array(unattacked)[None, :]
    return float(np.mean((one < other) + 0.5 * (one == other)))


def ranked(study: Study) -> list[str]:
    """Candidates, the best on the victims that choose first; those with hardly any victims last."""
    half = study.part(reporting=False)
    records = {name: record(half, judge) for name, judge in CANDIDATES.items()}
    return sorted(records, key=lambda name: (records[name].scarce, *records[name].rank))


def comparison(study: Study) -> Iterator[Table]:
    """The choice of the default, the best candidates and it on every group, and p-values of the unattacked."""
    names = ranked(study)
    shown = list(dict.fromkeys([*names[:_SHOWN], default()]))
    yield choice(study, names)
    yield every_group(study, shown)
    yield unattacked_p_values(study, shown)


def label(name: str) -> str:
    """A candidate as tables name it; the one that `scanner check` uses is marked."""
    return f"{name} (default)" if name == default() else name


def choice(study: Study, names: Sequence[str]) -> Table:
    """All candidates on the victims that choose and on those that report."""
    halves = [study.part(reporting=reporting) for reporting in (False, True)]
    rows = [
        (label(name), *(cell for half in halves for cell in _cells(record(half, CANDIDATES[name])))) for name in names
    ]
    header = [f"{half}: {what}" for half in ("choosing", "reporting") for what in ("detected", "false alarms", "area")]
    return Table(
        "Choice of the default",
        "Victims of all attacked groups detected with a right target, alarms on Clean, both at 0.05, and area under "
        "the receiver operating curve; 199 draws a calibration. "
        f"Seeds below {FIRST_REPORTING} choose, those from there on report and are trained after the default is fixed. "
        f"Ranked on those that choose: at most {LARGEST_FALSE_ALARM_RATE:g} false alarms first, then detections.",
        ("way to conclude", *header),
        tuple(rows),
    )


def _cells(found: Record) -> tuple[str, str, str]:
    known = "" if np.isnan(found.area) else f"{found.area:.3f}"
    return share(found.detected, found.attacked), share(found.alarms, found.unattacked), known


def every_group(study: Study, names: Sequence[str]) -> Table:
    """Some candidates on all groups."""
    rows = [
        (
            label(name),
            *(study.share(group, CANDIDATES[name], significance=SIGNIFICANCE, of="target") for group in study.groups),
        )
        for name in names
    ]
    return Table(
        "The best and the default on every group, right target named",
        "All victims, at 0.05. Judged rightly: alarm with a right target, or no alarm on Clean.",
        ("way to conclude", *study.groups),
        tuple(rows),
    )


def unattacked_p_values(study: Study, names: Sequence[str]) -> Table:
    """False-alarm rate on real unattacked models against the threshold."""
    rows = [(label(name), *_distribution(study, CANDIDATES[name])) for name in names]
    rows += [(f"{name}, published p", *_distribution(study, judge)) for name, judge in JUDGES.items()]
    return Table(
        "False alarms on Clean against the threshold",
        "Victims of Clean with p of at most the threshold, and the mean of p, which is 0.5 for a p that keeps its "
        "level (XMK report 0.590 for AD-J-P). What to see: a level that is kept stays near its threshold.",
        ("way to conclude", *(f"{theta:g}" for theta in _THETAS), "mean p"),
        tuple(row for row in rows if row[1]),
    )


def _distribution(study: Study, judge: Judge) -> Iterator[str]:
    _, found = p_values(study, judge)
    for theta in _THETAS:
        yield share(sum(p <= theta for p in found), len(found))
    yield f"{np.mean(found):.2f}" if found else ""
