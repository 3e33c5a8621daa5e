"""The tables of a study: one function a table, in the order of XMK section 5."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.fine_pruning import LARGEST_LOSS
from benchmarks.outcomes import CANDIDATES, JUDGES, Judge
from benchmarks.provenance import share
from benchmarks.study import Examined, Study

SIGNIFICANCE = 0.05
_ATTACK_GONE = 0.2

_PAPER_GROUPS = ("BD-P-S", "BD-G-S", "BD-G-M", "Clean")

# XMK Tables 2 to 5 and section 5.2.3: shares of 25 victims in the groups above.
_PAPER: Mapping[tuple[str, float], tuple[float, float, float, float]] = MappingProxyType(
    {
        ("AD-J-P", 0.05): (0.92, 0.92, 1.00, 1.00),
        ("AD-Jp-P", 0.05): (0.92, 0.92, 1.00, 1.00),
        ("AD-Jc-P", 0.05): (0.96, 0.92, 1.00, 1.00),
        ("AD-J-C", 0.05): (0.96, 0.92, 1.00, 1.00),
        ("AD-J-P-L1", 0.05): (1.00, 0.92, 1.00, 1.00),
        ("AD-J naive", 0.05): (0.48, 0.44, 0.52, 1.00),
        ("AD-J-P, features", 0.05): (0.88, 1.00, 1.00, 1.00),
        ("AD-J-P", 0.2): (0.96, 0.92, 1.00, 1.00),
        ("AD-Jp-P", 0.2): (0.96, 0.92, 1.00, 0.96),
        ("AD-Jc-P", 0.2): (0.96, 0.92, 1.00, 0.96),
        ("AD-J-C", 0.2): (0.96, 0.92, 1.00, 1.00),
        ("AD-J-P-L1", 0.2): (1.00, 0.92, 1.00, 0.92),
        ("AD-J-P", 0.01): (0.84, 0.92, 1.00, 1.00),
        ("AD-Jp-P", 0.01): (0.88, 0.92, 1.00, 1.00),
        ("AD-Jc-P", 0.01): (0.88, 0.92, 1.00, 1.00),
        ("AD-J-C", 0.01): (0.96, 0.92, 1.00, 1.00),
        ("AD-J-P-L1", 0.01): (1.00, 0.92, 1.00, 1.00),
    }
)
_PAPER_NAMES = MappingProxyType({0.05: "Table 2", 0.2: "Table 3", 0.01: "Table 4"})


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a heading."""

    title: str
    """What it shows."""
    note: str
    """How to read it."""
    header: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """Cells."""

    def markdown(self) -> str:
        """As Markdown, heading included."""
        lines = [self.header, tuple("---" for _ in self.header), *self.rows]
        return "\n".join([f"## {self.title}", "", self.note, "", *("| " + " | ".join(row) + " |" for row in lines)])

    def to_dict(self) -> dict[str, Any]:
        """Plain fields."""
        return asdict(self)


def tables(study: Study) -> list[Table]:
    """All tables of a study."""
    return [
        victims(study),
        *(detection(study, significance, of) for significance in (0.05, 0.2, 0.01) for of in ("pair", "target")),
        every_group(study),
        goal_rates(study),
        numbers_of_images(study),
        choice(study),
        fine_pruning(study),
        seconds(study),
    ]


def victims(study: Study) -> Table:
    """Clean accuracy, attack success and collateral damage. XMK Table 1 and Figure 7."""
    rows = [(name, str(len(group)), *_effects(group)) for name, group in study.groups.items()]
    return Table(
        "Victims",
        "XMK Table 1 and Figure 7, by onnxruntime on the exported file: mean and standard deviation; collateral damage "
        "is the median and the largest share of an uninvolved class's images that go to the target with the pattern.",
        ("group", "victims", "clean accuracy", "attack success", "collateral damage"),
        tuple(rows),
    )


def _effects(group: Sequence[Examined]) -> tuple[str, str, str]:
    rows = [examined.victim for examined in group]
    success = [row.success_rate for row in rows if row.success_rate is not None]
    collateral = [rate for row in rows for rate in row.collateral_rates]
    spread = f"{np.median(collateral):.3f}, {max(collateral):.3f}" if collateral else ""
    return _mean([row.accuracy for row in rows]), _mean(success), spread


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}" if values else ""


def detection(study: Study, significance: float, of: str) -> Table:
    """The paper's variants on its four groups. XMK Tables 2, 3, 4 and 5."""
    rows = [
        (
            name,
            *(
                _beside(study.share(group, judge, significance=significance, of=of), name, significance, place, of)
                for place, group in enumerate(_PAPER_GROUPS)
            ),
        )
        for name, judge in JUDGES.items()
    ]
    return Table(
        f"Variants of the paper at {significance:g}, right {of} named",
        f"XMK {_PAPER_NAMES[significance]} (naive: Table 5); published p-value. Victims judged rightly: alarm with the "
        f"right {of}, or no alarm on Clean; in brackets the paper's share of 25, which counts right pairs.",
        ("variant", *_PAPER_GROUPS),
        tuple(rows),
    )


def _beside(counted: str, name: str, significance: float, place: int, of: str) -> str:
    """A cell with the paper's figure."""
    paper = _PAPER.get((name, significance))
    return counted if paper is None or of == "target" or not counted else f"{counted} [{paper[place]:.2f}]"


def every_group(study: Study) -> Table:
    """Ways to conclude on all groups, with calibrated p-values."""
    rows = [
        (name, *(study.share(group, judge, significance=SIGNIFICANCE, of="target") for group in study.groups))
        for name, judge in CANDIDATES.items()
    ]
    return Table(
        f"Ways to conclude at {SIGNIFICANCE:g}, all groups, right target named",
        "Calibrated p-values, several statistics corrected for their number. Judged rightly: alarm with a right "
        "target, or no alarm on Clean.",
        ("statistics", *study.groups),
        tuple(rows),
    )


def goal_rates(study: Study) -> Table:
    """Detection against the goal rate. XMK Figure 11."""
    rates = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    rows = [
        (name, *(study.share(name, _at(rate), significance=SIGNIFICANCE, of="pair") for rate in rates))
        for name in ("BD-P-S", "Clean")
    ]
    return Table(
        "Goal rate",
        "XMK Figure 11: AD-J-P at 0.05, published p, right pair named. Rates below 0.8 are read from the same "
        "trajectories; 0.9 is a search of its own, with cross-entropy.",
        ("group", *(f"{rate:g}" for rate in rates)),
        tuple(rows),
    )


def _at(rate: float) -> Judge:
    if rate > 0.8:
        return Judge(("goal 0.9",), published=True)
    return Judge(("J",), published=True, goal_rate=rate if rate < 0.8 else None)


def numbers_of_images(study: Study) -> Table:
    """Detection against images a class. XMK Figure 13."""
    settings = ("5 images", "10 images", "25 images", "pairwise")
    rows = [
        (f"{name}, {'published' if published else 'calibrated'} p", *_by_images(study, name, settings, published))
        for name in ("BD-P-S", "BD-G-S", "Clean")
        for published in (True, False)
    ]
    return Table(
        "Images a class",
        "XMK Figure 13 at 0.05, cross-entropy, plain statistic, right pair named; `pairwise` takes up to 100.",
        ("group", *settings),
        tuple(rows),
    )


def _by_images(study: Study, group: str, settings: Sequence[str], published: bool) -> Iterator[str]:
    for setting in settings:
        judge = Judge((setting,), published=published)
        yield study.share(group, judge, significance=SIGNIFICANCE, of="pair")


def choice(study: Study) -> Table:
    """Candidates for the default on the half that chooses and on the half that reports."""
    halves = {"choosing": study.half(choosing=True), "reporting": study.half(choosing=False)}
    rows = [
        (name, *(cell for half in halves.values() for cell in (_detected(half, judge), _alarms(half, judge))))
        for name, judge in CANDIDATES.items()
    ]
    return Table(
        "Choice of the default",
        "Victims of all attacked groups detected with a right target, and alarms on Clean, at 0.05; split by the "
        "digest of the victim's plan.",
        ("statistics", *(f"{half}: {what}" for half in halves for what in ("detected", "false alarms"))),
        tuple(rows),
    )


def _detected(study: Study, judge: Judge) -> str:
    found = [
        (examined, outcome)
        for group in study.groups.values()
        for examined in group
        if examined.victim.targets and (outcome := examined.judged(judge)) is not None
    ]
    return share(sum(outcome.names_target(each.victim, SIGNIFICANCE) for each, outcome in found), len(found))


def _alarms(study: Study, judge: Judge) -> str:
    outcomes = [outcome for each in study.groups.get("Clean", ()) if (outcome := each.judged(judge)) is not None]
    return share(sum(outcome.alarms(SIGNIFICANCE) for outcome in outcomes), len(outcomes))


def fine_pruning(study: Study) -> Table:
    """What Fine-Pruning leaves of each attack. XMK section 5.2.2 and reference [15]."""
    rows = []
    for name, group in study.groups.items():
        pruned = [each.victim.pruned for each in group if each.victim.pruned is not None]
        if not pruned:
            continue
        means = [
            f"{np.mean([before for before, _ in pairs]):.3f} to {np.mean([after for _, after in pairs]):.3f}"
            for pairs in ([each.accuracy for each in pruned], [each.success for each in pruned])
        ]
        removed = sum(each.success[1] <= _ATTACK_GONE for each in pruned)
        rows.append((name, f"{np.mean([each.share for each in pruned]):.2f}", *means, share(removed, len(pruned))))
    return Table(
        "Fine-Pruning",
        f"Units of the penultimate layer pruned until the clean accuracy loses {LARGEST_LOSS:g}; the attack counts as "
        f"removed if at most {_ATTACK_GONE:g} of the source images still go to the target. It says nothing of models "
        "without an attack.",
        ("group", "share pruned", "clean accuracy", "attack success", "attacks removed"),
        tuple(rows),
    )


def seconds(study: Study) -> Table:
    """Processor time of a scan. XMK section 5.4."""
    times: dict[str, list[float]] = {}
    for group in study.groups.values():
        for examined in group:
            for name, kept in examined.scans.items():
                times.setdefault(name, []).append(kept.seconds)
    rows = [(name, str(len(each)), f"{np.median(each):.1f}", f"{max(each):.1f}") for name, each in times.items()]
    return Table(
        "Seconds a model",
        "XMK section 5.4 reports 698 s for AD and 912 s for Neural Cleanse on CIFAR-10 (Tesla M60). Processor time of "
        "the whole scan, all threads.",
        ("setting", "scans", "median", "largest"),
        tuple(rows),
    )
